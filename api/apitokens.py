"""Personal API tokens: what each is good for, looked up by its digest and until it is revoked."""

import hashlib
import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, LiteralString
from zlib import crc32

from msgspec import Struct
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from api.remembered import Remembered
from api.revocations import Revocations
from api.sessions import Ended, SessionOver

PREFIX = "imp_"
"""How every token begins, by which whoever scans for lost secrets knows one."""

SECRET_BYTES = 24

REST_SECONDS = 60.0
"""A token is looked up, and noted as used, no more often than this."""

_FORM = re.compile(rf"{PREFIX}([0-9a-f]{{{2 * SECRET_BYTES}}})([0-9a-f]{{8}})")

_OPEN: LiteralString = (  # waits for whoever ends the session, and then finds it ended
    "INSERT INTO people.api_tokens (id, digest, person_id, tenant, scopes, expires_at)"
    " SELECT %(id)s, %(digest)s, person_id, tenant, %(scopes)s, %(expires_at)s"
    " FROM people.sessions WHERE id = %(session)s AND revoked_at IS NULL FOR SHARE"
)

_SEE: LiteralString = (
    "UPDATE people.api_tokens SET last_used_at = clock_timestamp()"
    " WHERE digest = %s AND revoked_at IS NULL AND expires_at > clock_timestamp()"
    " RETURNING id, person_id, tenant, scopes, expires_at"
)

_LIST: LiteralString = (
    "SELECT id, scopes, created_at, last_used_at, expires_at FROM people.api_tokens"
    " WHERE tenant = %s AND person_id = %s"
    " AND revoked_at IS NULL AND expires_at > clock_timestamp() ORDER BY created_at DESC, id DESC"
)

_REVOKE: LiteralString = (
    "WITH revoked AS ("
    " UPDATE people.api_tokens SET revoked_at = clock_timestamp()"
    " WHERE revoked_at IS NULL AND tenant = coalesce(%(tenant)s, tenant)"
    " AND person_id = %(person)s AND id = coalesce(%(id)s, id) RETURNING id, tenant"
    ") SELECT id, tenant, pg_notify('imprimatur_sessions', id) FROM revoked"
)

_SWEEP: LiteralString = (
    "DELETE FROM people.api_tokens WHERE expires_at < clock_timestamp() - interval '1 day'"
    " OR revoked_at < clock_timestamp() - interval '30 days'"
)

Pool = AsyncConnectionPool[AsyncConnection[Any]]


class HeldToken(Struct, frozen=True):
    """Whose token it is, what it is good for, and when it ends whatever happens."""

    id: str
    person_id: str
    tenant: str
    scopes: Sequence[str]
    expires_at: datetime


class ListedToken(Struct, frozen=True):
    """A token as its owner sees it, less what the log says of it."""

    id: str
    scopes: list[str]
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime


class ApiTokens:
    """Makes, finds and revokes tokens; a hot request costs no query."""

    def __init__(self, pool: Pool, revocations: Revocations) -> None:
        self._pool = pool
        self._revocations = revocations
        self._held = Remembered[HeldToken](REST_SECONDS)

    async def open(
        self, token_id: str, session_id: str, scopes: Sequence[str], expires_at: datetime
    ) -> str:
        """A new token of whoever is signed in by a session. Raises SessionOver."""
        token = _new_token()
        said = {"id": token_id, "session": session_id, "digest": _digest(token)}
        limits = {"scopes": list(scopes), "expires_at": expires_at}
        async with self._pool.connection() as connection:
            opened = await connection.execute(_OPEN, said | limits)
        if opened.rowcount == 0:
            raise SessionOver
        return token

    async def discard(self, token_id: str) -> None:
        """Drop a token that nobody was given."""
        async with self._pool.connection() as connection:
            await connection.execute("DELETE FROM people.api_tokens WHERE id = %s", (token_id,))

    async def held(self, token: str) -> HeldToken | None:
        """What a token is good for, if it lasts."""
        if not is_well_formed(token):
            return None
        digest = _digest(token)
        known = self._held.get(digest) if self._revocations.trusted else None
        if known is None:
            async with self._pool.connection() as connection:
                cursor = await connection.execute(_SEE, (digest,))
                row = await cursor.fetchone()
            if row is None:
                self._held.drop(digest)
                return None
            known = HeldToken(*row)
            self._held.put(digest, known)
        lasts = datetime.now(UTC) < known.expires_at
        return known if lasts and not self._revocations.has(known.id) else None

    def remembered(self, token: str) -> HeldToken | None:
        """What a token was found to be lately, without looking it up."""
        return self._held.get(_digest(token))

    async def of_person(self, person_id: str, tenant: str) -> list[ListedToken]:
        """The tokens that a person may still use."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(_LIST, (tenant, person_id))
            return [ListedToken(*row) for row in await cursor.fetchall()]

    async def revoke(
        self, person_id: str, tenant: str | None = None, token_id: str | None = None
    ) -> list[Ended]:
        """Revoke a person's token, or all of them, everywhere or in a tenant; those revoked."""
        said = {"person": person_id, "tenant": tenant, "id": token_id}
        async with self._pool.connection() as connection:
            cursor = await connection.execute(_REVOKE, said)
            revoked = [Ended(id_, of) for id_, of, _ in await cursor.fetchall()]
        self._revocations.learn(one.id for one in revoked)
        return revoked


async def sweep_api_tokens(pool: Pool) -> None:
    """Forget tokens that ended long ago."""
    async with pool.connection() as connection:
        await connection.execute(_SWEEP)


def is_well_formed(token: str) -> bool:
    """Whether the checksum is right, without which nothing is looked up."""
    form = _FORM.fullmatch(token)
    return form is not None and _checksum(form[1]) == form[2]


def _new_token() -> str:
    secret = secrets.token_hex(SECRET_BYTES)
    return f"{PREFIX}{secret}{_checksum(secret)}"


def _checksum(secret: str) -> str:
    return f"{crc32(secret.encode()):08x}"


def _digest(token: str) -> bytes:
    """How a token is kept: it is long and random, so that nothing slower is needed."""
    return hashlib.sha256(token.encode()).digest()
