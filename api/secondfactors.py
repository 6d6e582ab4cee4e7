"""What is kept of second factors: wrapped secrets, the step of the last code, recovery codes."""

import hashlib
import secrets
from base64 import b32encode
from collections.abc import Callable
from datetime import datetime
from textwrap import wrap
from typing import Any, LiteralString

from cryptography.fernet import InvalidToken, MultiFernet
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from api.totp import DIGITS, SECRET_BYTES, step_of
from commands.vault import wrapping
from domain.personal import MasterKeyWrong

RECOVERY_CODES = 10
RECOVERY_BYTES = 10

_BEGIN: LiteralString = (
    "WITH dropped AS ("
    " DELETE FROM people.second_factors"
    " WHERE tenant = %(tenant)s AND person_id = %(person)s AND confirmed_at IS NULL"
    ") INSERT INTO people.second_factors (id, person_id, tenant, secret)"
    " VALUES (%(id)s, %(person)s, %(tenant)s, %(secret)s)"
)

_PENDING: LiteralString = (
    "SELECT id, secret FROM people.second_factors"
    " WHERE tenant = %s AND person_id = %s AND confirmed_at IS NULL"
    " ORDER BY created_at DESC LIMIT 1 FOR UPDATE"
)

_CONFIRM: LiteralString = (
    "UPDATE people.second_factors SET confirmed_at = clock_timestamp(), last_step = %s"
    " WHERE id = %s"
)

_TAKE_STEP: LiteralString = (
    "UPDATE people.second_factors SET last_step = %(step)s WHERE id = %(id)s"
    " AND last_step < %(step)s"
)

_TAKE_CODE: LiteralString = (
    "UPDATE people.recovery_codes SET used_at = clock_timestamp()"
    " WHERE factor_id = %s AND digest = %s AND used_at IS NULL RETURNING id"
)

Pool = AsyncConnectionPool[AsyncConnection[Any]]


class CodeWrong(Exception):
    """The code is none, is of another time, or was taken before."""


class NothingPending(Exception):
    """No second factor waits for its first code."""


class FactorGone(Exception):
    """The second factor was taken away meanwhile."""


class SecondFactors:
    """Keeps secrets that only the master key opens, and takes each code once."""

    def __init__(self, pool: Pool, master_keys: str, new_id: Callable[[], str]) -> None:
        self._pool = pool
        self._master_keys = master_keys
        self._new_id = new_id

    async def begin(self, person_id: str, tenant: str) -> bytes:
        """A new secret, in the place of one that was never confirmed."""
        secret = secrets.token_bytes(SECRET_BYTES)
        wrapped = self._wrapping(person_id, tenant).encrypt(secret)
        said = {"id": self._new_id(), "person": person_id, "tenant": tenant, "secret": wrapped}
        async with self._pool.connection() as connection:
            await connection.execute(_BEGIN, said)
        return secret

    async def confirm(
        self, person_id: str, tenant: str, code: str, at: datetime
    ) -> tuple[str, list[str]]:
        """The factor whose first code this is, and its recovery codes.

        Raises NothingPending and CodeWrong.
        """
        async with self._pool.connection() as connection, connection.transaction():
            cursor = await connection.execute(_PENDING, (tenant, person_id))
            row = await cursor.fetchone()
            if row is None:
                raise NothingPending
            step = step_of(_plain(code), self._opened(row[1], person_id, tenant), at)
            if step is None:
                raise CodeWrong
            await connection.execute(_CONFIRM, (step, row[0]))
            return row[0], await self._make_codes(connection, row[0])

    async def take(
        self, factor_id: str, person_id: str, tenant: str, code: str, at: datetime
    ) -> str | None:
        """Take a code, once; the id of a recovery code, None for one by the clock.

        Raises CodeWrong.
        """
        given = _plain(code)
        if len(given) != DIGITS:
            return await self._take_recovery_code(factor_id, given)
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT secret FROM people.second_factors WHERE id = %s", (factor_id,)
            )
            row = await cursor.fetchone()
            step = step_of(given, self._opened(row[0], person_id, tenant), at) if row else None
            if step is None:
                raise CodeWrong
            taken = await connection.execute(_TAKE_STEP, {"step": step, "id": factor_id})
        if taken.rowcount == 0:
            raise CodeWrong
        return None

    async def renew(self, factor_id: str) -> list[str]:
        """Other recovery codes; those of before are void. Raises FactorGone."""
        async with self._pool.connection() as connection, connection.transaction():
            cursor = await connection.execute(
                "SELECT FROM people.second_factors WHERE id = %s FOR UPDATE", (factor_id,)
            )
            if await cursor.fetchone() is None:
                raise FactorGone
            await connection.execute(
                "DELETE FROM people.recovery_codes WHERE factor_id = %s", (factor_id,)
            )
            return await self._make_codes(connection, factor_id)

    async def left(self, factor_id: str) -> int:
        """How many recovery codes are still good."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT count(*) FROM people.recovery_codes"
                " WHERE factor_id = %s AND used_at IS NULL",
                (factor_id,),
            )
            row = await cursor.fetchone()
        return row[0] if row else 0

    async def forget(self, factor_id: str) -> None:
        """Drop a factor that is asked for no more, and its codes."""
        async with self._pool.connection() as connection:
            await connection.execute(
                "DELETE FROM people.second_factors WHERE id = %s", (factor_id,)
            )

    async def _take_recovery_code(self, factor_id: str, code: str) -> str:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(_TAKE_CODE, (factor_id, _digest(code)))
            row = await cursor.fetchone()
        if row is None:
            raise CodeWrong
        return row[0]

    async def _make_codes(self, connection: AsyncConnection[Any], factor_id: str) -> list[str]:
        codes = [_new_code() for _ in range(RECOVERY_CODES)]
        rows = [(self._new_id(), factor_id, _digest(_plain(code))) for code in codes]
        async with connection.cursor() as cursor:
            await cursor.executemany(
                "INSERT INTO people.recovery_codes (id, factor_id, digest) VALUES (%s, %s, %s)",
                rows,
            )
        return codes

    def _opened(self, wrapped: bytes, person_id: str, tenant: str) -> bytes:
        try:
            return self._wrapping(person_id, tenant).decrypt(bytes(wrapped))
        except InvalidToken as error:
            raise MasterKeyWrong("no master key of this process unwraps it") from error

    def _wrapping(self, person_id: str, tenant: str) -> MultiFernet:
        """A key for each person, so that nobody's secret can be put in the place of another's."""
        return wrapping(self._master_keys, f"imprimatur second factor {tenant} {person_id}")


async def sweep_factors(pool: Pool) -> None:
    """Forget second factors that were begun and never confirmed."""
    async with pool.connection() as connection:
        await connection.execute(
            "DELETE FROM people.second_factors"
            " WHERE confirmed_at IS NULL AND created_at < clock_timestamp() - interval '1 day'"
        )


def _new_code() -> str:
    text = b32encode(secrets.token_bytes(RECOVERY_BYTES)).decode().lower()
    return "-".join(wrap(text, 4))


def _plain(code: str) -> str:
    """A code however it was typed."""
    return code.replace(" ", "").replace("-", "").lower()


def _digest(code: str) -> bytes:
    """How a recovery code is kept: it is long and random, so that nothing slower is needed."""
    return hashlib.sha256(code.encode()).digest()
