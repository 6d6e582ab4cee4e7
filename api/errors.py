"""Every error as one envelope, in the reader's language."""

import errno
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast
from uuid import uuid4

import psycopg
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, InternalServerException, ValidationException
from litestar.types import Scope, Send
from msgspec import Struct
from psycopg_pool import PoolTimeout

from api.heads import with_head
from api.messages import language_of, message
from api.passwords import PasswordsBusy
from api.positions import PositionNotReached
from api.problems import Problem
from commands.bus import Contended, KeyReused
from commands.kernel import Banned, Deactivated, NotFound, PermissionDenied, UnknownActor
from commands.log import EventTooLarge, LogClosed, LogUnavailable
from commands.vault import KeyDestroyed
from domain.kernel import Rejected
from ingest.blobs import (
    BlobNotFound,
    BlobStoreUnavailable,
    RangeNotSatisfiable,
    SourceUnreadable,
)
from ingest.images import ImageRefused
from projections.kernel import Missing, NoSuchValue

RETRY_AFTER_SECONDS = 1
BUSY_SECONDS = 2

AnyRequest = Request[Any, Any, Any]

logger = structlog.get_logger(__name__)


class Error(Struct, frozen=True, omit_defaults=True):
    """What went wrong: a stable code for machines, a message for people."""

    code: str
    message: str
    details: dict[str, Any] = {}
    field_errors: dict[str, list[str]] = {}


class ErrorEnvelope(Struct, frozen=True):
    """The body of every answer that is not a success."""

    error: Error
    timestamp: datetime
    request_id: str


class Refusal(Exception):
    """A request that the HTTP layer itself refuses."""

    def __init__(
        self,
        status: int,
        code: str,
        *,
        problems: Mapping[str, Problem] | None = None,
        details: Mapping[str, Any] | None = None,
        retry_after: int = RETRY_AFTER_SECONDS,
    ) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.problems = dict(problems or {})
        self.details = dict(details or {})
        self.retry_after = retry_after


def invalid(field: str, code: str, about: str = "") -> Refusal:
    """A refusal of one field's value."""
    return mistaken({field: Problem(code, about)})


def mistaken(problems: Mapping[str, Problem]) -> Refusal:
    """A refusal of several fields' values."""
    return Refusal(400, "validation_failed", problems=problems)


def request_id(scope: Scope) -> str:
    """The id that the answer, the log lines and the envelope of a request share."""
    state = cast("dict[str, Any]", scope).setdefault("state", {})
    return state.setdefault("request_id", uuid4().hex)


def _envelope(request: AnyRequest, refusal: Refusal, allow: str = "") -> Response[ErrorEnvelope]:
    language = request.headers.get("accept-language", "")
    headers = {"Content-Language": language_of(language)}
    if allow:
        headers["Allow"] = allow
    if refusal.status in (429, 503):
        headers["Retry-After"] = str(refusal.retry_after)
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    error = Error(
        refusal.code,
        message(refusal.code, language),
        refusal.details,
        {
            field: [message(problem.code, language, problem.about)]
            for field, problem in refusal.problems.items()
        },
    )
    body = ErrorEnvelope(error, datetime.now(UTC), request_id(request.scope))
    return Response(body, status_code=refusal.status, headers=headers)


async def answer_refusal(request: AnyRequest, refusal: Refusal, send: Send) -> None:
    """Refuse a request from outside its route."""
    response = _envelope(request, refusal).to_asgi_response(  # pyright: ignore[reportUnknownMemberType]
        app=None, request=request
    )
    await response(request.scope, request.receive, send)


def refusal_of(error: Exception) -> Refusal | None:
    """How an expected error is answered; None for one that nobody expected."""
    match error:
        case Refusal():
            return error
        case Rejected():
            return Refusal(422, error.code, details=error.details)
        case NoSuchValue():
            return invalid(error.name, "value_not_a_choice", error.value)
        case NotFound() | Missing():
            return Refusal(404, error.code)
        case PermissionDenied():
            return Refusal(403, "permission_denied", details={"permission": error.permission})
        case Banned():
            ban = {"reason": error.ban.reason, "until": error.ban.until}
            return Refusal(403, "banned", details=ban)
        case Deactivated():
            return Refusal(403, "account_deactivated")
        case UnknownActor():
            return Refusal(401, "unknown_account")
        case KeyReused():
            return Refusal(422, "idempotency_key_reused")
        case KeyDestroyed():
            return Refusal(422, "person_forgotten")
        case Contended():
            return Refusal(409, "contended")
        case PositionNotReached():
            return Refusal(504, "position_not_reached")
        case PasswordsBusy():
            return Refusal(503, "sign_in_busy", retry_after=BUSY_SECONDS)
        case ImageRefused():
            found = {"finding": error.code, "detail": error.detail}
            return Refusal(422, "image_refused", details=found)
        case EventTooLarge():
            return Refusal(413, "too_large")
        case InternalServerException(__cause__=OSError(errno=errno.ENAMETOOLONG)):
            return Refusal(404, "not_found")  # Litestar asked for a file of this name
        case BlobNotFound():
            return Refusal(404, "not_found")
        case RangeNotSatisfiable():
            return Refusal(416, "range_not_satisfiable")
        case (
            LogUnavailable()
            | LogClosed()
            | BlobStoreUnavailable()
            | SourceUnreadable()
            | psycopg.OperationalError()
            | PoolTimeout()
        ):
            return Refusal(503, "unavailable")
        case _:
            return None


_HTTP_CODES = {
    400: "malformed",
    401: "not_signed_in",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
    429: "too_many_requests",
}


def _refused(request: AnyRequest, error: Exception) -> Response[ErrorEnvelope]:
    refusal = refusal_of(error)
    if refusal is None:
        logger.exception("request failed", request_id=request_id(request.scope), exc_info=error)
        refusal = Refusal(500, "internal_error")
    return _envelope(request, refusal)


def _without_body(request: AnyRequest, _: ValidationException) -> Response[ErrorEnvelope]:
    """Litestar's only complaint: whatever else there is to read is not read by Litestar."""
    return _envelope(request, invalid("", "body_required"))


def _http(request: AnyRequest, error: HTTPException) -> Response[ErrorEnvelope]:
    status = error.status_code
    if status >= 500:
        return _refused(request, error)
    allow = (error.headers or {}).get("allow", "")
    return _envelope(
        request, Refusal(status, _HTTP_CODES.get(status, "malformed")), with_head(allow)
    )


HANDLERS: dict[int | type[Exception], Any] = {
    ValidationException: _without_body,
    HTTPException: _http,
    Exception: _refused,
}
