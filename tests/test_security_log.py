"""The security log by itself: what a flood, an outage and a sweep do to it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from api.security import SINGLY, Noted, SecurityLog, sweep_incidents
from commands.connections import TenantPool
from commands.vault import Vault
from projections.security import IncidentKind
from runtime.settings import Settings
from runtime.wiring import open_pool
from tests.database import MASTER_KEY, Database
from tests.processes import until

MOMENT = datetime(2026, 1, 31, 12, 0, 30, tzinfo=UTC)


async def nobody() -> None:
    """Whom most of these incidents are about."""


def noted(
    kind: IncidentKind = "sign_in_failed",
    *,
    at: datetime = MOMENT,
    find: Callable[[], Awaitable[str | None]] = nobody,
) -> Noted:
    return Noted(tenant="main", at=at, kind=kind, find=find, address="::1", user_agent="tests")


def kept(database: Database) -> list[tuple[Any, ...]]:
    """What is written down: the kind, how often, and the moment."""
    with psycopg.connect(database.app) as connection:
        return connection.execute(
            "SELECT kind, times, at FROM security.incidents ORDER BY id"
        ).fetchall()


Story = Callable[[SecurityLog, TenantPool], Awaitable[None]]


def told(database: Database, story: Story, clock: Callable[[], datetime] = lambda: MOMENT) -> None:
    """Tell a story to a log that is running."""

    async def tell() -> None:
        async with open_pool(Settings(dsn=database.app)) as pool:
            vault = Vault(MASTER_KEY, pool)
            await vault.start()
            log = SecurityLog(pool, vault, clock)
            log.start()
            try:
                await story(log, pool)
            finally:
                await log.stop()

    asyncio.run(tell())


async def come_true(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds, while the log goes on."""
    await asyncio.to_thread(until, condition)


def test_of_a_flood_the_first_are_written_and_the_rest_is_counted(database: Database) -> None:
    async def flood(log: SecurityLog, _pool: TenantPool) -> None:
        for _ in range(SINGLY + 50):
            log.note(noted())
        log.note(noted("permission_denied"))

    told(database, flood)
    minute = MOMENT.replace(second=0)
    assert kept(database) == [
        *[("sign_in_failed", 1, MOMENT)] * SINGLY,
        ("permission_denied", 1, MOMENT),
        ("sign_in_failed", 50, minute),
    ]


def test_what_was_counted_is_written_once_its_minute_is_over(database: Database) -> None:
    now = MOMENT

    async def flood(log: SecurityLog, _pool: TenantPool) -> None:
        nonlocal now
        for _ in range(SINGLY + 1):
            log.note(noted())
        await come_true(lambda: len(kept(database)) == SINGLY)
        now += timedelta(minutes=1)
        await come_true(lambda: len(kept(database)) == SINGLY + 1)

    told(database, flood, lambda: now)


def test_the_next_minute_begins_anew(database: Database) -> None:
    later = MOMENT + timedelta(minutes=1)

    async def flood(log: SecurityLog, _pool: TenantPool) -> None:
        for _ in range(SINGLY):
            log.note(noted())
        log.note(noted(at=later))

    told(database, flood)
    assert kept(database)[-1] == ("sign_in_failed", 1, later)


def allow(database: Database, word: str) -> None:
    """Let the application write incidents, or not."""
    statement = f"{word} imprimatur_app".replace("ALLOW", "GRANT INSERT ON security.incidents TO")
    statement = statement.replace("FORBID", "REVOKE INSERT ON security.incidents FROM")
    with psycopg.connect(database.owner) as connection:
        connection.execute(statement.encode())


def test_what_cannot_be_written_waits(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    allow(database, "FORBID")

    async def wait(log: SecurityLog, _pool: TenantPool) -> None:
        log.note(noted())
        await come_true(lambda: "incidents wait to be written" in caplog.text)
        await asyncio.to_thread(allow, database, "ALLOW")
        await come_true(lambda: len(kept(database)) == 1)

    told(database, wait)


def test_what_is_lost_is_said(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    allow(database, "FORBID")

    async def lose(log: SecurityLog, _pool: TenantPool) -> None:
        for _ in range(SINGLY + 5):
            log.note(noted())

    with caplog.at_level(logging.ERROR):
        told(database, lose)
    assert f"{SINGLY + 5} incidents could not be written" in caplog.text
    assert kept(database) == []


def test_what_never_can_be_written_holds_up_nothing(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken() -> str:
        raise LookupError("nobody knows")

    async def go_on(log: SecurityLog, _pool: TenantPool) -> None:
        log.note(noted(find=broken))
        await come_true(lambda: "1 incidents could not be written" in caplog.text)
        log.note(noted())
        await come_true(lambda: len(kept(database)) == 1)

    told(database, go_on)


def test_incidents_and_the_keys_of_strangers_go_after_ninety_days(database: Database) -> None:
    now = datetime.now(UTC)
    old = now - timedelta(days=91)

    async def sweep(log: SecurityLog, pool: TenantPool) -> None:
        log.note(noted(at=old))
        log.note(noted(at=now))
        await come_true(lambda: len(kept(database)) == 2)
        with psycopg.connect(database.owner) as connection:
            connection.execute("UPDATE people.keys SET made_at = made_at - interval '91 days'")
        await sweep_incidents(pool)

    told(database, sweep)
    assert [at for *_, at in kept(database)] == [now]
    with psycopg.connect(database.app) as connection:
        subjects = connection.execute("SELECT subject FROM people.keys ORDER BY 1").fetchall()
    assert subjects == [("names",), (f"strangers-{now:%Y-%m}",)]


def test_of_whom_was_forgotten_no_address_is_kept(database: Database) -> None:
    async def ana() -> str:
        return "ana"

    with psycopg.connect(database.app) as connection:
        connection.execute("INSERT INTO people.keys (subject) VALUES ('ana')")

    async def note(log: SecurityLog, _pool: TenantPool) -> None:
        log.note(noted(find=ana))

    told(database, note)
    with psycopg.connect(database.app) as connection:
        rows = connection.execute(
            "SELECT person_id, address, user_agent FROM security.incidents"
        ).fetchall()
    assert rows == [("ana", "", "")]
