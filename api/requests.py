"""What a request says, read as exactly what its route takes."""

import re
from collections.abc import AsyncGenerator
from json import JSONDecoder
from typing import Any
from urllib.parse import parse_qsl

from litestar import Request
from litestar.exceptions import InternalServerException
from msgspec import MsgspecError, Struct, ValidationError, json

from api.errors import Refusal, mistaken
from api.parameters import NoParameters, from_texts
from api.problems import problems_of

NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
"""How JSON writes the one character that PostgreSQL can't keep in a text."""


class ApiRequest(Request[Any, Any, Any]):
    """A request whose parameters and body are no more and no less than what its route takes."""

    parameters: Any

    async def json(self) -> Any:
        body: type[Struct] | None = self.route_handler.opt.get("body")
        if body is None:
            return await super().json()
        raw = await self.body()
        if self.content_type[0] != "application/json":
            raise Refusal(415, "unsupported_media_type")
        if NUL.search(raw):
            raise _malformed("a text holds NUL")
        try:
            said = json.decode(raw, type=body)
            _WITHOUT_REPEATS.decode(raw.decode())
        except ValidationError as error:
            raise mistaken(problems_of(body, _as_it_is(raw), error)) from error
        except (MsgspecError, UnicodeDecodeError) as error:
            raise _malformed(str(error)) from error
        return said

    async def stream(self) -> AsyncGenerator[bytes]:
        try:
            async for chunk in super().stream():
                yield chunk
        except InternalServerException as error:  # says so of a chunk that is none, too
            raise _malformed("the body does not come to its end") from error


async def read_parameters(request: ApiRequest) -> None:
    """Before every route: read what its address says, which may be nothing else."""
    if request.method == "OPTIONS":  # asks about the route, and not what the route answers
        return
    path, query = request.scope["path"], request.scope["query_string"]
    if "\0" in path or b"%00" in query:
        raise _malformed("the address holds NUL")
    takes: type[Struct] = request.route_handler.opt.get("parameters", NoParameters)
    try:
        given = parse_qsl(query.decode(), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError as error:
        raise _malformed("the address is not UTF-8") from error
    named = [one for one in request.path_params.items() if one[0] in takes.__struct_fields__]
    request.parameters = from_texts(takes, named + given)


def _as_it_is(raw: bytes) -> Any:
    """A body whatever it says; None where what follows its first mistake can't be read."""
    try:
        return json.decode(raw)
    except (MsgspecError, RecursionError):
        return None


def _object(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) < len(pairs):
        raise _malformed("an object names a field twice")


_WITHOUT_REPEATS = JSONDecoder(object_pairs_hook=_object)
"""Refuses what msgspec takes: it keeps the last of several values of one name."""


def _malformed(problem: str) -> Refusal:
    return Refusal(400, "malformed", details={"problem": problem})
