"""Runs the policies: each event once, its commands and jobs exactly once."""

import logging
from collections.abc import Callable
from typing import Any, LiteralString

from psycopg import AsyncConnection

from commands.bus import Bus, Envelope, KeyReused
from commands.kernel import SYSTEM, Command, Job, NotFound, Origin, PolicySpec
from domain.kernel import RECORDED_COLUMNS, Recorded, Rejected, event_name, recorded

BATCH = 500
POLL_SECONDS = 0.5

_LEASE = 1_229_803_602

_EVENTS: LiteralString = (
    f"SELECT {RECORDED_COLUMNS} FROM log.events"
    " WHERE type = ANY(%s) AND position > %s AND position <= %s ORDER BY position LIMIT %s"
)

logger = logging.getLogger(__name__)

Deferred = tuple[Job, Origin]
"""A job, and the event that it follows from."""

DeferJobs = Callable[[AsyncConnection[Any], list[Deferred]], Any]
"""Puts jobs on the queue, in the transaction of a connection."""


class Reactions:
    """Follows the log for all policies; of several workers one does so at a time."""

    def __init__(self, dsn: str, bus: Bus, policies: list[PolicySpec], defer: DeferJobs) -> None:
        self._dsn = dsn
        self._bus = bus
        self._policies = policies
        self._defer = defer
        self._positions: dict[str, int] = {}

    async def run(self) -> None:
        """React until cancelled, or until the connection is lost."""
        async with await AsyncConnection.connect(self._dsn, autocommit=True) as connection:
            await connection.execute("SELECT pg_advisory_lock(%s)", (_LEASE,))
            await connection.execute("LISTEN imprimatur_log")
            await self.open(connection)
            while True:
                if not await self.step(connection):
                    async for _ in connection.notifies(timeout=POLL_SECONDS, stop_after=1):
                        pass

    async def open(self, connection: AsyncConnection[Any]) -> None:
        """Take up where each policy stands; one that is new begins with the log."""
        await connection.execute(
            "INSERT INTO projections.policies (name) SELECT unnest(%s::text[])"
            " ON CONFLICT DO NOTHING",
            ([policy.name for policy in self._policies],),
        )
        cursor = await connection.execute("SELECT name, position FROM projections.policies")
        self._positions = dict(await cursor.fetchall())

    async def step(self, connection: AsyncConnection[Any]) -> bool:
        """React to one batch; whether there was anything new in the log."""
        start = min(self._positions[policy.name] for policy in self._policies)
        cursor = await connection.execute("SELECT coalesce(max(position), 0) FROM log.events")
        (head,) = await cursor.fetchone() or (0,)
        if head <= start:
            return False
        types = list({event_name(policy.event) for policy in self._policies})
        cursor = await connection.execute(_EVENTS, (types, start, head, BATCH))
        rows = await cursor.fetchall()
        reached = rows[-1][0] if len(rows) == BATCH else head
        jobs: list[Deferred] = []
        for row in rows:
            jobs += await self._react(recorded(row))
        async with connection.transaction():
            await self._defer(connection, jobs)
            await connection.execute(
                "UPDATE projections.policies SET position = %s"
                " WHERE name = ANY(%s) AND position < %s",
                (reached, list(self._positions), reached),
            )
        self._positions = {name: max(at, reached) for name, at in self._positions.items()}
        return True

    async def _react(self, event: Recorded) -> list[Deferred]:
        """Issue the commands that follow from an event, and give back its jobs."""
        jobs: list[Deferred] = []
        for policy in self._policies:
            fits = isinstance(event.event, policy.event)
            if not fits or event.position <= self._positions[policy.name]:
                continue
            for number, reaction in enumerate(policy.react(event.event)):
                if isinstance(reaction, Job):
                    jobs.append((reaction, Origin(event.position, event.correlation_id)))
                else:
                    await self._issue(reaction, event, f"policy:{policy.name}", number)
        return jobs

    async def _issue(self, command: Command, event: Recorded, policy: str, number: int) -> None:
        envelope = Envelope(
            actor=SYSTEM,
            tenant=event.tenant,
            command_id=f"{policy}:{event.position}:{number}",
            correlation_id=event.correlation_id,
            causation_id=str(event.position),
        )
        try:
            await self._bus.handle(command, envelope)
        except (Rejected, NotFound) as refusal:
            logger.warning("%s at position %d: %s", policy, event.position, refusal.code)
        except KeyReused:  # the policy said something else when it first saw this event
            logger.warning("%s has reacted to position %d before", policy, event.position)
