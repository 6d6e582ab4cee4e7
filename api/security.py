"""The security log: what was refused, written down beside the requests and not by them."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from datetime import datetime
from typing import Any, LiteralString

import psycopg
from msgspec import Struct
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from commands.connections import EVERY_TENANT, TenantPool
from commands.vault import Vault
from domain.personal import PersonalText
from projections.security import ADDRESS, USER_AGENT, IncidentKind

SINGLY = 100
"""Incidents of a kind that a process writes down one by one in a minute; more are counted."""

MAX_WAITING = 10_000
"""Incidents kept while the database is out of reach."""

BATCH = 500
PAUSE_SECONDS = 1.0
FLUSH_SECONDS = 5.0

_INSERT: LiteralString = (
    "INSERT INTO security.incidents"
    " (tenant, at, kind, times, person_id, subject, address, user_agent, request_id)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)"
)

_PASSING = (psycopg.Error, PoolTimeout)

logger = logging.getLogger(__name__)


class Noted(Struct, frozen=True, kw_only=True):
    """What was refused, and how to find out whom it is about."""

    tenant: str
    at: datetime
    kind: IncidentKind
    times: int = 1
    find: Callable[[], Awaitable[str | None]]
    address: str = ""
    user_agent: str = ""
    request_id: str = ""


_Key = tuple[str, IncidentKind, datetime]
"""What is counted together: a tenant's incidents of a kind in a minute."""


class SecurityLog:
    """Writes refusals down in the background; a flood is counted, and none is lost in silence."""

    def __init__(self, pool: TenantPool, vault: Vault, clock: Callable[[], datetime]) -> None:
        self._pool = pool
        self._vault = vault
        self._clock = clock
        self._waiting: list[Noted] = []
        self._minute: datetime | None = None
        self._singly: Counter[tuple[str, IncidentKind]] = Counter()
        self._counted: Counter[_Key] = Counter()
        self._noted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    def note(self, noted: Noted) -> None:
        """Take an incident to be written, or count it where there are too many."""
        minute = _minute_of(noted.at)
        if minute != self._minute:
            self._minute = minute
            self._singly.clear()
        self._singly[noted.tenant, noted.kind] += 1
        if self._singly[noted.tenant, noted.kind] > SINGLY or len(self._waiting) >= MAX_WAITING:
            self._counted[noted.tenant, noted.kind, minute] += 1
        else:
            self._waiting.append(noted)
        self._noted.set()

    async def stop(self) -> None:
        """Write what is waiting, and what was counted of the minute under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._close_minutes(self._counted.keys())
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                while self._waiting:
                    await self._write()
        except (*_PASSING, TimeoutError):
            logger.exception("%d incidents could not be written", _times(self._waiting))

    async def _run(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(PAUSE_SECONDS if self._counted else None):
                    await self._noted.wait()
            self._noted.clear()
            now = _minute_of(self._clock())
            self._close_minutes(key for key in self._counted if key[2] < now)
            while self._waiting:
                await self._try_to_write()

    async def _try_to_write(self) -> None:
        try:
            await self._write()
        except _PASSING:
            logger.warning("incidents wait to be written", exc_info=True)
            await asyncio.sleep(PAUSE_SECONDS)
        except Exception:  # what no waiting mends must not hold up what comes after it
            lost = self._waiting[:BATCH]
            del self._waiting[: len(lost)]
            logger.exception("%d incidents could not be written", _times(lost))

    def _close_minutes(self, keys: Iterable[_Key]) -> None:
        """Put what was counted among what waits."""
        for key in list(keys):
            tenant, kind, minute = key
            times = self._counted.pop(key)
            self._waiting.append(
                Noted(tenant=tenant, at=minute, kind=kind, times=times, find=_nobody)
            )

    async def _write(self) -> None:
        """Write the first of what waits; it waits on where that fails."""
        batch = self._waiting[:BATCH]
        rows = await self._sealed(batch)
        async with self._pool.of(EVERY_TENANT) as connection, connection.transaction():
            await connection.cursor().executemany(_INSERT, rows)
        del self._waiting[: len(batch)]

    async def _sealed(self, batch: list[Noted]) -> list[tuple[Any, ...]]:
        people = [await noted.find() for noted in batch]
        subjects = [
            person or f"strangers-{noted.at:%Y-%m}"
            for noted, person in zip(batch, people, strict=True)
        ]
        texts = [
            PersonalText(subject, place, text)
            for noted, subject in zip(batch, subjects, strict=True)
            for place, text in ((ADDRESS, noted.address), (USER_AGENT, noted.user_agent))
        ]
        sealed = iter(await self._vault.sealed_texts(texts))
        return [
            (one.tenant, one.at, one.kind, one.times, who, subject, *pair, one.request_id)
            for one, who, subject, pair in zip(
                batch, people, subjects, zip(sealed, sealed, strict=True), strict=True
            )
        ]


def _minute_of(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)


def _times(incidents: Iterable[Noted]) -> int:
    return sum(noted.times for noted in incidents)


async def _nobody() -> None:
    """Whom a number of incidents is about."""


async def sweep_incidents(pool: AsyncConnectionPool[AsyncConnection[Any]]) -> None:
    """Forget incidents after their time."""
    async with pool.connection() as connection:
        await connection.execute("SELECT security.sweep()")
