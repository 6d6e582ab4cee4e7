"""A route for each registered command."""

import re
from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Any, get_type_hints

from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody
from litestar.response.base import ASGIResponse
from msgspec import UNSET, Struct, defstruct, json
from msgspec.structs import fields as struct_fields

from api.documents import (
    CORRELATION_ID,
    IDEMPOTENCY_KEY,
    OF_COMMANDS,
    WITH_LOCATION,
    WITH_POSITION,
    documenting,
)
from api.errors import AnyRequest, ErrorEnvelope, Refusal, invalid
from api.identity import identity_of
from api.requests import ApiRequest
from api.site import site_of
from api.tenants import tenant_of
from commands.bus import Envelope, Outcome
from commands.kernel import COMMANDS, Command, CommandSpec
from domain.kernel import RegistryError, context_of
from projections.kernel import API

SIGNED_IN: list[dict[str, list[str]]] = [{"bearer": []}, {"cookie": []}]
"""The documentation of a route that asks who is there."""

SIGNED_IN_OR_NOT: list[dict[str, list[str]]] = [{}, *SIGNED_IN]
"""The documentation of a route that shows more to some."""


class Accepted(Struct, frozen=True, omit_defaults=True):
    """The answer to a command: the position that shows its effect, and the id it created."""

    position: int
    id: str = ""


def envelope_of(request: AnyRequest) -> Envelope:
    """Who sends the command of this request, and what it belongs to."""
    who = identity_of(request)
    return Envelope(
        actor=who.person_id,
        tenant=tenant_of(request),
        command_id=_named(request, "Idempotency-Key", IDEMPOTENCY_KEY),
        correlation_id=_named(request, "X-Correlation-ID", CORRELATION_ID),
        causation_id=None if who.scopes is None else f"token:{who.session_id}",
        scopes=who.scopes,
    )


def _named(request: AnyRequest, header: str, pattern: re.Pattern[str]) -> str | None:
    value = request.headers.get(header)
    if value is not None and not pattern.fullmatch(value):
        raise invalid(header, "value_unlike_pattern", pattern.pattern)
    return value


def accepted(outcome: Outcome, status: int, location: str = "") -> ASGIResponse:
    """The answer to a command, with its position where a following read can take it up."""
    headers = {"X-Position": str(outcome.position)}
    if location and outcome.id:
        headers["Location"] = f"{location}/{outcome.id}"
    return ASGIResponse(
        body=json.encode(Accepted(position=outcome.position, id=outcome.id)),
        media_type="application/json",
        status_code=status,
        headers=headers,
    )


def acceptance(status: int) -> dict[int, ResponseSpec]:
    """The documentation of the answer to a command."""
    return {status: ResponseSpec(Accepted, generate_examples=False, description="Done")}


def errors(*statuses: int) -> dict[int, ResponseSpec]:
    """The documentation of error answers; anybody may ask too often, and send a body too slowly."""
    anywhere = (429, 408) if 413 in statuses else (429,)
    return {
        status: ResponseSpec(ErrorEnvelope, generate_examples=False, description=_MEANINGS[status])
        for status in sorted((*statuses, *anywhere))
    }


NO_CONTENT = {204: ResponseSpec(None, generate_examples=False, description="Done")}
"""The documentation of an answer without a body, in which Litestar would see a null."""

UNCHANGED = {304: ResponseSpec(None, generate_examples=False, description="Unchanged")}
"""The documentation of an answer to who has it already."""

_MEANINGS = {
    400: "Malformed or invalid",
    401: "Not signed in",
    403: "Permission denied, or banned",
    404: "Not found",
    408: "The body came too slowly",
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
        opt={"body": body, "by_person": spec.needs is None},
        operation_id=spec.cls.__name__[0].lower() + spec.cls.__name__[1:],
        summary=spec.summary,
        tags=[context_of(spec.cls)],
        responses=acceptance(spec.status) | errors(400, 401, 403, 404, 409, 413, 415, 422, 503),
        security=SIGNED_IN,
        operation_class=documenting(
            takes=OF_COMMANDS,
            gives={**WITH_POSITION, **WITH_LOCATION} if spec.status == 201 else WITH_POSITION,
            body_optional=_may_be_left_out(spec, body),
        ),
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
    async def handle(request: ApiRequest, data: Any = None, **path: str) -> ASGIResponse:
        if body is None and await request.body() not in (b"", b"{}"):
            raise invalid("", "body_unexpected")
        given = {name: getattr(data, name) for name in spec.body_fields} if data else {}
        command = spec.cls(**given, **path)
        refuse_empty_patch(spec, command)
        outcome = await site_of(request).bus.handle(command, envelope_of(request))
        return accepted(outcome, spec.status, API + spec.path if spec.status == 201 else "")

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
        parameters["data"] = Parameter(
            "data",
            Parameter.KEYWORD_ONLY,
            annotation=JSONBody[body],
            default=None if _is_optional(body) else Parameter.empty,
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


def _is_optional(body: type[Struct]) -> bool:
    return not any(info.required for info in struct_fields(body))


def _may_be_left_out(spec: CommandSpec, body: type[Struct] | None) -> bool:
    return body is not None and spec.method != "PATCH" and _is_optional(body)


def refuse_empty_patch(spec: CommandSpec, command: Command) -> None:
    """Refuse a change of nothing."""
    said = [getattr(command, name) for name in spec.body_fields]
    if spec.method == "PATCH" and all(value is UNSET for value in said):
        raise Refusal(400, "empty_patch")
