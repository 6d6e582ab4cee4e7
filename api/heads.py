"""HEAD, wherever there is a GET: Litestar has no such route."""

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


def with_head(allow: str) -> str:
    """The methods of an address as Litestar knows them, and HEAD beside GET."""
    return allow if "HEAD" in allow else allow.replace("GET", "GET, HEAD")
