"""What happens to every request, around its route."""

import asyncio
import gzip
import re
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any

from litestar import Litestar
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, ReceiveMessage, Scope, Send
from msgspec.structs import replace

from api.answers import Answer
from api.errors import Refusal, request_id
from api.queries import ANY, headers, matches
from api.site import Site
from api.tenants import named_tenant

MAX_UNREAD_BYTES = 64 * 1024 * 1024
UNREAD_SECONDS = 5.0
"""Of a refused request, no more than this is read."""

PIECE_BYTES = 16 * 1024
"""Of a body, so much must come in the time that a client is given."""

_ANNOUNCING = (b"content-length", b"transfer-encoding")
"""Headers of a request that has a body."""

_UNCACHED = (b"authorization", b"x-min-position")

_SESSION = re.compile(rb"(?:^|[;\s])(?:__Host-)?session=")
"""A Cookie header by which somebody may be signed in."""

WORTH_PACKING = 500
"""Fewer bytes are sent as they are."""

_GZIP = re.compile(rb"(?:^|,)\s*gzip\s*(?:,|$|;\s*q=(?!0(?:\.0*)?\s*(?:,|$)))", re.IGNORECASE)
"""An Accept-Encoding that takes gzip, unless `q=0` says that it does not."""


async def name_request(message: Message, scope: Scope) -> None:
    """Give every answer the id of its request."""
    if message["type"] == "http.response.start":
        message["headers"] = [*message["headers"], (b"x-request-id", request_id(scope).encode())]


class ReadBodies(ASGIMiddleware):
    """Reads the rest of a body before a refusal, which its sender, or a proxy, would not see."""

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        unread = 0 < _content_length(scope) <= MAX_UNREAD_BYTES
        if not unread:
            await next_app(scope, receive, send)
            return

        async def receive_noting() -> ReceiveMessage:
            nonlocal unread
            message = await receive()
            unread = unread and message["type"] == "http.request" and message["more_body"]
            return message

        async def send_later(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= 400:
                with suppress(TimeoutError):
                    async with asyncio.timeout(UNREAD_SECONDS):
                        while unread:
                            await receive_noting()
            await send(message)

        await next_app(scope, receive_noting, send_later)


class HurriedBodies(ASGIMiddleware):
    """Gives up on a body that comes too slowly; only the waiting for it counts."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        if not any(name in _ANNOUNCING for name, _ in scope["headers"]):
            await next_app(scope, receive, send)
            return
        loop = asyncio.get_running_loop()
        patience, due = self._seconds, PIECE_BYTES

        async def receive_in_time() -> ReceiveMessage:
            nonlocal patience, due
            begun = loop.time()
            try:
                async with asyncio.timeout(patience):
                    message = await receive()
            except TimeoutError:
                raise Refusal(408, "too_slow") from None
            patience -= loop.time() - begun
            due -= len(message["body"]) if message["type"] == "http.request" else 0
            if due <= 0:
                patience, due = self._seconds, PIECE_BYTES
            return message

        await next_app(scope, receive_in_time, send)


def _content_length(scope: Scope) -> int:
    given = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    return int(given) if given.isdigit() else 0


class CachedAnswers(ASGIMiddleware):
    """Answers from memory what anybody may ask, while its read model has not changed."""

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        answer = _remembered(scope)
        if answer is None:
            await next_app(scope, receive, send)
        else:
            await _send(answer, scope, send)


def _remembered(scope: Scope) -> Answer | None:
    if scope["type"] != "http" or scope["method"] != "GET":
        return None
    app: Litestar = scope["litestar_app"]
    site: Site = app.state["site"]
    answer = site.answers.get(named_tenant(scope), scope["path"], scope["query_string"])
    if answer is None or any(_is_personal(*field) for field in scope["headers"]):
        return None
    checkpoint = site.positions.current(answer.model)
    return answer if checkpoint and checkpoint.changed == answer.changed else None


def _is_personal(name: bytes, value: bytes) -> bool:
    """Whether a field of a request keeps it from being answered as anybody's."""
    return name in _UNCACHED or (name == b"cookie" and _SESSION.search(value) is not None)


async def _send(answer: Answer, scope: Scope, send: Send) -> None:
    sent = dict[bytes, bytes](scope["headers"])
    common = headers(answer.etag, private=False)
    known = sent.get(b"if-none-match", b"")
    if known == ANY or matches(known, answer.etag):
        await _start(send, 304, common)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        return
    body = answer.body
    if len(body) >= WORTH_PACKING and _GZIP.search(sent.get(b"accept-encoding", b"")):
        body = _packed(answer, scope)
        common.append((b"content-encoding", b"gzip"))
    length = (b"content-length", b"%d" % len(body))
    await _start(send, 200, [(b"content-type", b"application/json"), length, *common])
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _packed(answer: Answer, scope: Scope) -> bytes:
    """The answer under gzip, which is then kept beside it."""
    if not answer.packed:
        answer = replace(answer, packed=gzip.compress(answer.body, mtime=0))
        app: Litestar = scope["litestar_app"]
        site: Site = app.state["site"]
        site.answers.put(named_tenant(scope), scope["path"], scope["query_string"], answer)
    return answer.packed


async def _start(send: Send, status: int, fields: list[tuple[bytes, bytes]]) -> None:
    message: MutableMapping[str, Any] = {
        "type": "http.response.start",
        "status": status,
        "headers": fields,
    }
    await send(message)  # pyright: ignore[reportArgumentType]
