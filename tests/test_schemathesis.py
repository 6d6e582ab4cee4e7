"""The OpenAPI document against the site: whatever it allows, and much that it does not."""

from contextlib import nullcontext
from importlib import import_module
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.app import build_app
from runtime.registry import COMMANDS
from tests.site import Site

schemathesis: Any = import_module("schemathesis")
general: Any = import_module("schemathesis.checks")
openapi: Any = import_module("schemathesis.specs.openapi.checks")

schemathesis.serializer.alias("application/zip", "application/octet-stream")

CHECKS = [
    general.not_a_server_error,
    openapi.status_code_conformance,
    openapi.content_type_conformance,
    openapi.response_schema_conformance,
]

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
        "stream": [f"series-{series[0]}", f"chapter-{approved}"],
    }


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
    headers = dict(site.client(by).headers)
    if label.removeprefix("POST ") in ENDING and by != "anonymous":
        headers = dict(site.newcomer("reader").client.headers)
    case.call_and_validate(base_url=site.url, headers=headers, checks=CHECKS)
