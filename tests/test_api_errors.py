"""Bad requests of every kind: one envelope, the right status, in the reader's language."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.database import Server
from tests.processes import until
from tests.site import Site, new_series, refused, running_site

SERIES = json.dumps(new_series()).encode()


def changed(**fields: Any) -> bytes:
    """A new series' body with some fields changed."""
    return json.dumps(new_series(**fields)).encode()


NO_TITLE = json.dumps({k: v for k, v in new_series().items() if k != "title"}).encode()

MALFORMED = {
    "half of it": SERIES[:-1],
    "more than all of it": SERIES + b"}",
    "no JSON": b"title=One",
    "NaN": b"NaN",
    "not UTF-8": SERIES.replace(b"manga", b"\xff\xfe"),
    "UTF-16": SERIES.decode().encode("utf-16"),
    "half a surrogate pair": SERIES.replace(b"manga", rb"\ud800"),
    "NUL in the title": changed(title="a\0b"),
    "NUL in a list": changed(categories=["fine", "\0"]),
    "NUL after a backslash": changed(description="\\\0"),
    "a title given twice": SERIES[:-1] + b', "title": "Two"}',
    "a title given twice, once in disguise": SERIES[:-1] + b', "t\\u0069tle": "Two"}',
}

INVALID: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", ""),
    "null": (b"null", ""),
    "a list": (b"[]", ""),
    "brackets": (b"[" * 500_000, ""),
    "a text": (b'"title"', ""),
    "a number": (b"1e5", ""),
    "nested without end": (b'{"title":' * 100_000, "title"),
    "no title": (NO_TITLE, "title"),
    "an unknown field": (changed(slug="mine"), "slug"),
    "an id of one's own": (changed(series_id="mine"), "series_id"),
    "a number for a title": (changed(title=5), "title"),
    "null for a title": (changed(title=None), "title"),
    "an empty title": (changed(title=""), "title"),
    "a title of blanks": (changed(title="  "), "title"),
    "a long title": (changed(title="x" * 201), "title"),
    "a kind that is none": (changed(kind="novel"), "kind"),
    "a kind in capitals": (changed(kind="Manga"), "kind"),
    "a language that is none": (changed(language="English"), "language"),
    "a text for a list": (changed(categories="Drama"), "categories"),
    "a number in a list": (changed(categories=["Drama", 1]), "categories[1]"),
    "an empty name in a list": (changed(creators=[""]), "creators[0]"),
    "a long list": (changed(aliases=["x"] * 51), "aliases"),
    "a huge number": (changed(description=10**400), "description"),
}


def post(site: Site, content: bytes, content_type: str = "application/json") -> httpx.Response:
    return site.client("uploader").post(
        "/series", content=content, headers={"Content-Type": content_type}
    )


@pytest.mark.parametrize("name", MALFORMED)
def test_a_body_that_cannot_be_read_is_malformed(site: Site, name: str) -> None:
    refused(post(site, MALFORMED[name]), 400, "malformed")


@pytest.mark.parametrize("name", INVALID)
def test_a_body_that_says_something_wrong_is_told_where(site: Site, name: str) -> None:
    body, field = INVALID[name]
    error = refused(post(site, body), 400, "validation_failed")
    assert [*error["field_errors"]] == [field]
    assert all(error["field_errors"][field])


def test_nothing_of_a_refused_body_is_recorded(site: Site) -> None:
    before = site.events()
    for body in (*MALFORMED.values(), *(body for body, _ in INVALID.values())):
        post(site, body)
    assert site.events() == before
    health = site.anonymous.get("/health").json()
    assert set(health["dead_letters"].values()) == {0}


@pytest.mark.parametrize("text", ["\\u0000", "\\\\u0000", "\ud7ff", "\U0010ffff", "\x7f", "\u202e"])
def test_text_that_only_looks_dangerous_is_taken(site: Site, text: str) -> None:
    series = site.series(title=f"a {text} b", aliases=[text], description=text)
    assert site.get("anonymous", f"/series/{series}")["description"] == text


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "nonsense", "a/b/c"])
def test_another_content_type_is_not_understood(site: Site, content_type: str) -> None:
    refused(post(site, SERIES, content_type), 415, "unsupported_media_type")


def test_a_body_without_a_content_type_is_not_understood(site: Site) -> None:
    answer = site.client("uploader").post("/series", content=SERIES)
    refused(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize("path", ["/series", "/auth/login", "/people"])
def test_a_body_beyond_a_megabyte_is_too_large(site: Site, path: str) -> None:
    answer = site.client("administrator").post(
        path, content=b'"' + b"x" * 1024 * 1024, headers={"Content-Type": "application/json"}
    )
    refused(answer, 413, "too_large")


def test_a_body_in_broken_pieces_is_malformed(site: Site) -> None:
    headers = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}
    request = site.begin("uploader", "POST", "/series", **headers)
    request.send(b"no length\r\n{}\r\n0\r\n\r\n")
    status, body = request.answer()
    assert (status, body["error"]["code"]) == (400, "malformed")


def test_a_command_without_a_body_takes_none(site: Site) -> None:
    series = site.series(published=False)
    for body in (b'{"force": true}', b"[]", b"x"):
        answer = site.client("moderator").post(f"/series/{series}/publication", content=body)
        refused(answer, 400, "validation_failed")


@pytest.mark.parametrize("header", ["Idempotency-Key", "X-Correlation-ID"])
@pytest.mark.parametrize("value", ["", "a b", "policy:1:0", "job:1", "é", "x" * 201])
def test_a_key_that_is_none_is_refused(site: Site, header: str, value: str) -> None:
    lines = [(header.encode(), value.encode())]
    answer = site.client("uploader").post("/series", json=new_series(), headers=lines)
    error = refused(answer, 400, "validation_failed")
    assert [*error["field_errors"]] == [header]


@pytest.mark.parametrize("name", ["no-such-thing", "x" * 4_000, "%20", "%E2%80%AE", "..%5C.."])
def test_what_is_not_there_is_not_found(site: Site, name: str) -> None:
    moderator = site.client("moderator")
    for answer, code in (
        (site.anonymous.get(f"/series/{name}"), "series_not_found"),
        (site.anonymous.get(f"/chapters/{name}"), "chapter_not_found"),
        (site.anonymous.get(f"/chapters/{name}/images/{name}"), "image_not_found"),
        (moderator.patch(f"/series/{name}", json={"title": "One"}), "series_not_found"),
        (moderator.post(f"/series/{name}/publication"), "series_not_found"),
        (moderator.post(f"/chapters/{name}/approval"), "chapter_not_found"),
        (moderator.delete(f"/chapters/{name}"), "chapter_not_found"),
        (moderator.post(f"/people/{name}/unban", json={}), "person_not_found"),
    ):
        refused(answer, 404, code)


@pytest.mark.parametrize(
    "path", ["/series/%00", "/chapters/a%00b", "/chapters/a/images/%00", "/series?category=%00"]
)
def test_an_address_with_nul_is_refused(site: Site, path: str) -> None:
    refused(site.anonymous.get(path), 400, "malformed")


@pytest.mark.parametrize(
    "path",
    ["/series?search=%ff", "/series/a?x=%C3", "/series?%ff=1", "/chapters/a/images/b?preview=%80"],
)
def test_an_address_that_is_not_utf_8_is_refused(site: Site, path: str) -> None:
    refused(site.anonymous.get(path), 400, "malformed")


UNKNOWN = [
    ("anonymous", "GET", "/series/any"),
    ("anonymous", "GET", "/chapters/any"),
    ("anonymous", "GET", "/chapters/any/images/any.jpg"),
    ("anonymous", "GET", "/health"),
    ("anonymous", "GET", "/schema"),
    ("anonymous", "GET", "/schema/openapi.json"),
    ("anonymous", "POST", "/auth/login"),
    ("reader", "GET", "/auth/me"),
    ("auditor", "GET", "/audit/streams/any"),
    ("administrator", "POST", "/people"),
    ("uploader", "POST", "/series"),
    ("uploader", "PATCH", "/series/any"),
    ("uploader", "POST", "/series/any/chapters"),
    ("uploader", "PUT", "/series/any/chapters"),
    ("moderator", "DELETE", "/series/any/publication"),
]


@pytest.mark.parametrize(("by", "method", "path"), UNKNOWN)
def test_an_unknown_parameter_is_refused_everywhere(
    site: Site, by: str, method: str, path: str
) -> None:
    for query in ("page=1", "nothing", "x=1&x=2", "series_id=any"):
        error = refused(
            site.client(by).request(method, f"{path}?number=1&{query}"), 400, "validation_failed"
        )
        assert error["field_errors"]


@pytest.mark.parametrize(
    ("by", "path", "name"),
    [
        ("anonymous", "/series?page=1&page=2", "page"),
        ("anonymous", "/series?search=a&search=a", "search"),
        ("anonymous", "/series?ordering=title&ordering=title", "ordering"),
        ("anonymous", "/series/one?series=two", "series"),
        ("anonymous", "/chapters/a/images/b?preview=1&preview=2", "preview"),
        ("auditor", "/audit/events?after=1&after=0", "after"),
    ],
)
def test_one_value_is_not_given_twice(site: Site, by: str, path: str, name: str) -> None:
    error = refused(site.client(by).get(path), 400, "validation_failed")
    assert error["field_errors"] == {name: ["This is given more than once."]}


@pytest.mark.parametrize("path", ["/approval", "/rejection"])
def test_null_is_no_body(site: Site, path: str) -> None:
    answer = site.client("moderator").post(f"/chapters/any{path}", json=None, content=b"null")
    refused(answer, 415, "unsupported_media_type")
    headers = {"Content-Type": "application/json"}
    answer = site.client("moderator").post(f"/chapters/any{path}", content=b"null", headers=headers)
    refused(answer, 400, "validation_failed")


@pytest.mark.parametrize("path", ["/schema/nothing", "/schema/nothing.json", "/schema/a/b"])
def test_what_is_no_documentation_is_not_found_as_elsewhere(site: Site, path: str) -> None:
    refused(site.anonymous.get(path), 404, "not_found")


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/series/a/b",
        "/series/a%2Fb",
        "/schema/assets/nothing.js",
        "/schema/assets/" + "x" * 5_000,
    ],
)
def test_an_address_that_leads_nowhere_is_not_found(site: Site, path: str) -> None:
    refused(site.anonymous.get(path), 404, "not_found")
    refused(httpx.get(f"{site.url}/"), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/series"),
        ("PUT", "/series"),
        ("POST", "/health"),
        ("GET", "/auth/login"),
        ("PUT", "/schema/assets/a"),
    ],
)
def test_a_method_that_an_address_does_not_have_is_refused(
    site: Site, method: str, path: str
) -> None:
    answer = site.anonymous.request(method, path)
    refused(answer, 405, "method_not_allowed")
    allowed = set(answer.headers["Allow"].split(", "))
    assert method not in allowed
    for one in allowed - {"OPTIONS"}:
        assert site.anonymous.request(one, path).status_code != 405
    assert ("HEAD" in allowed) == ("GET" in allowed)


@pytest.mark.parametrize(
    "path",
    ["/series", "/auth/me", "/me/uploads", "/moderation/queue", "/audit/events", "/health"],
)
def test_a_trailing_slash_makes_no_difference(site: Site, path: str) -> None:
    plain, slashed = (site.client("administrator").get(one) for one in (path, f"{path}/"))
    assert (plain.status_code, plain.json().keys()) == (200, slashed.json().keys())
    series = site.series(published=False)
    assert site.client("moderator").post(f"/series/{series}/publication/").is_success


@pytest.mark.parametrize(
    ("wanted", "language"),
    [
        ("en", "en"),
        ("ky", "ky"),
        ("ar", "ar"),
        ("so", "so"),
        ("ar-EG, en;q=0.5", "ar"),
        ("ky-KG", "ky"),
        ("fr, so;q=0.5, en;q=0.1", "so"),
        ("en;q=0.1, ky;q=0.9", "ky"),
        ("fr", "en"),
        ("*", "en"),
        ("", "en"),
        ("x;q=nan, ;;;, en-", "en"),
    ],
)
def test_messages_are_in_the_readers_language(site: Site, wanted: str, language: str) -> None:
    answer = site.anonymous.get("/nothing", headers={"Accept-Language": wanted})
    told = refused(answer, 404, "not_found")["message"]
    by_language = {
        one: site.anonymous.get("/nothing", headers={"Accept-Language": one}).json()["error"]
        for one in ("en", "ky", "ar", "so")
    }
    assert len({error["message"] for error in by_language.values()}) == 4
    assert told == by_language[language]["message"]


def test_an_envelope_says_when_and_which_request(site: Site) -> None:
    answers = [site.anonymous.get("/nothing") for _ in range(2)]
    ids = {answer.json()["request_id"] for answer in answers}
    assert len(ids) == 2
    for answer in answers:
        assert datetime.fromisoformat(answer.json()["timestamp"]).utcoffset() is not None


def test_without_its_database_a_site_says_so_and_comes_back(tmp_path: Path) -> None:
    with (
        Server() as server,
        server.database() as database,
        running_site(database, tmp_path) as site,
    ):
        remembered = [site.anonymous.get("/series").status_code for _ in "12"]
        assert remembered == [200, 200]
        assert "imprimatur_projection_lag{" in httpx.get(f"{site.url}/metrics").text
        server.postgres.stop()
        until(lambda: site.anonymous.get("/health").status_code == 503)
        until(lambda: site.anonymous.get("/series").status_code == 503)
        health = site.anonymous.get("/health").json()
        assert (health["live"], health["ready"], health["database"]) == (True, False, "down")
        assert int(site.anonymous.get("/health").headers["Retry-After"]) > 0
        for answer in (
            site.anonymous.get("/chapters/any"),
            site.client("uploader").post("/series", json=new_series()),
            site.client("auditor").get("/audit/events"),
        ):
            refused(answer, 503, "unavailable")
            assert int(answer.headers["Retry-After"]) > 0
        figures = httpx.get(f"{site.url}/metrics").text
        assert "imprimatur_database_up 0.0" in figures
        for stale in ("_lag{", "dead_letters{", "imprimatur_failed_jobs "):
            assert stale not in figures
        server.postgres.start()
        until(lambda: site.anonymous.get("/health").is_success)
        site.series()
