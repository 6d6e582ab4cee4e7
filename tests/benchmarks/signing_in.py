"""How many sign-ins a flood of them gets through, and what those who read notice of it."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import cycle
from statistics import median

import uvloop
from msgspec import Struct

from api.guards import LOGIN
from api.passwords import AT_ONCE, HASHER, WAITING
from projections.kernel import API
from runtime.accounts import add_account
from tests.benchmarks.children import apart, in_process, projecting, serving
from tests.benchmarks.figures import ROUNDS, Figure, Sizes, percentile, rate
from tests.benchmarks.history import slug_of
from tests.benchmarks.load import CONNECTIONS, Unexpected, connected, paced, request
from tests.benchmarks.stage import Stage, staged
from tests.database import Server

EVENTS = 2_000
"""The log behind the reads."""

PEOPLE = 4
PASSWORD = "a password of the benchmarks"

ATTEMPTS = 300
"""Sign-ins a second that are tried, thirty times what one address may."""

READS = 200
"""A second, with the flood and without it."""

WARM = 0.05
"""Seconds of the round that is not recorded."""

LONGEST = 60.0
"""Seconds after which whatever is still unanswered ends the measurement with an error."""

SHARE, TIMES = 0.5, 3.0
"""Of the bare hashes, and how many times as long the slowest of a hundred reads may take."""


class Flooded(Struct, frozen=True):
    """How a flood was answered."""

    per_second: float
    """Sign-ins that succeeded."""
    busy: float
    """The share that was told to come back."""


class Round(Struct, frozen=True):
    """What one round found; the delays are of reads, in seconds."""

    hashes: float
    quiet: list[float]
    flooded: list[float]
    flood: Flooded


def signing_in(server: Server, sizes: Sizes) -> Iterator[Figure]:
    """Sign-ins beside bare hashes, and the slowest reads during a flood beside those without."""
    with staged(server, EVENTS) as stage, ExitStack() as stack:
        sign_ins = asyncio.run(_people(stage))
        stack.enter_context(projecting(stage.settings))
        port = stack.enter_context(serving("site", stage.settings))
        flooding = stack.enter_context(apart())
        pool = stack.enter_context(apart())
        hashes, reads = in_process(pool, hashes_per_second), in_process(pool, read_delays)
        reading = [request("GET", API + path) for path in ("/series", f"/series/{slug_of(0)}")]

        def measure(seconds: float) -> Round:
            bare, quiet = hashes(sizes.seconds), reads(port, reading, seconds)
            flood = flooding.submit(flooded, port, sign_ins, seconds)
            return Round(bare, quiet, reads(port, reading, seconds), flood.result())

        measure(WARM)
        rounds = [measure(3 * sizes.seconds) for _ in range(ROUNDS)]
    yield _throughput(rounds)
    yield _slowest(rounds)


def _throughput(rounds: Sequence[Round]) -> Figure:
    busy = median(one.flood.busy for one in rounds)
    return rate(
        f"sign-ins, {ATTEMPTS}/s tried, {busy:.0%} told to come back",
        [one.flood.per_second for one in rounds],
        f"bare argon2id, {AT_ONCE} at once",
        [one.hashes for one in rounds],
        at_least=SHARE,
    )


def _slowest(rounds: Sequence[Round]) -> Figure:
    ratio = median(percentile(one.flooded, 99) / percentile(one.quiet, 99) for one in rounds)
    return Figure(
        what=f"{READS} catalogue reads/s meanwhile",
        measured=_delays([one.flooded for one in rounds]),
        beside=f"without sign-ins: {_delays([one.quiet for one in rounds])}",
        ratio=ratio,
        target=f"p99 {TIMES:g}x at most",
        reached=ratio <= TIMES,
    )


def _delays(rounds: Sequence[list[float]]) -> str:
    p50, p99 = (median(percentile(one, percent) for one in rounds) for percent in (50, 99))
    return f"p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms"


async def _people(stage: Stage) -> list[bytes]:
    """Accounts, as the requests that sign in to them."""
    names = [f"nur-{number}" for number in range(PEOPLE)]
    for name in names:
        await add_account(stage.settings, name, PASSWORD, ("reader",))
    return [request("POST", LOGIN, body={"username": name, "password": PASSWORD}) for name in names]


def hashes_per_second(seconds: float) -> float:
    """How many passwords are found right by as many threads as the site has, and nothing else."""
    hashed = HASHER.hash(PASSWORD)
    begun = time.perf_counter()

    def work(_: int) -> int:
        checked = 0
        while time.perf_counter() < begun + seconds:
            checked += HASHER.verify(hashed, PASSWORD)
        return checked

    with ThreadPoolExecutor(AT_ONCE) as threads:
        checked = sum(threads.map(work, range(AT_ONCE)))
    return checked / (time.perf_counter() - begun)


def flooded(port: int, sign_ins: Sequence[bytes], seconds: float) -> Flooded:
    """Try to sign in at an even pace, and wait for the answers to all of it."""
    return uvloop.run(asyncio.wait_for(_flooded(port, sign_ins, seconds), seconds + LONGEST))


async def _flooded(port: int, sign_ins: Sequence[bytes], seconds: float) -> Flooded:
    turns = cycle(sign_ins)
    answers = {"signed in": 0, "busy": 0}

    async def attempt() -> None:
        connection = await idle.get()
        try:
            await connection.ask(next(turns))
            answers["signed in"] += 1
        except Unexpected as error:
            if '"sign_in_busy"' not in str(error):
                raise
            answers["busy"] += 1
        idle.put_nowait(connection)

    async with connected(port, 4 * WAITING) as idle:
        begun = time.perf_counter()
        await paced(attempt, ATTEMPTS, seconds)
        taken = time.perf_counter() - begun
    return Flooded(answers["signed in"] / taken, answers["busy"] / sum(answers.values()))


def read_delays(port: int, reads: Sequence[bytes], seconds: float) -> list[float]:
    """How long each of the reads takes that are sent in turn at an even pace."""
    return uvloop.run(asyncio.wait_for(_read_delays(port, reads, seconds), seconds + LONGEST))


async def _read_delays(port: int, reads: Sequence[bytes], seconds: float) -> list[float]:
    turns = cycle(reads)
    found: list[float] = []

    async def read() -> None:
        asked = time.perf_counter()
        connection = await idle.get()
        await connection.ask(next(turns))
        found.append(time.perf_counter() - asked)
        idle.put_nowait(connection)

    async with connected(port, CONNECTIONS) as idle:
        await paced(read, READS, seconds)
    return found
