"""Who sends a request, by an access token or by a browser's cookie."""

from msgspec import Struct

from api.apitokens import PREFIX
from api.browsers import refuse_forged
from api.errors import AnyRequest, Refusal
from api.requests import ApiRequest, read_parameters
from api.site import Site, site_of
from api.tenants import settle_tenant
from api.tokens import Identity
from commands.kernel import check_standing, permissions_of, within
from projections.kernel import API, Viewer

WITHOUT_SESSION = {"without_session": True}
"""The `opt` of routes that nobody is signed in for, and whose credentials are in the body."""

BY_PROGRAMS = {"by_person": False}
"""The `opt` of routes below `/auth/` that a personal token is enough for."""

_IDENTITY = "identity"


class _Claimed(Struct, frozen=True):
    """Whose credentials a request carries: None where they are no good."""

    identity: Identity | None


async def prepare(request: ApiRequest) -> None:
    """Before every route, and before anything of the body is read: who asks, and what."""
    if request.method != "OPTIONS" and not request.route_handler.opt.get("without_session"):
        await _identify(request)
        _check_sign_in(request)
        _refuse_programs(request)
    await read_parameters(request)


def _check_sign_in(request: AnyRequest) -> None:
    """Refuse whom the route, as it is documented, does not serve."""
    security = request.route_handler.resolve_security()
    if security and claimed_identity(request) is None and {} not in security:
        raise Refusal(401, "not_signed_in")


async def _identify(request: AnyRequest) -> None:
    site = site_of(request)
    header = request.headers.get("authorization")
    if header is not None:
        _take(request, await _by_token(site, header))
        return
    secret = request.cookies.get(site.cookies.session)
    session = await site.sessions.of_cookie(secret) if secret else None
    if secret and session is not None:
        refuse_forged(request, secret)
        _take(request, Identity(session.person_id, session.id, session.tenant))


def _take(request: AnyRequest, identity: Identity | None) -> None:
    request.scope["state"][_IDENTITY] = _Claimed(identity)
    if identity is not None:
        settle_tenant(request, identity.tenant)


async def _by_token(site: Site, header: str) -> Identity | None:
    scheme, _, token = header.partition(" ")
    if scheme.lower() == "bearer" and token.strip().startswith(PREFIX):
        return await _by_api_token(site, token.strip())
    identity = site.tokens.identity(token.strip()) if scheme.lower() == "bearer" else None
    if identity is None or not await site.sessions.lasts(identity.session_id):
        return None
    return identity


async def _by_api_token(site: Site, token: str) -> Identity | None:
    held = await site.api_tokens.held(token)
    if held is None:
        return None
    return Identity(held.person_id, held.id, held.tenant, frozenset(held.scopes))


def _refuse_programs(request: AnyRequest) -> None:
    """What somebody does to their own account is not for a token of theirs."""
    handler, template = request.route_handler, request.scope["path_template"]
    claimed: _Claimed | None = request.scope["state"].get(_IDENTITY)
    if claimed is None or claimed.identity is None or claimed.identity.scopes is None:
        return
    if handler.opt.get("by_person", template.startswith(f"{API}/auth/")):
        raise Refusal(403, "token_not_enough")


def claimed_identity(request: AnyRequest) -> Identity | None:
    """Who is signed in, None where nobody says so; a token that is bad is 401.

    A cookie that opens nothing is no token: a browser can't leave it out.
    """
    claimed: _Claimed | None = request.scope["state"].get(_IDENTITY)
    if claimed is None:
        return None
    if claimed.identity is None:
        raise Refusal(401, "not_signed_in")
    return claimed.identity


def identity_of(request: AnyRequest) -> Identity:
    """Who is signed in; 401 where nobody is."""
    identity = claimed_identity(request)
    if identity is None:
        raise Refusal(401, "not_signed_in")
    return identity


def signed_in(request: AnyRequest) -> str:
    """The person who is signed in; 401 where nobody is."""
    return identity_of(request).person_id


async def viewer_of(request: AnyRequest) -> Viewer:
    """The reader with the permissions of this moment; nobody in particular without a sign-in."""
    identity = claimed_identity(request)
    if identity is None:
        return Viewer()
    site = site_of(request)
    tenant = await site.tenants.find(identity.tenant)
    if tenant is None:
        raise Refusal(401, "not_signed_in")
    person = await site.bus.person(identity.person_id, identity.tenant)
    check_standing(person, site.clock())
    held = permissions_of(person, tenant)
    return Viewer(identity.person_id, within(identity.scopes, held))
