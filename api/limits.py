"""Rate limits: how often somebody may ask, and how long whoever fails to sign in has to wait."""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from math import ceil
from typing import Any, TypeVar

from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from msgspec import Struct
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

DEFAULTS = "reads=12000/minute, commands=3000/minute, uploads=1000/hour, sign-in=600/minute"
OFF = "off"

SWEEP_SECONDS = 60.0

TIMEOUT_SECONDS = 0.25
ALONE_SECONDS = 2.0
"""How long a process counts by itself before it asks again a server that was out of reach."""

REMEMBERED_SECONDS = 24 * 3_600
"""How long a failed sign-in counts."""

KNOWN_SECONDS = 30 * 24 * 3_600
"""How long an address counts as the account's own after it signed in from there."""

T = TypeVar("T")
Limiter = SlidingWindowCounterRateLimiter

logger = logging.getLogger(__name__)


class Quota(Struct, frozen=True):
    """What a limit leaves: `remaining` requests, and more of them in `reset` seconds."""

    limit: int
    window: int
    remaining: int
    reset: int
    refused: bool


class Patience(Struct, frozen=True):
    """How many failures are free, and how long the wait after each further one may grow."""

    free: int
    longest: int

    def delay(self, failures: int) -> int:
        """The seconds to wait after so many failures: 1, 2, 4 and so on."""
        beyond = failures - self.free
        return min(1 << min(beyond - 1, 20), self.longest) if beyond > 0 else 0


BOTH = Patience(5, 900)
"""Of one account from one address."""

ACCOUNT = Patience(20, 60)
"""Of one account from all addresses together; it doesn't bind those where its owner signed in."""

ADDRESS = Patience(100, 60)
"""Of one address for all accounts together."""


def policies(text: str) -> dict[str, RateLimitItem]:
    """The limit of each kind of request; what a text doesn't name keeps its default.

    Raises ValueError for a text that isn't `kind=number/unit, ...`.
    """
    found = dict(map(_policy, DEFAULTS.split(",")))
    given = dict(map(_policy, text.split(","))) if text else {}
    if unknown := given.keys() - found.keys():
        raise ValueError(f"no such kind of request: {', '.join(sorted(unknown))}")
    return found | given


def _policy(text: str) -> tuple[str, RateLimitItem]:
    kind, _, limit = text.partition("=")
    return kind.strip(), parse(limit)


class LocalStorage(MemoryStorage):
    """Counters of this process; the library's own walks through all of them at every hit."""

    def __init__(self) -> None:
        super().__init__()
        self._swept = time.time()

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        now = time.time()
        if now - self._swept > SWEEP_SECONDS:
            self._swept = now
            for one in [one for one, end in self.expirations.items() if end <= now]:
                await self.clear(one)
        count = await self.get(key) + amount
        self.storage[key] = count
        if count == amount:
            self.expirations[key] = now + expiry
        return count


class RateLimits:
    """Counts in Redis or Valkey for all processes together, by itself where there is none.

    While the server is out of reach each process holds the limits by its own counters.
    """

    def __init__(self, limits: Mapping[str, RateLimitItem], url: str = "") -> None:
        self._limits = limits
        self._local = Limiter(LocalStorage())
        self._pool = _pool(url) if url else None
        self._shared = Limiter(_shared(self._pool)) if self._pool else None
        self._alone_until = 0.0

    async def hit(self, kind: str, who: str) -> Quota:
        """Count a request of this kind, unless there have been too many."""
        policy = self._limits[kind]
        return await self._ask(lambda limiter: _hit(limiter, policy, kind, who))

    async def wait(self, account: str, address: str) -> int:
        """The seconds until somebody may try to sign in; 0 for now."""
        return await self._ask(lambda limiter: _wait(limiter.storage, account, address))

    async def failed(self, account: str, address: str) -> None:
        """Note that somebody tried to sign in, and let the next one wait."""
        await self._ask(lambda limiter: _failed(limiter.storage, account, address))

    async def succeeded(self, account: str, address: str) -> None:
        """Note that the account's owner signed in from this address."""
        await self._ask(lambda limiter: _succeeded(limiter.storage, account, address))

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.aclose()

    async def _ask(self, question: Callable[[Limiter], Awaitable[T]]) -> T:
        if self._shared is not None and time.monotonic() >= self._alone_until:
            try:
                return await question(self._shared)
            except RedisError as error:
                logger.warning("shared rate limits are out of reach: %r", error)
                self._alone_until = time.monotonic() + ALONE_SECONDS
        return await question(self._local)


def _pool(url: str) -> ConnectionPool:
    return ConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType]
        url,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )


def _shared(pool: Any) -> RedisStorage:
    return RedisStorage(
        "async+redis://",
        implementation="redispy",
        key_prefix="imprimatur:limit",
        connection_pool=pool,
    )


async def _hit(limiter: Limiter, policy: RateLimitItem, kind: str, who: str) -> Quota:
    taken = await limiter.hit(policy, kind, who)
    reset, remaining = await limiter.get_window_stats(policy, kind, who)
    return Quota(
        policy.amount,
        policy.get_expiry(),
        remaining if taken else 0,
        max(1, ceil(reset - time.time())),
        refused=not taken,
    )


def _counters(account: str, address: str) -> dict[str, Patience]:
    name = sha256(account.encode()).hexdigest()
    return {
        f"sign-in/{name}/{address}": BOTH,
        f"sign-in/{name}": ACCOUNT,
        f"sign-in-address/{address}": ADDRESS,
    }


def _known(both: str) -> str:
    return f"known/{both}"


def _hold(counter: str) -> str:
    return f"hold/{counter}"


async def _wait(storage: Any, account: str, address: str) -> int:
    both, whole, place = _counters(account, address)
    binding = [both, place] if await storage.get(_known(both)) else [both, whole, place]
    ends = [
        await storage.get_expiry(_hold(one)) for one in binding if await storage.get(_hold(one))
    ]
    return max(1, ceil(max(ends) - time.time())) if ends else 0


async def _failed(storage: Any, account: str, address: str) -> None:
    for counter, patience in _counters(account, address).items():
        failures = await storage.incr(counter, REMEMBERED_SECONDS)
        if delay := patience.delay(failures):
            await storage.incr(_hold(counter), delay)


async def _succeeded(storage: Any, account: str, address: str) -> None:
    both, whole, _ = _counters(account, address)  # or one's own account would excuse an address
    for counter in (both, whole):
        await storage.clear(counter)
        await storage.clear(_hold(counter))
    await storage.incr(_known(both), KNOWN_SECONDS)
