"""What operators ask: is it alive, is it ready, how is it doing."""

from collections.abc import Iterable
from typing import Any, Literal

import psycopg
from litestar import Request, Response, get
from litestar.openapi.datastructures import ResponseSpec
from msgspec import Struct
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Metric,
    generate_latest,
)
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector
from psycopg_pool import PoolTimeout

from api.commands import errors
from api.documents import documenting
from api.errors import RETRY_AFTER_SECONDS
from api.site import Site, site_of
from commands.connections import EVERY_TENANT
from commands.kernel import POLICIES
from projections.kernel import API, MODELS, one
from projections.standings import STANDINGS, Follower, Standing

READY_SECONDS = 2.0
"""How long the database may take before the site counts as not ready."""

_FAILED_JOBS = "SELECT count(*) FROM jobs.procrastinate_jobs WHERE status = 'failed'"


class Health(Struct, frozen=True, kw_only=True):
    """Live: the process answers. Ready: the database does too, and says how the rest is doing.

    `lag` and `dead_letters` are by read model, `policy_lag` and `policy_dead_letters` by policy.
    """

    live: bool = True
    ready: bool
    database: Literal["up", "down"]
    lag: dict[str, int] = {}
    dead_letters: dict[str, int] = {}
    policy_lag: dict[str, int] = {}
    policy_dead_letters: dict[str, int] = {}
    failed_jobs: int | None = None


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
    found = await examine(site_of(request))
    if found.ready:
        return Response(found)
    later = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return Response(found, status_code=503, headers=later)


async def examine(site: Site) -> Health:
    """How the site is doing, as far as the database answers."""
    try:
        async with site.pool.of(EVERY_TENANT, READY_SECONDS) as connection:
            cursor = await connection.execute(STANDINGS)
            standings = [Standing(*row) for row in await cursor.fetchall()]
            (failed,) = await one(await connection.execute(_FAILED_JOBS))
    except (psycopg.OperationalError, PoolTimeout):
        return Health(ready=False, database="down")
    models, policies = (list(_in_use(standings, kind)) for kind in ("read model", "policy"))
    return Health(
        ready=True,
        database="up",
        lag={one.name: one.lag for one in models},
        dead_letters={one.name: one.dead_letters for one in models},
        policy_lag={one.name: one.lag for one in policies},
        policy_dead_letters={one.name: one.dead_letters for one in policies},
        failed_jobs=failed,
    )


def is_in_use(standing: Standing) -> bool:
    """Whether this process's code declares it; what it does not never catches up."""
    schemas = {model.schema() for model in MODELS.values()}
    return standing.name in (schemas if standing.follower == "read model" else POLICIES)


def _in_use(standings: Iterable[Standing], follower: Follower) -> Iterable[Standing]:
    return (one for one in standings if one.follower == follower and is_in_use(one))


class _Measured(Collector):
    """What the database said just now, and nothing that it said before."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def collect(self) -> Iterable[Metric]:
        health = self._health
        yield GaugeMetricFamily(
            "imprimatur_database_up", "Whether the database answers", int(health.ready)
        )
        for name, told, label, values in (
            ("projection_lag", "Positions a read model is behind the log", "model", health.lag),
            ("dead_letters", "Events set aside by a read model", "model", health.dead_letters),
            ("policy_lag", "Positions a policy is behind the log", "policy", health.policy_lag),
            (
                "policy_dead_letters",
                "Events set aside by a policy",
                "policy",
                health.policy_dead_letters,
            ),
        ):
            family = GaugeMetricFamily(f"imprimatur_{name}", told, labels=[label])
            for labelled, value in values.items():
                family.add_metric([labelled], value)
            yield family
        if health.failed_jobs is not None:
            told = "Jobs that were given up after their last retry"
            yield GaugeMetricFamily("imprimatur_failed_jobs", told, health.failed_jobs)


@get("/metrics", include_in_schema=False)
async def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
    """The figures for Prometheus; those of the database are left out while it is down."""
    measured = CollectorRegistry()
    measured.register(_Measured(await examine(site_of(request))))
    figures = generate_latest(REGISTRY) + generate_latest(measured)
    return Response(figures, headers={"Content-Type": CONTENT_TYPE_LATEST})


HANDLERS = [health, metrics]
