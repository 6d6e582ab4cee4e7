"""A route for each registered query, answered from the cache where nothing has changed."""

import re
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.response.base import ASGIResponse
from msgspec import defstruct

from api.answers import Answer
from api.commands import SIGNED_IN, SIGNED_IN_OR_NOT, UNCHANGED, errors
from api.documents import OF_READS, POSITION, WITH_ETAG, documenting
from api.errors import AnyRequest, invalid
from api.identity import viewer_of
from api.positions import Checkpoint
from api.requests import ApiRequest
from api.site import site_of
from api.tenants import tenant_of
from api.tokens import PREVIEW_SECONDS
from commands.kernel import PermissionDenied
from domain.kernel import context_of
from projections.kernel import (
    API,
    QUERIES,
    Asked,
    ListQuery,
    Query,
    QuerySpec,
    ReadModel,
    Viewer,
)

ANY = b"*"
"""An If-None-Match for whatever there is."""


def query_routes() -> list[HTTPRouteHandler]:
    """Every declared query."""
    return [_route(spec) for spec in QUERIES.values()]


def _route(spec: QuerySpec) -> HTTPRouteHandler:
    statuses = (400, 401, 403, 404, 503, 504)
    return HTTPRouteHandler(
        re.sub(r"{(\w+)}", r"{\1:str}", API + spec.path),
        http_method="GET",
        operation_id=spec.cls.__name__[0].lower() + spec.cls.__name__[1:],
        summary=spec.summary,
        tags=[context_of(spec.cls)],
        responses={200: ResponseSpec(_returns(spec), generate_examples=False)}
        | UNCHANGED
        | errors(*statuses),
        security=SIGNED_IN if spec.signed_in else SIGNED_IN_OR_NOT,
        operation_class=documenting(spec.cls, takes=OF_READS, gives=WITH_ETAG),
        opt={"parameters": spec.cls},
    )(_handler(spec))


def _returns(spec: QuerySpec) -> Any:
    """The shape of the answer: what the query says, or pages of it."""
    if not issubclass(spec.cls, ListQuery):
        return spec.returns
    return defstruct(
        f"{spec.returns.__name__}Page",
        [
            ("count", int),
            ("next", str | None),
            ("previous", str | None),
            ("results", list[spec.returns]),
            ("filters_applied", dict[str, Any]),
        ],
    )


def _handler(spec: QuerySpec) -> Callable[..., Any]:
    async def handle(request: ApiRequest) -> ASGIResponse:
        return await answer(request, spec, request.parameters)

    return handle


async def answer(request: AnyRequest, spec: QuerySpec, query: Query) -> ASGIResponse:
    """Answer a query for whoever asks, no older than the position that they ask for."""
    site = site_of(request)
    viewer = await viewer_of(request)
    if spec.needs is not None and not viewer.may(spec.needs):
        raise PermissionDenied(spec.needs)
    query.check()
    if spec.model is not None:
        await reach(request, spec.model)
    checkpoint = site.positions.current(spec.model) if spec.model else None
    if spec.model is None or checkpoint is None:
        body = await _ask(request, query, viewer)
        return _answered(request, body, None, private=bool(viewer.id))
    etag = _etag(request, spec.model, checkpoint, viewer)
    if names_entity(request, etag):
        return unchanged(etag, private=bool(viewer.id))
    if viewer.id:
        return _answered(request, await _ask(request, query, viewer), etag, private=True)
    body = await _ask_shared(request, spec.model, checkpoint, query)
    kept = Answer(spec.model, checkpoint.changed, body, etag)
    site.answers.put(tenant_of(request), request.scope["path"], request.scope["query_string"], kept)
    return _answered(request, body, etag, private=False)


def _answered(
    request: AnyRequest, body: bytes, etag: bytes | None, *, private: bool
) -> ASGIResponse:
    """An answer in full, unless any that exists is one that the client has."""
    if names_any(request):
        return unchanged(etag, private=private)
    return fresh(body, etag, private=private)


async def _ask(request: AnyRequest, query: Query, viewer: Viewer) -> bytes:
    """The answer from the database."""
    site, tenant = site_of(request), tenant_of(request)
    async with site.pool.of(tenant) as connection:
        return await query.answer(
            Asked(
                connection=connection,
                tenant=tenant,
                viewer=viewer,
                path=request.scope["path"],
                preview=lambda chapter_id: site.tokens.preview(chapter_id, site.clock()),
                opened=site.bus.opened,
                opened_texts=site.bus.vault.opened_texts,
            )
        )


async def _ask_shared(
    request: AnyRequest, model: type[ReadModel], checkpoint: Checkpoint, query: Query
) -> bytes:
    """The answer to anybody: from what another process was answered, or from the database."""
    shared = site_of(request).shared
    if shared is None:
        return await _ask(request, query, Viewer())
    key = (model.schema(), checkpoint.changed, _address(request))
    body = await shared.get(*key)
    if body is None:
        body = await _ask(request, query, Viewer())
        await shared.put(*key, body)
    return body


def _address(request: AnyRequest) -> bytes:
    scope = request.scope
    return f"{tenant_of(request)} {scope['path']}?".encode() + scope["query_string"]


async def reach(request: AnyRequest, model: type[ReadModel]) -> None:
    """Wait until a read model shows the position that the request asks for."""
    wanted = position_of(request)
    if wanted is not None:
        await site_of(request).positions.reach(model, wanted)


def position_of(request: AnyRequest) -> int | None:
    """The position that an answer must not be older than."""
    wanted = request.headers.get("x-min-position")
    if wanted is not None and not POSITION.fullmatch(wanted):
        raise invalid("X-Min-Position", "value_unlike_pattern", POSITION.pattern)
    return None if wanted is None else int(wanted)


def _etag(
    request: AnyRequest, model: type[ReadModel], checkpoint: Checkpoint, viewer: Viewer
) -> bytes:
    """An address, and the last change of its read model, name an answer.

    A viewer's answers are the viewer's own, and hold signatures that go out of date. The tag is
    weak because the answer is the same packed and unpacked.
    """
    named = _address(request)
    if viewer.id:
        hour = int(site_of(request).clock().timestamp()) // PREVIEW_SECONDS
        named += f" {viewer.id} {' '.join(sorted(viewer.permissions))} {hour}".encode()
    return f'W/"{model.schema()}-{checkpoint.changed}-{sha256(named).hexdigest()[:16]}"'.encode()


def names_any(request: AnyRequest) -> bool:
    """Whether the client has what there is, whatever it is."""
    return request.headers.get("if-none-match", "").encode("latin-1") == ANY


def names_entity(request: AnyRequest, etag: bytes) -> bool:
    """Whether the request's If-None-Match names this entity."""
    given = request.headers.get("if-none-match")
    return given is not None and matches(given.encode("latin-1"), etag)


def matches(if_none_match: bytes, etag: bytes) -> bool:
    """Whether an If-None-Match header names this entity."""
    tags = [tag.strip().removeprefix(b"W/") for tag in if_none_match.split(b",")]
    return etag.removeprefix(b"W/") in tags


def fresh(body: bytes, etag: bytes | None, *, private: bool) -> ASGIResponse:
    """An answer in full."""
    return ASGIResponse(
        body=body, media_type="application/json", encoded_headers=headers(etag, private=private)
    )


def unchanged(etag: bytes | None, *, private: bool) -> ASGIResponse:
    """The word that what the client has is still right."""
    return ASGIResponse(
        status_code=304, encoded_headers=headers(etag, private=private), is_head_response=True
    )


def headers(etag: bytes | None, *, private: bool) -> list[tuple[bytes, bytes]]:
    """The caching headers of an answer."""
    cache = b"private, no-cache" if private else b"no-cache"
    common = [(b"cache-control", cache), (b"vary", b"authorization, cookie, accept-encoding")]
    return [*common, (b"etag", etag)] if etag else common
