"""How many requests were answered, with what, and how long they took."""

import time
from typing import Any, cast

from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client import Counter, Histogram

METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
"""Methods by name; a client that makes up others makes no more series of figures."""

REQUESTS = Counter("imprimatur_requests", "Answers sent", ["method", "path", "status_code"])
SECONDS = Histogram("imprimatur_request_seconds", "Time to the answer's head", ["method", "path"])

_BEGUN = "begun"


class Timed(ASGIMiddleware):
    """Notes when a request reached its route."""

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        scope["state"][_BEGUN] = time.perf_counter()
        await next_app(scope, receive, send)


async def count(message: Message, scope: Scope) -> None:
    """Count an answer, whoever gave it: a route, a middleware, or the handlers of errors."""
    if message["type"] != "http.response.start":
        return
    asked = cast("dict[str, Any]", scope)
    method = asked["method"] if asked["method"] in METHODS else "other"
    path = asked.get("path_template", "none")
    REQUESTS.labels(method, path, message["status"]).inc()
    begun = asked["state"].get(_BEGUN)
    if begun is not None:
        SECONDS.labels(method, path).observe(time.perf_counter() - begun)
