"""Which refusals go into the security log, and whom they are about."""

from collections.abc import Awaitable, Callable

from litestar import Litestar
from litestar.types import Scope

from api.errors import Refusal, refusal_of, request_id
from api.guards import ACCOUNT
from api.identity import claimed_identity
from api.proxies import client_of
from api.requests import ApiRequest
from api.security import Noted
from api.signin import MAX_USER_AGENT, named
from api.site import Site
from api.tenants import named_tenant
from projections.security import IncidentKind


async def note_refusal(error: Exception, scope: Scope) -> None:
    """After every error: note it where auditors ask about it."""
    refusal = refusal_of(error)
    kind = _kind(refusal, scope) if refusal else None
    if kind is None:
        return
    app: Litestar = scope["litestar_app"]
    site: Site = app.state["site"]
    request = ApiRequest(scope)
    site.security.note(
        Noted(
            tenant=named_tenant(scope),
            at=site.clock(),
            kind=kind,
            find=_finding(site, request, kind),
            address=client_of(scope),
            user_agent=request.headers.get("user-agent", "")[:MAX_USER_AGENT],
            request_id=request_id(scope),
        )
    )


def _kind(refusal: Refusal, scope: Scope) -> IncidentKind | None:
    if refusal.code == "permission_denied":
        return "permission_denied"
    return _SIGN_IN.get(refusal.status) if ACCOUNT in scope["state"] else None


_SIGN_IN: dict[int, IncidentKind] = {
    401: "sign_in_failed",
    403: "sign_in_refused",
    429: "sign_in_held",
}
"""What a refusal means for whoever signs in."""


def _finding(
    site: Site, request: ApiRequest, kind: IncidentKind
) -> Callable[[], Awaitable[str | None]]:
    """What finds whom a refusal is about: who is signed in, or whose name was given."""
    tenant = named_tenant(request.scope)
    account: str | None = request.scope["state"].get(ACCOUNT)

    async def find() -> str | None:
        if kind != "permission_denied":
            return await named(site, account, tenant) if account else None
        identity = claimed_identity(request)
        return identity.person_id if identity else None

    return find
