"""Who sees what: only approved chapters of published series, ever, and their images too."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest
from msgspec import Struct

from api.tokens import Tokens
from tests.site import SECRET, Site, access_token, good, refused

VIEWERS = ("anonymous", "reader", "other", "auditor", "uploader", "moderator", "administrator")
STAFF = {"moderator", "administrator"}
INSIDERS = STAFF | {"uploader"}
EVERYBODY = set(VIEWERS)
NOBODY: set[str] = set()

CHAPTERS = {
    "pending": INSIDERS,
    "approved": EVERYBODY,
    "rejected": INSIDERS,
    "deleted": NOBODY,
    "approved, then deleted": NOBODY,
    "approved, of an unpublished series": INSIDERS,
    "approved, of a series unpublished again": INSIDERS,
}
"""Who sees a chapter that is so far."""

IMAGES = CHAPTERS | {"rejected": NOBODY}
"""Who sees its images: those of a rejected chapter are gone."""


class Shown(Struct):
    """A chapter with the addresses that its uploader was shown while it was pending."""

    id: str
    series: str
    image: str
    thumbnail: str
    preview: str


@pytest.fixture(scope="module")
def shown(site: Site) -> dict[str, Shown]:
    """A chapter in each situation of CHAPTERS."""
    return {situation: bring_about(site, situation) for situation in CHAPTERS}


def bring_about(site: Site, situation: str) -> Shown:
    series = site.series(published="unpublished series" not in situation)
    chapter = site.pending(series)
    (page, *_) = site.get("uploader", f"/chapters/{chapter}")["pages"]
    image, _, preview = page["url"].partition("?preview=")
    thumbnail = page["thumbnail_url"].partition("?")[0]
    if situation.startswith("approved"):
        site.ask("moderator", "POST", f"/chapters/{chapter}/approval")
    if situation == "rejected":
        site.ask("moderator", "POST", f"/chapters/{chapter}/rejection", reason="No.")
    if situation.endswith("deleted"):
        site.ask("uploader", "DELETE", f"/chapters/{chapter}")
    if situation.endswith("unpublished again"):
        site.ask("moderator", "DELETE", f"/series/{series}/publication", reason="Not yet.")
    return Shown(chapter, series, image, thumbnail, preview)


@pytest.mark.parametrize("viewer", VIEWERS)
@pytest.mark.parametrize("situation", CHAPTERS)
def test_a_chapter_is_seen_by_those_it_is_for(
    site: Site, shown: dict[str, Shown], situation: str, viewer: str
) -> None:
    address = f"/chapters/{shown[situation].id}"
    answer = site.client(viewer).get(address, headers=site.now)
    if viewer in CHAPTERS[situation]:
        assert answer.json()["id"] == shown[situation].id
    else:
        refused(answer, 404, "chapter_not_found")


@pytest.mark.parametrize("viewer", VIEWERS)
@pytest.mark.parametrize("situation", IMAGES)
def test_an_image_is_seen_by_those_it_is_for(
    site: Site, shown: dict[str, Shown], situation: str, viewer: str
) -> None:
    wait_for_projections(site)
    for address in (shown[situation].image, shown[situation].thumbnail):
        answer = site.client(viewer).get(site.url + address)
        if viewer in IMAGES[situation]:
            assert answer.headers["Content-Type"].startswith("image/")
            scope = "public" if IMAGES[situation] == EVERYBODY else "private"
            assert answer.headers["Cache-Control"] == f"{scope}, max-age=31536000, immutable"
        else:
            refused(answer, 404, "image_not_found")


def wait_for_projections(site: Site) -> None:
    """Wait until images are answered for as of now: they take no position to wait for."""
    site.get("anonymous", "/series")


@pytest.mark.parametrize("situation", CHAPTERS)
def test_lists_show_only_what_is_public(
    site: Site, shown: dict[str, Shown], situation: str
) -> None:
    series, chapter = shown[situation].series, shown[situation].id
    published = "unpublished" not in situation
    stands = situation.startswith("approved") and "deleted" not in situation
    listed = {one["id"] for one in site.get("anonymous", "/series", page_size=100)["results"]}
    assert (series in listed) == published
    by = "anonymous" if published else "moderator"
    volumes = site.get(by, f"/series/{series}")["volumes"]
    contents = [one["id"] for volume in volumes for one in volume["chapters"]]
    assert contents == [chapter] * stands


@pytest.mark.parametrize("situation", CHAPTERS)
def test_the_preview_signature_opens_what_its_uploader_may_see(
    site: Site, shown: dict[str, Shown], situation: str
) -> None:
    wait_for_projections(site)
    one = shown[situation]
    for address in (one.image, one.thumbnail):
        answer = httpx.get(f"{site.url}{address}?preview={one.preview}")
        if IMAGES[situation] == NOBODY:
            refused(answer, 404, "image_not_found")
        else:
            assert answer.is_success
            public = IMAGES[situation] == EVERYBODY
            assert answer.headers["Cache-Control"].startswith("public" if public else "private")


def test_a_preview_signature_that_is_not_right_opens_nothing(
    site: Site, shown: dict[str, Shown]
) -> None:
    one, now = shown["pending"], datetime.now(UTC)
    expires, _, signature = one.preview.partition("-")
    right = Tokens(SECRET)
    wrong = {
        "another chapter's": shown["approved"].preview,
        "another site's": Tokens("x" * 40).preview(one.id, now),
        "expired": right.preview(one.id, now - timedelta(hours=3)),
        "prolonged": f"{int(expires) + 3600}-{signature}",
        "forged": f"{expires}-{signature[:-1]}{'0' if signature[-1] != '0' else '1'}",
        "an access token": access_token(one.id, now),
        "other digits": f"²-{signature}",
        "no time": f"-{signature}",
        "no signature": f"{expires}-",
        "not ASCII": f"{expires}-é",
        "nothing": "",
        "endless": "9" * 5_000,
    }
    assert right.opens(one.preview, one.id, now)
    for preview in wrong.values():
        answer = site.anonymous.get(site.url + one.image, params={"preview": preview})
        refused(answer, 404, "image_not_found")


def test_an_image_is_found_under_its_own_chapter_only(site: Site, shown: dict[str, Shown]) -> None:
    secret = shown["pending"].image.rpartition("/")[2]
    public = shown["approved"].id
    for name in (secret, "0" * 64 + ".jpg", "..%2F..%2Fetc%2Fpasswd", "x" * 3_000):
        answer = site.anonymous.get(f"/chapters/{public}/images/{name}")
        assert answer.status_code == 404
    refused(site.anonymous.get(f"/chapters/{public}/images/%00.jpg"), 400, "malformed")


def test_what_one_person_was_shown_is_not_given_to_another(site: Site) -> None:
    series = site.series()
    chapter = site.pending(series)
    for _ in range(2):
        mine = site.client("uploader").get(f"/chapters/{chapter}", headers=site.now)
        assert mine.headers["Cache-Control"] == "private, no-cache"
        assert mine.headers["Vary"].lower().startswith("authorization")
        for stranger in ("anonymous", "other"):
            answer = site.client(stranger).get(
                f"/chapters/{chapter}", headers={"If-None-Match": mine.headers["ETag"]}
            )
            refused(answer, 404, "chapter_not_found")


def test_what_is_public_no_longer_is_gone_from_every_cache(site: Site) -> None:
    series = site.series()
    chapter = site.approved(series)
    site.get("anonymous", f"/chapters/{chapter}")
    answer = good(site.anonymous.get(f"/chapters/{chapter}"))
    site.ask("moderator", "DELETE", f"/series/{series}/publication", reason="Not yet.")
    refused(site.anonymous.get(f"/chapters/{chapter}", headers=site.now), 404, "chapter_not_found")
    again = {"If-None-Match": answer.headers["ETag"]}
    refused(site.anonymous.get(f"/chapters/{chapter}", headers=again), 404, "chapter_not_found")
    refused(site.anonymous.get(f"/series/{series}"), 404, "series_not_found")


def test_volumes_and_chapters_stand_in_order(site: Site) -> None:
    series = site.series()
    for number, volume in (("10", "2"), ("2", "1"), ("1.5", "1"), ("11", ""), ("9", "2")):
        site.approved(series, number=number, **({"volume": volume} if volume else {}))
    detail = site.get("anonymous", f"/series/{series}")
    told = [(v["number"], [c["number"] for c in v["chapters"]]) for v in detail["volumes"]]
    assert told == [(1, [1.5, 2]), (2, [9, 10]), (None, [11])]
    assert detail["chapter_count"] == 5
    (first, *_) = detail["volumes"][0]["chapters"]
    assert detail["cover_url"] == first["cover_url"]
    assert httpx.get(site.url + detail["cover_url"]).is_success


def test_unpublished_series_are_listed_for_their_creator_and_moderators_alone(site: Site) -> None:
    series = site.series(published=False)
    for by in ("other", "moderator"):
        listed = site.get(by, "/me/series", page_size=100)["results"]
        assert series not in {one["id"] for one in listed}
    assert site.get("uploader", "/me/series")["results"][0]["id"] == series
    for by in STAFF:
        waiting = site.get(by, "/moderation/series", ordering="-created_at")["results"]
        assert waiting[0]["id"] == series
    for by in ("reader", "uploader", "auditor"):
        refused(site.client(by).get("/moderation/series"), 403, "permission_denied")
    for path in ("/me/series", "/moderation/series"):
        refused(site.anonymous.get(path), 401, "not_signed_in")


def test_uploads_are_shown_to_their_uploader_alone(site: Site) -> None:
    chapter = site.upload(site.series())
    assert site.get("uploader", "/me/uploads")["results"][0]["id"] == chapter
    for by in ("other", "moderator"):
        uploads = site.get(by, "/me/uploads", page_size=100)["results"]
        assert chapter not in {one["id"] for one in uploads}
    refused(site.anonymous.get("/me/uploads"), 401, "not_signed_in")
