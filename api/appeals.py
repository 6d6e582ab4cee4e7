"""Appeals of people who are banned, by what their sign-in was answered."""

from typing import Any

from litestar import post
from litestar.params import JSONBody
from litestar.response.base import ASGIResponse
from msgspec import Struct

from api.accounts import Token, by_nobody
from api.commands import acceptance, accepted, errors
from api.documents import WITH_POSITION, documenting
from api.errors import Refusal
from api.identity import WITHOUT_SESSION
from api.onetime import LinkInvalid
from api.requests import ApiRequest
from api.site import site_of
from api.tenants import tenant_of
from commands.appeals import AppealText, LodgeAppeal
from projections.kernel import API


class NewAppeal(Struct, frozen=True, forbid_unknown_fields=True):
    """What a banned person says, and the `appeal_token` of their refused sign-in."""

    token: Token
    text: AppealText


@post(
    f"{API}/appeals",
    status_code=201,
    opt={"body": NewAppeal, **WITHOUT_SESSION},
    operation_id="lodgeAppeal",
    operation_class=documenting(gives=WITH_POSITION),
    summary="Appeal against one's ban, by what the refused sign-in was answered.",
    tags=["appeals"],
    responses=acceptance(201) | errors(400, 409, 413, 415, 422, 503),
)
async def lodge_appeal(request: ApiRequest, data: JSONBody[NewAppeal]) -> ASGIResponse:
    site, tenant = site_of(request), tenant_of(request)
    try:
        made_for = await site.one_time.use("appeal", data.token, tenant)
    except LinkInvalid as error:
        raise Refusal(422, "link_invalid") from error
    person = await site.bus.person(made_for.id, tenant)
    command = LodgeAppeal(person_id=made_for.id, ban=person.bans, text=data.text)
    outcome = await site.bus.handle(command, by_nobody(tenant))
    return accepted(outcome, 201)


HANDLERS: list[Any] = [lodge_appeal]
