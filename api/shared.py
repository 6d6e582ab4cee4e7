"""Answers that several api processes share, in Redis or Valkey."""

import logging
from hashlib import sha256
from typing import cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

KEPT_SECONDS = 60
TIMEOUT_SECONDS = 0.25
"""Past this, asking the database is the better deal."""

logger = logging.getLogger(__name__)


class SharedAnswers:
    """Answers by read model, its last change, and address; without its server simply empty."""

    def __init__(self, url: str) -> None:
        self._redis: Redis = Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
            url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS
        )

    async def get(self, schema: str, changed: int, address: bytes) -> bytes | None:
        try:
            return cast("bytes | None", await self._redis.get(_key(schema, changed, address)))
        except RedisError:
            logger.warning("shared answers are out of reach", exc_info=True)
            return None

    async def put(self, schema: str, changed: int, address: bytes, body: bytes) -> None:
        try:
            await self._redis.set(_key(schema, changed, address), body, ex=KEPT_SECONDS)
        except RedisError:
            logger.warning("shared answers are out of reach", exc_info=True)

    async def close(self) -> None:
        await self._redis.aclose()


def _key(schema: str, changed: int, address: bytes) -> str:
    return f"imprimatur:answer:{schema}:{changed}:{sha256(address).hexdigest()}"
