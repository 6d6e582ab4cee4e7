"""Accounts that people make and keep by themselves: registering, passwords, letters answered."""

from typing import Annotated, Any

from litestar import Response, post
from litestar.background_tasks import BackgroundTask
from litestar.params import JSONBody
from msgspec import Meta, Struct

from api.access import record_revocations
from api.commands import SIGNED_IN, errors
from api.documents import documenting
from api.errors import Refusal
from api.identity import WITHOUT_SESSION, identity_of, viewer_of
from api.onetime import LinkInvalid, Purpose
from api.people import Password
from api.requests import ApiRequest
from api.signin import named, record_ends
from api.site import Site, site_of
from api.tenants import tenant_of
from commands.bus import NOTHING_APPENDED, Envelope
from commands.kernel import SYSTEM
from commands.people import ConfirmEmail, Register, ReplacePassword, RequestPasswordReset
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


class Answer(Struct, frozen=True, forbid_unknown_fields=True):
    """What a letter opened."""

    token: Token


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
    if await registration_of(site, tenant) != "open":
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


@post(
    f"{API}/auth/email/confirm",
    status_code=204,
    opt={"body": Answer, **WITHOUT_SESSION},
    operation_id="confirmEmail",
    operation_class=documenting(),
    summary="Confirm an e-mail address by what the letter to it opened.",
    tags=["people"],
    responses=errors(400, 409, 413, 415, 422, 503),
)
async def confirm_email(request: ApiRequest, data: JSONBody[Answer]) -> None:
    person_id = await _used(request, "confirm_email", data.token)
    envelope = by_nobody(tenant_of(request))
    await site_of(request).bus.handle(ConfirmEmail(person_id=person_id), envelope)


async def registration_of(site: Site, tenant_id: str) -> Registration:
    """Who may make an account in an organisation: its own rule, or else the site's."""
    tenant = await site.tenants.find(tenant_id)
    return (tenant and tenant.registration) or site.registration


async def _used(request: ApiRequest, purpose: Purpose, token: str) -> str:
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
    if not await site.passwords.matches(who.person_id, data.current_password):
        raise Refusal(422, "current_password_wrong")
    await _replace(
        site, who.tenant, who.person_id, data.password, "password_changed", but=who.session_id
    )


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
    person_id = await _used(request, "password_reset", data.token)
    tenant = tenant_of(request)
    await _replace(site_of(request), tenant, person_id, data.password, "password_reset")


async def _replace(
    site: Site,
    tenant: str,
    person_id: str,
    password: str,
    reason: EndReason,
    but: str | None = None,
) -> None:
    """Replace a password: its event comes before sessions end, as StartSession counts on.

    They end also where nobody knows whether the event was appended.
    """
    await site.passwords.keep(person_id, password)
    person = await site.bus.person(person_id, tenant)
    command = ReplacePassword(
        person_id=person_id, passwords=person.passwords, forgotten=reason == "password_reset"
    )
    try:
        await site.bus.handle(command, by_nobody(tenant))
    finally:
        ended = await site.sessions.end_all(person_id, tenant, but)
        revoked = await site.api_tokens.revoke(person_id, tenant)
    await record_ends(site, ended, tenant, reason)
    await record_revocations(site, revoked, person_id, tenant)


HANDLERS: list[Any] = [register, confirm_email, change_password, request_reset, reset_password]
