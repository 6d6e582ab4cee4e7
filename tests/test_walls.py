"""Two walls between tenants, each of which holds alone: the code's own, and row-level security."""

import asyncio
from collections.abc import Iterator
from typing import Any, LiteralString

import psycopg
import pytest
from hypothesis import find
from msgspec.structs import replace
from psycopg import sql

import commands.log
from commands.bus import Envelope
from commands.connections import EVERY_TENANT, TenantPool
from commands.kernel import COMMANDS, SYSTEM, Command, CommandSpec, NotFound
from commands.log import APPEND, Append, NewEvent, encode_batch
from domain.kernel import encode, event_name, stream_of_event
from domain.people import AccountCreated
from projections.kernel import QUERIES, Asked, Missing, Query, Viewer
from runtime.registry import MODELS
from runtime.settings import Settings
from runtime.wiring import open_bus, open_pool
from tests import histories
from tests.database import MASTER_KEY, Database, Server
from tests.rebuilding import fold_all
from tests.strategies import structs

EVERYTHING = Viewer("ana", frozenset({"moderation.read", "audit.read", "people.create"}))
"""Who may see all there is, of one tenant."""

IDS = {
    "series_id": "s1",
    "chapter_id": "c1",
    "person_id": "ana",
    "appeal_id": "ana-1",
    "invitation_id": "v1",
}
NAMED = {
    "series": "s1",
    "chapter_id": "c1",
    "stream": "chapter-c1",
    "person_id": "ana",
    "appeal_id": "ana-1",
}
"""What there is in tenant b; tenant a has nothing."""

_INCIDENT: LiteralString = (
    "INSERT INTO security.incidents"
    " (tenant, at, kind, times, person_id, subject, address, user_agent, request_id)"
    " VALUES ('b', now(), 'sign_in_failed', 1, 'ana', 'ana', '', '', '')"
)

Wall = str
NEITHER_DOWN, CODE_DOWN, SECURITY_DOWN = "both walls", "security alone", "code alone"
WALLS = (NEITHER_DOWN, CODE_DOWN, SECURITY_DOWN)


@pytest.fixture(scope="module")
def shared(postgres: Server) -> Iterator[Database]:
    """A database in which one tenant has something of every kind."""
    tale = (
        AccountCreated(person_id="ana", username="ana", roles=("uploader",)),
        *histories.pending(),
        replace(histories.opened, tenant_id="b"),
        replace(histories.role_defined, tenant_id="b"),
        histories.published,
        histories.invited,
        replace(histories.created(), series_id="s2", slug="hidden"),
        histories.banned(),
        histories.lodged,
    )
    append = Append(
        tenant="b",
        command_id="given",
        name="tests.Given",
        actor="ana",
        correlation_id="given",
        events=[NewEvent(stream_of_event(e), event_name(type(e)), encode(e)) for e in tale],
    )
    with postgres.database() as database:
        with psycopg.connect(database.app, autocommit=True) as connection:
            connection.execute(APPEND, (encode_batch([append]),))
            connection.execute(_INCIDENT)
            for model in MODELS.values():
                fold_all(connection, model)
        yield database


@pytest.fixture(params=WALLS)
def wall(request: pytest.FixtureRequest, shared: Database) -> Iterator[Wall]:
    """Each wall taken down in turn."""
    if request.param == SECURITY_DOWN:
        _secure(shared, "DISABLE")
    yield request.param
    if request.param == SECURITY_DOWN:
        _secure(shared, "ENABLE")


def _secure(database: Database, word: LiteralString) -> None:
    with psycopg.connect(database.owner) as connection:
        tables = connection.execute(
            "SELECT schemaname, tablename FROM pg_policies WHERE policyname = 'one_tenant'"
        ).fetchall()
        assert tables
        for table in tables:
            connection.execute(
                sql.SQL("ALTER TABLE {} {} ROW LEVEL SECURITY").format(
                    sql.Identifier(*table), sql.SQL(word)
                )
            )


async def answered(database: Database, query: Query, *, serving: str, asking: str) -> bytes:
    """The answer to a tenant's question over a connection that serves a tenant."""
    settings = Settings(dsn=database.app, master_key=MASTER_KEY)
    async with (
        open_pool(settings) as pool,
        open_bus(settings, pool) as bus,
        pool.of(serving) as connection,
    ):
        return await query.answer(
            Asked(
                connection=connection,
                tenant=asking,
                viewer=EVERYTHING,
                path="/",
                preview=lambda chapter_id: chapter_id,
                opened=bus.opened,
                opened_texts=bus.vault.opened_texts,
            )
        )


def told(database: Database, kind: type[Query], *, serving: str, asking: str) -> bytes:
    """The answer to a question of this kind, empty where what it is about is missing."""
    path = QUERIES[kind].path
    named: Any = {name: value for name, value in NAMED.items() if f"{{{name}}}" in path}
    try:
        return asyncio.run(answered(database, kind(**named), serving=serving, asking=asking))
    except Missing:
        return b""


@pytest.fixture(scope="module")
def nothing(shared: Database) -> dict[type[Query], bytes]:
    """What who has nothing is told while security stands: else they would see all, like others."""
    return {kind: told(shared, kind, serving="empty", asking="empty") for kind in QUERIES}


@pytest.mark.parametrize("kind", QUERIES, ids=lambda kind: kind.__name__)
def test_who_asks_for_what_is_theirs_finds_it(
    shared: Database, nothing: dict[type[Query], bytes], kind: type[Query]
) -> None:
    assert told(shared, kind, serving="b", asking="b") != nothing[kind]


@pytest.mark.parametrize("kind", QUERIES, ids=lambda kind: kind.__name__)
def test_no_question_finds_what_is_another_tenants(
    shared: Database, nothing: dict[type[Query], bytes], kind: type[Query], wall: Wall
) -> None:
    asking = "b" if wall == CODE_DOWN else "a"
    assert told(shared, kind, serving="a", asking=asking) == nothing[kind]


def concerned(spec: CommandSpec) -> bool:
    """Whether a command is about something that must be there already."""
    return any(name in IDS and name != spec.new_id for name in spec.reads)


@pytest.mark.parametrize(
    "kind", [one for one in COMMANDS if concerned(COMMANDS[one])], ids=lambda kind: kind.__name__
)
def test_no_command_reaches_what_is_another_tenants(
    shared: Database, kind: type[Command], wall: Wall, monkeypatch: pytest.MonkeyPatch
) -> None:
    if wall == CODE_DOWN:
        everywhere = commands.log._STREAM.replace("tenant = %s", "%s <> ''")  # pyright: ignore[reportPrivateUsage]
        monkeypatch.setattr(commands.log, "_STREAM", everywhere)
    command = find(structs(kind, **IDS), lambda _: True)

    async def ask() -> None:
        settings = Settings(dsn=shared.app, master_key=MASTER_KEY)
        async with open_pool(settings) as pool, open_bus(settings, pool) as bus:
            with pytest.raises(NotFound):
                await bus.handle(command, Envelope(actor=SYSTEM, tenant="a"))

    asyncio.run(ask())


def test_a_connection_that_serves_nobody_sees_nothing(shared: Database) -> None:
    async def look() -> tuple[int, int, int]:
        async with open_pool(Settings(dsn=shared.app)) as pool:
            counts: list[int] = []
            for tenant in ("", "a", "b"):
                async with pool.of(tenant) as connection:
                    cursor = await connection.execute("SELECT count(*) FROM log.events")
                    counts += await cursor.fetchone() or ()
        nobody, a, b = counts
        return nobody, a, b

    nobody, a, b = asyncio.run(look())
    assert (nobody, a) == (0, 0)
    assert b > 0


def test_a_connection_that_served_everybody_serves_nobody_afterwards(shared: Database) -> None:
    async def look() -> list[int]:
        counts: list[int] = []
        async with TenantPool(shared.app, min_size=1, max_size=1, open=False) as pool:
            for serving in (pool.of(EVERY_TENANT), pool.connection()):
                async with serving as connection:
                    cursor = await connection.execute("SELECT count(*) FROM log.events")
                    counts += await cursor.fetchone() or ()
        return counts

    everybody, nobody = asyncio.run(look())
    assert everybody > 0
    assert nobody == 0
