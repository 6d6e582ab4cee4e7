"""What operators ask: is it alive, is it ready, how is it doing."""

from typing import Any, Literal

import psycopg
from litestar import Request, Response, get
from litestar.openapi.datastructures import ResponseSpec
from msgspec import Struct
from prometheus_client import CONTENT_TYPE_LATEST, Gauge, generate_latest
from psycopg_pool import PoolTimeout

from api.commands import errors
from api.documents import documenting
from api.errors import RETRY_AFTER_SECONDS
from api.site import Site, site_of
from commands.connections import EVERY_TENANT
from projections.kernel import API, one

READY_SECONDS = 2.0
"""How long the database may take before the site counts as not ready."""

DATABASE_UP = Gauge("imprimatur_database_up", "Whether the database answers")
LAG = Gauge("imprimatur_projection_lag", "Positions a read model is behind the log", ["model"])
DEAD_LETTERS = Gauge("imprimatur_dead_letters", "Events set aside by a read model", ["model"])

FAILED_JOBS = Gauge("imprimatur_failed_jobs", "Jobs that were given up after their last retry")

_FAILED_JOBS_QUERY = "SELECT count(*) FROM jobs.procrastinate_jobs WHERE status = 'failed'"

_LAG_QUERY = """
    SELECT model, version, (SELECT coalesce(max(position), 0) FROM log.events) - position,
           (SELECT count(*) FROM projections.dead_letters d
            WHERE d.model = c.model AND d.version = c.version)
    FROM projections.checkpoints c
"""


class Health(Struct, frozen=True):
    """Live: the process answers. Ready: the database does too; `lag` by read model."""

    live: bool
    ready: bool
    database: Literal["up", "down"]
    lag: dict[str, int]
    dead_letters: dict[str, int]


@get(
    f"{API}/health",
    operation_id="getHealth",
    operation_class=documenting(),
    summary="Say whether the site is alive, and ready to serve.",
    tags=["operations"],
    responses=errors(400)
    | {503: ResponseSpec(Health, generate_examples=False, description="Not ready to serve")},
)
async def health(request: Request[Any, Any, Any]) -> Response[Health]:
    try:
        lag, dead_letters = await measure(site_of(request))
    except (psycopg.OperationalError, PoolTimeout):
        return Response(
            Health(live=True, ready=False, database="down", lag={}, dead_letters={}),
            status_code=503,
            headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
        )
    return Response(
        Health(live=True, ready=True, database="up", lag=lag, dead_letters=dead_letters)
    )


async def measure(site: Site) -> tuple[dict[str, int], dict[str, int]]:
    """How far each read model is behind, and how many events it has set aside."""
    lag: dict[str, int] = {}
    dead_letters: dict[str, int] = {}
    async with site.pool.of(EVERY_TENANT, READY_SECONDS) as connection:
        cursor = await connection.execute(_LAG_QUERY)
        for model, version, behind, set_aside in await cursor.fetchall():
            lag[f"{model}_{version}"] = behind
            dead_letters[f"{model}_{version}"] = set_aside
            LAG.labels(f"{model}_{version}").set(behind)
            DEAD_LETTERS.labels(f"{model}_{version}").set(set_aside)
        (failed,) = await one(await connection.execute(_FAILED_JOBS_QUERY))
        FAILED_JOBS.set(failed)
    return lag, dead_letters


@get("/metrics", include_in_schema=False)
async def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
    """The figures for Prometheus; those of the database are left out while it is down."""
    try:
        await measure(site_of(request))
        DATABASE_UP.set(1)
    except (psycopg.OperationalError, PoolTimeout):
        DATABASE_UP.set(0)
    return Response(generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


HANDLERS = [health, metrics]
