"""One's own account, and making accounts: where passwords are, plain commands are not enough."""

from typing import Annotated, Any

from litestar import Request, get, post
from litestar.params import JSONBody
from litestar.response.base import ASGIResponse
from msgspec import Meta, Struct

from api.commands import SIGNED_IN, acceptance, accepted, envelope_of, errors
from api.documents import OF_COMMANDS, WITH_LOCATION, WITH_POSITION, documenting
from api.identity import BY_PROGRAMS, signed_in, viewer_of
from api.pictures import avatar_address
from api.requests import ApiRequest
from api.site import site_of
from api.tenants import tenant_of
from commands.bus import NOTHING_APPENDED, KeyReused
from commands.people import CreateAccount, Roles
from domain.people import Username
from projections.kernel import API

Password = Annotated[str, Meta(min_length=10, max_length=200)]


class NewAccount(Struct, frozen=True, forbid_unknown_fields=True):
    """An account to be made."""

    username: Username
    password: Password
    roles: Roles


class Account(Struct, frozen=True):
    """One's own account; `avatar` is an address that shows this picture for ever."""

    id: str
    username: str
    roles: tuple[str, ...]
    permissions: list[str]
    email: str
    email_confirmed: bool
    name: str
    avatar: str | None
    language: str
    time_zone: str


@get(
    f"{API}/auth/me",
    opt=BY_PROGRAMS,
    operation_id="getOwnAccount",
    operation_class=documenting(),
    summary="Get one's own account.",
    tags=["people"],
    responses=errors(400, 401, 403, 503),
    security=SIGNED_IN,
)
async def me(request: Request[Any, Any, Any]) -> Account:
    person_id = signed_in(request)
    viewer = await viewer_of(request)
    person = await site_of(request).bus.person(person_id, tenant_of(request))
    return Account(
        person_id,
        person.username,
        person.roles,
        sorted(viewer.permissions),
        person.email,
        person.email_confirmed,
        person.name,
        avatar_address(person_id, person.avatar),
        person.language,
        person.time_zone,
    )


@post(
    f"{API}/people",
    status_code=201,
    opt={"body": NewAccount},
    operation_id="createAccount",
    operation_class=documenting(takes=OF_COMMANDS, gives={**WITH_POSITION, **WITH_LOCATION}),
    summary="Create an account with a password.",
    tags=["people"],
    responses=acceptance(201) | errors(400, 401, 403, 409, 413, 415, 422, 503),
    security=SIGNED_IN,
)
async def create_account(request: ApiRequest, data: JSONBody[NewAccount]) -> ASGIResponse:
    """The hash is stored before the account exists, so that an account can always sign in."""
    site = site_of(request)
    envelope = envelope_of(request)
    person_id = site.new_id()
    command = CreateAccount(person_id=person_id, username=data.username, roles=data.roles)
    await site.bus.rehearse(command, envelope)
    await site.passwords.keep(person_id, data.password, data.username)
    try:
        outcome = await site.bus.handle(command, envelope)
    except NOTHING_APPENDED:
        await site.passwords.forget(person_id)
        raise
    if outcome.id != person_id:  # a retry, which was answered with the account made before
        await site.passwords.forget(person_id)
        if not await site.passwords.matches(outcome.id, data.password):
            raise KeyReused  # the password is no part of the command, and so of its fingerprint
    return accepted(outcome, 201, f"{API}/people")


HANDLERS = [me, create_account]
