"""Hidden things: whoever may not see one is answered as if it were not there, to every question."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.site import Request, Site, archive, good, refused

CHANGE = {"title": "Another title"}
FORM: dict[str, Any] = {"data": {"number": "1"}, "files": {"archive": ("c.zip", archive())}}
ZIP = {"Content-Type": "application/zip"}

Asking = Callable[[httpx.Client, str], httpx.Response]

OF_SERIES: dict[str, Asking] = {
    "read": lambda client, key: client.get(f"/series/{key}"),
    "read anything": lambda client, key: client.get(
        f"/series/{key}", headers={"If-None-Match": "*"}
    ),
    "read wrongly": lambda client, key: client.get(f"/series/{key}?x=1"),
    "revise": lambda client, key: client.patch(f"/series/{key}", json=CHANGE),
    "revise nothing": lambda client, key: client.patch(f"/series/{key}", json={}),
    "revise wrongly": lambda client, key: client.patch(f"/series/{key}", json={"kind": "x"}),
    "revise in XML": lambda client, key: client.patch(
        f"/series/{key}", content=b"<a/>", headers={"Content-Type": "application/xml"}
    ),
    "publish": lambda client, key: client.post(f"/series/{key}/publication"),
    "unpublish": lambda client, key: client.delete(f"/series/{key}/publication"),
    "hand in": lambda client, key: client.post(f"/series/{key}/chapters", **FORM),
    "hand in no form": lambda client, key: client.post(f"/series/{key}/chapters", json={}),
    "hand in a broken form": lambda client, key: client.post(
        f"/series/{key}/chapters",
        content=b"x",
        headers={"Content-Type": "multipart/form-data; boundary=b"},
    ),
    "hand in a body": lambda client, key: client.put(
        f"/series/{key}/chapters?number=1", content=archive(), headers=ZIP
    ),
    "hand in no number": lambda client, key: client.put(
        f"/series/{key}/chapters", content=archive(), headers=ZIP
    ),
    "hand in an image": lambda client, key: client.put(
        f"/series/{key}/chapters?number=1", content=b"x", headers={"Content-Type": "image/png"}
    ),
    "hand in nothing": lambda client, key: client.put(
        f"/series/{key}/chapters?number=1", content=b"", headers=ZIP
    ),
}

OF_CHAPTERS: dict[str, Asking] = {
    "read": lambda client, key: client.get(f"/chapters/{key}"),
    "read anything": lambda client, key: client.get(
        f"/chapters/{key}", headers={"If-None-Match": "*"}
    ),
    "see": lambda client, key: client.get(f"/chapters/{key}/images/0.jpg"),
    "delete": lambda client, key: client.delete(f"/chapters/{key}"),
    "delete with a body": lambda client, key: client.request(
        "DELETE", f"/chapters/{key}", json={"x": 1}
    ),
    "approve": lambda client, key: client.post(f"/chapters/{key}/approval"),
    "reject": lambda client, key: client.post(f"/chapters/{key}/rejection", json={"reason": "x"}),
}

STRANGERS = ("other", "reader", "auditor", "anonymous")


def told(answer: httpx.Response) -> Any:
    """All that an answer tells but when and to which request."""
    return answer.status_code, answer.json()["error"], answer.headers.get("Allow")


@pytest.fixture(scope="module")
def hidden_series(site: Site) -> str:
    return site.series(published=False)


@pytest.fixture(scope="module")
def hidden_chapters(site: Site, hidden_series: str) -> list[str]:
    """One that waits, one that was deleted, one that is approved in a series that is hidden."""
    shown = site.series()
    waiting, gone = site.pending(shown), site.approved(shown)
    site.ask("moderator", "DELETE", f"/chapters/{gone}", reason="Taken away.")
    return [waiting, gone, site.approved(hidden_series)]


@pytest.mark.parametrize("by", STRANGERS)
@pytest.mark.parametrize("question", OF_SERIES)
def test_a_hidden_series_is_like_none(
    site: Site, hidden_series: str, question: str, by: str
) -> None:
    ask = OF_SERIES[question]
    assert told(ask(site.client(by), hidden_series)) == told(ask(site.client(by), "no-such-id"))


@pytest.mark.parametrize("by", STRANGERS)
@pytest.mark.parametrize("question", OF_CHAPTERS)
def test_a_hidden_chapter_is_like_none(
    site: Site, hidden_chapters: list[str], question: str, by: str
) -> None:
    ask = OF_CHAPTERS[question]
    absent = told(ask(site.client(by), "no-such-id"))
    for chapter in hidden_chapters:
        assert told(ask(site.client(by), chapter)) == absent


def test_who_may_see_a_thing_is_told_what_is_wrong(site: Site) -> None:
    series = site.series()
    chapter = site.approved(series)
    other = site.client("other")
    refused(other.patch(f"/series/{series}", json=CHANGE), 422, "not_your_series")
    refused(other.delete(f"/chapters/{chapter}"), 422, "not_your_chapter")
    own = site.client("uploader")
    good(own.delete(f"/chapters/{chapter}"))
    good(own.delete(f"/chapters/{chapter}"))  # repeating is harmless


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_what_is_for_a_hidden_series_is_not_even_read(
    site: Site, hidden_series: str, method: str
) -> None:
    kind = {"POST": "multipart/form-data; boundary=b", "PUT": "application/zip"}[method]
    request: Request = site.begin(
        "other",
        method,
        f"/series/{hidden_series}/chapters" + ("?number=1" if method == "PUT" else ""),
        **{"Content-Type": kind, "Transfer-Encoding": "chunked"},
    )
    request.send_chunk(b"--b\r\n")
    status, body = request.answer()
    assert (status, body["error"]["code"]) == (404, "series_not_found")
