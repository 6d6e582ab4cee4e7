"""Personal API tokens: making them, seeing where they are used, and revoking them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from litestar import Response, delete, get, post
from litestar.params import FromPath, JSONBody
from msgspec import Meta, Struct

from api.apitokens import ListedToken
from api.commands import NO_CONTENT, SIGNED_IN, errors
from api.documents import documenting
from api.errors import Refusal
from api.identity import identity_of, viewer_of
from api.requests import ApiRequest
from api.sessions import Ended, SessionOver
from api.site import Site, site_of
from commands.access import CreateToken, RevokeToken
from commands.bus import NOTHING_APPENDED, Envelope
from commands.kernel import SYSTEM
from domain.access import ApiToken, Scope, TokenName
from domain.kernel import Rejected
from projections.kernel import API

TOKENS = f"{API}/auth/tokens"

MANY = 50
"""Tokens that a person may have at the same time."""


class NewToken(Struct, frozen=True, forbid_unknown_fields=True):
    """What a program may do for its person, by permissions that the person has, and until when."""

    name: TokenName
    scopes: Annotated[tuple[Scope, ...], Meta(max_length=50)]
    expires_at: Annotated[datetime, Meta(tz=True, description="In a year at the latest")]


class GivenToken(Struct, frozen=True):
    """A token, which is shown once."""

    id: str
    token: str


class OwnToken(ListedToken, frozen=True):
    """A token that programs act by."""

    name: str


class OwnTokens(Struct, frozen=True):
    """One's own tokens that are still good, the newest first."""

    count: int
    next: str | None
    previous: str | None
    results: list[OwnToken]


@post(
    TOKENS,
    status_code=201,
    opt={"body": NewToken},
    operation_id="createToken",
    operation_class=documenting(),
    summary="Make a token by which a program may do some of what one may do.",
    tags=["people"],
    responses=errors(400, 401, 403, 409, 413, 415, 422, 503),
    security=SIGNED_IN,
)
async def create_token(request: ApiRequest, data: JSONBody[NewToken]) -> GivenToken:
    """The row comes first: whoever signs the person out everywhere finds it, and revokes it."""
    site, who = site_of(request), identity_of(request)
    await viewer_of(request)
    if len(await site.api_tokens.of_person(who.person_id, who.tenant)) >= MANY:
        raise Refusal(422, "too_many_tokens")
    token_id = site.new_id()
    command = CreateToken(
        api_token_id=token_id,
        person_id=who.person_id,
        name=data.name,
        scopes=data.scopes,
        expires_at=data.expires_at,
    )
    try:
        token = await site.api_tokens.open(token_id, who.session_id, data.scopes, data.expires_at)
        await site.bus.handle(command, _noted(who.tenant))
    except SessionOver as error:
        raise Refusal(401, "not_signed_in") from error
    except NOTHING_APPENDED as error:
        await site.api_tokens.discard(token_id)
        if isinstance(error, Rejected) and error.code == "not_signed_in":
            raise Refusal(401, error.code) from error
        raise
    return GivenToken(token_id, token)


@get(
    TOKENS,
    operation_id="listOwnTokens",
    operation_class=documenting(),
    summary="List one's own tokens, and when each was used last.",
    tags=["people"],
    responses=errors(400, 401, 403, 503),
    security=SIGNED_IN,
)
async def list_tokens(request: ApiRequest) -> OwnTokens:
    site, who = site_of(request), identity_of(request)
    await viewer_of(request)
    listed = await site.api_tokens.of_person(who.person_id, who.tenant)
    results = [await _described(site, one, who.tenant) for one in listed]
    return OwnTokens(len(results), None, None, results)


async def _described(site: Site, listed: ListedToken, tenant: str) -> OwnToken:
    created = await site.bus.state(ApiToken, listed.id, tenant) or ApiToken()
    return OwnToken(
        listed.id,
        listed.scopes,
        listed.created_at,
        listed.last_used_at,
        listed.expires_at,
        name=created.name,
    )


@delete(
    f"{TOKENS}/{{token_id:str}}",
    status_code=204,
    operation_id="revokeToken",
    operation_class=documenting(),
    summary="Revoke a token, at once.",
    tags=["people"],
    responses=NO_CONTENT | errors(400, 401, 403, 404, 503),
    security=SIGNED_IN,
)
async def revoke_token(token_id: FromPath[str], request: ApiRequest) -> Response[None]:
    site, who = site_of(request), identity_of(request)
    revoked = await site.api_tokens.revoke(who.person_id, who.tenant, token_id)
    if not revoked:
        raise Refusal(404, "api_token_not_found")
    await record_revocations(site, who.person_id, revoked)
    return Response(None, status_code=204)


async def record_revocations(site: Site, person_id: str, revoked: Sequence[Ended]) -> None:
    """Note in the log, each in its own tenant, which tokens of a person were revoked."""
    for one in revoked:
        command = RevokeToken(api_token_id=one.id, person_id=person_id)
        await site.bus.handle(command, _noted(one.tenant))


def _noted(tenant: str) -> Envelope:
    """For what follows from a request; by whom is in the event."""
    return Envelope(actor=SYSTEM, tenant=tenant)


HANDLERS: list[Any] = [create_token, list_tokens, revoke_token]
