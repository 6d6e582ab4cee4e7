"""Databases with a past, and whoever acts on them."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

import psycopg
from msgspec import Struct

from api.revocations import Revocations
from api.sessions import Lifetimes, Sessions
from api.tokens import Tokens
from commands.bus import Envelope
from commands.kernel import SYSTEM
from commands.people import CreateAccount
from commands.vault import KeyRing
from projections.catalogue import Catalogue
from projections.projector import Projection
from runtime.ids import new_id
from runtime.settings import Settings
from runtime.wiring import clock, open_bus, open_pool
from tests.benchmarks.history import EVENTS_PER_SERIES, fill
from tests.database import MASTER_KEY, Database, Server

LASTING = 86_400
"""For how many seconds whoever acts is signed in."""

SECRET = "nothing in any of the benchmarks is hidden"


TABLES = """
    CREATE SCHEMA benchmark;
    CREATE TABLE benchmark.answers (name text PRIMARY KEY, body bytea NOT NULL);
    ALTER TABLE benchmark.answers ALTER COLUMN body SET STORAGE EXTERNAL;
    CREATE TABLE benchmark.rows (id text PRIMARY KEY, title text NOT NULL, kind text NOT NULL);
    GRANT USAGE ON SCHEMA benchmark TO imprimatur_app;
    GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA benchmark TO imprimatur_app;
"""
"""What the limits of `serve` read and write."""


class Stage(Struct, frozen=True):
    """A migrated database whose log and catalogue are filled, and a moderator who may act."""

    database: Database
    settings: Settings
    series: int
    moderator: str
    authorization: str
    """The header that the moderator sends."""


@contextmanager
def staged(server: Server, events: int = EVENTS_PER_SERIES) -> Generator[Stage]:
    """A fresh database with about so many events, all of them folded."""
    with server.database() as database, TemporaryDirectory(prefix="imprimatur-") as folder:
        series = fill(database.app, events)
        project(database.app)
        _prepare(database)
        settings = Settings(
            dsn=database.app,
            master_key=MASTER_KEY,
            secret=SECRET,
            blob_dir=folder,
            scratch_dir=folder,
            rate_limits="off",
            log_level="error",
        )
        moderator = asyncio.run(_moderator(settings))
        token = asyncio.run(_token(settings, moderator))
        yield Stage(database, settings, series, moderator, f"authorization: Bearer {token}")


def project(dsn: str) -> None:
    """Fold all of the log into the catalogue."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        projection = Projection(connection, Catalogue, KeyRing(MASTER_KEY))
        projection.lease()
        projection.open()
        while projection.step():
            pass


def _prepare(database: Database) -> None:
    """Make the limits' tables, and do now what autovacuum would do during a measurement."""
    with psycopg.connect(database.superuser, autocommit=True) as connection:
        connection.execute(TABLES)
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")


async def _moderator(settings: Settings) -> str:
    async with open_pool(settings) as pool, open_bus(settings, pool) as bus:
        command = CreateAccount(person_id=new_id(), username="meder", roles=("administrator",))
        return (await bus.handle(command, Envelope(actor=SYSTEM))).id


async def _token(settings: Settings, person_id: str) -> str:
    """An access token that outlasts the measurements."""
    async with open_pool(settings) as pool:
        lifetimes = Lifetimes(idle=LASTING, absolute=LASTING, access=LASTING)
        sessions = Sessions(pool, Revocations(settings.dsn, 0), lifetimes)
        opened = await sessions.open(new_id(), person_id, "main", "token", None)
        return Tokens(SECRET).access(opened.session, clock(), LASTING)
