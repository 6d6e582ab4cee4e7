"""How much a list reads for a filter that few rows meet."""

import asyncio
from collections.abc import Iterator

import psycopg
import pytest
from msgspec import json
from psycopg import AsyncConnection, sql

from projections.catalogue import Catalogue
from projections.catalogue.queries import ListSeries
from projections.kernel import Asked, Viewer
from tests.benchmarks.history import EVENTS_PER_SERIES, fill
from tests.benchmarks.stage import project
from tests.database import Database, Server
from tests.test_audit_reads import Watched

COPIES = 2_000
RARE = 3

MAX_BUFFERS = 60
"""A walk through the table touches several hundred."""

_COPY = sql.SQL(
    "INSERT INTO {0}.series SELECT (jsonb_populate_record(s, jsonb_build_object("
    "'id', 'copy-' || n, 'slug', 'copy-' || n, 'status',"
    " CASE WHEN n <= {1} THEN 'hiatus' ELSE s.status END, 'kind',"
    " CASE WHEN n <= {1} THEN 'webtoon' ELSE s.kind END, 'rating',"
    " CASE WHEN n <= {1} THEN 'explicit' ELSE s.rating END))).*"
    " FROM {0}.series s, generate_series(1, {2}) AS n"
)


@pytest.fixture(scope="module")
def database(postgres: Server) -> Iterator[Database]:
    with postgres.database() as database:
        fill(database.app, EVENTS_PER_SERIES)
        project(database.app)
        with psycopg.connect(database.superuser, autocommit=True) as connection:
            schema = sql.Identifier(Catalogue.schema())
            connection.execute(_COPY.format(schema, RARE, COPIES))
            connection.execute("VACUUM ANALYZE")
        yield database


async def _listed(database: Database, query: ListSeries) -> tuple[int, int]:
    """How many series the list counts, and the pages that this touches."""
    async with await Watched.connect(database.app, autocommit=True) as connection:
        await AsyncConnection.execute(
            connection, "SELECT set_config('imprimatur.tenant', 'main', false)"
        )
        asked = Asked(
            connection=connection,
            tenant="main",
            viewer=Viewer(),
            path="/series",
            preview=str,
            opened=lambda recorded: asyncio.sleep(0, recorded),
            opened_texts=lambda texts: asyncio.sleep(0, [one.text for one in texts]),
        )
        answer = json.decode(await query.answer(asked))
        return answer["count"], connection.buffers


@pytest.mark.parametrize(
    "query",
    [
        ListSeries(status=("hiatus",)),
        ListSeries(kind=("webtoon",)),
        ListSeries(rating=("explicit",)),
    ],
    ids=["status", "kind", "rating"],
)
def test_a_filter_that_few_series_meet_reads_few(database: Database, query: ListSeries) -> None:
    count, buffers = asyncio.run(_listed(database, query))
    assert count == RARE
    assert buffers <= MAX_BUFFERS
