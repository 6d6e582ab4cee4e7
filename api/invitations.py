"""Invitations: sent by who may, answered by who got the letter."""

from typing import Any

from litestar import post
from litestar.params import JSONBody
from litestar.response.base import ASGIResponse
from msgspec import Struct, convert

from api.accounts import Token, by_nobody, registration
from api.commands import SIGNED_IN, acceptance, accepted, envelope_of, errors
from api.documents import OF_COMMANDS, WITH_LOCATION, WITH_POSITION, documenting
from api.errors import Refusal, invalid
from api.identity import claimed_identity, viewer_of
from api.onetime import LinkInvalid, MadeFor
from api.people import Password
from api.requests import ApiRequest
from api.site import Site, site_of
from api.tenants import tenant_of
from api.tokens import Identity
from commands.bus import NOTHING_APPENDED, Outcome
from commands.kernel import PermissionDenied
from commands.memberships import (
    INVITE,
    AcceptInvitation,
    InviteMember,
    Message,
    may_still_invite,
)
from commands.people import Roles
from domain.memberships import Invitation
from domain.people import Email, Name, Tongue, Username, same_address
from projections.kernel import API

INVITATIONS = f"{API}/admin/invitations"


class NewInvitation(Struct, frozen=True, forbid_unknown_fields=True):
    """Whom to invite, as what, and what to tell them."""

    email: Email
    roles: Roles
    language: Tongue = "en"
    message: Message = ""


class Acceptance(Struct, frozen=True, forbid_unknown_fields=True):
    """What a letter opened; a newcomer says their user name and password, too."""

    token: Token
    username: Username | None = None
    password: Password | None = None
    name: Name | None = None
    language: Tongue | None = None


@post(
    INVITATIONS,
    status_code=201,
    opt={"body": NewInvitation},
    operation_id="inviteMember",
    operation_class=documenting(takes=OF_COMMANDS, gives={**WITH_POSITION, **WITH_LOCATION}),
    summary="Invite somebody by a letter to become a member, with roles that one holds oneself.",
    tags=["memberships"],
    responses=acceptance(201) | errors(400, 401, 403, 409, 413, 415, 422, 503),
    security=SIGNED_IN,
)
async def invite(request: ApiRequest, data: JSONBody[NewInvitation]) -> ASGIResponse:
    site, envelope = site_of(request), envelope_of(request)
    if not (await viewer_of(request)).may(INVITE):
        raise PermissionDenied(INVITE)
    await _let_in(site, envelope.tenant)
    command = InviteMember(
        email=same_address(data.email),
        roles=data.roles,
        language=data.language,
        message=data.message,
    )
    return accepted(await site.bus.handle(command, envelope), 201, INVITATIONS)


@post(
    f"{API}/auth/invitations/accept",
    status_code=201,
    opt={"body": Acceptance},
    operation_id="acceptInvitation",
    operation_class=documenting(gives=WITH_POSITION),
    summary="Become a member by what a letter opened, as somebody new or as who is signed in.",
    tags=["memberships"],
    responses=acceptance(201) | errors(400, 401, 403, 409, 413, 415, 422, 503),
    security=[{}, *SIGNED_IN],
)
async def accept(request: ApiRequest, data: JSONBody[Acceptance]) -> ASGIResponse:
    """The link is used up by the invitation's own end, so that a refusal costs nobody theirs."""
    site, who = site_of(request), claimed_identity(request)
    made_for = await _made_for(site, data.token)
    if who is None and made_for.tenant != tenant_of(request):
        raise Refusal(422, "link_invalid")
    invitation = await _standing(site, made_for)
    if who is None:
        outcome = await _as_newcomer(site, made_for, data)
    else:
        outcome = await _as_member_elsewhere(request, who, made_for, invitation, data)
    return accepted(outcome, 201)


async def _made_for(site: Site, token: str) -> MadeFor:
    try:
        return await site.one_time.find("invitation", token)
    except LinkInvalid as error:
        raise Refusal(422, "link_invalid") from error


async def _let_in(site: Site, tenant_id: str) -> None:
    if await registration(site, tenant_id) == "closed":
        raise Refusal(403, "registration_closed")


async def _standing(site: Site, made_for: MadeFor) -> Invitation:
    """The invitation, if whoever sent it could do so today, to an organisation that is open."""
    tenant = await site.tenants.find(made_for.tenant)
    invitation = await site.bus.state(Invitation, made_for.id, made_for.tenant)
    if tenant is None or invitation is None:
        raise Refusal(422, "link_invalid")
    await _let_in(site, made_for.tenant)
    sender = await site.bus.person(invitation.sent_by, made_for.tenant)
    if not may_still_invite(sender, invitation, tenant, site.clock()):
        raise Refusal(422, "link_invalid")
    return invitation


async def _as_newcomer(site: Site, made_for: MadeFor, data: Acceptance) -> Outcome:
    for field in ("username", "password"):
        if getattr(data, field) is None:
            raise invalid(field, "value_missing")
    command = AcceptInvitation(
        person_id=site.new_id(),
        invitation_id=made_for.id,
        username=data.username or "",
        name=data.name or "",
        language=data.language or "en",
    )
    await site.passwords.keep(command.person_id, data.password or "", command.username)
    try:
        return await site.bus.handle(command, by_nobody(made_for.tenant))
    except NOTHING_APPENDED:
        await site.passwords.forget(command.person_id)
        raise


async def _as_member_elsewhere(
    request: ApiRequest,
    who: Identity,
    made_for: MadeFor,
    invitation: Invitation,
    data: Acceptance,
) -> Outcome:
    """The same person, in another organisation; an address comes along that is known to be theirs.

    Whoever has the letters to an address of an account can replace the person's one password, so
    no organisation gives anybody an address that they did not confirm by themselves.
    """
    for field in ("password", "name", "language"):
        if getattr(data, field) is not None:
            raise invalid(field, "value_unknown")
    await viewer_of(request)
    person = await site_of(request).bus.person(who.person_id, who.tenant)
    command = AcceptInvitation(
        person_id=who.person_id,
        invitation_id=made_for.id,
        username=data.username or person.username,
        name=person.name,
        language=convert(person.language, Tongue),
        addressed=person.email_confirmed and person.email == invitation.email,
    )
    return await site_of(request).bus.handle(command, by_nobody(made_for.tenant))


HANDLERS: list[Any] = [invite, accept]
