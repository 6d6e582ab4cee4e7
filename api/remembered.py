"""What secrets open, remembered for a moment, so that a hot request costs no query."""

import asyncio
from collections import OrderedDict
from typing import Generic, TypeVar

REMEMBERED = 10_000
"""What is kept in memory, at most; the oldest make room."""

T = TypeVar("T")


class Remembered(Generic[T]):
    """Values by the digest of a secret, each for some seconds after it was looked up."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._kept: OrderedDict[bytes, tuple[T, float]] = OrderedDict()

    def get(self, digest: bytes) -> T | None:
        """What was looked up lately."""
        value, at = self._kept.get(digest, (None, 0.0))
        return value if asyncio.get_running_loop().time() - at <= self._seconds else None

    def put(self, digest: bytes, value: T) -> None:
        """Keep what was just looked up."""
        self._kept[digest] = (value, asyncio.get_running_loop().time())
        self._kept.move_to_end(digest)
        if len(self._kept) > REMEMBERED:
            self._kept.popitem(last=False)

    def drop(self, digest: bytes) -> None:
        """Keep no longer what does not last."""
        self._kept.pop(digest, None)
