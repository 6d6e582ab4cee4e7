"""Series and chapters from outside: handed in, decided about, changed and taken away."""

import hashlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from PIL import Image

from domain.tenancy import MAIN
from ingest.keys import page_key
from tests.database import Server
from tests.processes import until
from tests.s3 import S3Server
from tests.site import Site, archive, good, new_series, refused, running_site

BUCKET = "imprimatur"


@pytest.fixture(scope="module")
def s3_site(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site whose blobs are in a bucket."""
    with S3Server() as s3, postgres.database() as database:
        s3.create_bucket(BUCKET)
        with running_site(
            database,
            tmp_path_factory.mktemp("s3-site"),
            s3_bucket=BUCKET,
            s3_endpoint=s3.endpoint,
            s3_access_key=s3.access_key,
            s3_secret_key=s3.secret_key,
        ) as site:
            yield site


def test_a_chapter_goes_from_its_uploader_to_its_readers(site: Site) -> None:
    follow_a_chapter(site)


def test_a_chapter_goes_the_same_way_when_blobs_are_in_s3(s3_site: Site) -> None:
    follow_a_chapter(s3_site)


def follow_a_chapter(site: Site) -> None:
    """From the archive on the uploader's disk to the image on a reader's screen."""
    series = site.series()
    answer = site.client("uploader").post(
        f"/series/{series}/chapters",
        data={"number": "2.5", "volume": "1", "title": "The first", "language": "ky"},
        files={"archive": ("chapter.zip", archive("p1.jpg", "p2.jpg", "p10.jpg"))},
    )
    assert answer.status_code == 202
    chapter = answer.json()["id"]
    assert answer.headers["X-Position"] == str(answer.json()["position"])
    assert answer.headers["Location"] == f"/api/v1/chapters/{chapter}"
    assert len(site.archives(series)) == 1

    site.await_report(chapter)
    upload = site.get("uploader", "/me/uploads")["results"][0]
    assert (upload["id"], upload["status"], upload["page_count"]) == (chapter, "pending", 3)
    queue = site.get("moderator", "/moderation/queue", series_id=series)["results"]
    assert [(one["id"], one["uploaded_by"]["username"]) for one in queue] == [(chapter, "uploader")]
    assert site.get("anonymous", f"/series/{series}")["volumes"] == []

    site.ask("moderator", "POST", f"/chapters/{chapter}/approval", note="Reads well.")
    upload = site.get("uploader", "/me/uploads")["results"][0]
    assert (upload["status"], upload["reviewer_note"]) == ("approved", "Reads well.")
    assert upload["decided_by"]["username"] == "moderator"
    assert site.get("moderator", "/moderation/queue", series_id=series)["results"] == []

    (volume,) = site.get("anonymous", f"/series/{series}")["volumes"]
    assert volume["number"] == 1
    assert [one["id"] for one in volume["chapters"]] == [chapter]
    detail = site.get("anonymous", f"/chapters/{chapter}")
    told = (detail["status"], detail["number"], detail["title"], detail["language"])
    assert told == ("approved", 2.5, "The first", "ky")
    assert [page["number"] for page in detail["pages"]] == [1, 2, 3]
    for page in detail["pages"]:
        image, thumbnail = (picture(site, page[url]) for url in ("url", "thumbnail_url"))
        assert image.size == (page["width"], page["height"])
        assert thumbnail.height < image.height
    until(lambda: site.archives(series) == [])


def picture(site: Site, address: str) -> Image.Image:
    """An image that anybody may see, and keep for ever."""
    answer = good(httpx.get(site.url + address))
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert answer.headers["Content-Type"].startswith("image/")
    assert hashlib.sha256(answer.content).hexdigest() in address
    return Image.open(BytesIO(answer.content))


def test_a_raw_body_is_a_chapter_as_well(site: Site) -> None:
    series = site.series()
    answer = good(
        site.client("uploader").put(
            f"/series/{series}/chapters",
            params={"number": "3", "volume": "2", "title": "Third", "language": "so"},
            content=archive(),
            headers={"Content-Type": "application/zip"},
        )
    )
    chapter = answer.json()["id"]
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/api/v1/chapters/{chapter}"
    site.await_report(chapter)
    detail = site.get("uploader", f"/chapters/{chapter}")
    assert (detail["status"], detail["volume"], detail["title"]) == ("pending", 2, "Third")
    assert len(detail["pages"]) == 2


def test_an_unpublished_series_takes_no_chapters_of_others(site: Site) -> None:
    series = site.series(published=False)
    answer = site.client("other").post(
        f"/series/{series}/chapters", data={"number": "1"}, files={"archive": archive()}
    )
    refused(answer, 404, "series_not_found")
    assert site.archives(series) == []
    for by in ("uploader", "moderator"):
        assert site.upload(series, by)
    site.ask("moderator", "POST", f"/series/{series}/publication")
    assert site.upload(series, "other")


def test_what_is_not_said_about_a_chapter_comes_from_its_series(site: Site) -> None:
    chapter = site.upload(site.series(language="ky"))
    detail = site.get("uploader", f"/chapters/{chapter}")
    assert (detail["language"], detail["volume"], detail["title"]) == ("ky", None, "")


def test_an_archive_that_cannot_be_taken_is_refused_with_findings(site: Site) -> None:
    series = site.series()
    answer = site.client("uploader").put(
        f"/series/{series}/chapters?number=1",
        content=b"this is no archive",
        headers={"Content-Type": "application/octet-stream"},
    )
    chapter = good(answer).json()["id"]
    site.await_report(chapter)
    upload = site.get("uploader", "/me/uploads")["results"][0]
    assert (upload["id"], upload["status"]) == (chapter, "refused")
    assert upload["findings"][0]["code"]
    assert site.get("uploader", f"/chapters/{chapter}")["status"] == "refused"
    approval = site.client("moderator").post(f"/chapters/{chapter}/approval")
    assert refused(approval, 422, "chapter_not_pending")["details"] == {"status": "refused"}
    until(lambda: site.archives(series) == [])


def test_a_rejection_needs_a_reason_which_the_uploader_reads(site: Site) -> None:
    series = site.series()
    chapter = site.pending(series)
    address = f"/chapters/{chapter}/rejection"
    for body in (None, {}, {"reason": ""}, {"reason": " "}, {"reason": None}):
        refused(site.client("moderator").post(address, json=body), 400, "validation_failed")
    site.ask("moderator", "POST", address, reason="Page 2 is missing.")
    upload = site.get("uploader", "/me/uploads", status="rejected")["results"][0]
    assert (upload["id"], upload["reason"]) == (chapter, "Page 2 is missing.")
    assert site.get("moderator", "/moderation/queue", series_id=series)["count"] == 0
    until(lambda: site.archives(series) == [])


def test_nobody_decides_about_their_own_upload(site: Site) -> None:
    chapter = site.pending(site.series("moderator"), "moderator")
    moderator = site.client("moderator")
    refused(moderator.post(f"/chapters/{chapter}/approval"), 422, "own_upload")
    rejection = moderator.post(f"/chapters/{chapter}/rejection", json={"reason": "Mine."})
    refused(rejection, 422, "own_upload")


@pytest.mark.parametrize("by", ["reader", "uploader", "auditor"])
def test_only_moderators_decide(site: Site, by: str) -> None:
    chapter = site.upload(site.series())
    client = site.client(by)
    refused(client.post(f"/chapters/{chapter}/approval"), 403, "permission_denied")
    rejection = client.post(f"/chapters/{chapter}/rejection", json={"reason": "No."})
    refused(rejection, 403, "permission_denied")
    refused(client.get("/moderation/queue"), 403, "permission_denied")


def test_only_a_moderator_publishes_a_series(site: Site) -> None:
    series = site.series(published=False)
    address = f"/series/{series}/publication"
    refused(site.client("uploader").post(address), 403, "permission_denied")
    refused(site.client("uploader").delete(address), 403, "permission_denied")
    refused(site.anonymous.get(f"/series/{series}", headers=site.now), 404, "series_not_found")
    site.ask("moderator", "POST", address)
    assert site.get("anonymous", f"/series/{series}")["published"]
    refused(site.client("moderator").delete(address), 422, "reason_required")
    site.ask("moderator", "DELETE", address, reason="Its licence ended.")
    refused(site.anonymous.get(f"/series/{series}", headers=site.now), 404, "series_not_found")


@pytest.mark.parametrize("by", ["uploader", "moderator"])
def test_a_chapter_is_taken_away_by_its_uploader_or_a_moderator(site: Site, by: str) -> None:
    series = site.series()
    chapter = site.approved(series)
    (page, *_) = site.get("anonymous", f"/chapters/{chapter}")["pages"]
    refused(site.client("other").delete(f"/chapters/{chapter}"), 422, "not_your_chapter")
    if by == "moderator":
        refused(site.client(by).delete(f"/chapters/{chapter}"), 422, "reason_required")
    reason = {"reason": "It is somebody else's work."} if by == "moderator" else {}
    site.ask(by, "DELETE", f"/chapters/{chapter}", **reason)
    assert site.get("anonymous", f"/series/{series}")["volumes"] == []
    listed = {one["id"]: one for one in site.get("uploader", "/me/uploads")["results"]}
    if by == "moderator":
        shown = listed[chapter]
        assert (shown["status"], shown["reason"]) == ("deleted", reason["reason"])
        assert shown["decided_by"]["username"] == "moderator"
        found = site.get("uploader", "/me/uploads", status="deleted")["results"]
        assert chapter in {one["id"] for one in found}
    else:
        assert chapter not in listed
    refused(site.client("moderator").post(f"/chapters/{chapter}/approval"), 422, "chapter_deleted")
    name = page["url"].rpartition("/")[2]
    until(lambda: not site.store.exists(page_key(MAIN, name)))


def test_a_series_is_changed_by_its_creator_or_a_moderator(site: Site) -> None:
    series = site.series(description="Before", categories=["Drama"])
    before = site.get("anonymous", f"/series/{series}")
    for by, change in (("uploader", {"title": "Another"}), ("moderator", {"status": "hiatus"})):
        site.ask(by, "PATCH", f"/series/{series}", **change)
        after = site.get("anonymous", f"/series/{series}")
        assert after == before | change | {"updated_at": after["updated_at"]}
        before = after
    answer = site.client("other").patch(f"/series/{series}", json={"title": "Mine"})
    refused(answer, 422, "not_your_series")


@pytest.mark.parametrize("body", [None, {}])
def test_a_patch_that_says_nothing_is_refused(site: Site, body: object) -> None:
    series = site.series(published=False)
    refused(site.client("uploader").patch(f"/series/{series}", json=body), 400, "empty_patch")


def test_a_creation_that_is_sent_again_gets_the_first_answer(site: Site) -> None:
    key = {"Idempotency-Key": uuid4().hex}
    body = new_series()
    first, again = (
        site.client("uploader").post("/series", json=body, headers=key) for _ in range(2)
    )
    assert (first.status_code, first.json()) == (again.status_code, again.json())
    assert first.headers["X-Position"] == again.headers["X-Position"]
    other = site.client("uploader").post("/series", json=new_series(), headers=key)
    refused(other, 422, "idempotency_key_reused")


def test_an_upload_that_is_sent_again_makes_one_chapter_and_one_blob(site: Site) -> None:
    series, key, content = site.series(), {"Idempotency-Key": uuid4().hex}, archive()
    answers = [
        site.client("uploader").post(
            f"/series/{series}/chapters",
            data={"number": number},
            files={"archive": ("chapter.zip", content)},
            headers=key,
        )
        for number in ("1", "1", "2")
    ]
    assert [answer.status_code for answer in answers] == [202, 202, 422]
    assert answers[0].json() == answers[1].json()
    chapter = answers[0].json()["id"]
    assert [Path(key).stem for key in site.archives(series)] == [chapter]
    assert site.arriving() == []
    site.await_report(chapter)
    queue = site.get("moderator", "/moderation/queue", series_id=series)
    assert [one["id"] for one in queue["results"]] == [chapter]


def test_two_series_of_one_title_have_two_addresses(site: Site) -> None:
    title = f"Twice {uuid4().hex}"
    slugs = {site.get("anonymous", f"/series/{site.series(title=title)}")["slug"] for _ in "12"}
    assert len(slugs) == 2
    for slug in slugs:
        assert site.get("anonymous", f"/series/{slug}")["slug"] == slug
