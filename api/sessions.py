"""Sessions: what proves later who signed in, for how long, and until when at most."""

import hashlib
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, LiteralString

from msgspec import Struct
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from api.passwords import PasswordReplaced
from api.remembered import Remembered
from api.revocations import Revocations
from domain.people import SessionKind

SECRET_BYTES = 32

REST_SECONDS = 60.0
"""A browser's session is looked up, and noted as seen, no more often than this."""

LISTED = 100
"""Sessions shown, at most; the newest."""

_LASTS: LiteralString = (
    "s.revoked_at IS NULL AND s.expires_at > clock_timestamp()"
    " AND s.seen_at > clock_timestamp() - make_interval(secs => %(idle)s)"
)

_OPENED: LiteralString = (
    " RETURNING id, person_id, tenant, expires_at, kind"
    "), kept AS ("
    " INSERT INTO people.session_secrets (digest, session_id) SELECT %(digest)s, id FROM opened"
    ") SELECT * FROM opened"
)

_OPEN: LiteralString = (
    "WITH proven AS ("
    " SELECT FROM people.credentials"
    " WHERE person_id = %(person)s AND changed_at = %(since)s FOR SHARE"
    "), opened AS ("
    " INSERT INTO people.sessions (id, person_id, tenant, kind, expires_at)"
    " SELECT %(id)s, %(person)s, %(tenant)s, %(kind)s,"
    " clock_timestamp() + make_interval(secs => %(seconds)s)"
    " WHERE %(since)s::timestamptz IS NULL OR EXISTS (SELECT FROM proven)" + _OPENED
)
"""The lock makes whoever replaces the password wait, and so find the session to be ended."""

_FOLLOW: LiteralString = (
    "WITH opened AS ("
    " INSERT INTO people.sessions (id, person_id, tenant, kind, expires_at)"
    " SELECT %(id)s, s.person_id, %(tenant)s, s.kind, s.expires_at FROM people.sessions s"
    f" WHERE s.id = %(present)s AND s.person_id = %(person)s AND {_LASTS}" + _OPENED
)

_FOLLOWING: LiteralString = "SELECT pg_advisory_xact_lock_shared(hashtextextended(%s, 0))"
_ENDING: LiteralString = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"
"""So that no session follows from one that is being ended, unseen by what ends it."""

_SEE: LiteralString = (
    "UPDATE people.sessions s SET seen_at = clock_timestamp() FROM people.session_secrets k"
    " WHERE k.digest = %(digest)s AND k.session_id = s.id AND s.kind = %(kind)s"
    f" AND k.spent_at IS NULL AND {_LASTS} RETURNING s.id, s.person_id, s.tenant, s.expires_at"
)

_SPEND: LiteralString = (
    "UPDATE people.session_secrets SET spent_at = clock_timestamp()"
    " WHERE digest = %s AND spent_at IS NULL"
)

_OF_SPENT: LiteralString = (
    "SELECT s.id, s.person_id, s.tenant, s.expires_at"
    " FROM people.sessions s JOIN people.session_secrets k ON k.session_id = s.id"
    " WHERE k.digest = %s AND k.spent_at IS NOT NULL"
)

_END: LiteralString = (
    "WITH ended AS ("
    " UPDATE people.sessions SET revoked_at = clock_timestamp()"
    " WHERE revoked_at IS NULL AND person_id = %(person)s AND tenant = coalesce(%(tenant)s, tenant)"
    " AND id = coalesce(%(id)s, id) AND id IS DISTINCT FROM %(but)s RETURNING id, tenant"
    ") SELECT id, tenant, pg_notify('imprimatur_sessions', id) FROM ended"
)

_LIST: LiteralString = (
    "SELECT s.id, s.kind, s.created_at, s.seen_at, s.expires_at FROM people.sessions s"
    f" WHERE s.tenant = %(tenant)s AND s.person_id = %(person)s AND {_LASTS}"
    " ORDER BY s.created_at DESC, s.id DESC LIMIT %(limit)s"
)

_SWEEP: LiteralString = (
    "DELETE FROM people.sessions WHERE expires_at < clock_timestamp() - interval '1 day'"
    " OR revoked_at < clock_timestamp() - interval '30 days'"
)

Pool = AsyncConnectionPool[AsyncConnection[Any]]


class SessionOver(Exception):
    """What was to open a session does not, or not any more."""


class TokenReused(Exception):
    """A refresh token came back that was spent: somebody has a copy."""

    def __init__(self, session: "Session") -> None:
        super().__init__(session.id)
        self.session = session


class Session(Struct, frozen=True):
    """Whose session it is, and when it ends whatever happens."""

    id: str
    person_id: str
    tenant: str
    expires_at: datetime


class Opened(Struct, frozen=True):
    """A new session, and the secret that opens it: a cookie, or the first refresh token."""

    session: Session
    kind: SessionKind
    secret: str


class Ended(Struct, frozen=True):
    """A session that was ended just now."""

    id: str
    tenant: str


class ListedSession(Struct, frozen=True):
    """A session as its owner sees it, less what the log says of it."""

    id: str
    kind: SessionKind
    created_at: datetime
    seen_at: datetime
    expires_at: datetime


class Lifetimes(Struct, frozen=True, kw_only=True):
    """For how many seconds a session lasts: unused, at most, and without asking the database."""

    idle: int
    absolute: int
    access: int


class Sessions:
    """Opens, renews and ends sessions; a hot request costs no query."""

    def __init__(self, pool: Pool, revocations: Revocations, lifetimes: Lifetimes) -> None:
        self._pool = pool
        self._revocations = revocations
        self._cookies = Remembered[Session](min(REST_SECONDS, lifetimes.idle / 10))
        self.lifetimes = lifetimes

    async def open(
        self,
        session_id: str,
        person_id: str,
        tenant: str,
        kind: SessionKind,
        since: datetime | None,
    ) -> Opened:
        """A new session of somebody whose password was right, and is what it is `since` then.

        None stands for another proof than a password. Raises PasswordReplaced.
        """
        secret = secrets.token_urlsafe(SECRET_BYTES)
        said = {"id": session_id, "person": person_id, "tenant": tenant, "kind": kind}
        said |= {"since": since, "seconds": self.lifetimes.absolute, "digest": _digest(secret)}
        async with self._pool.connection() as connection:
            row = await (await connection.execute(_OPEN, said)).fetchone()
        if row is None:
            raise PasswordReplaced
        return Opened(Session(*row[:4]), row[4], secret)

    async def follow(self, session_id: str, person_id: str, present: str, tenant: str) -> Opened:
        """A session in a tenant by the `present` one, of its kind and with its end.

        Raises SessionOver.
        """
        secret = secrets.token_urlsafe(SECRET_BYTES)
        said = {"id": session_id, "person": person_id, "present": present, "tenant": tenant}
        async with self._pool.connection() as connection, connection.transaction():
            await connection.execute(_FOLLOWING, (person_id,))
            kept = {"digest": _digest(secret), "idle": self.lifetimes.idle}
            row = await (await connection.execute(_FOLLOW, said | kept)).fetchone()
        if row is None:
            raise SessionOver
        return Opened(Session(*row[:4]), row[4], secret)

    async def discard(self, session: Session) -> None:
        """Drop a session that nobody was given."""
        async with self._pool.connection() as connection:
            await connection.execute("DELETE FROM people.sessions WHERE id = %s", (session.id,))

    async def of_cookie(self, secret: str) -> Session | None:
        """The session that a browser's cookie opens, if it lasts."""
        digest = _digest(secret)
        known = self._cookies.get(digest) if self._revocations.trusted else None
        if known is None:
            try:
                async with self._pool.connection() as connection:
                    known = await self._see(connection, digest, "cookie")
            except SessionOver:
                self._cookies.drop(digest)
                return None
            self._cookies.put(digest, known)
        lasts = datetime.now(UTC) < known.expires_at
        return known if lasts and not self._revocations.has(known.id) else None

    async def lasts(self, session_id: str) -> bool:
        """Whether the session that an access token names was not ended."""
        if self._revocations.has(session_id):
            return False
        if self._revocations.trusted:
            return True
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT FROM people.sessions WHERE id = %s AND revoked_at IS NULL", (session_id,)
            )
            return await cursor.fetchone() is not None

    async def renew(self, token: str, check: Callable[[Session], None]) -> tuple[Session, str]:
        """Spend a refresh token for the next one, unless `check` raises.

        Raises SessionOver, and TokenReused when it was spent before.
        """
        digest, following = _digest(token), secrets.token_urlsafe(SECRET_BYTES)
        async with self._pool.connection() as connection, connection.transaction():
            await self._refuse_spent(connection, digest)
            session = await self._see(connection, digest, "token")
            check(session)
            spent = await connection.execute(_SPEND, (digest,))
            if spent.rowcount == 0:  # by another request, while this one waited for the session
                raise TokenReused(session)
            await connection.execute(
                "INSERT INTO people.session_secrets (digest, session_id) VALUES (%s, %s)",
                (_digest(following), session.id),
            )
        return session, following

    async def end(self, person_id: str, tenant: str, session_id: str) -> list[Ended]:
        """End one session of a person; what was ended by it."""
        return await self._end(person_id, tenant=tenant, id=session_id, but=None)

    async def end_all(
        self, person_id: str, tenant: str | None = None, but: str | None = None
    ) -> list[Ended]:
        """End all of a person's sessions, everywhere or in a tenant, but one; those that ended."""
        return await self._end(person_id, tenant=tenant, id=None, but=but)

    async def of_person(self, person_id: str, tenant: str) -> list[ListedSession]:
        """Where a person is signed in."""
        said = {"person": person_id, "tenant": tenant, "limit": LISTED, "idle": self.lifetimes.idle}
        async with self._pool.connection() as connection:
            cursor = await connection.execute(_LIST, said)
            return [ListedSession(*row) for row in await cursor.fetchall()]

    async def _end(self, person_id: str, **which: str | None) -> list[Ended]:
        async with self._pool.connection() as connection, connection.transaction():
            await connection.execute(_ENDING, (person_id,))
            cursor = await connection.execute(_END, which | {"person": person_id})
            ended = [Ended(id_, tenant) for id_, tenant, _ in await cursor.fetchall()]
        self._revocations.learn(one.id for one in ended)
        return ended

    async def _refuse_spent(self, connection: AsyncConnection[Any], digest: bytes) -> None:
        cursor = await connection.execute(_OF_SPENT, (digest,))
        row = await cursor.fetchone()
        if row is not None:
            raise TokenReused(Session(*row))

    async def _see(
        self, connection: AsyncConnection[Any], digest: bytes, kind: SessionKind
    ) -> Session:
        said = {"digest": digest, "kind": kind, "idle": self.lifetimes.idle}
        return await _session(await connection.execute(_SEE, said))


async def sweep_sessions(pool: Pool) -> None:
    """Forget sessions that ended long ago."""
    async with pool.connection() as connection:
        await connection.execute(_SWEEP)


async def _session(cursor: Any) -> Session:
    row = await cursor.fetchone()
    if row is None:
        raise SessionOver
    return Session(*row)


def _digest(secret: str) -> bytes:
    """How a secret is kept: it is long and random, so that nothing slower is needed."""
    return hashlib.sha256(secret.encode()).digest()
