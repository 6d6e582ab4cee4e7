"""How fast commands are appended, beside the library's own recorder."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import uvloop
from eventsourcing.persistence import StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
from psycopg.conninfo import conninfo_to_dict

from commands.bus import Envelope
from commands.catalogue import CreateSeries
from commands.log import Append, Appended, LogWriter, NewEvent, Read
from runtime.ids import new_id
from runtime.settings import Settings
from runtime.wiring import open_bus, open_pool
from tests.benchmarks.children import apart, in_process
from tests.benchmarks.figures import Figure, Sizes, interleaved, rate
from tests.benchmarks.stage import staged
from tests.database import Server

AT_ONCE = 64

BODY = '{"series_id":"an id","title":"A title","kind":"manga","status":"ongoing","rating":"safe"}'
TOPIC = "catalogue.SeriesCreated"


def appends(server: Server, sizes: Sizes) -> Iterator[Figure]:
    """Commands through the bus, and events straight to the log, beside the stock recorder."""
    seconds = sizes.seconds
    with staged(server) as stage, server.database() as stock, apart() as pool:
        bus = in_process(pool, commands_per_second)
        log = in_process(pool, appends_per_second)
        recorder = in_process(pool, insertions_per_second)
        found = interleaved(
            {
                "bus": lambda: bus(stage.settings, stage.moderator, seconds),
                "log": lambda: log(stage.settings.dsn, seconds),
                "stock": lambda: recorder(stock.owner, seconds),
            }
        )
    for side, floor in (("bus", 0), ("log", 10_000)):
        yield rate(
            f"commands appended, {AT_ONCE} at once: {side}",
            found[side],
            f"stock recorder, {AT_ONCE} threads",
            found["stock"],
            at_least=8,
            floor=floor,
        )


def commands_per_second(settings: Settings, actor: str, seconds: float) -> float:
    """How many commands the bus answers while so many are under way."""
    return uvloop.run(_handle(settings, actor, seconds))


async def _handle(settings: Settings, actor: str, seconds: float) -> float:
    async with open_pool(settings) as pool, open_bus(settings, pool) as bus:

        async def create() -> None:
            command = CreateSeries(
                title=new_id(), kind="manga", status="ongoing", rating="safe", language="en"
            )
            await bus.handle(command, Envelope(actor=actor))

        await create()
        begun = time.perf_counter()

        async def work() -> int:
            handled = 0
            while time.perf_counter() < begun + seconds:
                await create()
                handled += 1
            return handled

        return await _at_once(work) / (time.perf_counter() - begun)


def appends_per_second(dsn: str, seconds: float) -> float:
    """How many appends of one event a log writer answers while so many are under way."""
    writer = LogWriter(dsn)
    try:
        writer.append(_an_append()).result()
        begun = time.perf_counter()

        async def work() -> int:
            answered = 0
            while time.perf_counter() < begun + seconds:
                verdict = await asyncio.wrap_future(writer.append(_an_append()))
                assert isinstance(verdict, Appended)
                answered += 1
            return answered

        return uvloop.run(_at_once(work)) / (time.perf_counter() - begun)
    finally:
        writer.close()


async def _at_once(work: Callable[[], Awaitable[int]]) -> int:
    return sum(await asyncio.gather(*(work() for _ in range(AT_ONCE))))


def _an_append() -> Append:
    stream, command_id = f"series-{new_id()}", new_id()
    return Append(
        tenant="main",
        command_id=command_id,
        name="benchmark",
        actor="benchmark",
        correlation_id=command_id,
        reads=[Read(stream, 0)],
        events=[NewEvent(stream, TOPIC, BODY)],
    )


def insertions_per_second(dsn: str, seconds: float) -> float:
    """How many insertions of one event the stock recorder answers to so many threads."""
    given = conninfo_to_dict(dsn)
    datastore = PostgresDatastore(
        dbname=str(given["dbname"]),
        host=str(given["host"]),
        port=str(given["port"]),
        user=str(given["user"]),
        password=str(given["password"]),
        pool_size=5,
        max_overflow=10,
        connect_timeout=30,
    )
    with datastore:
        recorder = PostgresApplicationRecorder(datastore)
        recorder.create_table()

        def insert() -> None:
            recorder.insert_events([StoredEvent(uuid4(), 1, TOPIC, BODY.encode())])

        insert()
        begun = time.perf_counter()

        def work(_: int) -> int:
            inserted = 0
            while time.perf_counter() < begun + seconds:
                insert()
                inserted += 1
            return inserted

        with ThreadPoolExecutor(AT_ONCE) as threads:
            inserted = sum(threads.map(work, range(AT_ONCE)))
        return inserted / (time.perf_counter() - begun)
