"""How fast the site answers over HTTP, beside plain routes on the same server."""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from statistics import median
from typing import Any

import psycopg
import uvloop

from projections.kernel import API
from tests.benchmarks.children import apart, in_process, projecting, serving
from tests.benchmarks.figures import (
    ROUNDS,
    Figure,
    Sizes,
    interleaved,
    percentile,
    rate,
)
from tests.benchmarks.history import slug_of
from tests.benchmarks.load import (
    CONNECTIONS,
    NUMBER,
    answers_per_second,
    delays,
    fetch,
    request,
)
from tests.benchmarks.stage import Stage, staged
from tests.database import Server

EVENTS = 10_000
"""The log behind the reads."""

PACE = 200
"""Commands a second, while the delay of the read model is measured."""

P50, P99 = 0.010, 0.060

NEW_SERIES: dict[str, Any] = {
    "title": NUMBER,
    "kind": "manga",
    "status": "ongoing",
    "rating": "safe",
    "language": "en",
}


def commands(server: Server, sizes: Sizes) -> Iterator[Figure]:
    """Commands from request to answer, beside a route that inserts one row."""
    with staged(server) as stage, ExitStack() as stack:
        site = stack.enter_context(serving("site", stage.settings))
        plain = stack.enter_context(serving("inserting", stage.settings))
        load = in_process(stack.enter_context(apart()), answers_per_second)
        insert = request("POST", "/rows", body={"title": NUMBER, "kind": "manga"})
        found = interleaved(
            {
                "site": lambda: load(site, [create_series(stage)], sizes.seconds),
                "plain": lambda: load(plain, [insert], sizes.seconds),
            }
        )
    yield rate(
        f"HTTP commands, {CONNECTIONS} connections",
        found["site"],
        "plain route that inserts a row",
        found["plain"],
        at_least=1.5,
    )


def hot(server: Server, sizes: Sizes) -> Iterator[Figure]:
    """Reads that are answered from memory, beside constant bytes behind the same middleware."""
    yield from _reads(server, sizes, "site", "hot", "constant", at_least=0.6)


def cold(server: Server, sizes: Sizes) -> Iterator[Figure]:
    """Reads that nothing remembers, beside routes with one bare query each."""
    yield from _reads(server, sizes, "uncached", "cold", "queried", at_least=0.8)


def _reads(
    server: Server, sizes: Sizes, part: str, state: str, limit: str, *, at_least: float
) -> Iterator[Figure]:
    with staged(server, EVENTS) as stage, serving(part, stage.settings) as port, apart() as pool:
        load = in_process(pool, answers_per_second)
        for name, path in (("list", "/series"), ("detail", f"/series/{slug_of(0)}")):
            reading, plain = request("GET", API + path), request("GET", f"/{limit}/{name}")
            _keep(stage, name, uvloop.run(fetch(port, reading)))
            found = interleaved(
                {
                    "site": partial(load, port, [reading], sizes.seconds),
                    "plain": partial(load, port, [plain], sizes.seconds),
                }
            )
            yield rate(
                f"{state} {name} reads",
                found["site"],
                f"{limit} bytes, same app",
                found["plain"],
                at_least=at_least,
            )


def _keep(stage: Stage, name: str, body: bytes) -> None:
    """Put an answer where the limits find it."""
    with psycopg.connect(stage.database.app) as connection:
        connection.execute("INSERT INTO benchmark.answers VALUES (%s, %s)", (name, body))


def visible(server: Server, sizes: Sizes) -> Iterator[Figure]:
    """The delay from a command's answer until a read shows its effect."""
    with staged(server) as stage, ExitStack() as stack:
        stack.enter_context(projecting(stage.settings))
        port = stack.enter_context(serving("site", stage.settings))
        follow = in_process(stack.enter_context(apart()), delays)
        command = create_series(stage)
        shown = "x-min-position: {position}"
        query = request("GET", f"{API}/series/{{id}}", stage.authorization, shown)
        rounds = [follow(port, command, query, PACE, 2 * sizes.seconds) for _ in range(ROUNDS + 1)][
            1:
        ]
    p50, p99 = (median(percentile(found, p) for found in rounds) for p in (50, 99))
    yield Figure(
        what=f"answered to visible, at {PACE} commands/s",
        measured=f"p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms",
        target=f"p50 {P50 * 1e3:.0f} ms, p99 {P99 * 1e3:.0f} ms",
        reached=p50 <= P50 and p99 <= P99,
    )


def create_series(stage: Stage) -> bytes:
    """The request that creates another series each time."""
    return request("POST", f"{API}/series", stage.authorization, body=NEW_SERIES)
