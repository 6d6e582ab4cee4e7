"""Passwords: hashed off the event loop, a few at a time, and kept outside the log."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

AT_ONCE = 2
"""Hashes worked on at the same time: each takes a core and tens of megabytes."""


class Passwords:
    """Keeps and checks password hashes."""

    def __init__(self, pool: AsyncConnectionPool[AsyncConnection[Any]]) -> None:
        self._pool = pool
        self._hasher = PasswordHasher()
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="argon2")
        self._nobody = self._hasher.hash("nobody's password")

    async def keep(self, person_id: str, password: str) -> None:
        """Store a password's hash in place of the one before."""
        hashed = await self._in_thread(self._hasher.hash, password)
        async with self._pool.connection() as connection:
            await connection.execute(
                "INSERT INTO people.credentials (person_id, hash) VALUES (%s, %s)"
                " ON CONFLICT (person_id) DO UPDATE"
                " SET hash = excluded.hash, changed_at = clock_timestamp()",
                (person_id, hashed),
            )

    async def forget(self, person_id: str) -> None:
        """Drop the hash of an account that was not made after all."""
        async with self._pool.connection() as connection:
            await connection.execute(
                "DELETE FROM people.credentials WHERE person_id = %s", (person_id,)
            )

    async def matches(self, person_id: str | None, password: str) -> bool:
        """Whether it is this person's password; takes as long when there is no such person."""
        hashed = await self._hash_of(person_id) if person_id else None
        verified = await self._in_thread(self._verify, hashed or self._nobody, password)
        return verified and hashed is not None

    def close(self) -> None:
        self._threads.shutdown()

    async def _hash_of(self, person_id: str) -> str | None:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT hash FROM people.credentials WHERE person_id = %s", (person_id,)
            )
            row = await cursor.fetchone()
        return row[0] if row else None

    def _verify(self, hashed: str, password: str) -> bool:
        try:
            return self._hasher.verify(hashed, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _in_thread(self, function: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
