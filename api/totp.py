"""Codes by the clock (RFC 6238), as authenticator apps show them."""

from datetime import datetime
from hmac import compare_digest

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.hotp import HOTP
from cryptography.hazmat.primitives.twofactor.totp import TOTP

SECRET_BYTES = 20
DIGITS = 6
STEP_SECONDS = 30

WINDOW = 1
"""How many steps a device's clock may be off, each way."""


def step_of(code: str, secret: bytes, at: datetime) -> int | None:
    """The step whose code this is, of those that a clock may show at this moment."""
    now = int(at.timestamp()) // STEP_SECONDS
    codes = HOTP(secret, DIGITS, SHA1())  # noqa: S303 the only one that every app knows
    near = range(now + WINDOW, now - WINDOW - 1, -1)
    return next(
        (step for step in near if compare_digest(codes.generate(step), code.encode())), None
    )


def uri_of(secret: bytes, account: str, issuer: str) -> str:
    """What an app takes the secret from, by a picture of it or a link."""
    codes = TOTP(secret, DIGITS, SHA1(), STEP_SECONDS)  # noqa: S303 as in step_of
    return codes.get_provisioning_uri(account, issuer).replace("+", "%20")  # some apps show the +
