"""Answers that are never outdated: positions to wait for, and entity tags that change in time."""

from functools import partial

import pytest

from tests.processes import until
from tests.site import Site, good, refused

READERS = ("anonymous", "uploader", "moderator")


@pytest.mark.parametrize("by", READERS)
def test_a_position_shows_what_was_written_before_it(site: Site, by: str) -> None:
    series = site.series()
    for number in range(20):
        answer = site.client("uploader").patch(
            f"/series/{series}", json={"description": f"Number {number}"}
        )
        position = {"X-Min-Position": answer.headers["X-Position"]}
        read = good(site.client(by).get(f"/series/{series}", headers=position))
        assert read.json()["description"] == f"Number {number}"


def test_a_command_that_changes_nothing_answers_the_position_of_what_is(site: Site) -> None:
    series = site.series(published=False)
    first, again = (site.client("moderator").post(f"/series/{series}/publication") for _ in "12")
    assert first.headers["X-Position"] == again.headers["X-Position"] != "0"


@pytest.mark.parametrize("position", ["", "-1", "1.5", "one", "1 1", "٣", "9" * 19, "9" * 5_000])
def test_a_position_that_is_none_is_refused(site: Site, position: str) -> None:
    answer = site.anonymous.get("/series", headers=[(b"X-Min-Position", position.encode())])
    error = refused(answer, 400, "validation_failed")
    assert error["field_errors"].keys() == {"X-Min-Position"}


def test_a_position_of_the_future_is_not_waited_for_without_end(site: Site) -> None:
    answer = site.anonymous.get("/series", headers={"X-Min-Position": "9" * 18})
    refused(answer, 504, "position_not_reached")


@pytest.mark.parametrize("by", READERS)
def test_a_client_that_has_the_answer_is_not_sent_it_again(site: Site, by: str) -> None:
    series = site.series()
    site.get(by, f"/series/{series}")
    client = site.client(by)
    first = good(client.get(f"/series/{series}"))
    tag = first.headers["ETag"]
    for known in (tag, tag.removeprefix("W/"), f'"other", {tag}'):
        again = client.get(f"/series/{series}", headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["ETag"] == tag
        assert again.headers["Cache-Control"] == first.headers["Cache-Control"]
    other = good(client.get(f"/series/{series}", headers={"If-None-Match": '"other"'}))
    assert other.content == first.content


@pytest.mark.parametrize("by", READERS)
@pytest.mark.parametrize("path", ["/series/{}", "/series"])
def test_a_change_changes_the_tag(site: Site, by: str, path: str) -> None:
    series = site.series()
    address = path.format(series)
    site.get(by, address)
    before = good(site.client(by).get(address))
    site.ask("uploader", "PATCH", f"/series/{series}", title="Another title")
    known = {"If-None-Match": before.headers["ETag"]}
    after = good(site.client(by).get(address, headers=site.now | known))
    assert after.headers["ETag"] != before.headers["ETag"]
    assert "Another title" in after.text
    assert "Another title" in good(site.client(by).get(address, headers=known)).text


def test_each_person_has_tags_of_their_own(site: Site) -> None:
    series = site.series()
    tags = {
        by: site.client(by).get(f"/series/{series}", headers=site.now).headers["ETag"]
        for by in (*READERS, "reader", "other")
    }
    assert len(set(tags.values())) == len(tags)


def test_each_address_has_a_tag_of_its_own(site: Site) -> None:
    series = site.series()
    tag = site.anonymous.get(f"/series/{series}", headers=site.now).headers["ETag"]
    answer = site.anonymous.get("/series/no-such-series", headers={"If-None-Match": tag})
    refused(answer, 404, "series_not_found")


@pytest.mark.parametrize("by", READERS)
def test_an_answer_is_the_same_packed_and_unpacked(site: Site, by: str) -> None:
    series = site.series(description="A long description. " * 100)
    plain = site.get(by, f"/series/{series}")
    for encoding in ("gzip", "identity", "gzip;q=0", "nonsense", "gzip"):
        packed = site.client(by).get(f"/series/{series}", headers={"Accept-Encoding": encoding})
        assert packed.json() == plain


def test_an_answer_is_packed_for_who_can_unpack_it(site: Site) -> None:
    site.series(description="A long description. " * 100)
    packed = site.client("uploader").get("/series", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "accept-encoding" in packed.headers["Vary"].lower()
    plain = site.client("uploader").get("/series", headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers


@pytest.mark.parametrize("by", READERS)
def test_an_answer_from_memory_is_packed_like_any_other(site: Site, by: str) -> None:
    series = site.series(description="A long description. " * 100)
    plain = site.get(by, f"/series/{series}")
    for encoding, packed in (
        ("gzip", True),
        ("identity", False),
        ("gzip, deflate", True),
        ("br, GZIP;q=0.5", True),
        ("gzip;q=0.1,*;q=0", True),
        ("gzip", True),
        ("", False),
    ):
        asked = {"Accept-Encoding": encoding}
        answer = good(site.client(by).get(f"/series/{series}", headers=asked))
        if by == "anonymous":
            answer = good(site.client(by).get(f"/series/{series}", headers=asked))
            assert ("Content-Encoding" in answer.headers) == packed, encoding
        assert answer.json() == plain
        assert {"authorization", "accept-encoding"} <= {
            name.strip().lower() for name in answer.headers["Vary"].split(",")
        }
        again = asked | {"If-None-Match": answer.headers["ETag"]}
        unchanged = site.client(by).get(f"/series/{series}", headers=again)
        assert (unchanged.status_code, unchanged.content) == (304, b"")
        assert unchanged.headers["ETag"] == answer.headers["ETag"]
        assert "accept-encoding" in unchanged.headers["Vary"].lower()


@pytest.mark.parametrize("encoding", ["gzip;q=0", "gzip; q=0.000, *", "nogzip", "x-gzip", "br"])
def test_what_is_in_memory_is_not_packed_for_who_refuses_it(site: Site, encoding: str) -> None:
    series = site.series(description="A long description. " * 100)
    site.get("anonymous", f"/series/{series}")
    asked = {"Accept-Encoding": encoding}
    _, remembered = (site.anonymous.get(f"/series/{series}", headers=asked) for _ in "12")
    assert "Content-Encoding" not in remembered.headers


def test_a_small_answer_is_not_packed(site: Site) -> None:
    for _ in range(2):
        answer = good(site.anonymous.get("/series?search=no-such-thing"))
        assert "Content-Encoding" not in answer.headers


def test_a_cached_list_follows_what_happens_without_being_told_to(site: Site) -> None:
    for number in range(1, 6):
        site.series(categories=["Follows"])
        until(partial(has_followers, site, number))


def test_a_client_that_has_an_image_is_not_sent_it_again(site: Site) -> None:
    chapter = site.approved(site.series())
    page = site.get("anonymous", f"/chapters/{chapter}")["pages"][0]
    image = good(site.anonymous.get(site.url + page["url"]))
    again = site.anonymous.get(
        site.url + page["url"], headers={"If-None-Match": image.headers["ETag"]}
    )
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("by", [*READERS, "auditor"])
def test_whatever_exists_is_not_sent_to_who_has_it(site: Site, by: str) -> None:
    series = site.series()
    site.get(by, f"/series/{series}")
    have = {"If-None-Match": "*"}
    for path in (f"/series/{series}", "/series", f"/series?search={series}"):
        for _ in "12":  # from the database, and from memory
            plain = good(site.client(by).get(path))
            answer = site.client(by).get(path, headers=have)
            assert (answer.status_code, answer.content) == (304, b"")
            assert answer.headers["ETag"] == plain.headers["ETag"]
    refused(site.client(by).get("/series/none", headers=have), 404, "series_not_found")


def test_what_has_no_tag_exists_all_the_same(site: Site) -> None:
    series = site.series()
    have = site.now | {"If-None-Match": "*"}
    auditor = site.client("auditor")
    answer = auditor.get(f"/audit/streams/series-{series}", headers=have)
    assert (answer.status_code, answer.content) == (304, b"")
    refused(auditor.get("/audit/streams/series-none", headers=have), 404, "stream_not_found")


@pytest.fixture(scope="module")
def image(site: Site) -> str:
    """The address of an image that anybody may see."""
    chapter = site.approved(site.series())
    return site.url + site.get("anonymous", f"/chapters/{chapter}")["pages"][0]["url"]


def test_an_image_that_exists_is_not_sent_to_who_has_it(site: Site, image: str) -> None:
    have = {"If-None-Match": "*"}
    assert site.anonymous.get(image, headers=have).status_code == 304
    refused(site.anonymous.get(f"{image}x", headers=have), 404, "image_not_found")


def test_an_image_waits_for_a_position(site: Site, image: str) -> None:
    good(site.anonymous.get(image, headers=site.now))
    late = {"X-Min-Position": "9" * 18}
    refused(site.anonymous.get(image, headers=late), 504, "position_not_reached")
    error = refused(
        site.anonymous.get(image, headers={"X-Min-Position": "one"}), 400, "validation_failed"
    )
    assert error["field_errors"].keys() == {"X-Min-Position"}


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("bytes=0-0", slice(0, 1)),
        ("bytes=10-19", slice(10, 20)),
        ("bytes=10-", slice(10, None)),
        ("bytes=10-999999999", slice(10, None)),
    ],
)
def test_a_part_of_an_image_is_sent_to_who_asks_for_it(
    site: Site, image: str, asked: str, part: slice
) -> None:
    whole = good(site.anonymous.get(image))
    assert whole.headers["Accept-Ranges"] == "bytes"
    for headers in ({}, {"If-Range": whole.headers["ETag"]}):
        answer = site.anonymous.get(image, headers={"Range": asked} | headers)
        assert (answer.status_code, answer.content) == (206, whole.content[part])
        first, last, _ = part.indices(len(whole.content))
        said = f"bytes {first}-{last - 1}/{len(whole.content)}"
        assert answer.headers["Content-Range"] == said
        assert answer.headers["Content-Length"] == str(len(answer.content))
        assert answer.headers["ETag"] == whole.headers["ETag"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Range": "bytes=-10"},
        {"Range": "bytes=9-1"},
        {"Range": "bytes=0-1,3-4"},
        {"Range": "pages=1-2"},
        {"Range": "bytes=٣-"},
        {"Range": "bytes=0-1", "If-Range": '"another"'},
    ],
)
def test_what_is_no_single_range_is_answered_in_full(
    site: Site, image: str, headers: dict[str, str]
) -> None:
    whole = good(site.anonymous.get(image))
    lines = [(name.encode(), value.encode()) for name, value in headers.items()]
    answer = site.anonymous.get(image, headers=lines)
    assert (answer.status_code, answer.content) == (200, whole.content)


def test_a_range_beyond_an_image_is_refused(site: Site, image: str) -> None:
    answer = site.anonymous.get(image, headers={"Range": "bytes=999999999-"})
    refused(answer, 416, "range_not_satisfiable")


def has_followers(site: Site, number: int) -> bool:
    return good(site.anonymous.get("/series?category=Follows")).json()["count"] == number
