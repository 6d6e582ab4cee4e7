"""A site's past: series with approved chapters, appended to the log in large batches."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random

import psycopg

from commands.log import APPEND, Append, NewEvent, encode_batch
from domain.catalogue import (
    ChapterApproved,
    ChapterProcessed,
    ChapterUploaded,
    Page,
    PagesRecorded,
    SeriesCreated,
    SeriesPublished,
    SlugClaimed,
    archive_key,
)
from domain.kernel import Event, encode, event_name, stream_of_event
from runtime.ids import new_id

CHAPTERS = 10
"""Chapters of each series."""

PAGES = 20
"""Pages of each chapter."""

EVENTS_PER_SERIES = 3 + 4 * CHAPTERS

CONNECTIONS = 2
"""While the database writes one batch, the next is being encoded."""

UPLOADER, REVIEWER = "uploader", "reviewer"


def slug_of(number: int) -> str:
    """The slug of the series of a number, from 0."""
    return f"series-{number}"


def fill(dsn: str, events: int) -> int:
    """Append whole series, about as many events as asked; how many series that is."""
    count = round(events / EVENTS_PER_SERIES)
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        shares = [range(share, count, CONNECTIONS) for share in range(CONNECTIONS)]
        list(threads.map(_append, [dsn] * CONNECTIONS, shares))
    return count


def _append(dsn: str, numbers: Sequence[int]) -> None:
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=1) as connection:
        connection.execute("SET synchronous_commit TO off")
        for number in numbers:
            connection.execute(APPEND, (encode_batch(_series(number)),))


def _series(number: int) -> list[Append]:
    """The commands that a series and its chapters came of."""
    series_id, slug = new_id(), slug_of(number)
    commands = [
        _command("catalogue.CreateSeries", UPLOADER, *_created(series_id, slug, number)),
        _command("catalogue.PublishSeries", REVIEWER, SeriesPublished(series_id=series_id)),
    ]
    random = Random(number)
    for chapter in range(1, CHAPTERS + 1):
        commands += _chapter(series_id, slug, chapter, random)
    return commands


def _created(series_id: str, slug: str, number: int) -> Iterator[Event]:
    yield SlugClaimed(slug=slug, series_id=series_id)
    yield SeriesCreated(
        series_id=series_id,
        slug=slug,
        title=f"Series {number}",
        kind="manga",
        status="ongoing",
        rating="safe",
        language="en",
        description="What the first volume tells, in a few sentences. " * 6,
        aliases=(f"The {number}th story",),
        creators=("A Writer", "An Artist"),
        categories=("adventure", "drama", "slice of life"),
        created_by=UPLOADER,
    )


def _chapter(series_id: str, slug: str, number: int, random: Random) -> Iterator[Append]:
    chapter_id = new_id()
    archive = archive_key(slug, 1, number, chapter_id)
    uploaded = ChapterUploaded(
        chapter_id=chapter_id,
        series_id=series_id,
        number=number,
        volume=1,
        title=f"Chapter {number}",
        language="en",
        archive=archive,
        archive_sha256=random.randbytes(32).hex(),
        archive_bytes=20_000_000,
        uploaded_by=UPLOADER,
    )
    pages = PagesRecorded(
        chapter_id=chapter_id, pages=tuple(_page(page, random) for page in range(1, PAGES + 1))
    )
    processed = ChapterProcessed(chapter_id=chapter_id, page_count=PAGES)
    approved = ChapterApproved(chapter_id=chapter_id, archive=archive, note="Clean scans.")
    yield _command("catalogue.UploadChapter", UPLOADER, uploaded)
    yield _command("catalogue.RecordPages", "system", pages, processed)
    yield _command("catalogue.ApproveChapter", REVIEWER, approved)


def _page(number: int, random: Random) -> Page:
    return Page(
        number=number,
        name=f"Chapter/{number:03}.jpg",
        sha256=random.randbytes(32).hex(),
        extension="jpg",
        width=1_115,
        height=1_600,
        bytes=random.randrange(200_000, 900_000),
        thumbnail_sha256=random.randbytes(32).hex(),
        thumbnail_bytes=random.randrange(10_000, 30_000),
    )


def _command(name: str, actor: str, *events: Event) -> Append:
    command_id = new_id()
    return Append(
        tenant="main",
        command_id=command_id,
        name=name,
        actor=actor,
        correlation_id=command_id,
        events=[NewEvent(stream_of_event(e), event_name(type(e)), encode(e)) for e in events],
    )
