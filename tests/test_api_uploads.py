"""Archives on their way in: counted as they arrive, and gone when they are refused."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.uploads import MAX_ARCHIVE_BYTES
from tests.processes import until
from tests.site import Request, Site, archive, refused

MIB = bytes(1024 * 1024)
BOUNDARY = "a-boundary"


def form(*parts: tuple[str, bytes]) -> bytes:
    """A multipart form of these parts, to its end."""
    return opening(*parts) + f"\r\n--{BOUNDARY}--\r\n".encode()


def opening(*parts: tuple[str, bytes]) -> bytes:
    """A multipart form of these parts that has not ended yet."""
    return b"\r\n".join(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + value
        for name, value in parts
    )


NUMBER, ARCHIVE = ("number", b"1"), ("archive", archive())

REFUSED_FORMS: dict[str, tuple[bytes, str]] = {
    "nothing at all": (b"", "malformed"),
    "no form": (b"number=1", "malformed"),
    "cut off in a part": (opening(NUMBER, ("archive", ARCHIVE[1][:99])), "malformed"),
    "cut off before a part": (form(NUMBER, ARCHIVE)[:-4], "malformed"),
    "a part without a name": (
        form(NUMBER, ARCHIVE).replace(b'; name="number"', b""),
        "malformed",
    ),
    "a part with endless headers": (
        f"--{BOUNDARY}\r\n".encode() + b"X: y\r\n" * 10_000 + form(NUMBER, ARCHIVE),
        "malformed",
    ),
    "too many parts": (form(ARCHIVE, *((f"f{n}", b"1") for n in range(50))), "malformed"),
    "no archive": (form(NUMBER), "validation_failed"),
    "an archive of no bytes": (form(NUMBER, ("archive", b"")), "validation_failed"),
    "two archives": (form(NUMBER, ARCHIVE, ARCHIVE), "validation_failed"),
    "no number": (form(ARCHIVE), "validation_failed"),
    "two numbers": (form(ARCHIVE, NUMBER, NUMBER), "validation_failed"),
    "an unknown field": (form(ARCHIVE, NUMBER, ("status", b"approved")), "validation_failed"),
    "an endless field": (form(ARCHIVE, NUMBER, ("title", b"x" * 5_000)), "validation_failed"),
    "a long title": (form(ARCHIVE, NUMBER, ("title", b"x" * 201)), "validation_failed"),
    "no text": (form(ARCHIVE, NUMBER, ("title", b"\xff\xfe")), "validation_failed"),
    "NUL in a text": (form(ARCHIVE, NUMBER, ("title", b"a\0b")), "validation_failed"),
    "no language": (form(ARCHIVE, NUMBER, ("language", b"English")), "validation_failed"),
    "half a volume": (form(ARCHIVE, NUMBER, ("volume", b"1.5")), "validation_failed"),
    **{
        f"number {number}": (form(ARCHIVE, ("number", number.encode())), "validation_failed")
        for number in ("", "one", "-1", "100001", "nan", "inf", "1e999", "null", "1_0")
    },
}


@pytest.mark.parametrize("name", REFUSED_FORMS)
def test_a_refused_form_leaves_nothing_behind(site: Site, name: str) -> None:
    body, code = REFUSED_FORMS[name]
    series = site.series(published=False)
    answer = site.client("uploader").post(
        f"/series/{series}/chapters",
        content=body,
        headers={"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"},
    )
    refused(answer, 400, code)
    assert_nothing_is_left(site, series)


def test_what_is_wrong_with_a_part_is_told_by_its_name(site: Site) -> None:
    series = site.series(published=False)
    told = {
        (("title", b"\xff"),): {"title": ["This is not a text that can be kept."]},
        (("title", b"a"), ("title", b"b")): {"title": ["This is given more than once."]},
        (("volume", b"10001"),): {"volume": ["This must be at most 10000."]},
        (("status", b"approved"),): {"status": ["This is not known here."]},
    }
    for parts, expected in told.items():
        answer = site.client("uploader").post(
            f"/series/{series}/chapters",
            content=form(NUMBER, ARCHIVE, *parts),
            headers={"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"},
        )
        assert refused(answer, 400, "validation_failed")["field_errors"] == expected
    answer = put(site, series, "number=100001")
    told_by_query = refused(answer, 400, "validation_failed")["field_errors"]
    assert told_by_query == {"number": ["This must be at most 100000."]}


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("multipart/form-data", 400),
        ("multipart/form-data; boundary=", 400),
        ("multipart/form-data; boundary=another", 400),
        ("multipart/mixed; boundary=a-boundary", 415),
        ("application/json", 415),
        ("application/x-www-form-urlencoded", 415),
        ("nonsense", 415),
    ],
)
def test_a_form_that_is_not_called_one_is_refused(
    site: Site, content_type: str, status: int
) -> None:
    series = site.series(published=False)
    answer = site.client("uploader").post(
        f"/series/{series}/chapters",
        content=form(NUMBER, ARCHIVE),
        headers={"Content-Type": content_type},
    )
    refused(answer, status, {400: "malformed", 415: "unsupported_media_type"}[status])
    assert_nothing_is_left(site, series)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "number=",
        "number=nan",
        "number=inf",
        "number=1e999",
        "number=-1",
        "number=100001",
        "number=1&volume=-1",
        "number=1&volume=1.5",
        "number=1&volume=99999999999999999999",
        "number=1&title=",
        "number=1&title=%20",
        "number=1&language=English",
        "number=1&status=approved",
    ],
)
def test_a_raw_body_with_wrong_parameters_leaves_nothing_behind(site: Site, query: str) -> None:
    series = site.series(published=False)
    refused(put(site, series, query), 400, "validation_failed")
    assert_nothing_is_left(site, series)


def test_a_raw_body_needs_bytes_of_an_archives_type(site: Site) -> None:
    series = site.series(published=False)
    refused(put(site, series, "number=1", content=b""), 400, "validation_failed")
    image = put(site, series, "number=1", content_type="image/png")
    refused(image, 415, "unsupported_media_type")
    refused(put(site, series, "number=1&title=%00"), 400, "malformed")
    assert_nothing_is_left(site, series)


def put(
    site: Site,
    series: str,
    query: str,
    content: bytes = ARCHIVE[1],
    content_type: str = "application/zip",
) -> httpx.Response:
    """The answer to an uploader's raw body."""
    return site.client("uploader").put(
        f"/series/{series}/chapters?{query}",
        content=content,
        headers={"Content-Type": content_type},
    )


@pytest.mark.parametrize("by", ["anonymous", "reader", "auditor"])
def test_only_uploaders_hand_in_chapters(site: Site, by: str) -> None:
    series = site.series(published=False)
    address, body = f"/series/{series}/chapters", {"archive": ("c.zip", ARCHIVE[1])}
    for answer in (
        site.client(by).post(address, data={"number": "1"}, files=body),
        site.client(by).put(f"{address}?number=1", content=ARCHIVE[1]),
    ):
        expected = (401, "not_signed_in") if by == "anonymous" else (403, "permission_denied")
        refused(answer, *expected)
    assert_nothing_is_left(site, series)


def test_a_chapter_of_no_series_is_refused(site: Site) -> None:
    body = {"archive": ("c.zip", ARCHIVE[1])}
    for series in ("no-such-series", "x" * 3_000, "%20"):
        answer = site.client("uploader").post(
            f"/series/{series}/chapters", data={"number": "1"}, files=body
        )
        refused(answer, 404, "series_not_found")
    assert site.arriving() == []


def raw_body(site: Site, series: str) -> Request:
    return site.begin(
        "uploader",
        "PUT",
        f"/series/{series}/chapters?number=1",
        **{"Content-Type": "application/zip", "Transfer-Encoding": "chunked"},
    )


def multipart_body(site: Site, series: str) -> Request:
    request = site.begin(
        "uploader",
        "POST",
        f"/series/{series}/chapters",
        **{
            "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
            "Transfer-Encoding": "chunked",
        },
    )
    request.send_chunk(opening(NUMBER, ("archive", b"")))
    return request


@pytest.mark.parametrize("begin", [raw_body, multipart_body])
def test_an_archive_is_refused_at_the_byte_that_passes_the_limit(
    site: Site, begin: Callable[[Site, str], Request]
) -> None:
    series = site.series(published=False)
    request = begin(site, series)
    for _ in range(MAX_ARCHIVE_BYTES // len(MIB)):
        request.send_chunk(MIB)
    until(lambda: sizes(site.arriving())[-1] > MAX_ARCHIVE_BYTES - 2 * len(MIB))
    assert not request.is_answered()
    request.send_chunk(b"\0" * 100)
    status, body = request.answer()
    assert (status, body["error"]["code"]) == (413, "too_large")
    assert body["error"]["details"] == {"limit": MAX_ARCHIVE_BYTES}
    assert_nothing_is_left(site, series)


def sizes(files: Iterable[Path]) -> list[int]:
    return [0, *(file.stat().st_size for file in files)]


def test_an_archive_that_says_how_much_too_large_it_is_need_not_be_sent(site: Site) -> None:
    series = site.series(published=False)
    headers: dict[str, Any] = {"Content-Type": "application/zip", "Content-Length": str(10**12)}
    request = site.begin("uploader", "PUT", f"/series/{series}/chapters?number=1", **headers)
    status, body = request.answer()
    assert (status, body["error"]["code"]) == (413, "too_large")
    assert_nothing_is_left(site, series)


@pytest.mark.parametrize("begin", [raw_body, multipart_body])
def test_an_uploader_who_goes_away_midway_leaves_nothing_behind(
    site: Site, begin: Callable[[Site, str], Request]
) -> None:
    series = site.series(published=False)
    request = begin(site, series)
    for _ in range(4):
        request.send_chunk(MIB)
    until(lambda: sizes(site.arriving())[-1] > len(MIB))
    request.close()
    assert_nothing_is_left(site, series)


def assert_nothing_is_left(site: Site, series: str) -> None:
    """No file on its way, no archive, no chapter."""
    until(lambda: site.arriving() == [])
    assert site.archives(series) == []
    uploads = site.get("uploader", "/me/uploads", page_size=100)["results"]
    assert series not in {one["series"]["id"] for one in uploads}
