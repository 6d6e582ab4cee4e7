"""HEAD, wherever there is a GET: Litestar has no such route."""

import re

from litestar.datastructures import MutableScopeHeaders
from litestar.types import ASGIApp, Message, Receive, Scope, Send


def answering_heads(app: ASGIApp) -> ASGIApp:
    """An application that answers HEAD as it answers GET, less the body."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.body":
                message["body"] = b""
            await send(message)

        scope["method"] = "GET"
        await app(scope, receive, send_head)

    return answer


async def name_methods(message: Message, scope: Scope) -> None:
    """Name every method of an address; Litestar's own answer knows those of its first handler."""
    if scope["type"] != "http" or scope["method"] != "OPTIONS":
        return
    if message["type"] != "http.response.start":
        return
    headers = MutableScopeHeaders.from_message(message)
    if "allow" in headers:
        routes = scope["litestar_app"].routes
        here = [one for one in routes if _shape(one.path_format) == _shape(scope["path_template"])]
        methods = {method for one in here for method in one.methods}
        headers["allow"] = with_head(", ".join(sorted(methods)))


def _shape(template: str) -> str:
    """An address whatever its parameters are called, which differs from method to method."""
    return re.sub(r"{.*?}", "{}", template)


def with_head(allow: str) -> str:
    """The methods of an address as Litestar knows them, and HEAD beside GET."""
    return allow if "HEAD" in allow else allow.replace("GET", "GET, HEAD")
