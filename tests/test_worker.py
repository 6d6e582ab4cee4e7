"""The worker: what follows from an event follows once, whatever happens in between."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Event

import psycopg
import pytest
from procrastinate import RetryStrategy
from psycopg import Connection
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool

from commands.catalogue import (
    ApproveChapter,
    DeleteChapter,
    ProcessArchive,
    RejectChapter,
)
from commands.kernel import Command, Origin
from commands.people.bans import BanPerson
from domain.catalogue import ChapterProcessed, ChapterRefused
from domain.people import PersonBanned, PersonUnbanned
from domain.tenancy import MAIN
from ingest import samples
from ingest.blobs import BlobReader, BlobStore, BlobStoreUnavailable, ByteRange, DirectoryStore
from ingest.chapters import ChapterIngest
from ingest.images import DecoderPool
from ingest.references import BlobReferences
from runtime import worker
from runtime.jobs import JobCount, JobNotGivenUp, count_jobs, given_up_jobs, retry_jobs
from runtime.settings import Settings
from tests.drawings import picture
from tests.processes import until
from tests.workshop import Workshop

PROCESS = "catalogue.ProcessArchive"


def test_an_honest_archive_becomes_pages_that_wait_for_a_decision(place: Workshop):
    chapter = place.upload(1, 2)
    with place.at_work():
        until(lambda: place.status(chapter) == "pending" and place.all_is_done())
    archives, pages = place.blobs()
    assert archives == {place.archive(chapter)}
    assert len(pages) == 4


def test_an_approved_chapter_keeps_its_pages_but_not_its_archive(place: Workshop):
    chapter = place.upload(1, 2)
    with place.at_work():
        until(lambda: place.status(chapter) == "pending")
        place.ask(ApproveChapter(chapter_id=chapter), by="meder")
        until(place.all_is_done)
    archives, pages = place.blobs()
    assert (archives, len(pages)) == (set(), 4)


@pytest.mark.parametrize("command", [RejectChapter, DeleteChapter])
def test_a_rejected_or_deleted_chapter_keeps_nothing(
    place: Workshop, command: type[RejectChapter | DeleteChapter]
):
    chapter = place.upload(1, 2)
    with place.at_work():
        until(lambda: place.status(chapter) == "pending")
        place.ask(decision(command, chapter), by="meder")
        until(place.all_is_done)
    assert place.blobs() == (set(), set())


def decision(command: type[RejectChapter | DeleteChapter], chapter: str) -> Command:
    if command is RejectChapter:
        return RejectChapter(chapter_id=chapter, reason="blurred")
    return DeleteChapter(chapter_id=chapter, reason="No.")


def test_a_page_of_two_chapters_goes_with_the_last_of_them(place: Workshop):
    first, second = place.upload(1, 2), place.upload(2, 3)
    with place.at_work():
        for chapter in (first, second):
            until(partial(place.is_pending, chapter))
        assert len(place.blobs()[1]) == 6
        place.ask(RejectChapter(chapter_id=first, reason="blurred"), by="meder")
        until(place.all_is_done)
        assert len(place.blobs()[1]) == 4
        place.ask(DeleteChapter(chapter_id=second, reason="No."), by="meder")
        until(place.all_is_done)
    assert place.blobs() == (set(), set())


def test_a_hostile_archive_is_refused_and_gone_and_its_uploader_banned(place: Workshop):
    chapter = place.upload(archive=samples.overlapping())
    with place.at_work():
        until(lambda: len(place.events(PersonBanned)) > 0 and place.all_is_done())
    ((_, _, refused),) = place.events(ChapterRefused)
    assert refused.malicious
    assert len(refused.findings) > 0
    ((_, _, banned),) = place.events(PersonBanned)
    assert banned.person_id == "ana"
    assert chapter in banned.reason
    assert place.blobs() == (set(), set())


def test_a_malformed_archive_is_refused_and_its_uploader_is_not_banned(place: Workshop):
    chapter = place.upload(archive=b"no archive at all")
    with place.at_work():
        until(lambda: place.status(chapter) == "refused" and place.all_is_done())
    assert place.events(PersonBanned) == []
    assert place.blobs() == (set(), set())


def test_a_job_of_a_worker_that_died_is_taken_up_again(
    place: Workshop, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(worker, "HEARTBEAT_SECONDS", 0.1)
    chapter = place.upload(1)
    place.react()
    place.do(die_with_a_job(place))
    assert [status for _, _, status in place.jobs()] == ["doing"]
    with place.at_work():
        until(lambda: place.status(chapter) == "pending" and place.all_is_done())


def test_a_job_whose_workers_die_again_and_again_is_given_up(
    place: Workshop, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(worker, "HEARTBEAT_SECONDS", 0.1)
    place.upload(1)
    place.react()
    place.query("UPDATE jobs.procrastinate_jobs SET attempts = %s", worker.RETRY.max_attempts)
    place.do(die_with_a_job(place))
    with place.at_work():
        until(lambda: given_up_jobs(place.database.app) != [])
    (job,) = given_up_jobs(place.database.app)
    assert (job.kind, job.error) == (PROCESS, "WorkerDied()")


async def die_with_a_job(place: Workshop) -> None:
    """Fetch a job, and never be heard of again."""
    async with place.queue().open_async() as queue:
        worker_id = await queue.job_manager.register_worker()
        assert await queue.job_manager.fetch_job(queues=None, worker_id=worker_id)
    place.query(
        "UPDATE jobs.procrastinate_workers SET last_heartbeat = now() - interval '1 hour'"
        " WHERE id = %s",
        worker_id,
    )


class InterruptedStore(DirectoryStore):
    """A store where something happens while an archive is being read."""

    def __init__(self, root: Path, interrupt: Callable[[], None]) -> None:
        super().__init__(root)
        self._interrupt = interrupt

    def open(self, key: str, byte_range: ByteRange | None = None) -> BlobReader:
        reader = super().open(key, byte_range)
        try:
            self._interrupt()
        except BaseException:
            reader.close()
            raise
        return reader


@pytest.fixture
def failing(place: Workshop, monkeypatch: pytest.MonkeyPatch) -> Event:
    """The worker's blob store fails while this is set, which it is at first."""
    failing = Event()
    failing.set()

    def fail() -> None:
        if failing.is_set():
            raise BlobStoreUnavailable("the disk [is gone]")

    def open_store(_: Settings) -> BlobStore:
        return InterruptedStore(place.blob_dir, fail)

    monkeypatch.setattr(worker, "open_store", open_store)
    return failing


def test_while_the_blob_store_fails_a_job_is_tried_again_and_again(place: Workshop, failing: Event):
    chapter = place.upload(1)
    with place.at_work():
        until(lambda: place.query("SELECT 1 FROM jobs.procrastinate_jobs WHERE attempts > 0") != [])
        until(lambda: [status for _, _, status in place.jobs()] == ["todo"])
        assert place.status(chapter) == "processing"
        failing.clear()
        until(lambda: place.status(chapter) == "pending" and place.all_is_done())


def test_a_job_that_was_given_up_is_shown_with_its_error_and_retried_when_asked(
    place: Workshop, failing: Event, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(worker, "RETRY", RetryStrategy(max_attempts=1))
    dsn = place.database.app
    chapter = place.upload(1)
    with place.at_work():
        until(lambda: given_up_jobs(dsn) != [])
        (job,) = given_up_jobs(dsn)
        error = "BlobStoreUnavailable('the disk [is gone]')"
        assert (job.kind, job.error) == (PROCESS, error)
        assert count_jobs(dsn) == [JobCount(PROCESS, "failed", 1)]
        with pytest.raises(JobNotGivenUp):
            retry_jobs(dsn, job.id + 1)
        assert retry_jobs(dsn, job.id) == 1
        again = "SELECT 1 FROM jobs.procrastinate_jobs WHERE status = 'failed' AND attempts > 2"
        until(lambda: place.query(again) != [])
        assert given_up_jobs(dsn) == [job]
        failing.clear()
        assert retry_jobs(dsn) == 1
        until(lambda: place.status(chapter) == "pending" and place.all_is_done())
    assert (count_jobs(dsn), place.query("TABLE jobs.errors")) == ([], [])


def test_reports_are_told_apart_when_the_jobs_tables_were_made_anew(place: Workshop):
    with place.at_work():
        first = place.upload(1)
        until(lambda: place.status(first) == "pending" and place.all_is_done())
        with psycopg.connect(place.database.superuser) as superuser:
            superuser.execute("TRUNCATE jobs.procrastinate_jobs RESTART IDENTITY CASCADE")
        second = place.upload(2)
        until(lambda: place.status(second) == "pending" and place.all_is_done())


@pytest.fixture
def examine(place: Workshop) -> Iterator[Callable[..., None]]:
    """Examines a chapter's archive as a job does, and is interrupted."""
    pool = ConnectionPool[Connection[TupleRow]](place.database.app, min_size=1, open=True)
    with pool, DecoderPool() as decoders:

        def examine(chapter: str, interrupt: Callable[[], None] = lambda: None) -> None:
            store = InterruptedStore(place.blob_dir, interrupt)
            scratch = place.settings.scratch()
            references = BlobReferences(pool, store)
            ingest = ChapterIngest(place.bus, store, references, decoders, scratch)
            job = ProcessArchive(chapter_id=chapter, archive=place.chapter(chapter).archive)
            place.do(ingest.process(job, Origin(1, MAIN, "of-the-test", f"of-{chapter}", 0)))

        yield examine


def clear(place: Workshop, chapter: str) -> None:
    """Do what the jobs after a decision do."""
    with ConnectionPool[Connection[TupleRow]](place.database.app, min_size=1, open=True) as pool:
        BlobReferences(pool, place.store).release(chapter)
    place.store.delete(place.archive(chapter))


def test_a_chapter_deleted_while_it_is_examined_leaves_no_pages(
    place: Workshop, examine: Callable[..., None]
):
    chapter = place.upload(1, 2)

    def delete() -> None:
        place.ask(DeleteChapter(chapter_id=chapter), by="ana")
        clear(place, chapter)

    examine(chapter, delete)
    assert place.blobs() == (set(), set())
    assert place.status(chapter) == "processing"


def test_a_chapter_rejected_while_it_is_examined_again_leaves_no_pages(
    place: Workshop, examine: Callable[..., None]
):
    chapter = place.upload(1, 2)
    examine(chapter)

    def reject() -> None:
        place.ask(RejectChapter(chapter_id=chapter, reason="blurred"), by="meder")
        clear(place, chapter)

    examine(chapter, reject)
    assert place.blobs() == (set(), set())


def test_a_job_taken_up_again_after_its_chapter_was_deleted_leaves_no_pages(
    place: Workshop, examine: Callable[..., None]
):
    chapter = place.upload(1, 2)
    examine(chapter)
    place.ask(DeleteChapter(chapter_id=chapter), by="ana")
    place.store.delete(place.archive(chapter))
    examine(chapter)
    assert place.blobs() == (set(), set())


def test_a_job_that_reads_otherwise_when_it_is_taken_up_again_reports_once(
    place: Workshop, examine: Callable[..., None], tmp_path: Path
):
    chapter = place.upload(1, 2)
    examine(chapter)
    other = tmp_path / "other.zip"
    other.write_bytes(samples.pack_archive([("1.jpg", picture(3))]))
    place.store.put(place.archive(chapter), other, "application/zip")
    examine(chapter)
    assert place.status(chapter) == "pending"
    assert [processed.page_count for _, _, processed in place.events(ChapterProcessed)] == [2]


def test_a_job_taken_up_again_after_its_chapter_was_approved_changes_nothing(
    place: Workshop, examine: Callable[..., None]
):
    chapter = place.upload(1, 2)
    examine(chapter)
    place.ask(ApproveChapter(chapter_id=chapter), by="meder")
    place.store.delete(place.archive(chapter))
    examine(chapter)
    archives, pages = place.blobs()
    assert (archives, len(pages)) == (set(), 4)


def test_a_ban_that_ended_while_no_worker_ran_is_lifted_by_the_next_one(place: Workshop):
    end = datetime.now(UTC) + timedelta(seconds=1)
    place.ask(BanPerson(person_id="ana", reason="spam", until=end))
    place.react()
    due = place.query(
        "SELECT scheduled_at FROM jobs.procrastinate_jobs WHERE task_name = 'people.LiftBan'"
    )
    assert due == [(end,)]
    until(lambda: datetime.now(UTC) > end)
    assert place.events(PersonUnbanned) == []
    with place.at_work():
        until(place.all_is_done)
    assert len(place.events(PersonUnbanned)) == 1


def test_a_ban_that_was_made_longer_is_not_lifted_at_its_first_end(place: Workshop):
    end = datetime.now(UTC) + timedelta(seconds=1)
    place.ask(BanPerson(person_id="ana", reason="spam", until=end))
    place.ask(BanPerson(person_id="ana", reason="spam"))
    with place.at_work():
        until(place.all_is_done)
    assert datetime.now(UTC) > end
    assert place.events(PersonUnbanned) == []
