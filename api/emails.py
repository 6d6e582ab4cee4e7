"""One's e-mail address: another one, and the letters by which addresses are confirmed."""

from typing import Annotated, Any

from litestar import Response, post
from litestar.params import JSONBody
from msgspec import Meta, Struct

from api.accounts import Token, by_nobody, opened_by, own_password
from api.commands import NO_CONTENT, SIGNED_IN, errors
from api.documents import documenting
from api.identity import WITHOUT_SESSION, identity_of, viewer_of
from api.requests import ApiRequest
from api.site import site_of
from commands.people import ConfirmEmail, RequestEmail
from domain.people import Email, same_address
from projections.kernel import API


class AnotherEmail(Struct, frozen=True, forbid_unknown_fields=True):
    """The address that one wants to have, and one's password."""

    email: Email
    password: Annotated[str, Meta(max_length=200)]


class Answer(Struct, frozen=True, forbid_unknown_fields=True):
    """What a letter opened."""

    token: Token


@post(
    f"{API}/me/email",
    status_code=202,
    opt={"body": AnotherEmail, "by_person": True},
    operation_id="requestEmail",
    operation_class=documenting(),
    summary="Ask for another e-mail address; it is taken up when its letter is answered.",
    tags=["people"],
    responses=errors(400, 401, 403, 409, 413, 415, 422, 503),
    security=SIGNED_IN,
)
async def request_email(request: ApiRequest, data: JSONBody[AnotherEmail]) -> Response[None]:
    """Nobody learns here whether an address is somebody's: it gets a letter either way."""
    site, who = site_of(request), identity_of(request)
    await viewer_of(request)
    await own_password(request, data.password)
    asking = RequestEmail(person_id=who.person_id, email=same_address(data.email))
    await site.bus.handle(asking, by_nobody(who.tenant))
    return Response(None, status_code=202)


@post(
    f"{API}/auth/email/confirm",
    status_code=204,
    opt={"body": Answer, **WITHOUT_SESSION},
    operation_id="confirmEmail",
    operation_class=documenting(),
    summary="Confirm an e-mail address by what the letter to it opened.",
    tags=["people"],
    responses=NO_CONTENT | errors(400, 409, 413, 415, 422, 503),
)
async def confirm_email(request: ApiRequest, data: JSONBody[Answer]) -> None:
    made_for = await opened_by(request, "confirm_email", data.token)
    command = ConfirmEmail(person_id=made_for.id, emails=made_for.number)
    site = site_of(request)
    await site.bus.handle(command, by_nobody(made_for.tenant))
    await site.one_time.void("password_reset", made_for.id)  # which the former address has


HANDLERS: list[Any] = [request_email, confirm_email]
