"""How many people sign in, and what readers notice of a flood of them."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from statistics import median

import uvloop

from projections.kernel import API
from runtime.accounts import add_account
from tests.benchmarks.children import apart, in_process, serving
from tests.benchmarks.figures import ROUNDS, Figure, Sizes, percentile
from tests.benchmarks.load import Connection, Unexpected, request
from tests.benchmarks.stage import staged
from tests.database import Server

NAME, PASSWORD = "nur", "a password of the benchmarks"

AT_ONCE = 16
"""Fewer than may wait for their turn, so that each is answered."""

FLOOD = 128
"""More than may wait for their turn, so that many are told to come back."""

READERS = 4

WITHOUT = 3.0
"""How many times as long reads may take during the flood, in the slowest of a hundred."""


def signing_in(server: Server, sizes: Sizes) -> Iterator[Figure]:
    """Sign-ins a second, and the slowest reads during a flood of them beside those without."""
    with staged(server) as stage, ExitStack() as stack:
        asyncio.run(add_account(stage.settings, NAME, PASSWORD, ("reader",)))
        port = stack.enter_context(serving("site", stage.settings))
        signing = in_process(stack.enter_context(apart()), _sign_ins_per_second)
        flooding = stack.enter_context(apart())
        reads = in_process(stack.enter_context(apart()), read_delays)
        seconds = 2 * sizes.seconds
        rates = [signing(port, AT_ONCE, seconds) for _ in range(ROUNDS + 1)][1:]
        yield Figure(
            what=f"sign-ins, {AT_ONCE} at once",
            measured=f"{median(rates):,.0f}/s",
            target="10/s",
            reached=median(rates) >= 10,
        )
        quiet: list[float] = []
        flooded: list[float] = []
        for _ in range(ROUNDS):
            quiet.append(percentile(reads(port, seconds), 99))
            flood = flooding.submit(_sign_ins_per_second, port, FLOOD, seconds * 1.5)
            flooded.append(percentile(reads(port, seconds), 99))
            flood.result()
    ratio = median(one / other for one, other in zip(flooded, quiet, strict=True))
    yield Figure(
        what=f"catalogue reads during a flood of sign-ins, {FLOOD} at once",
        measured=f"p99 {median(flooded) * 1e3:.1f} ms",
        beside=f"without it: p99 {median(quiet) * 1e3:.1f} ms",
        ratio=ratio,
        target=f"{WITHOUT:g}x",
        reached=ratio <= WITHOUT,
    )


def _sign_ins_per_second(port: int, at_once: int, seconds: float) -> float:
    body = {"username": NAME, "password": PASSWORD}
    delays = uvloop.run(
        _ask(port, [request("POST", f"{API}/auth/login", body=body)], at_once, seconds)
    )
    return len(delays) / seconds


def read_delays(port: int, seconds: float) -> list[float]:
    """The seconds that each of many reads took, some of them from memory and some not."""
    paths = ["/series", *(f"/series?page_size={size}" for size in range(1, 20))]
    reading = [request("GET", API + path) for path in paths]
    return uvloop.run(_ask(port, reading, READERS, seconds))


async def _ask(port: int, requests: Sequence[bytes], at_once: int, seconds: float) -> list[float]:
    """The seconds that each answer of success took."""
    begun = time.perf_counter()
    found: list[float] = []

    async def work() -> None:
        connection = await Connection.open(port)
        number = 0
        while (asked := time.perf_counter()) < begun + seconds:
            number += 1
            try:
                await connection.ask(requests[number % len(requests)])
            except Unexpected:  # told to come back, which a flood does at once
                continue
            found.append(time.perf_counter() - asked)
        connection.close()

    await asyncio.gather(*(work() for _ in range(at_once)))
    return found
