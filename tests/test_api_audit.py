"""The log as auditors read it: who, what, when and why, by position."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from threading import Event
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import pytest

from tests.site import Site, good, new_series, refused

COLUMNS = {
    "position",
    "stream",
    "version",
    "type",
    "tenant",
    "actor",
    "actor_name",
    "command",
    "command_id",
    "correlation_id",
    "causation_id",
    "recorded_at",
    "data",
}


@pytest.mark.parametrize(
    ("by", "status", "code"),
    [
        ("anonymous", 401, "not_signed_in"),
        ("reader", 403, "permission_denied"),
        ("uploader", 403, "permission_denied"),
        ("moderator", 403, "permission_denied"),
    ],
)
def test_only_auditors_read_the_log(site: Site, by: str, status: int, code: str) -> None:
    for path in ("/audit/events", f"/audit/streams/person-{site['reader'].id}"):
        refused(site.client(by).get(path), status, code)


def test_a_stream_tells_a_chapters_whole_story(site: Site) -> None:
    series = site.series()
    chapter = site.pending(series)
    site.ask("moderator", "POST", f"/chapters/{chapter}/rejection", reason="Page 2 is missing.")
    trail = site.trail(f"chapter-{chapter}")
    assert [(event["type"], event["version"], event["actor"]) for event in trail] == [
        ("catalogue.ChapterUploaded", 1, site["uploader"].id),
        ("catalogue.PagesRecorded", 2, "system"),
        ("catalogue.ChapterProcessed", 3, "system"),
        ("catalogue.ChapterRejected", 4, site["moderator"].id),
    ]
    for event in trail:
        assert event.keys() == COLUMNS
        assert (event["stream"], event["tenant"]) == (f"chapter-{chapter}", "main")
        assert event["data"]["chapter_id"] == chapter
        assert datetime.fromisoformat(event["recorded_at"]).utcoffset() is not None
    assert trail[1]["causation_id"] == str(trail[0]["position"])
    assert trail[1]["correlation_id"] == trail[0]["correlation_id"]
    assert trail[1]["command_id"].startswith("job:")
    assert trail[1]["command_id"] == trail[2]["command_id"]
    assert trail[3]["data"]["reason"] == "Page 2 is missing."
    assert trail[3]["command"] == "catalogue.RejectChapter"


def test_a_long_stream_is_read_piece_by_piece(site: Site) -> None:
    series = site.series()
    for number in range(7):
        site.ask("uploader", "PATCH", f"/series/{series}", description=str(number))
    whole = site.trail(f"series-{series}")
    page = site.get("auditor", f"/audit/streams/series-{series}", limit=2)
    events = page["results"]
    while page["next"]:
        page = good(site.client("auditor").get(site.url + page["next"])).json()
        events += page["results"]
    assert events == whole
    assert [event["version"] for event in whole] == list(range(1, 10))


def test_a_stream_that_is_not_there_is_not_found(site: Site) -> None:
    for stream in ("nothing", "chapter-nothing", "x" * 200, "%20"):
        answer = site.client("auditor").get(f"/audit/streams/{stream}")
        refused(answer, 404, "stream_not_found")


def test_each_filter_finds_the_events_that_it_names_and_no_others(site: Site) -> None:
    key, correlation = uuid4().hex, uuid4().hex
    person = site.newcomer("uploader")
    named = {"Idempotency-Key": key, "X-Correlation-ID": correlation}
    series = good(person.client.post("/series", json=new_series(), headers=named)).json()["id"]
    site.ask(person.username, "PATCH", f"/series/{series}", title="Another")
    every = site.events()
    filters = {
        "stream": f"series-{series}",
        "type": "catalogue.SeriesRevised",
        "actor": person.id,
        "command_id": key,
        "correlation_id": correlation,
    }
    for name, value in filters.items():
        expected = [event for event in every if event[name] == value]
        assert site.events(**{name: value}) == expected
        assert expected
    assert len(site.events(command_id=key)) == len(site.events(correlation_id=correlation)) == 2
    (last,) = site.events(**{k: v for k, v in filters.items() if k in ("stream", "type", "actor")})
    assert last["data"]["title"] == "Another"
    assert site.events(actor=person.id, command_id="another") == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("type", "catalogue"),
        ("type", "catalogue.SeriesRevise"),
        ("type", "catalogue.ReviseSeries"),
        ("type", "'"),
        ("stream", "chapters-1"),
        ("stream", "catalogue.Series"),
        ("stream", "%"),
    ],
)
def test_a_filter_that_names_what_cannot_be_is_refused(site: Site, name: str, value: str) -> None:
    answer = site.client("auditor").get("/audit/events", params={name: value})
    error = refused(answer, 400, "validation_failed")
    assert error["field_errors"] == {name: [f"“{value}” is not one of the choices."]}


def test_a_filter_that_names_what_has_not_been_yet_finds_nothing(site: Site) -> None:
    assert site.events(stream="chapter-none") == []
    assert site.events(type="catalogue.ChapterApproved", actor="none") == []


def test_moments_bound_what_is_read(site: Site) -> None:
    site.series()
    every = site.events()
    middle = every[len(every) // 2]["recorded_at"]
    since, before = site.events(since=middle), site.events(until=middle)
    assert since == [event for event in every if event["recorded_at"] >= middle]
    assert before == [event for event in every if event["recorded_at"] < middle]
    assert before
    assert since
    assert site.events(since=middle, until=middle) == []


def test_events_come_by_position_after_the_one_that_is_named(site: Site) -> None:
    every = site.events()
    positions = [event["position"] for event in every]
    assert positions == sorted(set(positions))
    after = positions[len(positions) // 2]
    assert site.events(after=after) == [event for event in every if event["position"] > after]
    assert site.get("auditor", "/audit/events", after=positions[-1]) == {
        "results": [],
        "next": None,
    }
    page = site.get("auditor", "/audit/events")
    assert len(page["results"]) == min(100, len(every))


@pytest.mark.parametrize("filtered", [False, True])
def test_reading_on_shows_each_event_once_while_others_are_written(
    site: Site, filtered: bool
) -> None:
    person = site.newcomer("uploader")
    series = site.series(person.username)
    first = site.position
    enough = Event()

    def write() -> int:
        written = 0
        while not enough.is_set():
            site.ask(person.username, "PATCH", f"/series/{series}", description=str(written))
            written += 1
        return written

    seen: list[dict[str, Any]] = []
    filters = {"actor": person.id} if filtered else {"stream": f"series-{series}"}
    with ThreadPoolExecutor(1) as thread:
        writing = thread.submit(write)
        while len(seen) < 60:
            after = seen[-1]["position"] if seen else first
            seen += read_on(site, after, filters)
        enough.set()
        written = writing.result()
    seen += read_on(site, seen[-1]["position"], filters)
    assert [event["data"]["description"] for event in seen] == [str(n) for n in range(written)]


def read_on(site: Site, after: int, filters: dict[str, str]) -> list[dict[str, Any]]:
    """Everything after a position, a few events at a time."""
    query = urlencode({"after": after, "limit": 5} | filters)
    events: list[dict[str, Any]] = []
    address = f"/api/v1/audit/events?{query}"
    while address:
        page = good(site.client("auditor").get(site.url + address)).json()
        events += page["results"]
        address = page["next"]
    return events


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("after", ["-1", "one", "1.5", "9" * 30, ""]),
        ("limit", ["0", "-1", "1001", "all", ""]),
        ("since", ["0", "1767225600", "1767225600.5", "1e9", "null"]),
        ("since", ["yesterday", "2026-01-01", "2026-01-01T00:00:00", "", "1" * 400]),
        ("until", ["2026-13-01T00:00:00Z", "2026-01-01T25:00:00Z"]),
        ("stream", ["x" * 201]),
        ("actor", ["x" * 201]),
        ("tenant", ["main"]),
        ("body", ["x"]),
    ],
)
def test_a_filter_that_means_nothing_is_refused(site: Site, name: str, values: list[str]) -> None:
    for value in values:
        answer = site.client("auditor").get("/audit/events", params={name: value})
        error = refused(answer, 400, "validation_failed")
        assert error["field_errors"].keys() == {name}


@pytest.mark.parametrize("name", ["actor", "command_id", "correlation_id"])
def test_a_filter_may_hold_any_text(site: Site, name: str) -> None:
    for value in ("'", "%", "\\", "\ud7ff", "\U0010ffff", "\x7f", "a;b"):
        assert site.events(**{name: value}) == []
    refused(site.client("auditor").get(f"/audit/events?{name}=%00"), 400, "malformed")
