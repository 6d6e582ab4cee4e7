"""Whose site a request is for: as the host says, `X-Tenant`, or what the client carries."""

import re

from litestar import Litestar
from litestar.datastructures import Headers
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

from api.errors import AnyRequest, Refusal, answer_refusal
from api.requests import ApiRequest
from api.site import Site
from domain.tenancy import MAIN

HEADER = "x-tenant"

_NAMED = "tenant"

_DOMAIN = re.compile(r"(?:[a-z0-9-]{1,63}\.)*[a-z0-9-]{1,63}")


class TenantNamed(ASGIMiddleware):
    """Notes which tenant a request names, and refuses one that there is not."""

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        if scope["type"] == "http":
            app: Litestar = scope["litestar_app"]
            try:
                scope["state"][_NAMED] = await _named(app.state["site"], Headers.from_scope(scope))
            except Refusal as refusal:
                await answer_refusal(ApiRequest(scope), refusal, send)
                return
        await next_app(scope, receive, send)


async def _named(site: Site, headers: Headers) -> str:
    """The tenant that the host or `X-Tenant` names, empty where neither does."""
    by_host, by_header = _subdomain(headers.get("host", ""), site.domain), headers.get(HEADER, "")
    if by_host and by_header and by_host != by_header:
        raise Refusal(400, "tenant_ambiguous")
    named = by_host or by_header
    if named and await site.tenants.find(named) is None:
        raise Refusal(404, "tenant_not_found")
    return named


def _subdomain(host: str, domain: str) -> str:
    name = host.partition(":")[0].lower()
    return name.removesuffix(f".{domain}") if domain and name.endswith(f".{domain}") else ""


def domain_name(text: str) -> str:
    """The domain below which organisations have theirs; raises ValueError for one that is none."""
    if text and not _DOMAIN.fullmatch(text):
        raise ValueError(f"not a domain in lower case: {text}")
    return text


def named_tenant(scope: Scope) -> str:
    """The tenant that the request names; the site's own where it names none."""
    return scope["state"].get(_NAMED) or MAIN


def settle_tenant(request: AnyRequest, carried: str) -> None:
    """Take the tenant of what the client carries, unless the request names another."""
    named = request.scope["state"].get(_NAMED)
    if named and named != carried:
        raise Refusal(403, "signed_in_elsewhere")
    request.scope["state"][_NAMED] = carried


def tenant_of(request: AnyRequest) -> str:
    """Whose site the request is for."""
    return named_tenant(request.scope)
