"""What guards every request: rate limits, waits after failed sign-ins, and protective headers."""

import re
from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

from litestar import Litestar
from litestar.config.cors import CORSConfig
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from msgspec import Struct

from api.errors import AnyRequest, Refusal, answer_refusal
from api.limits import Quota
from api.proxies import Network, client_of
from api.requests import ApiRequest
from api.site import Site
from api.tenants import named_tenant
from projections.kernel import API

LOGIN = f"{API}/auth/login"

ACCOUNT = "account"
"""Where a request's state has the name that somebody signs in under."""

EXPOSED = [
    "ETag",
    "Location",
    "RateLimit-Limit",
    "RateLimit-Policy",
    "RateLimit-Remaining",
    "RateLimit-Reset",
    "Retry-After",
    "X-Position",
    "X-Request-ID",
]
"""Headers that scripts of other origins may read."""

POLICY = b"content-security-policy"

PROTECTIVE = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
]
NOTHING_RUNS = (POLICY, b"default-src 'none'; frame-ancestors 'none'")
ONLY_ENCRYPTED = (b"strict-transport-security", b"max-age=31536000")

VARYING = (b"vary", b"authorization, cookie, accept-encoding, origin")
"""Litestar's CORS puts `Origin` in the place of what an answer varied by before."""

REFUSAL_VARYING = (b"vary", b"accept-language, authorization, cookie, accept-encoding")
"""What a refusal depends on: its message is in the reader's language."""

_QUOTA = "quota"
_ATTEMPTS = "attempts"


class Doors(Struct, frozen=True, kw_only=True):
    """Who is let in how: pages of which origins, and which proxies are believed."""

    origins: Sequence[str] = ()
    proxies: Sequence[Network] = ()
    slow_seconds: float = 15.0
    """How long the next 16 KiB of a body may take."""

    def cors(self) -> CORSConfig | None:
        """What pages of other origins may do; with credentials where the origins are named."""
        if not self.origins:
            return None
        return CORSConfig(
            allow_origins=list(self.origins),
            allow_credentials="*" not in self.origins,
            expose_headers=EXPOSED,
        )


def origins(text: str) -> tuple[str, ...]:
    """The origins of a list, or `*` alone; raises ValueError for one that is none."""
    found = tuple(one.strip() for one in text.split(",")) if text else ()
    if found == ("*",):
        return found
    for one in found:
        scheme, host, *rest = urlsplit(one)
        if scheme not in ("http", "https") or not host or any(rest) or "*" in one:
            raise ValueError(f"not an origin: {one}")
    return found


class RateLimited(ASGIMiddleware):
    """Refuses whoever asks too often, before anything is looked up."""

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        limits = _site(scope).limits
        if limits is None or scope["type"] != "http":
            await next_app(scope, receive, send)
            return
        kind = _kind(scope["route_handler"], scope["method"], scope["path_template"])
        quota = await limits.hit(kind, _asking(scope))
        scope["state"][_QUOTA] = quota
        if quota.refused:
            refusal = Refusal(429, "too_many_requests", retry_after=quota.reset)
            await answer_refusal(ApiRequest(scope), refusal, send)
        else:
            await next_app(scope, receive, send)


@cache
def _kind(handler: Any, method: str, template: str) -> str:
    """Which of the limits counts a request to this route."""
    if limit := handler.opt.get("limit"):
        return limit
    if method in ("GET", "OPTIONS"):
        return "reads"
    if template.startswith(f"{API}/auth/"):
        return "sign-in"
    return "uploads" if handler.resolve_request_max_body_size() is None else "commands"


def _asking(scope: Scope) -> str:
    """The person who asks, or the address where nobody is signed in."""
    header = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    _, _, token = header.decode("latin-1").partition(" ")
    site, token = _site(scope), token.strip()
    who = site.tokens.identity(token) or site.api_tokens.remembered(token) if token else None
    if who is None:
        return f"{named_tenant(scope)}/{client_of(scope)}"
    return f"{who.tenant}/{who.person_id}"


async def hold_back(request: ApiRequest) -> None:
    """Before somebody signs in: let whoever failed too often wait."""
    if request.scope["path_template"] == LOGIN and request.method != "OPTIONS":
        username = request.scope["state"][ACCOUNT] = (await request.json()).username
        await attempt(request, username.lower())  # as an address is the same however it is spelt


async def attempt(request: AnyRequest, account: str) -> None:
    """Before a secret of an account is compared: let whoever failed too often wait."""
    limits = _site(request.scope).limits
    if limits is None:
        return
    one = (f"{named_tenant(request.scope)}/{account}", client_of(request.scope))
    if seconds := await limits.wait(*one):
        withdraw_attempts(request)
        raise Refusal(429, "too_many_requests", retry_after=seconds)
    request.scope["state"].setdefault(_ATTEMPTS, []).append(one)


def withdraw_attempts(request: AnyRequest) -> None:
    """What was attempted neither failed nor succeeded."""
    request.scope["state"].pop(_ATTEMPTS, None)


async def settle(message: Message, scope: Scope) -> None:
    """Note how attempts ended, of which the last may have failed; a banned person's succeeded."""
    if message["type"] != "http.response.start":
        return
    attempts: list[tuple[str, str]] = scope["state"].pop(_ATTEMPTS, [])
    limits = _site(scope).limits
    if not attempts or limits is None:
        return
    if message["status"] in (401, 422):
        await limits.failed(*attempts[-1])
    elif message["status"] in (200, 202, 204, 403):
        for one in attempts:
            await limits.succeeded(*one)


async def protect(message: Message, scope: Scope) -> None:
    """Give every answer what keeps browsers from misusing it, and what is left of the limit."""
    if message["type"] != "http.response.start":
        return
    fields = [*message["headers"], *PROTECTIVE]
    if not any(name.lower() == POLICY for name, _ in fields):
        fields.append(NOTHING_RUNS)
    if scope["scheme"] == "https":
        fields.append(ONLY_ENCRYPTED)
    if scope["litestar_app"].cors_config:
        fields.append(VARYING)
    if message["status"] >= 400:
        fields.append(REFUSAL_VARYING)
    quota: Quota | None = scope["state"].get(_QUOTA)
    if quota is not None:
        fields += (
            (b"ratelimit-limit", b"%d" % quota.limit),
            (b"ratelimit-remaining", b"%d" % quota.remaining),
            (b"ratelimit-reset", b"%d" % quota.reset),
            (b"ratelimit-policy", b"%d;w=%d" % (quota.limit, quota.window)),
        )
    message["headers"] = fields


def policy_of(page: bytes) -> str:
    """The policy under which a page runs the scripts that it holds, and those served here."""
    scripts, styles = (_digests(page, tag) for tag in (b"script", b"style"))
    return (
        f"default-src 'none'; script-src 'self'{scripts}; style-src 'self'{styles};"
        " img-src 'self' data:; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _digests(page: bytes, tag: bytes) -> str:
    found: list[bytes] = re.findall(b"<%b[^>]*>(.*?)</%b>" % (tag, tag), page, re.DOTALL)
    digests = [b64encode(sha256(one).digest()).decode() for one in found if one]
    return "".join(f" 'sha256-{digest}'" for digest in digests)


def _site(scope: Scope) -> Site:
    app: Litestar = scope["litestar_app"]
    return app.state["site"]
