"""Whether a long past makes the present slower."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

from projections.kernel import API
from tests.benchmarks.appending import appends_per_second
from tests.benchmarks.children import apart, in_process, serving
from tests.benchmarks.figures import Figure, Sizes, interleaved, rate
from tests.benchmarks.history import slug_of
from tests.benchmarks.load import answers_per_second, request
from tests.benchmarks.stage import Stage, staged
from tests.database import Server

SMALL = 1_000
KEPT = 0.8
"""What must be left of the rates at SMALL events."""

ASKED = 500
"""Different series that are asked for, at most."""


def growth(server: Server, sizes: Sizes) -> Iterator[Figure]:
    """Appends, and reads that nothing remembers, at few events and at many."""
    with ExitStack() as stack:
        small = stack.enter_context(staged(server, SMALL))
        large = stack.enter_context(staged(server, sizes.events))
        pool = stack.enter_context(apart())
        append = in_process(pool, appends_per_second)
        load = in_process(pool, answers_per_second)
        ports = {
            stage: stack.enter_context(serving("uncached", stage.settings))
            for stage in (small, large)
        }

        def append_to_new() -> float:
            with staged(server, SMALL) as new:
                return append(new.database.app, sizes.seconds / 2)

        def figure(what: str, few: Callable[[], float], many: Callable[[], float]) -> Figure:
            found = interleaved({"few": few, "many": many})
            return rate(
                f"growth: {what} at {sizes.events:,} events",
                found["many"],
                f"at {SMALL:,}",
                found["few"],
                at_least=KEPT,
            )

        for what, requests in (("list reads", _lists), ("detail reads", _details)):
            few, many = (
                partial(load, ports[stage], requests(stage), sizes.seconds)
                for stage in (small, large)
            )
            yield figure(what, few, many)
        yield figure(
            "appends", append_to_new, lambda: append(large.database.app, sizes.seconds / 2)
        )


def _lists(_: Stage) -> list[bytes]:
    return [request("GET", f"{API}/series")]


def _details(stage: Stage) -> list[bytes]:
    """Series from all of the past."""
    step = max(1, stage.series // ASKED)
    return [
        request("GET", f"{API}/series/{slug_of(number)}") for number in range(0, stage.series, step)
    ]
