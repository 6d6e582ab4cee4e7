"""What happens to every request, around its route."""

from collections.abc import MutableMapping
from typing import Any

from litestar import Litestar
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from api.answers import Answer
from api.errors import request_id
from api.queries import headers, matches
from api.site import Site

_UNCACHED = (b"authorization", b"x-min-position")


class RequestIds(ASGIMiddleware):
    """Gives every answer the id of its request."""

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                name, given = b"x-request-id", list(message["headers"])
                if not any(header == name for header, _ in given):
                    message["headers"] = [*given, (name, request_id(scope).encode())]
            await send(message)

        await next_app(scope, receive, send_with_id)


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
    answer = site.answers.get(scope["path"], scope["query_string"])
    if answer is None or any(name in _UNCACHED for name, _ in scope["headers"]):
        return None
    checkpoint = site.positions.current(answer.model)
    return answer if checkpoint and checkpoint.changed == answer.changed else None


async def _send(answer: Answer, scope: Scope, send: Send) -> None:
    sent = dict[bytes, bytes](scope["headers"])
    if matches(sent.get(b"if-none-match", b""), answer.etag):
        await _start(send, 304, headers(answer.etag, private=False))
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        return
    await _start(
        send,
        200,
        [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(answer.body)),
            *headers(answer.etag, private=False),
        ],
    )
    await send({"type": "http.response.body", "body": answer.body, "more_body": False})


async def _start(send: Send, status: int, fields: list[tuple[bytes, bytes]]) -> None:
    message: MutableMapping[str, Any] = {
        "type": "http.response.start",
        "status": status,
        "headers": fields,
    }
    await send(message)  # pyright: ignore[reportArgumentType]
