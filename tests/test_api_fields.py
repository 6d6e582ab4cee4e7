"""What is wrong with a request's values: all of it, field by field, in the reader's language."""

import json
from typing import Any

import pytest

from tests.site import Site, refused
from tests.test_api_errors import NO_TITLE, changed, post

WRONG: dict[str, tuple[bytes, dict[str, str]]] = {
    "nothing": (b"", {"": "A body is required."}),
    "no title": (NO_TITLE, {"title": "This is required."}),
    "unknown": (changed(slug="mine"), {"slug": "This is not known here."}),
    "type": (changed(title=5), {"title": "This must be a text."}),
    "short": (changed(title=""), {"title": "The length must be at least 1."}),
    "long": (changed(title="x" * 201), {"title": "The length must be at most 200."}),
    "blank": (changed(title=" "), {"title": r"This must match the pattern \S."}),
    "list": (changed(creators="a"), {"creators": "This must be a list."}),
    "everything": (
        json.dumps(
            {"title": 5, "kind": "x", "creators": ["a", 1, 2], "status": None, "x": 1, "y": [{}]}
        ).encode(),
        {
            "title": "This must be a text.",
            "kind": "“x” is not one of the choices.",
            "creators[1]": "This must be a text.",
            "status": "This must be a text.",
            "rating": "This is required.",
            "language": "This is required.",
            "x": "This is not known here.",
            "y": "This is not known here.",
        },
    ),
    "choice": (changed(kind="it's"), {"kind": "“it's” is not one of the choices."}),
    "nested": (changed(creators=["a", ""]), {"creators[1]": "The length must be at least 1."}),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_field_is_told_in_the_readers_language(site: Site, name: str) -> None:
    body, told = WRONG[name]
    by_language = {
        language: site.client("uploader").post(
            "/series",
            content=body,
            headers={"Content-Type": "application/json", "Accept-Language": language},
        )
        for language in ("en", "ky", "ar", "so")
    }
    errors = {one: refused(by_language[one], 400, "validation_failed") for one in by_language}
    assert errors["en"]["field_errors"] == {field: [text] for field, text in told.items()}
    texts = {str(error["field_errors"]) for error in errors.values()}
    assert len(texts) == 4


def test_all_that_is_wrong_with_an_address_is_told(site: Site) -> None:
    asked = "/series?page=zero&page_size=101&kind=manga&kind=novel&ordering=x&search=a&other=1"
    error = refused(site.anonymous.get(asked), 400, "validation_failed")
    assert error["field_errors"] == {
        "page": ["This must be a whole number."],
        "page_size": ["This must be at most 100."],
        "kind": ["“novel” is not one of the choices."],
        "ordering": ["“x” is not one of the choices."],
        "other": ["This is not known here."],
    }


@pytest.mark.parametrize(
    ("by", "method", "path", "body", "field", "told"),
    [
        ("administrator", "POST", "/auth/login", {"session": 1}, "session", "true or false"),
        ("moderator", "POST", "/people/any/ban", [1], "", "an object of named values"),
        ("moderator", "GET", "/moderation/series?published=x", None, "published", "true or false"),
        ("uploader", "PUT", "/series/{}/chapters?number=x", None, "number", "a number"),
        ("auditor", "GET", "/audit/events?after=1.5", None, "after", "a whole number"),
    ],
)
def test_kinds_of_values_are_called_as_people_call_them(
    site: Site, by: str, method: str, path: str, body: Any, field: str, told: str
) -> None:
    address = path.format(site.series()) if "{}" in path else path
    answer = site.client(by).request(method, address, json=body)
    error = refused(answer, 400, "validation_failed")
    assert error["field_errors"][field] == [f"This must be {told}."]


def test_of_endless_mistakes_some_are_told(site: Site) -> None:
    body = json.dumps({f"name{number}": 1 for number in range(50_000)}).encode()
    error = refused(post(site, body), 400, "validation_failed")
    assert 50 <= len(error["field_errors"]) <= 60


def test_a_parameter_is_complained_about_in_the_readers_language(site: Site) -> None:
    told = {
        language: site.anonymous.get(
            "/series?page=0", headers={"Accept-Language": language}
        ).json()["error"]["field_errors"]["page"][0]
        for language in ("en", "ky", "ar", "so")
    }
    assert told["en"] == "This must be at least 1."
    assert told["ky"] == "Бул жок дегенде 1 болушу керек."
    assert len(set(told.values())) == 4
