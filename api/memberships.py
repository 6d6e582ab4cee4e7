"""The organisations that one belongs to: which they are, going from one to another, leaving."""

from typing import Annotated, Any

from litestar import Response, delete, get, post
from litestar.params import JSONBody
from msgspec import Meta, Struct

from api.accounts import by_nobody, own_password
from api.commands import NO_CONTENT, SIGNED_IN, errors
from api.documents import documenting
from api.errors import Refusal
from api.identity import identity_of, viewer_of
from api.queries import reach
from api.requests import ApiRequest
from api.sessions import SessionOver
from api.signin import BrowserSession, TokenPair, record_ends, record_start, signed_in_by
from api.site import Site, site_of
from commands.connections import EVERY_TENANT
from commands.memberships import LeaveOrganisation
from domain.catalogue import Reason
from domain.tenancy import Subdomain
from projections.kernel import API
from projections.memberships import Membership, Memberships, memberships_of


class OwnMembership(Struct, frozen=True):
    """An organisation that one belongs to, and as what."""

    id: str
    name: str
    roles: tuple[str, ...]
    current: bool


class OwnMemberships(Struct, frozen=True):
    """The organisations that one belongs to, by their ids."""

    count: int
    next: str | None
    previous: str | None
    results: list[OwnMembership]


class Switch(Struct, frozen=True, forbid_unknown_fields=True):
    """The organisation to go to."""

    tenant: Subdomain


class Leaving(Struct, frozen=True, forbid_unknown_fields=True):
    """One's password, and why one leaves."""

    password: Annotated[str, Meta(max_length=200)]
    reason: Reason | None = None


@get(
    f"{API}/auth/tenants",
    operation_id="listOwnTenants",
    operation_class=documenting(),
    summary="List the organisations that one belongs to.",
    tags=["memberships"],
    responses=errors(400, 401, 403, 503, 504),
    security=SIGNED_IN,
)
async def list_tenants(request: ApiRequest) -> OwnMemberships:
    site, who = site_of(request), identity_of(request)
    await viewer_of(request)
    await reach(request, Memberships)
    results = [
        OwnMembership(one.tenant, tenant.name, one.roles, current=one.tenant == who.tenant)
        for one in await _everywhere(site, who.person_id)
        if (tenant := await site.tenants.find(one.tenant)) is not None
    ]
    return OwnMemberships(len(results), None, None, results)


async def _everywhere(site: Site, own_id: str) -> list[Membership]:
    """One's own memberships: the one question that is asked of every tenant at once."""
    async with site.pool.of(EVERY_TENANT) as connection:
        return await memberships_of(connection, own_id)


@post(
    f"{API}/auth/switch",
    status_code=200,
    opt={"body": Switch},
    operation_id="switchTenant",
    operation_class=documenting(),
    summary="Be signed in to another organisation that one belongs to, instead of this one.",
    tags=["memberships"],
    responses=errors(400, 401, 403, 404, 413, 415, 503),
    security=SIGNED_IN,
)
async def switch(
    request: ApiRequest, data: JSONBody[Switch]
) -> Response[TokenPair | BrowserSession]:
    """A ban in one organisation holds in that one: StartSession refuses whoever is banned there."""
    site, who = site_of(request), identity_of(request)
    if await site.tenants.find(data.tenant) is None:
        raise Refusal(404, "tenant_not_found")
    person = await site.bus.person(who.person_id, data.tenant)
    if not person.username:
        raise Refusal(403, "not_a_member")
    try:
        opened = await site.sessions.follow(
            site.new_id(), who.person_id, who.session_id, data.tenant
        )
    except SessionOver as error:
        raise Refusal(401, "not_signed_in") from error
    await record_start(request, opened)
    ended = await site.sessions.end(who.person_id, who.tenant, who.session_id)
    await record_ends(site, who.person_id, ended, "signed_out")
    return signed_in_by(site, opened)


@delete(
    f"{API}/me",
    status_code=204,
    opt={"body": Leaving, "by_person": True},
    operation_id="leaveOrganisation",
    operation_class=documenting(),
    summary="Leave the organisation; one's user name and address there are free for others.",
    tags=["memberships"],
    responses=NO_CONTENT | errors(400, 401, 403, 409, 413, 415, 422, 503),
    security=SIGNED_IN,
)
async def leave(request: ApiRequest, data: JSONBody[Leaving]) -> Response[None]:
    site, who = site_of(request), identity_of(request)
    await viewer_of(request)
    await own_password(request, data.password)
    command = LeaveOrganisation(person_id=who.person_id, reason=data.reason)
    await site.bus.handle(command, by_nobody(who.tenant))
    ended = await site.sessions.end_all(who.person_id, who.tenant)
    await record_ends(site, who.person_id, ended, "signed_out")
    return Response(None, status_code=204, cookies=site.cookies.taken())


HANDLERS: list[Any] = [list_tenants, switch, leave]
