"""Access tokens, and the short signatures that open a pending chapter's images."""

import hashlib
import hmac
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import jwt
from msgspec import Struct, ValidationError, convert

from api.sessions import Session

ALGORITHM = "HS256"
AUDIENCE = "imprimatur"
PREVIEW_SECONDS = 3_600

REMEMBERED = 10_000
"""Verified access tokens kept: a client sends the same one with every request."""


class Identity(Struct, frozen=True):
    """Who is signed in, by which session or personal token, to which tenant.

    `scopes` are the permissions that a token is good for; None is a session, good for all.
    """

    person_id: str
    session_id: str
    tenant: str
    scopes: frozenset[str] | None = None


class _Claims(Struct, frozen=True):
    sub: str
    sid: str
    tenant: str
    exp: int


class _Keys(Struct, frozen=True):
    """What is derived from one secret; `id` tells which one signed."""

    id: str
    access: str
    preview: str


class Tokens:
    """Signs and checks what clients carry."""

    def __init__(self, secrets: str) -> None:
        """`secrets` are separated by commas: the first signs, what any of them signed is good."""
        keys = [_keys(secret.strip()) for secret in secrets.split(",")]
        self._signing = keys[0]
        self._keys = {one.id: one for one in keys}
        self._verified = lru_cache(REMEMBERED)(self._verify)

    def access(self, session: Session, now: datetime, seconds: int) -> str:
        """A token that says who is signed in by a session, which it does not outlive."""
        claims: dict[str, Any] = {
            "sub": session.person_id,
            "sid": session.id,
            "tenant": session.tenant,
            "aud": AUDIENCE,
            "iat": now,
            "exp": min(now + timedelta(seconds=seconds), session.expires_at),
        }
        header = {"kid": self._signing.id}
        return jwt.encode(claims, self._signing.access, ALGORITHM, headers=header)

    def identity(self, token: str) -> Identity | None:
        """Whom an access token was given to; None where it is not valid."""
        try:
            claims = self._verified(token)
        except (jwt.PyJWTError, ValidationError):
            return None
        in_time = datetime.now(UTC).timestamp() < claims.exp
        return Identity(claims.sub, claims.sid, claims.tenant) if in_time else None

    def preview(self, chapter_id: str, now: datetime) -> str:
        """A signature that opens a chapter's images before it is public."""
        expires = int(now.timestamp()) // PREVIEW_SECONDS * PREVIEW_SECONDS + 2 * PREVIEW_SECONDS
        return f"{expires}-{_signature(self._signing, chapter_id, expires)}"

    def opens(self, preview: str, chapter_id: str, now: datetime) -> bool:
        """Whether a preview signature is this chapter's, and still good."""
        expires, _, signature = preview.partition("-")
        if not (expires.isascii() and expires.isdecimal() and len(expires) < 12):
            return False
        expected = [_signature(keys, chapter_id, int(expires)) for keys in self._keys.values()]
        in_time = now < datetime.fromtimestamp(int(expires), UTC)
        return in_time and _is_any(signature, expected)

    def _verify(self, token: str) -> _Claims:
        signed_by = self._keys.get(str(jwt.get_unverified_header(token).get("kid")))
        if signed_by is None:
            raise jwt.InvalidTokenError
        claims = jwt.decode(
            token,
            signed_by.access,
            [ALGORITHM],
            audience=AUDIENCE,
            options={"require": ["aud", "exp", "iat", "sid", "sub", "tenant"], "strict_aud": True},
        )
        return convert(claims, _Claims)


def _signature(keys: _Keys, chapter_id: str, expires: int) -> str:
    said = f"{expires}:{chapter_id}".encode()
    return hmac.new(keys.preview.encode(), said, hashlib.sha256).hexdigest()


def _is_any(signature: str, expected: Sequence[str]) -> bool:
    given = signature.encode()
    return any(hmac.compare_digest(given, one.encode()) for one in expected)


def _keys(secret: str) -> _Keys:
    identifying = _derived(secret, b"kid")
    return _Keys(identifying[:12], _derived(secret, b"access"), _derived(secret, b"preview"))


def _derived(secret: str, purpose: bytes) -> str:
    """A key for one purpose, so that a signature made for one is nothing for another."""
    return hmac.new(secret.encode(), purpose, hashlib.sha256).hexdigest()
