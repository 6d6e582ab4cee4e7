"""A worker in this process, and the chapters that it works on."""

import asyncio
from collections.abc import Coroutine, Generator, Iterable, Sequence
from contextlib import AsyncExitStack, contextmanager
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any, LiteralString, TypeVar
from uuid import uuid4

import psycopg
from procrastinate import App, PsycopgConnector
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo

from commands.bus import Bus, Envelope
from commands.catalogue import CreateSeries, UploadChapter
from commands.kernel import POLICIES, SYSTEM, Command, PolicySpec
from commands.people import CreateAccount
from commands.vault import KeyRing
from domain.catalogue import Chapter, archive_key
from domain.kernel import RECORDED_COLUMNS, Event, recorded
from domain.personal import LOAD_KEYS
from domain.tenancy import MAIN
from ingest import samples
from ingest.blobs import DirectoryStore
from ingest.keys import tenant_key
from runtime.reactions import DeferJobs, Deferred, Reactions
from runtime.settings import Settings
from runtime.wiring import open_bus, open_pool
from runtime.worker import deferral, run_worker
from tests.database import MASTER_KEY, Database
from tests.drawings import picture

T = TypeVar("T")

PEOPLE: dict[str, str] = {"ana": "uploader", "meder": "moderator"}


class Workshop:
    """A site's log and blobs, and its worker while `at_work`."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.blob_dir = folder / "blobs"
        self.settings = Settings(
            dsn=database.app,
            blob_dir=str(self.blob_dir),
            scratch_dir=str(folder),
            master_key=MASTER_KEY,
        )
        self.store = DirectoryStore(self.blob_dir)
        self._folder = folder
        self._numbers = count(1)
        self._jobs_dsn = make_conninfo(database.app, options="-c search_path=jobs")
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever)
        self._stack = AsyncExitStack()

    def open(self) -> None:
        """Make two accounts, and a series for the chapters."""
        self._thread.start()
        self.bus = self.do(self._open_bus())
        for name, role in PEOPLE.items():
            self.ask(CreateAccount(person_id=name, username=name, roles=(role,)))
        self.series = self.new_series("One")

    def close(self) -> None:
        self.do(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _open_bus(self) -> Bus:
        pool = await self._stack.enter_async_context(open_pool(self.settings))
        return await self._stack.enter_async_context(open_bus(self.settings, pool))

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Await what is asynchronous."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def ask(self, command: Command, by: str = SYSTEM, key: str | None = None) -> str:
        """Issue a command; the id of what it made."""
        return self.do(self.bus.handle(command, Envelope(actor=by, command_id=key))).id

    def new_series(self, title: str) -> str:
        """Make a series; its id."""
        series = CreateSeries(
            title=title, kind="manga", status="ongoing", rating="safe", language="en"
        )
        return self.ask(series, by="ana")

    def upload(self, *pictures: int, archive: bytes = b"") -> str:
        """Hand in a chapter of some of the drawn pages, or another archive; its id."""
        archive = archive or samples.pack_archive(
            (f"{number}.jpg", picture(number)) for number in pictures
        )
        chapter = uuid4().hex
        file = self._folder / f"{chapter}.zip"
        file.write_bytes(archive)
        number = float(next(self._numbers))
        key = tenant_key(MAIN, archive_key("one", None, number, chapter))
        self.store.put(key, file, "application/zip")
        return self.ask(
            UploadChapter(
                chapter_id=chapter,
                series_id=self.series,
                number=number,
                archive_sha256="0" * 64,
                archive_bytes=len(archive),
            ),
            by="ana",
        )

    def chapter(self, chapter_id: str) -> Chapter:
        """A chapter as it stands."""
        chapter = self.do(self.bus.state(Chapter, chapter_id, "main"))
        assert chapter is not None
        return chapter

    def archive(self, chapter_id: str) -> str:
        """The key that a chapter's archive is stored under."""
        return tenant_key(MAIN, self.chapter(chapter_id).archive)

    def status(self, chapter_id: str) -> str:
        return self.chapter(chapter_id).status

    def is_pending(self, chapter_id: str) -> bool:
        return self.status(chapter_id) == "pending"

    def blobs(self) -> tuple[set[str], set[str]]:
        """The archives and the pages that are stored."""
        keys = set(self.store.keys())
        pages = {key for key in keys if key.startswith("main/pages/")}
        return keys - pages, pages

    def query(self, statement: LiteralString, *values: object) -> Sequence[tuple[Any, ...]]:
        with psycopg.connect(self.database.app, autocommit=True) as connection:
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def events(self, kind: type[Event]) -> list[tuple[int, str, Any]]:
        """The events of a type, each with its position and its command's id."""
        rows = self.query(f"SELECT {RECORDED_COLUMNS} FROM log.events ORDER BY position")
        found = [recorded(row) for row in rows]
        keys = KeyRing(MASTER_KEY)
        subjects = keys.unknown(one.event for one in found)
        keys.learn((who, kept) for who, kept in self.query(LOAD_KEYS, subjects))
        return [
            (one.position, one.command_id, keys.open(one.event))
            for one in found
            if isinstance(one.event, kind)
        ]

    def jobs(self) -> Sequence[tuple[Any, ...]]:
        """What is on the queue: each job's kind, arguments, and state."""
        return self.query(
            "SELECT task_name, args, status::text FROM jobs.procrastinate_jobs ORDER BY id"
        )

    def all_is_done(self) -> bool:
        """Whether the policies saw the whole log, and their jobs are done."""
        ((waiting, behind),) = self.query(
            "SELECT (SELECT count(*) FROM jobs.procrastinate_jobs),"
            " (SELECT max(position) FROM log.events)"
            " - coalesce((SELECT min(position) FROM projections.policies), 0)"
        )
        return (waiting, behind) == (0, 0)

    def queue(self) -> App:
        """The queue of the jobs, for this process."""
        return App(connector=PsycopgConnector(conninfo=self._jobs_dsn, min_size=1, max_size=2))

    async def defer(self, connection: AsyncConnection[Any], jobs: list[Deferred]) -> None:
        """Put jobs on the queue."""
        await deferral(self.queue())(connection, jobs)

    def react(
        self,
        defer: DeferJobs | None = None,
        policies: Iterable[PolicySpec] = POLICIES.values(),
        steps: int | None = None,
    ) -> None:
        """React, in a process of its own so to say, to all that is new, or for some steps."""
        self.do(self._react(Reactions("", self.bus, list(policies), defer or self.defer), steps))

    async def _react(self, reactions: Reactions, steps: int | None) -> None:
        async with await AsyncConnection.connect(self._jobs_dsn, autocommit=True) as connection:
            await reactions.open(connection)
            for _ in count() if steps is None else range(steps):
                if not await reactions.step(connection):
                    break

    @contextmanager
    def reacting(self, *policies: PolicySpec) -> Generator[None]:
        """React to whatever comes, in a process of its own so to say, while the block runs."""
        reactions = Reactions(self._jobs_dsn, self.bus, list(policies), self.defer)
        working = self.do(self._start(reactions.run()))
        try:
            yield
        finally:
            self.do(self._end(working))

    @contextmanager
    def at_work(self) -> Generator[None]:
        """Run a worker while the block does."""
        working = self.do(self._start(run_worker(self.settings)))
        try:
            yield
        finally:
            self.do(self._end(working))

    async def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.create_task(work)

    async def _end(self, working: asyncio.Task[None]) -> None:
        assert not working.done(), working
        working.cancel()
        await asyncio.wait([working])
