"""The OpenAPI document against the site: whatever it allows, and much that it does not."""

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.app import build_app
from api.documents import POSITION
from api.pictures import KINDS
from runtime.registry import COMMANDS
from tests.site import PASSWORD, Site

schemathesis: Any = import_module("schemathesis")
general: Any = import_module("schemathesis.checks")
openapi: Any = import_module("schemathesis.specs.openapi.checks")

schemathesis.serializer.alias(["application/zip", *KINDS], "application/octet-stream")

CHECKS = [
    general.not_a_server_error,
    openapi.status_code_conformance,
    openapi.content_type_conformance,
    openapi.response_schema_conformance,
    openapi.response_headers_conformance,
]

REACHED = ["0", "1"]
"""Positions that no read waits for."""

DOCUMENT = build_app(lambda: nullcontext(cast("Any", None))).openapi_schema.to_schema()
OPERATIONS: dict[str, Any] = {
    found.ok().label: found.ok()
    for found in schemathesis.openapi.from_dict(DOCUMENT).get_all_operations()
}
ENDING = ("/api/v1/auth/logout", "/api/v1/auth/logout-all")
"""What is asked by somebody who is signed in for this alone."""

PEOPLE = ["anonymous", "uploader", "moderator", "auditor", "administrator"]


@pytest.fixture(scope="module")
def known(site: Site) -> dict[str, list[str]]:
    """Values of path parameters that lead to something."""
    series = [site.series(), site.series(published=False)]
    pending, approved = site.pending(series[0], "other"), site.approved(series[0])
    page = site.get("anonymous", f"/chapters/{approved}")["pages"][0]
    return {
        "series_id": series,
        "series": series,
        "chapter_id": [pending, approved],
        "name": [page["url"].rpartition("/")[2]],
        "person_id": [site.newcomer("reader").id],
        "invitation_id": [site.invitation()],
        "role": ["visitor"],
        "session_id": [site.get("reader", "/auth/sessions")["results"][0]["id"]],
        "identity_id": ["none"],
        "token_id": [made_token(site)],
        "stream": [f"series-{series[0]}", f"chapter-{approved}"],
        "appeal_id": [appeal(site)],
    }


def made_token(site: Site) -> str:
    """The id of a token that somebody has."""
    until = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    said: dict[str, Any] = {"name": "CI", "scopes": [], "expires_at": until}
    return site.ask("uploader", "POST", "/auth/tokens", **said)["id"]


def appeal(site: Site) -> str:
    """The id of an appeal that waits for a decision."""
    person = site.newcomer("reader")
    site.ask("administrator", "POST", f"/people/{person.id}/ban", reason="Spam.")
    credentials = {"username": person.username, "password": PASSWORD}
    refused = site.anonymous.post("/auth/login", json=credentials).json()
    token = refused["error"]["details"]["appeal_token"]
    site.ask("anonymous", "POST", "/appeals", token=token, text="It was not me.")
    return f"{person.id}-1"


def test_every_command_with_a_route_is_in_the_document() -> None:
    routes = {f"{one.method} /api/v1{one.path}" for one in COMMANDS.values() if one.method}
    assert routes <= OPERATIONS.keys()


@pytest.mark.parametrize("label", OPERATIONS)
@settings(
    max_examples=100,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(data=st.data(), by=st.sampled_from(PEOPLE), mode=st.sampled_from(["POSITIVE", "NEGATIVE"]))
def test_every_answer_is_one_that_the_document_allows(
    site: Site, known: dict[str, list[str]], label: str, data: st.DataObject, by: str, mode: str
) -> None:
    mode = schemathesis.GenerationMode[mode]
    case: Any = data.draw(OPERATIONS[label].as_strategy(generation_mode=mode))
    names: list[str] = list(case.path_parameters or ())
    for name in names:
        if data.draw(st.booleans()):
            case.path_parameters[name] = data.draw(st.sampled_from(known[name]))
    asked: dict[str, str] = case.headers or {}
    if POSITION.fullmatch(asked.get("X-Min-Position", "")):
        asked["X-Min-Position"] = data.draw(st.sampled_from(REACHED))
    headers = dict(site.client(by).headers)
    if label.removeprefix("POST ") in ENDING and by != "anonymous":
        headers = dict(site.newcomer("reader").client.headers)
    case.call_and_validate(base_url=site.url, headers=headers, checks=CHECKS)
