"""Signing in and out, and where one is signed in."""

from datetime import UTC, datetime
from math import ceil
from typing import Annotated, Any

from litestar import Response, delete, get, post
from litestar.params import FromPath, JSONBody
from msgspec import Meta, Struct

from api.access import record_revocations
from api.browsers import csrf_token
from api.commands import NO_CONTENT, SIGNED_IN, errors
from api.documents import documenting
from api.errors import AnyRequest, Refusal
from api.factors import Code, shown_second_factor
from api.guards import LOGIN
from api.identity import WITHOUT_SESSION, identity_of, viewer_of
from api.passwords import PasswordReplaced
from api.requests import ApiRequest
from api.sessions import Ended, ListedSession, Opened, Session, SessionOver, TokenReused
from api.site import Site, site_of
from api.tenants import settle_tenant, tenant_of
from commands.bus import NOTHING_APPENDED, Envelope
from commands.kernel import SYSTEM, Banned, check_standing
from commands.people.sessions import EndSession, StartSession
from domain.appeals import Appeal, appeal_of
from domain.kernel import Rejected
from domain.people import Ban, EmailClaim, EndReason, SessionKind, UsernameClaim, same_address
from domain.people import Session as SessionState
from projections.kernel import API

MAX_USER_AGENT = 300


class Credentials(Struct, frozen=True, forbid_unknown_fields=True):
    """A user name or an address, and its password; `session` asks for a cookie, not tokens.

    `code` is the second factor's, where the account has one.
    """

    username: Annotated[str, Meta(max_length=200)]
    password: Annotated[str, Meta(max_length=200)]
    session: bool = False
    code: Code = ""


class RefreshToken(Struct, frozen=True, forbid_unknown_fields=True):
    """The refresh token that came last."""

    refresh_token: Annotated[str, Meta(max_length=200)]


class TokenPair(Struct, frozen=True, kw_only=True):
    """An access token for `expires_in` seconds, and what is given once for the next pair."""

    access_token: str
    refresh_token: str
    token_type: str = "Bearer"  # noqa: S105 the name of a scheme, not a secret
    expires_in: int


class BrowserSession(Struct, frozen=True, kw_only=True):
    """What to send as `X-CSRF-Token` with every change, beside the cookie that was set."""

    csrf_token: str
    expires_in: int


class OwnSession(ListedSession, frozen=True):
    """A device or a browser that one is signed in from."""

    user_agent: str
    address: str
    current: bool


class OwnSessions(Struct, frozen=True):
    """Where one is signed in, the newest first."""

    count: int
    next: str | None
    previous: str | None
    results: list[OwnSession]


@post(
    LOGIN,
    status_code=200,
    opt={"body": Credentials, **WITHOUT_SESSION},
    operation_id="login",
    operation_class=documenting(),
    summary="Sign in with a user name and a password, for tokens or for a session cookie.",
    tags=["people"],
    responses=errors(400, 401, 403, 413, 415, 503),
)
async def login(
    request: ApiRequest, data: JSONBody[Credentials]
) -> Response[TokenPair | BrowserSession]:
    site = site_of(request)
    person_id, since = await _authenticate(request, data)
    factor = await shown_second_factor(request, person_id, data.code)
    tenant = tenant_of(request)
    kind: SessionKind = "cookie" if data.session else "token"
    try:
        opened = await site.sessions.open(site.new_id(), person_id, tenant, kind, since)
        await record_start(request, opened, factor=factor)
    except PasswordReplaced as error:
        raise Refusal(401, "invalid_credentials") from error
    except Banned as banned:
        raise await _appealable(site, tenant, person_id, banned.ban) from banned
    return signed_in_by(site, opened)


async def _authenticate(request: AnyRequest, given: Credentials) -> tuple[str, datetime]:
    """Whose password it is, and since when."""
    site, tenant = site_of(request), tenant_of(request)
    person_id = await named(site, given.username, tenant)
    since = await site.passwords.matches(person_id, given.password)
    if since is None or person_id is None:
        raise Refusal(401, "invalid_credentials")
    return person_id, since


async def _appealable(site: Site, tenant: str, person_id: str, ban: Ban) -> Refusal:
    """The answer to a banned person whose password was right, by which they can appeal once."""
    details = {"reason": ban.reason, "until": ban.until}
    person = await site.bus.person(person_id, tenant)
    appeal = await site.bus.state(Appeal, appeal_of(person_id, person.bans), tenant)
    if appeal is None:
        details["appeal_token"] = await site.one_time.make("appeal", person_id, tenant)
    return Refusal(403, "banned", details=details)


async def named(site: Site, name: str, tenant: str) -> str | None:
    """Whose user name, or address, it is."""
    if "@" in name:
        claim = await site.bus.state(EmailClaim, same_address(name), tenant)
    else:
        claim = await site.bus.state(UsernameClaim, name, tenant)
    return (claim and claim.person_id) or None  # a claim that was released is nobody's


async def record_start(
    request: AnyRequest, opened: Opened, *, factor: str = "", identity_id: str = ""
) -> None:
    """Note in the log that a session begins, which may have been ended meanwhile."""
    site, session = site_of(request), opened.session
    command = StartSession(
        session_id=session.id,
        person_id=session.person_id,
        kind=opened.kind,
        second_factor=factor,
        user_agent=request.headers.get("user-agent", "")[:MAX_USER_AGENT],
        address=request.client.host if request.client else "",
        identity_id=identity_id,
    )
    try:
        await site.bus.handle(command, Envelope(actor=SYSTEM, tenant=session.tenant))
    except NOTHING_APPENDED as error:
        await site.sessions.discard(session)
        if isinstance(error, Rejected):
            raise Refusal(401, error.code) from error
        raise


def signed_in_by(site: Site, opened: Opened) -> Response[TokenPair | BrowserSession]:
    """The answer that gives somebody what opens their new session."""
    if opened.kind == "token":
        return Response(token_pair(site, opened.session, opened.secret))
    seconds = ceil((opened.session.expires_at - datetime.now(UTC)).total_seconds())
    answer = BrowserSession(csrf_token=csrf_token(opened.secret), expires_in=seconds)
    return Response(answer, cookies=site.cookies.given(opened.secret, seconds))


def token_pair(site: Site, session: Session, secret: str) -> TokenPair:
    """The tokens of a session."""
    seconds = site.sessions.lifetimes.access
    access = site.tokens.access(session, site.clock(), seconds)
    return TokenPair(access_token=access, refresh_token=secret, expires_in=seconds)


@post(
    f"{API}/auth/refresh",
    status_code=200,
    opt={"body": RefreshToken, **WITHOUT_SESSION},
    operation_id="refreshTokens",
    operation_class=documenting(),
    summary="Exchange a refresh token, once; twice ends the session.",
    tags=["people"],
    responses=errors(400, 401, 403, 413, 415, 503),
)
async def refresh(request: ApiRequest, data: JSONBody[RefreshToken]) -> TokenPair:
    site = site_of(request)
    try:
        session, secret = await site.sessions.renew(
            data.refresh_token, lambda session: settle_tenant(request, session.tenant)
        )
    except SessionOver as error:
        raise Refusal(401, "not_signed_in") from error
    except TokenReused as reused:
        stolen = reused.session
        ended = await site.sessions.end(stolen.person_id, stolen.tenant, stolen.id)
        await record_ends(site, stolen.person_id, ended, "token_reused")
        raise Refusal(401, "not_signed_in") from reused
    check_standing(await site.bus.person(session.person_id, session.tenant), site.clock())
    return token_pair(site, session, secret)


async def record_ends(site: Site, person_id: str, ended: list[Ended], reason: EndReason) -> None:
    """Note in the log, each in its own tenant, which sessions of a person have ended, and why."""
    for one in ended:
        command = EndSession(session_id=one.id, person_id=person_id, reason=reason)
        await site.bus.handle(command, Envelope(actor=SYSTEM, tenant=one.tenant))


@post(
    f"{API}/auth/logout",
    status_code=204,
    operation_id="logout",
    operation_class=documenting(),
    summary="Sign out here, at once.",
    tags=["people"],
    responses=NO_CONTENT | errors(400, 401, 403, 503),
    security=SIGNED_IN,
)
async def logout(request: ApiRequest) -> Response[None]:
    who, site = identity_of(request), site_of(request)
    ended = await site.sessions.end(who.person_id, who.tenant, who.session_id)
    await record_ends(site, who.person_id, ended, "signed_out")
    return Response(None, status_code=204, cookies=site.cookies.taken())


@post(
    f"{API}/auth/logout-all",
    status_code=204,
    operation_id="logoutEverywhere",
    operation_class=documenting(),
    summary="Sign out everywhere, in every organisation; personal tokens are revoked as well.",
    tags=["people"],
    responses=NO_CONTENT | errors(400, 401, 403, 503),
    security=SIGNED_IN,
)
async def logout_all(request: ApiRequest) -> Response[None]:
    who, site = identity_of(request), site_of(request)
    ended = await site.sessions.end_all(who.person_id)
    revoked = await site.api_tokens.revoke(who.person_id)
    await record_ends(site, who.person_id, ended, "signed_out")
    await record_revocations(site, who.person_id, revoked)
    return Response(None, status_code=204, cookies=site.cookies.taken())


@get(
    f"{API}/auth/sessions",
    operation_id="listOwnSessions",
    operation_class=documenting(),
    summary="List where one is signed in.",
    tags=["people"],
    responses=errors(400, 401, 403, 503),
    security=SIGNED_IN,
)
async def list_sessions(request: ApiRequest) -> OwnSessions:
    who, site = identity_of(request), site_of(request)
    await viewer_of(request)
    listed = await site.sessions.of_person(who.person_id, who.tenant)
    results = [
        await _described(site, one, who.tenant, current=one.id == who.session_id) for one in listed
    ]
    return OwnSessions(len(results), None, None, results)


async def _described(
    site: Site, listed: ListedSession, tenant: str, *, current: bool
) -> OwnSession:
    started = await site.bus.state(SessionState, listed.id, tenant) or SessionState()
    return OwnSession(
        listed.id,
        listed.kind,
        listed.created_at,
        listed.seen_at,
        listed.expires_at,
        user_agent=started.user_agent,
        address=started.address,
        current=current,
    )


@delete(
    f"{API}/auth/sessions/{{session_id:str}}",
    status_code=204,
    operation_id="endOwnSession",
    operation_class=documenting(),
    summary="Sign a device or a browser out, at once.",
    tags=["people"],
    responses=NO_CONTENT | errors(400, 401, 403, 404, 503),
    security=SIGNED_IN,
)
async def end_session(session_id: FromPath[str], request: ApiRequest) -> Response[None]:
    who, site = identity_of(request), site_of(request)
    ended = await site.sessions.end(who.person_id, who.tenant, session_id)
    if not ended:
        raise Refusal(404, "session_not_found")
    await record_ends(site, who.person_id, ended, "revoked")
    return Response(None, status_code=204)


HANDLERS: list[Any] = [login, refresh, logout, logout_all, list_sessions, end_session]
