"""What every route has in common: who asks comes first, and what an address takes is told."""

from contextlib import nullcontext
from typing import Any, cast

import httpx
import pytest

from api.app import build_app
from tests.site import Site, good, refused

METHODS = ("get", "post", "put", "patch", "delete")

DOCUMENT: dict[str, Any] = build_app(
    lambda: nullcontext(cast("Any", None))
).openapi_schema.to_schema()
PATHS: dict[str, dict[str, Any]] = {
    path.removeprefix("/api/v1"): item for path, item in DOCUMENT["paths"].items()
}
OPERATIONS: dict[tuple[str, str], dict[str, Any]] = {
    (method, path): item[method]
    for path, item in PATHS.items()
    for method in METHODS
    if method in item
}
SIGNED_IN = [
    one for one, said in OPERATIONS.items() if said.get("security") and {} not in said["security"]
]
READABLE = [one for one, said in OPERATIONS.items() if said.get("security")]

BAD: dict[str, dict[str, Any]] = {
    "an unknown parameter": {"params": {"x": "1"}},
    "a parameter given twice": {"params": {"page": ["1", "2"]}},
    "an address with NUL": {"params": {"page": "\0"}},
    "another content type": {"content": b"<a/>", "headers": {"Content-Type": "text/xml"}},
    "half a body": {"content": b"{", "headers": {"Content-Type": "application/json"}},
    "a body that says nothing": {"json": {}},
    "a key that is none": {"headers": {"Idempotency-Key": "a b"}},
    "a position that is none": {"headers": {"X-Min-Position": "one"}},
}


def ask(client: httpx.Client, method: str, path: str, said: dict[str, Any]) -> httpx.Response:
    return client.request(method.upper(), path.replace("{", "").replace("}", ""), **said)


@pytest.mark.parametrize("wrong", BAD)
def test_whoever_is_not_signed_in_is_told_so_before_anything_else(site: Site, wrong: str) -> None:
    assert len(SIGNED_IN) > 20
    for method, path in SIGNED_IN:
        refused(ask(site.anonymous, method, path, BAD[wrong]), 401, "not_signed_in")


@pytest.mark.parametrize("wrong", BAD)
def test_a_token_that_is_bad_is_refused_before_anything_else(site: Site, wrong: str) -> None:
    for method, path in READABLE:
        said = BAD[wrong]
        headers = said.get("headers", {}) | {"Authorization": "Bearer nonsense"}
        answer = ask(site.anonymous, method, path, said | {"headers": headers})
        refused(answer, 401, "not_signed_in")


def test_what_an_address_takes_is_told(site: Site) -> None:
    for path in PATHS:
        shape = path.replace("{series_id}", "{series}")
        same = [one for one in PATHS if one.replace("{series_id}", "{series}") == shape]
        methods = {method.upper() for one in same for method in METHODS if method in PATHS[one]}
        answer = good(ask(site.anonymous, "options", path, {}))
        allowed = set(answer.headers["Allow"].split(", "))
        assert allowed - {"HEAD"} == methods | {"OPTIONS"}
        assert ("HEAD" in allowed) == ("GET" in methods)


@pytest.mark.parametrize("language", ["en", "ky", "ar", "so"])
def test_a_refusal_says_its_language_and_what_it_depends_on(site: Site, language: str) -> None:
    told = {"Accept-Language": language}
    for answer in (
        site.anonymous.get("/nothing", headers=told),
        site.anonymous.get("/series/nothing", headers=told),
        site.anonymous.get("/series?x=1", headers=told),
        site.anonymous.delete("/series", headers=told),
        site.anonymous.get("/auth/me", headers=told),
        site.client("reader").post("/series", headers=told, json={}),
    ):
        assert answer.is_client_error
        assert answer.headers["Content-Language"] == language
        varying = {one.strip().lower() for one in answer.headers["Vary"].split(",")}
        assert varying >= {"accept-language", "authorization", "cookie"}
    read = good(site.anonymous.get("/series", headers=told))
    assert "accept-language" not in read.headers["Vary"].lower()
