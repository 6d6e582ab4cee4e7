"""Access tokens, and the short signatures that open a pending chapter's images."""

import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from litestar.exceptions import NotAuthorizedException
from litestar.security.jwt import Token

ALGORITHM = "HS256"
AUDIENCE = "imprimatur"
ACCESS_SECONDS = 3_600
PREVIEW_SECONDS = 3_600

REMEMBERED = 10_000
"""Verified access tokens kept: a client sends the same one with every request."""


class Tokens:
    """Signs and checks what clients carry."""

    def __init__(self, secret: str) -> None:
        self._access_key = _derived(secret, b"access")
        self._preview_key = _derived(secret, b"preview")
        self._verified = lru_cache(REMEMBERED)(self._verify)

    def access(self, person_id: str, now: datetime) -> str:
        """A token that says who signs in, for ACCESS_SECONDS."""
        return Token(
            sub=person_id, aud=AUDIENCE, iat=now, exp=now + timedelta(seconds=ACCESS_SECONDS)
        ).encode(self._access_key, ALGORITHM)

    def person(self, token: str) -> str | None:
        """The person an access token was given to; None where it is not valid."""
        try:
            verified = self._verified(token)
        except NotAuthorizedException:
            return None
        return verified.sub if datetime.now(UTC) < verified.exp else None

    def preview(self, chapter_id: str, now: datetime) -> str:
        """A signature that opens a chapter's images before it is public."""
        expires = int(now.timestamp()) // PREVIEW_SECONDS * PREVIEW_SECONDS + 2 * PREVIEW_SECONDS
        return f"{expires}-{self._signature(chapter_id, expires)}"

    def opens(self, preview: str, chapter_id: str, now: datetime) -> bool:
        """Whether a preview signature is this chapter's, and still good."""
        expires, _, signature = preview.partition("-")
        if not (expires.isascii() and expires.isdecimal() and len(expires) < 12):
            return False
        expected = self._signature(chapter_id, int(expires))
        in_time = now < datetime.fromtimestamp(int(expires), UTC)
        return in_time and hmac.compare_digest(signature.encode(), expected.encode())

    def _verify(self, token: str) -> Token:
        return Token.decode(token, self._access_key, ALGORITHM, audience=AUDIENCE)

    def _signature(self, chapter_id: str, expires: int) -> str:
        said = f"{expires}:{chapter_id}".encode()
        return hmac.new(self._preview_key.encode(), said, hashlib.sha256).hexdigest()


def _derived(secret: str, purpose: bytes) -> str:
    """A key for one purpose, so that a signature made for one is nothing for another."""
    return hmac.new(secret.encode(), purpose, hashlib.sha256).hexdigest()
