"""Retries: the first answer comes again, whatever has become of the world since."""

import httpx
import pytest

from tests.site import Person, Site, archive, good, new_series, refused

KEY = {"Idempotency-Key": "once-more"}


def hand_in(by: Person, series: str, key: str, content: bytes, method: str) -> httpx.Response:
    """The answer to a chapter's archive."""
    headers = {"Idempotency-Key": key}
    if method == "PUT":
        headers["Content-Type"] = "application/zip"
        address = f"/series/{series}/chapters?number=1"
        return by.client.put(address, content=content, headers=headers)
    return by.client.post(
        f"/series/{series}/chapters",
        data={"number": "1"},
        files={"archive": ("chapter.zip", content, "application/zip")},
        headers=headers,
    )


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_chapter_is_answered_again_though_its_series_was_hidden_since(
    site: Site, method: str
) -> None:
    series, other, content = site.series(), site["other"], archive()
    key = f"hidden-{method}"
    first = good(hand_in(other, series, key, content, method))
    site.ask("moderator", "DELETE", f"/series/{series}/publication", reason="Hidden.")
    again = good(hand_in(other, series, key, content, method))
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert again.headers["X-Position"] == first.headers["X-Position"]
    site.await_report(first.json()["id"])
    assert len([one for one in site.archives(series) if first.json()["id"] in one]) == 1
    reused = hand_in(other, series, key, archive(), method)
    refused(reused, 422, "idempotency_key_reused")
    refused(hand_in(other, series, f"new-{key}", content, method), 404, "series_not_found")
    stranger = site.newcomer("uploader")
    refused(hand_in(stranger, series, key, content, method), 404, "series_not_found")


def test_a_command_is_answered_again_though_its_sender_was_banned_since(site: Site) -> None:
    person = site.newcomer("uploader")
    series = new_series()
    first = good(person.client.post("/series", json=series, headers=KEY))
    site.ask("moderator", "POST", f"/people/{person.id}/ban", reason="spam")
    again = good(person.client.post("/series", json=series, headers=KEY))
    assert again.json() == first.json()
    refused(
        person.client.post("/series", json=new_series(), headers=KEY), 422, "idempotency_key_reused"
    )
    refused(person.client.post("/series", json=series), 403, "banned")


def test_a_refusal_is_answered_again_though_its_sender_was_banned_since(site: Site) -> None:
    person = site.newcomer("uploader")
    series = site.series()
    for _ in "12":
        answer = person.client.patch(
            f"/series/{series}", json={"title": "Mine"}, headers={"Idempotency-Key": "refused"}
        )
        refused(answer, 422, "not_your_series")
        site.ask("moderator", "POST", f"/people/{person.id}/ban", reason="spam")
