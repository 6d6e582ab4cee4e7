"""How far each read model has come, known without asking for every request."""

import asyncio
import logging
from typing import Any

import psycopg
from msgspec import Struct
from psycopg import AsyncConnection

from projections.kernel import ReadModel
from projections.outage import Outage

WAIT_SECONDS = 5.0
"""How long a reader waits for a position, at most."""

CHECK_SECONDS = 1.0
"""How often the database is asked, in case a notification was lost."""

STALE_SECONDS = 3.0
"""Without word from the database for this long, nothing remembered is trusted."""

RECONNECT_SECONDS = 0.5

logger = logging.getLogger(__name__)


class Checkpoint(Struct, frozen=True, order=True):
    """Where a read model stands: all it has folded, and what last changed a row."""

    position: int
    changed: int


class PositionNotReached(Exception):
    """The read model did not come as far as the reader asked within WAIT_SECONDS."""


class Positions:
    """Follows the projectors' notifications over a connection of its own."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._known: dict[str, Checkpoint] = {}
        self._heard = float("-inf")
        self._moved = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._follow())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def current(self, model: type[ReadModel]) -> Checkpoint | None:
        """Where a read model stands; None while the database is silent."""
        if asyncio.get_running_loop().time() - self._heard > STALE_SECONDS:
            return None
        return self._known.get(model.schema())

    async def reach(self, model: type[ReadModel], position: int) -> None:
        """Wait until a read model has folded a position; raises PositionNotReached."""

        def reached() -> bool:
            known = self._known.get(model.schema())
            return known is not None and known.position >= position

        async with self._moved:
            try:
                await asyncio.wait_for(self._moved.wait_for(reached), WAIT_SECONDS)
            except TimeoutError:
                raise PositionNotReached from None

    async def _follow(self) -> None:
        outage = Outage(logger, "what is known of read models")
        while True:
            try:
                async with await AsyncConnection.connect(self._dsn, autocommit=True) as connection:
                    await connection.execute("LISTEN imprimatur_projected")
                    self._known.clear()  # a database that crashed may stand further back
                    while True:
                        await self._ask(connection)
                        outage.ends()
                        await self._listen(connection)
            except psycopg.OperationalError as error:
                outage.goes_on(error)
                await asyncio.sleep(RECONNECT_SECONDS)

    async def _ask(self, connection: AsyncConnection[Any]) -> None:
        cursor = await connection.execute(
            "SELECT model || '_' || version, position, changed FROM projections.checkpoints"
        )
        for schema, position, changed in await cursor.fetchall():
            await self._learn(schema, Checkpoint(position, changed))
        self._heard = asyncio.get_running_loop().time()

    async def _listen(self, connection: AsyncConnection[Any]) -> None:
        async for notification in connection.notifies(timeout=CHECK_SECONDS):
            schema, position, changed = notification.payload.split(" ")
            await self._learn(schema, Checkpoint(int(position), int(changed)))

    async def _learn(self, schema: str, checkpoint: Checkpoint) -> None:
        known = self._known.get(schema)
        if known is None or known < checkpoint:
            self._known[schema] = checkpoint
            async with self._moved:
                self._moved.notify_all()
