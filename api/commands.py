"""A route for each registered command."""

import re
from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Any, get_type_hints

from litestar import Request, Response
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody
from msgspec import UNSET, MsgspecError, Struct, ValidationError, defstruct, json
from msgspec.structs import fields as struct_fields

from api.errors import AnyRequest, ErrorEnvelope, Refusal, field_problem, invalid
from api.identity import TENANT, signed_in
from api.site import site_of
from commands.bus import Envelope, Outcome
from commands.kernel import COMMANDS, CommandSpec
from domain.kernel import RegistryError, context_of
from projections.kernel import API

IDEMPOTENCY_KEY = re.compile(r"[A-Za-z0-9._~-]{1,200}")
"""What clients may send; the ids of policies and jobs contain a colon, so nobody can take them."""

CORRELATION_ID = IDEMPOTENCY_KEY

NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
"""How JSON writes the one character that PostgreSQL can't keep in a text."""


class Accepted(Struct, frozen=True, omit_defaults=True):
    """The answer to a command: the position that shows its effect, and the id it created."""

    position: int
    id: str = ""


class ApiRequest(Request[Any, Any, Any]):
    """Decodes a body as exactly what its route takes: no unknown field, no other type."""

    async def json(self) -> Any:
        body: type[Struct] | None = self.route_handler.opt.get("body")
        if body is None:
            return await super().json()
        raw = await self.body()
        if raw and self.content_type[0] != "application/json":
            raise Refusal(415, "unsupported_media_type")
        if NUL.search(raw):
            raise Refusal(400, "malformed", details={"problem": "a text holds NUL"})
        try:
            return json.decode(raw or b"{}", type=body)
        except ValidationError as error:
            raise field_problem(error) from error
        except (MsgspecError, UnicodeDecodeError) as error:
            raise Refusal(400, "malformed", details={"problem": str(error)}) from error


def idempotency_key(request: AnyRequest) -> str | None:
    """The key under which a retry gets the first answer."""
    return _token(request, "Idempotency-Key", IDEMPOTENCY_KEY)


def envelope_of(request: AnyRequest) -> Envelope:
    """Who sends the command of this request, and what it belongs to."""
    return Envelope(
        actor=signed_in(request),
        tenant=TENANT,
        command_id=idempotency_key(request),
        correlation_id=_token(request, "X-Correlation-ID", CORRELATION_ID),
    )


def _token(request: AnyRequest, header: str, pattern: re.Pattern[str]) -> str | None:
    value = request.headers.get(header)
    if value is not None and not pattern.fullmatch(value):
        raise invalid(header, f"must match {pattern.pattern}")
    return value


def accepted(outcome: Outcome, status: int, location: str = "") -> Response[Accepted]:
    """The answer to a command, with its position where a following read can take it up."""
    headers = {"X-Position": str(outcome.position)}
    if location and outcome.id:
        headers["Location"] = f"{location}/{outcome.id}"
    return Response(
        Accepted(position=outcome.position, id=outcome.id), status_code=status, headers=headers
    )


def errors(*statuses: int) -> dict[int, ResponseSpec]:
    """The documentation of error answers."""
    return {
        status: ResponseSpec(ErrorEnvelope, generate_examples=False, description=_MEANINGS[status])
        for status in statuses
    }


_MEANINGS = {
    400: "Malformed or invalid",
    401: "Not signed in",
    403: "Permission denied, or banned",
    404: "Not found",
    409: "Too many conflicting changes at once",
    413: "Too large",
    415: "Content type not understood",
    416: "Range outside the file",
    422: "Refused by a rule",
    429: "Too many requests",
    503: "A dependency is down",
    504: "The position was not reached in time",
}


def command_routes() -> list[HTTPRouteHandler]:
    """Every command that declares a route."""
    return [_route(spec) for spec in COMMANDS.values() if spec.method is not None]


def _route(spec: CommandSpec) -> HTTPRouteHandler:
    if spec.method is None:
        raise RegistryError(f"{spec.name} has no route")
    body = _body(spec)
    return HTTPRouteHandler(
        re.sub(r"{(\w+)}", r"{\1:str}", API + spec.path),
        http_method=spec.method,
        status_code=spec.status,
        opt={"body": body},
        operation_id=spec.cls.__name__[0].lower() + spec.cls.__name__[1:],
        summary=spec.summary,
        tags=[context_of(spec.cls)],
        responses=errors(400, 401, 403, 404, 409, 413, 415, 422, 503),
        security=[{"bearer": []}],
    )(_handler(spec, body))


def _body(spec: CommandSpec) -> type[Struct] | None:
    """What a client sends: the command's fields, less those of the path and a new id."""
    if not spec.body_fields:
        return None
    hints = get_type_hints(spec.cls, include_extras=True)
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = [
        (info.name, hints[info.name])
        if info.required
        else (info.name, hints[info.name], info.default)
        for info in struct_fields(spec.cls)
        if info.name in spec.body_fields
    ]
    return defstruct(spec.cls.__name__, fields, kw_only=True, forbid_unknown_fields=True)


def _handler(spec: CommandSpec, body: type[Struct] | None) -> Callable[..., Any]:
    async def handle(request: ApiRequest, data: Any = None, **path: str) -> Response[Accepted]:
        if body is None and await request.body() not in (b"", b"{}"):
            raise invalid("", "this command takes no body")
        if spec.method == "PATCH" and not (data and _says_anything(data)):
            raise Refusal(400, "empty_patch")
        given = {name: getattr(data, name) for name in spec.body_fields} if data else {}
        outcome = await site_of(request).bus.handle(spec.cls(**given, **path), envelope_of(request))
        return accepted(outcome, spec.status, API + spec.path)

    describe(
        handle,
        request=Parameter("request", Parameter.KEYWORD_ONLY, annotation=ApiRequest),
        **_parameters(spec, body),
    )
    return handle


def _parameters(spec: CommandSpec, body: type[Struct] | None) -> dict[str, Parameter]:
    parameters = {
        name: Parameter(name, Parameter.KEYWORD_ONLY, annotation=FromPath[str])
        for name in spec.path_fields
    }
    if body is not None:
        required = any(info.required for info in struct_fields(body))
        parameters["data"] = Parameter(
            "data",
            Parameter.KEYWORD_ONLY,
            annotation=JSONBody[body] if required else JSONBody[body | None],
            default=Parameter.empty if required else None,
        )
    return parameters


def describe(handle: Any, **parameters: Parameter) -> None:
    """Give a handler the signature that routing and documentation go by."""
    handle.__signature__ = Signature(
        list(parameters.values()), return_annotation=handle.__annotations__["return"]
    )
    handle.__annotations__ = {name: one.annotation for name, one in parameters.items()} | {
        "return": handle.__annotations__["return"]
    }


def _says_anything(data: Any) -> bool:
    return any(getattr(data, name) is not UNSET for name in data.__struct_fields__)
