"""Signing in with Google: sent there, coming back, and the accounts there that one signs in by."""

import hmac
import re
import secrets
from typing import Annotated, Any, cast
from urllib.parse import unquote

import structlog
from litestar import Response, delete, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath
from msgspec import Meta, Struct

from api.accounts import by_nobody, registration
from api.attempts import LASTS_SECONDS, Attempt, Begun
from api.commands import NO_CONTENT, SIGNED_IN, errors
from api.documents import documenting
from api.errors import AnyRequest, Refusal, invalid
from api.identity import WITHOUT_SESSION, identity_of, viewer_of
from api.messages import language_of
from api.openid import CodeRefused, IdTokenInvalid, OpenIdProvider, ProviderUnavailable, Vouched
from api.requests import ApiRequest
from api.signin import TokenPair, record_ends, record_start, token_pair
from api.site import Site, site_of
from api.tenants import settle_tenant, tenant_of
from commands.bus import Contended
from commands.people.identities import LinkIdentity, RegisterByIdentity, UnlinkIdentity
from domain.kernel import Rejected
from domain.people import EmailClaim, IdentityClaim, Tongue, identity_at
from projections.kernel import API

SECRET_BYTES = 32
"""Of state, nonce and verifier each."""

TRIES = 5
"""How often somebody is looked for anew when another sign-in was faster, or a name is taken."""

RACED = ("identity_taken", "email_taken", "username_taken")

OWN_PATH = re.compile(r"/[!-~]*")

UNSTORED = {"Cache-Control": "no-store"}

logger = structlog.get_logger(__name__)


class SigningIn(Struct, frozen=True, forbid_unknown_fields=True):
    """Where to go afterwards; without `session` the answer is a pair of tokens."""

    return_to: Annotated[str, Meta(max_length=1000)] = "/"
    session: bool = True


class ComingBack(Struct, frozen=True):
    """What the provider sends a browser back with, among other things."""

    state: Annotated[str, Meta(max_length=200)]
    code: Annotated[str, Meta(max_length=2000)] = ""
    error: Annotated[str, Meta(max_length=100, pattern=r"^[a-z_]*$(?!\n)")] = ""
    iss: Annotated[str, Meta(max_length=200)] = ""


class OwnIdentity(Struct, frozen=True):
    """An account at a provider by which one signs in; the address is the one that it had then."""

    id: str
    issuer: str
    email: str


class OwnIdentities(Struct, frozen=True):
    """The accounts elsewhere by which one signs in."""

    count: int
    next: str | None
    previous: str | None
    results: list[OwnIdentity]


def _redirect(status: int, to: str) -> dict[int, ResponseSpec]:
    return {status: ResponseSpec(None, generate_examples=False, description=to)}


@get(
    f"{API}/auth/google",
    status_code=302,
    opt={"parameters": SigningIn, "limit": "sign-in", **WITHOUT_SESSION},
    operation_id="signInWithGoogle",
    operation_class=documenting(SigningIn),
    summary="Go to Google to sign in, and come back to a path of this site.",
    tags=["people"],
    responses=_redirect(302, "To Google") | errors(400, 404, 503),
)
async def begin(request: ApiRequest) -> Response[None]:
    site = site_of(request)
    google = _google(site)
    asked: SigningIn = request.parameters
    if not is_own_path(asked.return_to):
        raise invalid("return_to", "value_not_a_path")
    attempt = Attempt(*(secrets.token_urlsafe(SECRET_BYTES) for _ in range(3)))
    begun = Begun(attempt, tenant_of(request), asked.return_to, asked.session)
    try:
        location = await google.address(attempt)
    except ProviderUnavailable as error:
        raise _unavailable(error) from error
    return Response(
        None,
        status_code=302,
        headers=UNSTORED | {"Location": location},
        cookies=[site.cookies.begun(google.attempts.sealed(begun), LASTS_SECONDS)],
    )


def is_own_path(text: str) -> bool:
    """Whether it is a path of this site, and stays one when somebody on the way decodes it."""
    decoded = unquote(text)
    elsewhere = decoded.startswith("//") or "\\" in decoded  # where browsers see a host begin
    return OWN_PATH.fullmatch(text) is not None and not elsewhere and decoded.isprintable()


def _google(site: Site) -> OpenIdProvider:
    if site.google is None:
        raise Refusal(404, "not_found")
    return site.google


def _unavailable(error: ProviderUnavailable) -> Refusal:
    logger.warning("nobody can sign in with Google", problem=str(error))
    return Refusal(503, "unavailable")


@get(
    f"{API}/auth/google/callback",
    opt={"parameters": ComingBack, "limit": "sign-in", **WITHOUT_SESSION},
    operation_id="comeBackFromGoogle",
    operation_class=documenting(ComingBack),
    summary="Come back from Google: signed in by a cookie, or answered with a pair of tokens.",
    tags=["people"],
    responses=_redirect(303, "Signed in, to where one wanted to go")
    | errors(400, 401, 403, 404, 409, 422, 503),
)
async def come_back(request: ApiRequest) -> Response[TokenPair]:
    """Only in the browser that went: another's would be signed in as whoever sent it here."""
    site = site_of(request)
    google = _google(site)
    said: ComingBack = request.parameters
    begun = google.attempts.opened(request.cookies.get(site.cookies.attempt, ""))
    if begun is None or not hmac.compare_digest(begun.attempt.state.encode(), said.state.encode()):
        raise Refusal(403, "sign_in_not_begun")
    settle_tenant(request, begun.tenant)
    vouched = await _vouched(google, said, begun.attempt)
    person_id = await _owner(request, google.issuer, vouched)
    return await _signed_in(request, begun, google.issuer, vouched.sub, person_id)


async def _vouched(google: OpenIdProvider, said: ComingBack, attempt: Attempt) -> Vouched:
    """Whom the provider sent back."""
    if said.iss and said.iss != google.issuer:
        raise Refusal(403, "provider_untrusted")
    if said.error:
        raise Refusal(403, "provider_refused", details={"error": said.error})
    if not said.code:
        raise invalid("code", "value_missing")
    try:
        return await google.vouched(said.code, attempt)
    except CodeRefused as error:
        raise Refusal(403, "provider_refused", details={"error": "invalid_grant"}) from error
    except IdTokenInvalid as error:
        logger.warning("Google's word was not taken", problem=str(error))
        raise Refusal(403, "provider_untrusted") from error
    except ProviderUnavailable as error:
        raise _unavailable(error) from error


async def _owner(request: AnyRequest, issuer: str, vouched: Vouched) -> str:
    """Whose account it opens: linked before, by its address, or new."""
    for number in range(TRIES):
        try:
            return await _met(request, issuer, vouched, number)
        except Rejected as rejected:
            if rejected.code not in RACED:
                raise
    raise Contended("signing in")


async def _met(request: AnyRequest, issuer: str, vouched: Vouched, number: int) -> str:
    site, tenant = site_of(request), tenant_of(request)
    linked = await site.bus.state(IdentityClaim, identity_at(issuer, vouched.sub), tenant)
    if linked and linked.person_id:
        return linked.person_id
    address = vouched.address
    if address is None:
        raise Refusal(403, "provider_email_unverified")
    known = await site.bus.state(EmailClaim, address, tenant)
    if known and known.person_id:
        linking = LinkIdentity(
            person_id=known.person_id, issuer=issuer, subject=vouched.sub, email=address
        )
        await site.bus.handle(linking, by_nobody(tenant))
        return known.person_id
    if await registration(site, tenant) != "open":
        raise Refusal(403, "registration_closed")
    registering = RegisterByIdentity(
        identity_id=site.new_id(),
        issuer=issuer,
        subject=vouched.sub,
        username=username_from(address, secrets.token_hex(3) if number else ""),
        email=address,
        name=_plain(vouched.name),
        language=cast("Tongue", language_of(request.headers.get("accept-language", ""))),
    )
    return (await site.bus.handle(registering, by_nobody(tenant))).id


def username_from(email: str, distinction: str = "") -> str:
    """A user name like an address, with something behind it that tells it from others."""
    local = re.sub(r"[^a-z0-9._-]+", "-", email.partition("@")[0])
    name = local[:25].strip("._-") or "reader"
    return f"{name}-{distinction}" if distinction else name


def _plain(name: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in name).split())[:120]


async def _signed_in(
    request: AnyRequest, begun: Begun, issuer: str, subject: str, person_id: str
) -> Response[TokenPair]:
    site = site_of(request)
    person = await site.bus.person(person_id, begun.tenant)
    linked = [o.id for o in person.identities if (o.issuer, o.subject) == (issuer, subject)]
    if not linked:  # any more
        raise Refusal(401, "identity_not_found")
    kind = "cookie" if begun.session else "token"
    opened = await site.sessions.open(site.new_id(), person_id, begun.tenant, kind, None)
    await record_start(request, opened, identity_id=linked[0])
    over = site.cookies.ended()
    if not begun.session:
        return Response(
            token_pair(site, opened.session, opened.secret), headers=UNSTORED, cookies=[over]
        )
    given = site.cookies.given(opened.secret, site.sessions.lifetimes.absolute)
    to: Any = Response(
        None,
        status_code=303,
        headers=UNSTORED | {"Location": begun.return_to},
        cookies=[over, *given],
    )
    return to


@get(
    f"{API}/auth/identities",
    operation_id="listOwnIdentities",
    operation_class=documenting(),
    summary="List the accounts elsewhere by which one signs in.",
    tags=["people"],
    responses=errors(400, 401, 403, 503),
    security=SIGNED_IN,
)
async def list_identities(request: ApiRequest) -> OwnIdentities:
    who = identity_of(request)
    await viewer_of(request)
    person = await site_of(request).bus.person(who.person_id, who.tenant)
    results = [OwnIdentity(one.id, one.issuer, one.email) for one in person.identities]
    return OwnIdentities(len(results), None, None, results)


@delete(
    f"{API}/auth/identities/{{identity_id:str}}",
    status_code=204,
    operation_id="unlinkOwnIdentity",
    operation_class=documenting(),
    summary="Sign in by an account elsewhere no more; everywhere else one is signed out.",
    tags=["people"],
    responses=NO_CONTENT | errors(400, 401, 403, 404, 409, 422, 503),
    security=SIGNED_IN,
)
async def unlink_identity(identity_id: FromPath[str], request: ApiRequest) -> Response[None]:
    """The event comes before sessions end, as StartSession counts on."""
    who, site = identity_of(request), site_of(request)
    await viewer_of(request)
    person = await site.bus.person(who.person_id, who.tenant)
    known = person.identity(identity_id)
    if known is None:
        raise Refusal(404, "identity_not_found")
    unlinking = UnlinkIdentity(
        person_id=who.person_id,
        identity_id=known.id,
        identity=identity_at(known.issuer, known.subject),
    )
    await site.bus.handle(unlinking, by_nobody(who.tenant))
    ended = await site.sessions.end_all(who.person_id, but=who.session_id)
    await record_ends(site, who.person_id, ended, "revoked")
    return Response(None, status_code=204)


HANDLERS: list[Any] = [begin, come_back, list_identities, unlink_identity]
