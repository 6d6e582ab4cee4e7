"""Which sessions have ended and which tokens were revoked, known without asking every time."""

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

import psycopg
from psycopg import AsyncConnection

from projections.outage import Outage

CHECK_SECONDS = 1.0
"""How often the database is asked, in case a notification was lost."""

STALE_SECONDS = 3.0
"""Without word from the database for this long, nothing remembered is trusted."""

OVERLAP_SECONDS = 60.0
"""How far back is asked each time, for what was committed late."""

RECONNECT_SECONDS = 0.5

logger = logging.getLogger(__name__)


class Revocations:
    """Follows the ends of sessions and of personal tokens over a connection of its own.

    An end is remembered for as long as anything that names what ended could still be taken for
    good: `kept_seconds`.
    """

    def __init__(self, dsn: str, kept_seconds: float) -> None:
        self._dsn = dsn
        self._kept_seconds = kept_seconds + OVERLAP_SECONDS
        self._ended: dict[str, float] = {}
        self._heard = float("-inf")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._follow())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    @property
    def trusted(self) -> bool:
        """Whether every end is known; not so while the database is silent."""
        return asyncio.get_running_loop().time() - self._heard <= STALE_SECONDS

    def has(self, session_id: str) -> bool:
        """Whether the session is known to have ended."""
        return session_id in self._ended

    def learn(self, session_ids: Iterable[str]) -> None:
        """Take over what has ended; this process knows what it ended itself at once."""
        now = asyncio.get_running_loop().time()
        self._ended |= dict.fromkeys(session_ids, now)

    async def _follow(self) -> None:
        outage = Outage(logger, "what is known of ended sessions")
        while True:
            try:
                async with await AsyncConnection.connect(self._dsn, autocommit=True) as connection:
                    await connection.execute("LISTEN imprimatur_sessions")
                    await self._ask(connection, self._kept_seconds)
                    outage.ends()
                    while True:
                        async for notification in connection.notifies(timeout=CHECK_SECONDS):
                            self.learn([notification.payload])
                        await self._ask(connection, OVERLAP_SECONDS)
                        self._drop_old()
            except psycopg.OperationalError as error:
                outage.goes_on(error)
                await asyncio.sleep(RECONNECT_SECONDS)

    async def _ask(self, connection: AsyncConnection[Any], seconds: float) -> None:
        cursor = await connection.execute(
            "SELECT id FROM people.sessions"
            " WHERE revoked_at > clock_timestamp() - make_interval(secs => %(seconds)s)"
            " UNION ALL SELECT id FROM people.api_tokens"
            " WHERE revoked_at > clock_timestamp() - make_interval(secs => %(seconds)s)",
            {"seconds": seconds},
        )
        self.learn([session_id for (session_id,) in await cursor.fetchall()])
        self._heard = asyncio.get_running_loop().time()

    def _drop_old(self) -> None:
        oldest = asyncio.get_running_loop().time() - self._kept_seconds
        self._ended = {one: at for one, at in self._ended.items() if at > oldest}
