"""The documentation of what requests and answers carry beside their bodies."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from litestar.openapi.spec import (
    OpenAPIHeader,
    OpenAPIResponse,
    Operation,
    Parameter,
    RequestBody,
    Schema,
)
from litestar.openapi.spec.enums import OpenAPIType
from msgspec import Struct

from api.messages import LANGUAGES
from api.parameters import NoParameters, fields_of, schemas_of

IDEMPOTENCY_KEY = re.compile(r"[A-Za-z0-9._~-]{1,200}")
"""What clients may send; the ids of policies and jobs contain a colon, so nobody can take them."""

CORRELATION_ID = IDEMPOTENCY_KEY

POSITION = re.compile(r"[0-9]{1,18}")

RANGE = re.compile(r"bytes=([0-9]{1,18})-([0-9]{0,18})")
"""A single range; another is answered as if there were none."""

Headers = dict[str, OpenAPIHeader]


def _asked(
    name: str, description: str, shape: re.Pattern[str] | None = None, example: str = ""
) -> Parameter:
    schema = Schema(
        type=OpenAPIType.STRING,
        pattern=f"^{shape.pattern}$" if shape else None,
        examples=[example] if example else None,
    )
    return Parameter(name=name, param_in="header", description=description, schema=schema)


def _told(
    name: str, description: str, kind: OpenAPIType = OpenAPIType.STRING, *, always: bool = False
) -> Headers:
    schema = Schema(type=kind)
    return {name: OpenAPIHeader(schema=schema, description=description, required=always)}


ACCEPT_LANGUAGE = _asked(
    "Accept-Language", f"The language of messages: {', '.join(LANGUAGES)}", example="ky, en;q=0.5"
)
IF_NONE_MATCH = _asked("If-None-Match", "The tags that one has; what is unchanged is 304")
MIN_POSITION = _asked(
    "X-Min-Position", "Wait until what was written up to here shows; else 504", POSITION
)

OF_COMMANDS = (
    _asked("Idempotency-Key", "A retry with the same key gets the first answer", IDEMPOTENCY_KEY),
    _asked("X-Correlation-ID", "Ties commands together in the audit trail", CORRELATION_ID),
)
"""What every command takes."""

OF_READS = (MIN_POSITION, IF_NONE_MATCH)
"""What every read takes."""

OF_FILES = (
    *OF_READS,
    _asked("Range", "A single range of the bytes", RANGE, "bytes=0-1023"),
    _asked("If-Range", "The tag that the range is of; else all of it is sent"),
)
"""What every read of a file takes."""

WITH_POSITION = _told(
    "X-Position", "The position that shows the effect", OpenAPIType.INTEGER, always=True
)
WITH_LOCATION = _told("Location", "The address of what was made", always=True)
WITH_ETAG = _told("ETag", "Changes when the answer does")
WITH_RANGES = _told("Accept-Ranges", "`bytes`") | _told(
    "Content-Range", "Which bytes these are, of how many"
)

_ALWAYS = (
    _told("X-Request-ID", "The name of the request", always=True)
    | _told("RateLimit-Limit", "Requests in a window", OpenAPIType.INTEGER)
    | _told("RateLimit-Remaining", "Requests that are left of it", OpenAPIType.INTEGER)
    | _told("RateLimit-Reset", "Seconds until there are more", OpenAPIType.INTEGER)
    | _told("RateLimit-Policy", "The limit, and its window in seconds")
)
_REFUSED = _told("Content-Language", "The language of the message")
_LATER = _told("Retry-After", "Seconds to wait", OpenAPIType.INTEGER)
_SIGN_IN = _told("WWW-Authenticate", "How to sign in")


def documenting(
    parameters: type[Struct] = NoParameters,
    *,
    takes: Sequence[Parameter] = (),
    gives: Headers | None = None,
    body: RequestBody | None = None,
    body_optional: bool = False,
) -> type[Operation]:
    """The documentation of a route: what it reads by itself, and the headers of its successes."""

    @dataclass
    class Documented(Operation):
        def __post_init__(self) -> None:
            in_path = {one.name: one for one in cast("list[Parameter]", self.parameters or [])}
            named = _documented(parameters) | in_path
            self.parameters = [*named.values(), *takes, ACCEPT_LANGUAGE]
            self.request_body = body or self.request_body
            if body_optional:  # Litestar knows none
                cast("RequestBody", self.request_body).required = False
            for status, response in (self.responses or {}).items():
                sent = cast("OpenAPIResponse", response)
                sent.headers = {**(sent.headers or {}), **_headers(int(status), gives or {})}

    return Documented


def _headers(status: int, gives: Headers) -> Headers:
    """The headers of an answer with this status."""
    if status < 400:
        return {**gives, **_ALWAYS}
    of_status = {401: _SIGN_IN, 429: _LATER, 503: _LATER}
    return {**of_status.get(status, {}), **_REFUSED, **_ALWAYS}


def _documented(cls: type[Struct]) -> dict[str, Parameter]:
    required = {field.name for field in fields_of(cls) if field.required}
    return {
        name: Parameter(
            name=name,
            param_in="query",
            description=schema.get("description"),
            required=name in required,
            schema=cast("Any", schema),  # is written out as it is
        )
        for name, schema in schemas_of(cls).items()
    }
