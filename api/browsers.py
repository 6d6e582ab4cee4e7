"""What browsers keep: what opens a session, or began one, and the token against forged requests."""

import hashlib
import hmac
from typing import Any

from litestar.datastructures import Cookie
from litestar.types import Method
from msgspec import Struct

from api.errors import AnyRequest, Refusal

CSRF_HEADER = "X-CSRF-Token"

SAFE: frozenset[Method] = frozenset({"GET", "HEAD", "OPTIONS"})
"""What another site may make a browser ask."""


class BrowserCookies(Struct, frozen=True):
    """The cookies of a browser; `secure` wherever there is HTTPS."""

    secure: bool

    @property
    def session(self) -> str:
        """The name of the cookie that opens the session, which no script can read."""
        return self._name("session")

    @property
    def csrf(self) -> str:
        """The name of the cookie that tells the site's own scripts what to send in CSRF_HEADER."""
        return self._name("csrf")

    @property
    def attempt(self) -> str:
        """The name of the cookie that tells which sign-in at a provider this browser has begun."""
        return self._name("attempt")

    def begun(self, sealed: str, seconds: int) -> Cookie:
        """The cookie of a sign-in that goes on elsewhere."""
        return self._cookie(self.attempt, sealed, seconds, httponly=True)

    def ended(self) -> Cookie:
        """The cookie of a sign-in that has come back."""
        return self._cookie(self.attempt, "", 0, httponly=True)

    def given(self, secret: str, seconds: int) -> list[Cookie]:
        """The cookies of a session that was just opened."""
        return [
            self._cookie(self.session, secret, seconds, httponly=True),
            self._cookie(self.csrf, csrf_token(secret), seconds, httponly=False),
        ]

    def taken(self) -> list[Cookie]:
        """The cookies of a session that is over."""
        return [self._cookie(name, "", 0, httponly=True) for name in (self.session, self.csrf)]

    def _name(self, name: str) -> str:
        return f"__Host-{name}" if self.secure else name

    def _cookie(self, name: str, value: str, seconds: int, *, httponly: bool) -> Cookie:
        return Cookie(
            key=name,
            value=value,
            max_age=seconds,
            path="/",
            secure=self.secure,
            httponly=httponly,
            samesite="lax",
        )


def csrf_token(secret: str) -> str:
    """What only somebody who was given the session's cookie can know, or a script of the site."""
    return hmac.new(secret.encode(), b"csrf", hashlib.sha256).hexdigest()


def refuse_forged(request: AnyRequest, secret: str) -> None:
    """Refuse a change that a cookie signs without the token that another site can't send."""
    given: Any = request.headers.get(CSRF_HEADER, "")
    if request.method in SAFE:
        return
    if not hmac.compare_digest(given.encode(), csrf_token(secret).encode()):
        raise Refusal(403, "csrf_token_wrong")
