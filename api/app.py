"""The application: every route, what surrounds them, and their documentation."""

import contextlib
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, cast

import swagger_ui
from litestar import Litestar, Response, Router
from litestar.config.compression import CompressionConfig
from litestar.enums import MediaType
from litestar.exceptions import NotFoundException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, SwaggerRenderPlugin
from litestar.openapi.spec import Components, Schema, SecurityScheme
from litestar.openapi.spec.enums import OpenAPIType
from litestar.plugins import OpenAPISchemaPlugin
from litestar.static_files import (
    create_static_files_router,  # pyright: ignore[reportUnknownVariableType]
)
from litestar.typing import FieldDefinition

from api import (
    access,
    accounts,
    appeals,
    catalogue,
    emails,
    errors,
    factors,
    google,
    invitations,
    memberships,
    operations,
    people,
    pictures,
    signin,
)
from api.commands import command_routes
from api.guards import Doors, RateLimited, hold_back, policy_of, protect, settle
from api.heads import answering_heads, name_methods
from api.identity import prepare
from api.metrics import Timed, count
from api.middleware import WORTH_PACKING, CachedAnswers, HurriedBodies, ReadBodies, name_request
from api.proxies import behind_proxies
from api.queries import query_routes
from api.refusals import note_refusal
from api.requests import ApiRequest
from api.site import Site
from api.tenants import TenantNamed
from projections.kernel import API

MAX_BODY_BYTES = 1024 * 1024
"""A body, at most, where nothing larger is expected."""

SCHEMA = f"{API}/schema"

HEADERS = """
Sign in at `/api/v1/auth/login` and send `Authorization: Bearer TOKEN`, or as a browser the session
cookie and, with every change, `X-CSRF-Token`. Programs send a personal token
of `/api/v1/auth/tokens`, which is good for its scopes and for nothing that changes the account.

**Commands** answer `X-Position`: the position in the log that shows their effect. Send
`Idempotency-Key` (1 to 200 of `A-Za-z0-9._~-`) with a command, and a retry with the same key gets
the first answer; the same key with another request is 422. `X-Correlation-ID` ties commands
together in the audit trail.

**Reads** take `X-Min-Position` and wait, for at most five seconds, until their read model has come
that far (504 otherwise). They carry an `ETag`; with `If-None-Match` what has not changed is 304.

**Errors** are one envelope; messages follow `Accept-Language` (en, ky, ar, so).
"""

DOORS = Doors()

OpenSite = Callable[[], AbstractAsyncContextManager[Site]]


def build_app(open_site: OpenSite, doors: Doors = DOORS) -> Litestar:
    """The ASGI application of a site that is opened with it and closed with it."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncGenerator[None]:
        async with open_site() as site:
            app.state["site"] = site
            yield

    app = Litestar(
        route_handlers=[
            *command_routes(),
            *query_routes(),
            *catalogue.HANDLERS,
            *people.HANDLERS,
            *pictures.HANDLERS,
            *signin.HANDLERS,
            *accounts.HANDLERS,
            *google.HANDLERS,
            *factors.HANDLERS,
            *access.HANDLERS,
            *appeals.HANDLERS,
            *emails.HANDLERS,
            *invitations.HANDLERS,
            *memberships.HANDLERS,
            *operations.HANDLERS,
            create_static_files_router(
                f"{SCHEMA}/assets",
                [Path(swagger_ui.__file__).parent / "static"],
                include_in_schema=False,
            ),
        ],
        lifespan=[lifespan],
        exception_handlers=errors.HANDLERS,
        middleware=[
            Timed(),
            ReadBodies(),
            TenantNamed(),
            RateLimited(),
            CachedAnswers(),
            HurriedBodies(doors.slow_seconds),
        ],
        after_exception=[note_refusal],
        before_send=[count, name_request, name_methods, settle, protect],
        cors_config=doors.cors(),
        compression_config=CompressionConfig(
            backend="gzip", minimum_size=WORTH_PACKING, exclude=["/images/", "/avatar$", "/logo$"]
        ),
        openapi_config=_documentation(),
        plugins=[Tuples()],
        request_class=ApiRequest,
        before_request=cast("Any", _before_route),
        request_max_body_size=MAX_BODY_BYTES,
        logging_config=None,
    )
    app.asgi_handler = answering_heads(app.asgi_handler)
    if doors.proxies:
        app.asgi_handler = behind_proxies(app.asgi_handler, doors.proxies)
    return app


async def _before_route(request: ApiRequest) -> None:
    await prepare(request)
    await hold_back(request)


class Tuples(OpenAPISchemaPlugin):
    """Documents `tuple[X, ...]` as an array of X, which Litestar takes for a choice."""

    def is_plugin_supported_field(self, field_definition: FieldDefinition) -> bool:
        return field_definition.origin is tuple

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Schema:
        items = schema_creator.for_field_definition(field_definition.inner_types[0])
        return Schema(type=OpenAPIType.ARRAY, items=items)


def _documented(response: Response[Any]) -> Response[Any]:
    """Litestar has a page of its own for an address below the documentation's."""
    if response.status_code == 404:
        raise NotFoundException
    if response.media_type == MediaType.HTML:
        response.headers["Content-Security-Policy"] = policy_of(response.content)
    return response


def _documentation() -> OpenAPIConfig:
    """The OpenAPI document, and a page for it that loads nothing from outside."""
    assets = f"{SCHEMA}/assets"
    return OpenAPIConfig(
        title="Imprimatur",
        version="0.1.0",
        description=HEADERS,
        path=SCHEMA,
        openapi_router=Router(
            SCHEMA,
            route_handlers=[],
            include_in_schema=False,
            after_request=_documented,
        ),
        components=Components(
            security_schemes={
                "bearer": SecurityScheme(type="http", scheme="bearer", bearer_format="JWT"),
                "cookie": SecurityScheme(
                    type="apiKey", security_scheme_in="cookie", name="__Host-session"
                ),
            }
        ),
        render_plugins=[
            SwaggerRenderPlugin(
                path="/",
                js_url=f"{assets}/swagger-ui-bundle.js",
                css_url=f"{assets}/swagger-ui.css",
                standalone_preset_js_url=f"{assets}/swagger-ui-standalone-preset.js",
                favicon=f'<link rel="icon" href="{assets}/favicon-32x32.png">',
            ),
            JsonRenderPlugin(path="/openapi.json"),
        ],
    )
