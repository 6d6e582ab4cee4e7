"""The second factor: switching it on and off, and what is asked for it at a sign-in."""

from base64 import b32encode
from typing import Annotated, Any

from litestar import delete, get, post
from litestar.params import JSONBody
from msgspec import Meta, Struct

from api.commands import NO_CONTENT, SIGNED_IN, errors
from api.documents import documenting
from api.errors import AnyRequest, Refusal
from api.guards import attempt, withdraw_attempts
from api.identity import identity_of, viewer_of
from api.requests import ApiRequest
from api.secondfactors import CodeWrong, FactorGone, NothingPending
from api.site import site_of
from api.tenants import tenant_of
from api.tokens import Identity
from api.totp import uri_of
from commands.bus import NOTHING_APPENDED, Envelope
from commands.kernel import SYSTEM, Command
from commands.people.secondfactors import (
    AddSecondFactor,
    RemoveSecondFactor,
    RenewRecoveryCodes,
    UseRecoveryCode,
)
from domain.people import Person
from projections.kernel import API

SECOND_FACTOR = f"{API}/auth/second-factor"

GivenPassword = Annotated[str, Meta(max_length=200)]
Code = Annotated[str, Meta(max_length=40, description="An app's six digits, or a recovery code")]


class CurrentPassword(Struct, frozen=True, forbid_unknown_fields=True):
    """The password, so that nobody does this at a desk that was left."""

    password: GivenPassword


class FirstCode(Struct, frozen=True, forbid_unknown_fields=True):
    """What the app shows that took the secret."""

    code: Code


class PasswordAndCode(Struct, frozen=True, forbid_unknown_fields=True):
    """All that a sign-in asks for."""

    password: GivenPassword
    code: Code


class FactorSecret(Struct, frozen=True):
    """What an authenticator app takes, by hand or as a picture of `uri`; shown once."""

    secret: str
    uri: str


class RecoveryCodes(Struct, frozen=True):
    """What stands in for a lost device, each once; shown once."""

    recovery_codes: list[str]


class SecondFactor(Struct, frozen=True):
    """Whether a sign-in asks for a code, and how many recovery codes are left."""

    enabled: bool
    recovery_codes: int


@get(
    SECOND_FACTOR,
    operation_id="getSecondFactor",
    operation_class=documenting(),
    summary="Say whether one's sign-ins ask for a second factor.",
    tags=["people"],
    responses=errors(400, 401, 403, 503),
    security=SIGNED_IN,
)
async def get_second_factor(request: ApiRequest) -> SecondFactor:
    _, person = await _own(request)
    if not person.second_factor:
        return SecondFactor(enabled=False, recovery_codes=0)
    left = await site_of(request).second_factors.left(person.second_factor)
    return SecondFactor(enabled=True, recovery_codes=left)


@post(
    SECOND_FACTOR,
    status_code=200,
    opt={"body": CurrentPassword},
    operation_id="beginSecondFactor",
    operation_class=documenting(),
    summary="Get the secret for an authenticator app; nothing changes before it is confirmed.",
    tags=["people"],
    responses=errors(400, 401, 403, 413, 415, 422, 503),
    security=SIGNED_IN,
)
async def begin_second_factor(request: ApiRequest, data: JSONBody[CurrentPassword]) -> FactorSecret:
    who, person = await _own(request)
    _refuse_another(person)
    await _check_password(request, who, data.password)
    site = site_of(request)
    secret = await site.second_factors.begin(who.person_id, who.tenant)
    return FactorSecret(b32encode(secret).decode(), uri_of(secret, person.username, site.name))


@post(
    f"{SECOND_FACTOR}/confirm",
    status_code=200,
    opt={"body": FirstCode},
    operation_id="confirmSecondFactor",
    operation_class=documenting(),
    summary="Switch the second factor on by the app's first code, for ten recovery codes.",
    tags=["people"],
    responses=errors(400, 401, 403, 409, 413, 415, 422, 503),
    security=SIGNED_IN,
)
async def confirm_second_factor(request: ApiRequest, data: JSONBody[FirstCode]) -> RecoveryCodes:
    """The secret and the codes are stored before the log says that they are asked for."""
    site, (who, person) = site_of(request), await _own(request)
    _refuse_another(person)
    try:
        factor_id, codes = await site.second_factors.confirm(
            who.person_id, who.tenant, data.code, site.clock()
        )
    except NothingPending as error:
        raise Refusal(422, "second_factor_not_begun") from error
    except CodeWrong as error:
        raise Refusal(422, "second_factor_wrong") from error
    try:
        await _note(request, AddSecondFactor(person_id=who.person_id, factor_id=factor_id))
    except NOTHING_APPENDED:
        await site.second_factors.forget(factor_id)
        raise
    return RecoveryCodes(codes)


@delete(
    SECOND_FACTOR,
    status_code=204,
    opt={"body": PasswordAndCode},
    operation_id="removeSecondFactor",
    operation_class=documenting(),
    summary="Switch the second factor off.",
    tags=["people"],
    responses=NO_CONTENT | errors(400, 401, 403, 409, 413, 415, 422, 503),
    security=SIGNED_IN,
)
async def remove_second_factor(request: ApiRequest, data: JSONBody[PasswordAndCode]) -> None:
    who, person = await _own(request)
    _require_one(person)
    await _check_password(request, who, data.password)
    if not await _take(request, who.person_id, person.second_factor, data.code):
        raise Refusal(422, "second_factor_wrong")
    command = RemoveSecondFactor(person_id=who.person_id, factor_id=person.second_factor)
    await _note(request, command)
    await site_of(request).second_factors.forget(person.second_factor)


@post(
    f"{SECOND_FACTOR}/recovery-codes",
    status_code=200,
    opt={"body": CurrentPassword},
    operation_id="renewRecoveryCodes",
    operation_class=documenting(),
    summary="Get other recovery codes; those of before are void.",
    tags=["people"],
    responses=errors(400, 401, 403, 409, 413, 415, 422, 503),
    security=SIGNED_IN,
)
async def renew_recovery_codes(
    request: ApiRequest, data: JSONBody[CurrentPassword]
) -> RecoveryCodes:
    who, person = await _own(request)
    _require_one(person)
    await _check_password(request, who, data.password)
    try:
        codes = await site_of(request).second_factors.renew(person.second_factor)
    except FactorGone as error:
        raise Refusal(422, "second_factor_off") from error
    command = RenewRecoveryCodes(person_id=who.person_id, renewals=person.renewals)
    await _note(request, command)
    return RecoveryCodes(codes)


async def shown_second_factor(request: AnyRequest, person_id: str, code: str) -> str:
    """Which second factor somebody shows whose password was right; empty where none is asked for.

    Codes are counted for the person, whatever name they sign in by.
    """
    person = await site_of(request).bus.person(person_id, tenant_of(request))
    if not person.second_factor:
        return ""
    if not code:
        withdraw_attempts(request)
        raise Refusal(401, "second_factor_required")
    if not await _take(request, person_id, person.second_factor, code):
        raise Refusal(401, "second_factor_wrong")
    return person.second_factor


async def _take(request: AnyRequest, person_id: str, factor_id: str, code: str) -> bool:
    await attempt(request, person_id)
    site = site_of(request)
    try:
        code_id = await site.second_factors.take(
            factor_id, person_id, tenant_of(request), code, site.clock()
        )
    except CodeWrong:
        return False
    if code_id is not None:
        await _note(request, UseRecoveryCode(person_id=person_id, code_id=code_id))
    return True


async def _own(request: AnyRequest) -> tuple[Identity, Person]:
    who = identity_of(request)
    await viewer_of(request)
    return who, await site_of(request).bus.person(who.person_id, who.tenant)


async def _check_password(request: AnyRequest, who: Identity, password: str) -> None:
    """Counted apart from codes, or a right password would forgive wrong codes."""
    await attempt(request, f"{who.person_id}/password")
    if not await site_of(request).passwords.matches(who.person_id, password):
        raise Refusal(422, "current_password_wrong")


async def _note(request: AnyRequest, command: Command) -> None:
    envelope = Envelope(actor=SYSTEM, tenant=tenant_of(request))
    await site_of(request).bus.handle(command, envelope)


def _refuse_another(person: Person) -> None:
    if person.second_factor:
        raise Refusal(422, "second_factor_on")


def _require_one(person: Person) -> None:
    if not person.second_factor:
        raise Refusal(422, "second_factor_off")


HANDLERS: list[Any] = [
    get_second_factor,
    begin_second_factor,
    confirm_second_factor,
    remove_second_factor,
    renew_recovery_codes,
]
