"""Servers to measure, each as a program: the site with its limits beside it, or a limit alone."""

import os
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from unittest.mock import patch

from litestar import Litestar, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody
from litestar.response.base import ASGIResponse
from msgspec import Struct, structs

from api.answers import AnswerCache
from api.app import DOORS, OpenSite, build_app
from api.guards import Doors
from api.site import Site
from commands.connections import TenantPool
from projections.kernel import one
from runtime import processes
from runtime.ids import new_id
from runtime.settings import read_settings
from runtime.wiring import open_pool

ANSWERS = ("list", "detail")
"""The answers whose bytes the limits send; they are put into `benchmark.answers` beforehand."""


class NewRow(Struct, frozen=True):
    """What a client sends to have one row inserted."""

    title: str
    kind: str


class Inserted(Struct, frozen=True):
    """The answer to it."""

    id: str


def site(open_site: OpenSite, doors: Doors = DOORS) -> Litestar:
    """The application as it is, beside routes that send the bytes of its answers."""
    app = build_app(open_site, doors)
    for name in ANSWERS:
        app.register(_queried(name, app))
        app.register(_constant(name, app))
    return app


def uncached(open_site: OpenSite, doors: Doors = DOORS) -> Litestar:
    """The same, with an application that remembers no answer."""

    @asynccontextmanager
    async def forgetful() -> AsyncGenerator[Site]:
        async with open_site() as opened:
            yield structs.replace(opened, answers=AnswerCache(max_bytes=0))

    return site(forgetful, doors)


def _constant(name: str, app: Litestar) -> HTTPRouteHandler:
    bodies: list[bytes] = []

    @get(f"/constant/{name}")
    async def constant() -> ASGIResponse:
        if not bodies:
            bodies.append(await _stored(app, name))
        return ASGIResponse(body=bodies[0], media_type="application/json")

    return constant


def _queried(name: str, app: Litestar) -> HTTPRouteHandler:
    @get(f"/queried/{name}")
    async def queried() -> ASGIResponse:
        return ASGIResponse(body=await _stored(app, name), media_type="application/json")

    return queried


async def _stored(app: Litestar, name: str) -> bytes:
    site: Site = app.state["site"]
    async with site.pool.connection() as connection:
        cursor = await connection.execute(
            "SELECT body FROM benchmark.answers WHERE name = %s", (name,), binary=True
        )
        (body,) = await one(cursor)
    return body


def inserting(_: OpenSite, __: Doors = DOORS) -> Litestar:
    """A plain application that inserts a row for each request, without any of the site."""
    pools: list[TenantPool] = []

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncGenerator[None]:
        async with open_pool(read_settings(os.environ)) as pool:
            pools.append(pool)
            yield

    @post("/rows")
    async def insert(data: JSONBody[NewRow]) -> Inserted:
        row = Inserted(new_id())
        async with pools[0].connection() as connection:
            await connection.execute(
                "INSERT INTO benchmark.rows VALUES (%s, %s, %s)", (row.id, data.title, data.kind)
            )
        return row

    return Litestar([insert], lifespan=[lifespan], logging_config=None, openapi_config=None)


PROGRAMS: dict[str, Callable[[OpenSite, Doors], Litestar]] = {
    "site": site,
    "uncached": uncached,
    "inserting": inserting,
}


def main() -> None:
    """Serve the program that is named, just as the site's own process serves the application."""
    with patch.object(processes, "build_app", PROGRAMS[sys.argv[1]]):
        processes.run_api(read_settings(os.environ))


if __name__ == "__main__":
    main()
