"""The log: appends that are grouped, exact and final."""

from collections.abc import Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import product
from multiprocessing import get_context
from secrets import token_hex
from threading import Event, Thread
from typing import Any, LiteralString
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from commands import log
from commands.log import (
    APPEND,
    MAX_EVENT_BYTES,
    Append,
    Appended,
    Duplicate,
    EventTooLarge,
    LogClosed,
    LogUnavailable,
    LogWriter,
    Moved,
    NewEvent,
    Read,
    encode_batch,
)
from tests.database import Database

LOCK = 1_229_803_600
"""What log.append locks."""

THREADS = (6, 5, 5)
"""Writer threads of each process."""

EACH = 1_250
WINDOW = 10


@pytest.fixture
def writer(database: Database) -> Iterator[LogWriter]:
    writer = LogWriter(database.app)
    yield writer
    writer.close()


def an_append(stream: str = "", *reads: Read, command_id: str = "", body: str = "{}") -> Append:
    stream = stream or f"test-{uuid4()}"
    return Append(
        tenant="main",
        command_id=command_id or str(uuid4()),
        name="test.Append",
        actor="ana",
        correlation_id="c",
        fingerprint="f",
        outcome="o",
        reads=reads,
        events=[NewEvent(stream, "test.Happened", body)],
    )


def rows(database: Database) -> list[tuple[Any, ...]]:
    with psycopg.connect(database.app) as connection:
        return connection.execute(
            "SELECT position, stream, version, command_id, recorded_at FROM log.events"
            " ORDER BY position"
        ).fetchall()


@contextmanager
def gathering(database: Database, writer: LogWriter) -> Generator["Future[log.Verdict]"]:
    """Holds the log still, so that what is appended meanwhile becomes one batch."""
    with psycopg.connect(database.superuser, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        waiting = writer.append(an_append("test-first"))
        while not connection.execute(
            "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database ="
            " (SELECT oid FROM pg_database WHERE datname = current_database())"
        ).fetchone():
            pass
        yield waiting
    waiting.result()


def write_many(dsn: str, threads: int) -> list[int]:
    """Append from several threads of this process; the positions, in no order."""
    writer = LogWriter(dsn)

    def write() -> list[int]:
        positions: list[int] = []
        for _ in range(EACH // WINDOW):
            window = [writer.append(an_append()) for _ in range(WINDOW)]
            for future in window:
                verdict = future.result()
                assert isinstance(verdict, Appended)
                positions.append(verdict.first)
        return positions

    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(write) for _ in range(threads)]
    writer.close()
    return [position for future in futures for position in future.result()]


def tail(dsn: str, finished: Event) -> list[tuple[Any, ...]]:
    """Follow the log, as a projector does, until there is nothing more to come."""
    seen: list[tuple[Any, ...]] = []
    with psycopg.connect(dsn, autocommit=True) as connection:
        while True:
            last_look = finished.is_set()
            batch = connection.execute(
                "SELECT position, recorded_at FROM log.events WHERE position > %s"
                " ORDER BY position LIMIT 500",
                (seen[-1][0] if seen else 0,),
            ).fetchall()
            seen += batch
            if last_look and not batch:
                return seen


def test_a_tailing_reader_misses_nothing(database: Database) -> None:
    finished = Event()
    with (
        ThreadPoolExecutor(1) as reading,
        ProcessPoolExecutor(len(THREADS), mp_context=get_context("spawn")) as writing,
    ):
        seen = reading.submit(tail, database.app, finished)
        try:
            written = [
                position
                for positions in writing.map(write_many, [database.app] * len(THREADS), THREADS)
                for position in positions
            ]
        finally:
            finished.set()
    positions = [position for position, _ in seen.result()]
    assert positions == list(range(1, EACH * sum(THREADS) + 1))
    assert sorted(written) == positions
    times = [recorded_at for _, recorded_at in seen.result()]
    assert times == sorted(times)


def test_the_clock_of_the_log_never_goes_back(database: Database, writer: LogWriter) -> None:
    writer.append(an_append()).result()
    with psycopg.connect(database.superuser, autocommit=True) as connection:
        connection.execute("ALTER TABLE log.events DISABLE TRIGGER append_only")
        connection.execute("UPDATE log.events SET recorded_at = now() + interval '1 day'")
    writer.append(an_append()).result()
    first, second = rows(database)
    assert second[4] == first[4]


def test_a_conflict_leaves_its_batch_alone(database: Database, writer: LogWriter) -> None:
    writer.append(an_append("test-moved")).result()
    with gathering(database, writer):
        before = [writer.append(an_append()) for _ in range(5)]
        conflict = writer.append(an_append("", Read("test-moved", 0)))
        after = [writer.append(an_append()) for _ in range(5)]
    assert conflict.result() == Moved()
    assert [f.result() for f in before + after] == [Appended(n, n) for n in range(3, 13)]
    assert len({row[4] for row in rows(database)[2:]}) == 1, "they were one batch"


POISON: dict[str, tuple[Append, type[Exception]]] = {
    "nul": (an_append(body="\x00"), psycopg.DataError),
    "surrogate": (an_append(command_id="\ud800"), UnicodeEncodeError),
    "longer than an index takes": (an_append(token_hex(10_000)), psycopg.OperationalError),
}


@pytest.mark.parametrize("kind", POISON)
def test_what_postgresql_refuses_is_refused_alone(
    database: Database, writer: LogWriter, kind: str
) -> None:
    poison, error = POISON[kind]
    with gathering(database, writer):
        before = [writer.append(an_append()) for _ in range(5)]
        refused = writer.append(poison)
        after = [writer.append(an_append()) for _ in range(5)]
    with pytest.raises(error):
        refused.result()
    assert [f.result() for f in before + after] == [Appended(n, n) for n in range(2, 12)]


def test_a_stream_is_written_once_in_a_batch(database: Database, writer: LogWriter) -> None:
    with gathering(database, writer):
        first, second = (writer.append(an_append("test-s")) for _ in range(2))
        stale = writer.append(an_append("", Read("test-s", 0)))
        third = writer.append(an_append("test-s", Read("test-s", 2)))
    assert [f.result() for f in (first, second, third)] == [Appended(n, n) for n in (2, 3, 4)]
    assert stale.result() == Moved()


def test_a_command_id_is_written_once_in_a_batch(database: Database, writer: LogWriter) -> None:
    append = an_append()
    with gathering(database, writer):
        first, second = (writer.append(append) for _ in range(2))
    assert (first.result(), second.result()) == (Appended(2, 2), Duplicate("f", "o", 2, 2))


@pytest.mark.parametrize(
    ("read", "verdict"),
    [
        (Read("test-s", 2), Appended(3, 3)),
        (Read("test-s", 1), Moved()),
        (Read("test-s", 3), Moved()),
        (Read("test-absent", 0), Appended(3, 3)),
        (Read("test-absent", 1), Moved()),
        (Read("test-s", 2, vacant=True), Moved()),
        (Read("test-s", 3, vacant=True), Appended(3, 3)),
    ],
)
def test_every_version_that_was_read_is_checked(
    writer: LogWriter, read: Read, verdict: log.Verdict
) -> None:
    for _ in range(2):
        writer.append(an_append("test-s")).result()
    assert writer.append(an_append("", read)).result() == verdict


def test_a_command_id_gives_the_first_outcome_again(database: Database, writer: LogWriter) -> None:
    first = an_append("test-s", Read("test-s", 0), command_id="k")
    assert writer.append(first).result() == Appended(1, 1)
    other = Append(
        tenant="main",
        command_id="k",
        name="test.Other",
        actor="bek",
        correlation_id="c",
        fingerprint="g",
        outcome="p",
        reads=[Read("test-s", 0)],
    )
    for again in (first, other):
        assert writer.append(again).result() == Duplicate("f", "o", 1, 1)
    elsewhere = Append(
        tenant="other", command_id="k", name="test.Other", actor="bek", correlation_id="c"
    )
    assert writer.append(elsewhere).result() == Appended(2, 1), "no events, at the head"
    assert len(rows(database)) == 1


def test_a_lost_connection_loses_and_doubles_nothing(database: Database, writer: LogWriter) -> None:
    appends = [an_append() for _ in range(400)]
    futures: list[Future[log.Verdict]] = []
    for start in range(0, len(appends), 40):
        with gathering(database, writer):
            futures += [writer.append(append) for append in appends[start : start + 40]]
            terminate(database)
        terminate(database)
    positions = [position_of(future.result()) for future in futures]
    by_position = {row[0]: row[3] for row in rows(database)}
    assert [by_position[position] for position in positions] == [a.command_id for a in appends]
    assert sorted(by_position) == list(range(1, 411)), "with the one that each batch waited for"


def position_of(verdict: log.Verdict) -> int:
    assert isinstance(verdict, Appended | Duplicate)
    return verdict.first


def terminate(database: Database) -> None:
    """Cut the application's connections."""
    with psycopg.connect(database.superuser, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE usename = 'imprimatur_app' AND datname = current_database()"
        )


@pytest.mark.parametrize("table", ["events", "commands"])
@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("app", "INSERT INTO {0} SELECT * FROM {0}"),
        *product(
            ("app", "owner"), ("UPDATE {} SET actor = 'eve'", "DELETE FROM {}", "TRUNCATE {}")
        ),
    ],
)
def test_the_log_is_append_only(
    database: Database, writer: LogWriter, table: str, role: str, statement: LiteralString
) -> None:
    writer.append(an_append()).result()
    with (
        psycopg.connect(getattr(database, role)) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(sql.SQL(statement).format(sql.Identifier("log", table)))


def test_a_body_is_limited(database: Database, writer: LogWriter) -> None:
    largest = an_append(body="x" * MAX_EVENT_BYTES)
    writer.append(largest).result()
    too_large = an_append(body="é" * (MAX_EVENT_BYTES // 2) + "x")
    with pytest.raises(EventTooLarge):
        writer.append(too_large)
    with psycopg.connect(database.app) as connection, pytest.raises(psycopg.errors.CheckViolation):
        connection.execute(APPEND, (encode_batch([too_large]),))


def test_followers_are_woken(database: Database, writer: LogWriter) -> None:
    with psycopg.connect(database.app, autocommit=True) as connection:
        connection.execute("LISTEN imprimatur_log")
        writer.append(an_append())
        (notice,) = connection.notifies(timeout=60, stop_after=1)
    assert notice.channel == "imprimatur_log"


def test_a_caller_that_gave_up_harms_nobody(database: Database, writer: LogWriter) -> None:
    with gathering(database, writer) as being_written:
        assert not being_written.cancel(), "its fate is no longer in the caller's hands"
        given_up = writer.append(an_append("test-given-up"))
        assert given_up.cancel()
        other = writer.append(an_append())
    assert other.result() == Appended(2, 2)
    assert len(rows(database)) == 2


def test_closing_writes_what_is_queued(database: Database) -> None:
    writer = LogWriter(database.app)
    futures = [writer.append(an_append("test-s")) for _ in range(20)]
    writer.close()
    assert [future.result() for future in futures] == [Appended(n, n) for n in range(1, 21)]
    assert isinstance(writer.append(an_append()).exception(timeout=0), LogClosed)


def test_closing_beside_an_append_leaves_no_caller_waiting(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = LogWriter(database.app)
    closing = Thread(target=writer.close)

    class ClosedMeanwhile(log._Pending):  # pyright: ignore[reportPrivateUsage]
        def __post_init__(self) -> None:
            closing.start()
            closing.join(0.2)

    monkeypatch.setattr(log, "_Pending", ClosedMeanwhile)
    future = writer.append(an_append())
    closing.join()
    assert future.done()


def test_a_database_that_is_down() -> None:
    writer = LogWriter("postgresql://127.0.0.1:1/nowhere?connect_timeout=2")
    future = writer.append(an_append())
    writer.close()
    with pytest.raises(LogUnavailable):
        future.result()
