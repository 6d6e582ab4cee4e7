"""How much of the log an auditor's question reads: what it answers, wherever that begins."""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import psycopg
import pytest
from msgspec import Struct, convert, json
from psycopg import AsyncConnection, sql

from commands.log import APPEND, Append, NewEvent, encode_batch
from domain.personal import PersonalText
from projections.audit import AuditEvents, AuditPage, AuditStream
from projections.kernel import Asked, Query, Viewer
from tests.database import Database, Server

EVENTS = 3_000
MIDDLE = EVENTS // 2
BATCH = 100
LIMIT = 5

MAX_ROWS = 50
"""Rows that a page of LIMIT events may read, of events and commands together."""

MAX_BUFFERS = 120
"""Pages of tables and indexes that it may touch: the log alone is of several hundred."""


_EXPLAIN = sql.SQL("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {}")


class Watched(AsyncConnection[Any]):
    """A connection that adds up what its statements read."""

    rows = 0
    buffers = 0

    async def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        text: Any = query.decode() if isinstance(query, bytes) else query
        statement = text if isinstance(text, sql.Composable) else sql.SQL(text)
        explained = await super().execute(_EXPLAIN.format(statement), params, **options)
        ((answer,),) = await explained.fetchall()
        plan = answer[0]["Plan"]
        self.rows += sum(read(node) for node in nodes(plan))
        self.buffers += plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        return await super().execute(statement.as_bytes(), params, **options)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


def read(node: dict[str, Any]) -> int:
    """The rows that a node of a plan reads from a table."""
    if "Relation Name" not in node:
        return 0
    removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return (node["Actual Rows"] + removed) * node["Actual Loops"]


class History(Struct, frozen=True):
    """A log whose first half one actor wrote, and whose second half another did."""

    database: Database
    moments: list[datetime]
    """When each position was recorded, from 1."""


def appended(position: int) -> Append:
    half = "early" if position <= MIDDLE else "late"
    return Append(
        tenant="main",
        command_id=f"command-{position}",
        name="test.Append",
        actor=half,
        correlation_id=f"because-{half}",
        fingerprint="f",
        outcome="o",
        events=[NewEvent(f"test-{half}", f"test.{half}", json.encode("x" * 1_000).decode())],
    )


@pytest.fixture(scope="module")
def history(postgres: Server) -> Iterator[History]:
    with postgres.database() as database:
        with psycopg.connect(database.superuser, autocommit=True) as connection:
            for first in range(1, EVENTS + 1, BATCH):
                batch = [appended(position) for position in range(first, first + BATCH)]
                connection.execute(APPEND, (encode_batch(batch),))
            connection.execute("VACUUM ANALYZE")
            moments = connection.execute(
                "SELECT recorded_at FROM log.events ORDER BY position"
            ).fetchall()
        yield History(database, [moment for (moment,) in moments])


async def _answered(history: History, query: Query) -> tuple[list[int], int, int]:
    async with await Watched.connect(history.database.app, autocommit=True) as connection:
        await AsyncConnection.execute(
            connection, "SELECT set_config('imprimatur.tenant', 'main', false)"
        )
        asked = Asked(
            connection=connection,
            tenant="main",
            viewer=Viewer(),
            path="/audit/events",
            preview=str,
            opened=_opened,
            opened_texts=_opened_texts,
        )
        await query.answer(asked)  # a new connection reads the catalogue of the database as well
        connection.rows = connection.buffers = 0
        page = json.decode(await query.answer(asked), type=AuditPage)
        return [event.position for event in page.results], connection.rows, connection.buffers


async def _opened(recorded: list[Any]) -> list[Any]:
    return recorded


async def _opened_texts(texts: Sequence[PersonalText]) -> list[str]:
    return [one.text for one in texts]


def reads_little(history: History, query: Query, positions: range) -> None:
    """The query answers the first LIMIT of these positions, and reads little else."""
    found, rows, buffers = asyncio.run(_answered(history, query))
    assert found == list(positions[:LIMIT])
    assert rows <= MAX_ROWS
    assert buffers <= MAX_BUFFERS


def asking(filters: dict[str, str], after: int = 0) -> AuditEvents:
    return convert(filters | {"after": after, "limit": LIMIT}, AuditEvents)


HALVES = {"early": range(1, MIDDLE + 1), "late": range(MIDDLE + 1, EVENTS + 1), "none": range(1, 1)}


@pytest.mark.parametrize("after", [0, MIDDLE - 2, MIDDLE, EVENTS - 3, EVENTS])
@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize(
    ("name", "form"),
    [("actor", "{}"), ("correlation_id", "because-{}"), ("type", "test.{}")],
)
def test_a_filter_reads_what_it_answers(
    history: History, name: str, form: str, half: str, after: int
) -> None:
    query = asking({name: form.format(half)}, after)
    expected = [position for position in HALVES[half] if position > after]
    reads_little(history, query, range(expected[0], expected[-1] + 1) if expected else range(0))


@pytest.mark.parametrize("half", HALVES)
def test_each_page_of_a_stream_reads_what_it_answers(history: History, half: str) -> None:
    every = HALVES[half]
    for begin in (0, len(every) // 2, max(0, len(every) - LIMIT)):
        after = every[begin - 1] if begin else 0
        reads_little(
            history,
            AuditEvents(stream=f"test-{half}", after=after, limit=LIMIT),
            every[begin:],
        )
        if every:
            stream = AuditStream(stream=f"test-{half}", after=after, limit=LIMIT)
            reads_little(history, stream, every[begin:])


@pytest.mark.parametrize("position", [1, MIDDLE, EVENTS])
def test_a_command_is_found_at_its_place(history: History, position: int) -> None:
    query = AuditEvents(command_id=f"command-{position}", limit=LIMIT)
    reads_little(history, query, range(position, position + 1))
    after = AuditEvents(command_id=f"command-{position}", after=position, limit=LIMIT)
    reads_little(history, after, range(0))
    reads_little(history, AuditEvents(command_id="none", limit=LIMIT), range(0))


@pytest.mark.parametrize("position", [1, MIDDLE, EVENTS - BATCH + 1])
def test_moments_are_found_at_their_place(history: History, position: int) -> None:
    moment = history.moments[position - 1]
    first = history.moments.index(moment) + 1
    reads_little(history, AuditEvents(since=moment, limit=LIMIT), range(first, EVENTS + 1))
    reads_little(history, AuditEvents(until=moment, limit=LIMIT), range(1, first))
    until = AuditEvents(until=moment, after=EVENTS - LIMIT, limit=LIMIT)
    reads_little(history, until, range(0))
    reads_little(
        history, AuditEvents(since=moment, until=moment, actor="early", limit=LIMIT), range(0)
    )
    late = AuditEvents(since=moment, actor="late", limit=LIMIT)
    reads_little(history, late, range(max(first, MIDDLE + 1), EVENTS + 1))


def test_moments_outside_the_log_bound_nothing_or_all(history: History) -> None:
    before, beyond = (datetime.fromisoformat(f"{year}-01-01T00:00:00Z") for year in (1970, 2999))
    whole = range(1, EVENTS + 1)
    reads_little(history, AuditEvents(since=before, limit=LIMIT), whole)
    reads_little(history, AuditEvents(until=beyond, limit=LIMIT), whole)
    reads_little(history, AuditEvents(since=beyond, limit=LIMIT), range(0))
    reads_little(history, AuditEvents(until=before, limit=LIMIT), range(0))


@pytest.mark.parametrize("name", ["actor", "type", "correlation_id", "stream"])
def test_a_busy_filter_beside_one_that_finds_nothing_reads_nothing(
    history: History, name: str
) -> None:
    busy = {
        "actor": "early",
        "type": "test.early",
        "correlation_id": "because-early",
        "stream": "test-early",
    }
    for other in busy.keys() - {name}:
        query = asking({name: busy[name], other: "none"})
        reads_little(history, query, range(0))


@pytest.mark.parametrize("after", [0, MIDDLE - 2, MIDDLE, EVENTS])
@pytest.mark.parametrize("actor", ["early", "late"])
@pytest.mark.parametrize("kind", ["early", "late"])
def test_a_busy_actor_and_a_busy_type_read_what_they_have_in_common(
    history: History, actor: str, kind: str, after: int
) -> None:
    query = asking({"actor": actor, "type": f"test.{kind}"}, after)
    common = [one for one in HALVES[actor] if one in HALVES[kind] and one > after]
    reads_little(history, query, range(common[0], common[-1] + 1) if common else range(0))
