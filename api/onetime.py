"""What letters open, and the banned appeal by: tokens that are good once, and not for long."""

import hashlib
import secrets
from typing import Any, Literal, LiteralString

from msgspec import Struct
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

TOKEN_BYTES = 32

Purpose = Literal["appeal", "confirm_email", "invitation", "password_reset"]

LASTS_SECONDS: dict[Purpose, int] = {
    "appeal": 86_400,
    "confirm_email": 3 * 86_400,
    "invitation": 7 * 86_400,
    "password_reset": 3_600,
}

_FIND: LiteralString = (
    "SELECT person_id, tenant, number FROM people.one_time_tokens"
    " WHERE digest = %s AND purpose = %s AND used_at IS NULL AND expires_at > clock_timestamp()"
)

_USE: LiteralString = (
    "UPDATE people.one_time_tokens SET used_at = clock_timestamp()"
    " WHERE digest = %s AND purpose = %s AND tenant = %s"
    " AND used_at IS NULL AND expires_at > clock_timestamp() RETURNING person_id, tenant, number"
)

_VOID: LiteralString = (
    "UPDATE people.one_time_tokens SET used_at = clock_timestamp()"
    " WHERE person_id = %s AND purpose = %s AND tenant = %s AND used_at IS NULL"
)

_VOID_ALL: LiteralString = (
    "UPDATE people.one_time_tokens SET used_at = clock_timestamp()"
    " WHERE person_id = %s AND purpose = %s AND used_at IS NULL"
)

Pool = AsyncConnectionPool[AsyncConnection[Any]]


class LinkInvalid(Exception):
    """The token was used, has expired, or never was one."""


class MadeFor(Struct, frozen=True):
    """Whom a token was made for, a person or an invitation, and for which time of asking."""

    id: str
    tenant: str
    number: int


class OneTimeTokens:
    """Makes tokens when a letter is sent, and takes each once."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def make(self, purpose: Purpose, person_id: str, tenant: str, number: int = 0) -> str:
        """A new token; older ones stay good, as their letters may come later."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        async with self._pool.connection() as connection:
            await connection.execute(
                "INSERT INTO people.one_time_tokens"
                " (digest, purpose, person_id, tenant, number, expires_at) VALUES"
                " (%s, %s, %s, %s, %s, clock_timestamp() + make_interval(secs => %s))",
                (_digest(token), purpose, person_id, tenant, number, LASTS_SECONDS[purpose]),
            )
        return token

    async def find(self, purpose: Purpose, token: str) -> MadeFor:
        """Whom a token was made for, without using it. Raises LinkInvalid."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(_FIND, (_digest(token), purpose))
            row = await cursor.fetchone()
        if row is None:
            raise LinkInvalid
        return MadeFor(*row)

    async def use(self, purpose: Purpose, token: str, tenant: str) -> MadeFor:
        """Whom a token was made for; it and its like open nothing again. Raises LinkInvalid."""
        async with self._pool.connection() as connection, connection.transaction():
            cursor = await connection.execute(_USE, (_digest(token), purpose, tenant))
            row = await cursor.fetchone()
            if row is None:
                raise LinkInvalid
            await connection.execute(_VOID, (row[0], purpose, tenant))
        return MadeFor(*row)

    async def void(self, purpose: Purpose, person_id: str) -> None:
        """Let no letter of this kind to a person open anything any more, in no tenant."""
        async with self._pool.connection() as connection:
            await connection.execute(_VOID_ALL, (person_id, purpose))


async def sweep_tokens(pool: Pool) -> None:
    """Forget tokens that expired."""
    async with pool.connection() as connection:
        await connection.execute(
            "DELETE FROM people.one_time_tokens WHERE expires_at < clock_timestamp()"
        )


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
