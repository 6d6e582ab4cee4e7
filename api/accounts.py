"""Accounts that people make and keep by themselves: registering, passwords, letters answered."""

from datetime import datetime
from typing import Annotated, Any

from litestar import Response, post
from litestar.background_tasks import BackgroundTask
from litestar.params import JSONBody
from msgspec import Meta, Struct

from api.access import record_revocations
from api.commands import SIGNED_IN, errors
from api.documents import documenting
from api.errors import Refusal
from api.guards import attempt
from api.identity import WITHOUT_SESSION, identity_of, viewer_of
from api.onetime import LinkInvalid, MadeFor, Purpose
from api.passwords import PasswordReplaced
from api.people import Password
from api.requests import ApiRequest
from api.signin import named, record_ends
from api.site import Site, site_of
from api.tenants import tenant_of
from api.tokens import Identity
from commands.bus import NOTHING_APPENDED, Envelope
from commands.kernel import SYSTEM
from commands.people import Register, ReplacePassword, RequestPasswordReset
from domain.kernel import Rejected
from domain.people import Email, EndReason, Name, Tongue, Username, same_address
from domain.tenancy import Registration
from projections.kernel import API

Token = Annotated[str, Meta(max_length=200)]


class NewcomerAccount(Struct, frozen=True, forbid_unknown_fields=True):
    """An account to be made for oneself."""

    username: Username
    email: Email
    password: Password
    name: Name = ""
    language: Tongue = "en"


class PasswordChange(Struct, frozen=True, forbid_unknown_fields=True):
    """The password of until now, and that of from now on."""

    current_password: Annotated[str, Meta(max_length=200)]
    password: Password


class Forgotten(Struct, frozen=True, forbid_unknown_fields=True):
    """The address of an account whose password is not known any more."""

    email: Email


class NewPassword(Struct, frozen=True, forbid_unknown_fields=True):
    """What a letter opened, and the password of from now on."""

    token: Token
    password: Password


@post(
    f"{API}/auth/register",
    status_code=202,
    opt={"body": NewcomerAccount, **WITHOUT_SESSION},
    operation_id="register",
    operation_class=documenting(),
    summary="Make an account for oneself; a letter comes to its address, whoever has it already.",
    tags=["people"],
    responses=errors(400, 403, 409, 413, 415, 422, 503),
)
async def register(request: ApiRequest, data: JSONBody[NewcomerAccount]) -> Response[None]:
    """Nobody learns here whether an address has an account: its owner gets a letter either way."""
    site, tenant = site_of(request), tenant_of(request)
    if await registration(site, tenant) != "open":
        raise Refusal(403, "registration_closed")
    command = Register(
        person_id=site.new_id(),
        username=data.username,
        email=same_address(data.email),
        name=data.name,
        language=data.language,
    )
    await site.passwords.keep(command.person_id, data.password, data.username, data.email)
    try:
        await site.bus.handle(command, by_nobody(tenant))
    except NOTHING_APPENDED as error:
        await site.passwords.forget(command.person_id)
        if not isinstance(error, Rejected) or error.code != "email_taken":
            raise
        return _answered_later(202, site, tenant, command.email)
    return Response(None, status_code=202)


def by_nobody(tenant: str) -> Envelope:
    """For what somebody asks who is not signed in; by whom is in the event."""
    return Envelope(actor=SYSTEM, tenant=tenant)


def _answered_later(status: int, site: Site, tenant: str, email: str) -> Response[None]:
    """The answer, after which the owner of an address, if it has one, is sent a letter."""
    task = BackgroundTask(_send_reset, site, tenant, email)
    return Response(None, status_code=status, background=task)


async def _send_reset(site: Site, tenant: str, email: str) -> None:
    person_id = await named(site, email, tenant)
    if person_id is not None:
        person = await site.bus.person(person_id, tenant)
        asking = RequestPasswordReset(person_id=person_id, requests=person.reset_requests)
        await site.bus.handle(asking, by_nobody(tenant))


async def registration(site: Site, tenant_id: str) -> Registration:
    """Who may make an account in an organisation: its own rule, or else the site's."""
    tenant = await site.tenants.find(tenant_id)
    return (tenant and tenant.registration) or site.registration


async def opened_by(request: ApiRequest, purpose: Purpose, token: str) -> MadeFor:
    """Whom a letter was for, by the token that it opened, which opens nothing again."""
    try:
        return await site_of(request).one_time.use(purpose, token, tenant_of(request))
    except LinkInvalid as error:
        raise Refusal(422, "link_invalid") from error


@post(
    f"{API}/auth/password",
    status_code=204,
    opt={"body": PasswordChange},
    operation_id="changePassword",
    operation_class=documenting(),
    summary="Change one's password; one is signed out elsewhere, personal tokens are revoked.",
    tags=["people"],
    responses=errors(400, 401, 403, 409, 413, 415, 422, 503),
    security=SIGNED_IN,
)
async def change_password(request: ApiRequest, data: JSONBody[PasswordChange]) -> None:
    site, who = site_of(request), identity_of(request)
    await viewer_of(request)
    since = await own_password(request, data.current_password)
    try:
        replaced_at = await site.passwords.replace(who.person_id, data.password, since)
    except PasswordReplaced as error:
        raise Refusal(422, "current_password_wrong") from error
    await _replaced(site, who, replaced_at, "password_changed")


async def own_password(request: ApiRequest, password: str) -> datetime:
    """Since when the password of who is signed in is what they say; wrong ones have to wait."""
    person_id = identity_of(request).person_id
    await attempt(request, f"{person_id}/password")
    since = await site_of(request).passwords.matches(person_id, password)
    if since is None:
        raise Refusal(422, "current_password_wrong")
    return since


@post(
    f"{API}/auth/password-reset",
    status_code=202,
    opt={"body": Forgotten, **WITHOUT_SESSION},
    operation_id="requestPasswordReset",
    operation_class=documenting(),
    summary="Ask for a letter by which the password can be replaced.",
    tags=["people"],
    responses=errors(400, 413, 415, 503),
)
async def request_reset(request: ApiRequest, data: JSONBody[Forgotten]) -> Response[None]:
    """The answer is out before anybody looks whether the address has an account."""
    return _answered_later(202, site_of(request), tenant_of(request), same_address(data.email))


@post(
    f"{API}/auth/password-reset/confirm",
    status_code=204,
    opt={"body": NewPassword, **WITHOUT_SESSION},
    operation_id="resetPassword",
    operation_class=documenting(),
    summary="Replace the password by what the letter opened; one is signed out everywhere.",
    tags=["people"],
    responses=errors(400, 409, 413, 415, 422, 503),
)
async def reset_password(request: ApiRequest, data: JSONBody[NewPassword]) -> None:
    site, made_for = site_of(request), await opened_by(request, "password_reset", data.token)
    replaced_at = await site.passwords.keep(made_for.id, data.password)
    nowhere = Identity(made_for.id, "", made_for.tenant)
    await _replaced(site, nowhere, replaced_at, "password_reset")


async def _replaced(site: Site, who: Identity, at: datetime, reason: EndReason) -> None:
    """End a person's sessions in every tenant but this one, and note what happened.

    The password is another already, so that no session is opened any more by the one before.
    """
    ended = await site.sessions.end_all(who.person_id, but=who.session_id)
    revoked = await site.api_tokens.revoke(who.person_id)
    await site.one_time.void("password_reset", who.person_id)
    command = ReplacePassword(
        person_id=who.person_id, replaced_at=at, forgotten=reason == "password_reset"
    )
    await site.bus.handle(command, by_nobody(who.tenant))
    await record_ends(site, who.person_id, ended, reason)
    await record_revocations(site, who.person_id, revoked)


HANDLERS: list[Any] = [register, change_password, request_reset, reset_password]
