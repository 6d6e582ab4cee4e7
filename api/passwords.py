"""Passwords: hashed off the event loop, a few at a time, and kept outside the log."""

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, LiteralString, ParamSpec, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import Type
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from api.commonwords import is_common
from domain.kernel import require

HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1, type=Type.ID)
"""OWASP's first choice: 19 MiB, two passes, one lane, as another hash may use the other core."""

AT_ONCE = max(1, (os.cpu_count() or 1) // 2)
"""Hashes worked on at the same time: each takes a core and 19 MiB."""

WAITING = 32
"""Hashes that may wait for their turn, which is about a second of them."""

NICENESS = 10
"""How far hashing stands back for those who only read."""

_LATER: LiteralString = "greatest(clock_timestamp(), c.changed_at + interval '1 microsecond')"
"""No two passwords of a person are from the same moment, which tells them apart."""

_KEEP: LiteralString = (
    "INSERT INTO people.credentials AS c (person_id, hash) VALUES (%(person)s, %(hash)s)"
    f" ON CONFLICT (person_id) DO UPDATE SET hash = excluded.hash, changed_at = {_LATER}"
    " RETURNING changed_at"
)

_REPLACE: LiteralString = (
    f"UPDATE people.credentials AS c SET hash = %(hash)s, changed_at = {_LATER}"
    " WHERE person_id = %(person)s AND changed_at = %(since)s RETURNING changed_at"
)

P = ParamSpec("P")
T = TypeVar("T")


class PasswordsBusy(Exception):
    """More passwords are to be hashed than there is time for."""


class PasswordReplaced(Exception):
    """The password that was right a moment ago is another now."""


class Passwords:
    """Keeps and checks password hashes."""

    def __init__(
        self, pool: AsyncConnectionPool[AsyncConnection[Any]], hasher: PasswordHasher = HASHER
    ) -> None:
        self._pool = pool
        self._hasher = hasher
        self._threads = ThreadPoolExecutor(
            AT_ONCE, thread_name_prefix="argon2", initializer=_stand_back
        )
        self._under_way = 0
        self._nobody = self._hasher.hash("nobody's password")

    async def keep(self, person_id: str, password: str, *about: str) -> datetime:
        """Store a password's hash in place of the one before; since when it is this one.

        Raises Rejected for a password that is common, or made of what is known `about` the person.
        """
        return await self._store(_KEEP, {"person": person_id}, password, about)

    async def replace(self, person_id: str, password: str, since: datetime) -> datetime:
        """Replace a password that is what it is `since` then; since when it is the new one.

        Raises PasswordReplaced where it is that no more, and Rejected as `keep` does.
        """
        return await self._store(_REPLACE, {"person": person_id, "since": since}, password)

    async def _store(
        self,
        statement: LiteralString,
        whose: dict[str, Any],
        password: str,
        about: Sequence[str] = (),
    ) -> datetime:
        require(not is_common(password, about), "password_common")
        hashed = await self._in_thread(self._hasher.hash, password)
        async with self._pool.connection() as connection:
            cursor = await connection.execute(statement, whose | {"hash": hashed})
            row = await cursor.fetchone()
        if row is None:
            raise PasswordReplaced
        return row[0]

    async def forget(self, person_id: str) -> None:
        """Drop the hash of an account that was not made after all."""
        async with self._pool.connection() as connection:
            await connection.execute(
                "DELETE FROM people.credentials WHERE person_id = %s", (person_id,)
            )

    async def matches(self, person_id: str | None, password: str) -> datetime | None:
        """Since when it is this person's password; takes as long when there is no such person.

        None where it is not. A hash that was made with other parameters than today's is made anew.
        Raises PasswordsBusy.
        """
        kept = await self._kept(person_id) if person_id else None
        hashed, since = kept or (self._nobody, None)
        if not await self._in_thread(self._verify, hashed, password):
            return None
        if since and self._hasher.check_needs_rehash(hashed):
            await self._renew(hashed, password)
        return since

    def close(self) -> None:
        self._threads.shutdown()

    async def _kept(self, person_id: str) -> tuple[str, datetime] | None:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT hash, changed_at FROM people.credentials WHERE person_id = %s", (person_id,)
            )
            return await cursor.fetchone()

    async def _renew(self, hashed: str, password: str) -> None:
        """Put a new hash in the place of an old one, unless the password was changed meanwhile."""
        renewed = await self._in_thread(self._hasher.hash, password)
        async with self._pool.connection() as connection:
            await connection.execute(
                "UPDATE people.credentials SET hash = %s WHERE hash = %s", (renewed, hashed)
            )

    def _verify(self, hashed: str, password: str) -> bool:
        try:
            return self._hasher.verify(hashed, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._under_way >= AT_ONCE + WAITING:
            raise PasswordsBusy
        self._under_way += 1
        try:
            return await asyncio.wrap_future(self._threads.submit(work, *args, **kwargs))
        finally:
            self._under_way -= 1


def _stand_back() -> None:
    """Let this thread run only when nobody else would; on Linux alone is it about a thread."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
