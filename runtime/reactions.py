"""Runs the policies: each event once, its commands and jobs exactly once."""

import logging
from collections.abc import Callable
from typing import Any, LiteralString

import psycopg
from procrastinate.exceptions import ConnectorException
from psycopg import AsyncConnection

from commands.bus import Bus, Contended, Envelope, KeyReused
from commands.kernel import SYSTEM, Command, Job, NotFound, Origin, PolicySpec
from commands.log import LogClosed, LogUnavailable
from commands.vault import KeyDestroyed
from domain.kernel import RECORDED_COLUMNS, Rejected, event_name, recorded
from projections.projector import exceeds_limit

BATCH = 500
POLL_SECONDS = 0.5

_LEASE = 1_229_803_602

_EVENTS: LiteralString = (
    f"SELECT {RECORDED_COLUMNS} FROM log.events"
    " WHERE type = ANY(%s) AND position > %s AND position <= %s ORDER BY position LIMIT %s"
)

_RETRIED: LiteralString = (
    "WITH retried AS ("
    " DELETE FROM projections.policy_dead_letters"
    " WHERE policy = ANY(%s) AND (policy, tenant, stream) IN"
    " (SELECT policy, tenant, stream FROM projections.policy_dead_letters WHERE retry)"
    " RETURNING policy, position"
    f") SELECT {RECORDED_COLUMNS}, policy FROM log.events JOIN retried USING (position)"
    " ORDER BY position"
)
"""A stream is retried as a whole, with what was set aside since it was asked for."""

logger = logging.getLogger(__name__)

Deferred = tuple[Job, Origin]
"""A job, and what it follows from."""

DeferJobs = Callable[[AsyncConnection[Any], list[Deferred]], Any]
"""Puts jobs on the queue, in the transaction of a connection."""

_UNAVAILABLE = (Contended, LogClosed, LogUnavailable, psycopg.Error)
"""What says nothing about the event at hand: it may go well a moment later."""

_UNFIT = (psycopg.DataError, psycopg.IntegrityError)
"""By these, as by its limits, a database that is well says that it will never take something."""


class Reactions:
    """Follows the log for all policies; of several workers one does so at a time."""

    def __init__(self, dsn: str, bus: Bus, policies: list[PolicySpec], defer: DeferJobs) -> None:
        self._dsn = dsn
        self._bus = bus
        self._policies = {policy.name: policy for policy in policies}
        self._defer = defer
        self._positions: dict[str, int] = {}
        self._held: set[tuple[str, str, str]] = set()

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
            (list(self._policies),),
        )
        cursor = await connection.execute(
            "SELECT name, position FROM projections.policies WHERE name = ANY(%s)",
            (list(self._policies),),
        )
        self._positions = dict(await cursor.fetchall())
        cursor = await connection.execute(
            "SELECT DISTINCT policy, tenant, stream FROM projections.policy_dead_letters"
        )
        self._held = set(await cursor.fetchall())

    async def step(self, connection: AsyncConnection[Any]) -> bool:
        """React to what is to be retried, then to one batch; whether there was anything."""
        retried = bool(self._held) and await self._retry(connection)
        start = min(self._positions.values())
        cursor = await connection.execute("SELECT coalesce(max(position), 0) FROM log.events")
        (head,) = await cursor.fetchone() or (0,)
        if head <= start:
            return retried
        types = list({event_name(policy.event) for policy in self._policies.values()})
        cursor = await connection.execute(_EVENTS, (types, start, head, BATCH))
        rows = await cursor.fetchall()
        reached = rows[-1][0] if len(rows) == BATCH else head
        async with connection.transaction():
            for row in rows:
                for policy in self._awaiting(row):
                    await self._react(connection, policy, row)
            await connection.execute(
                "UPDATE projections.policies SET position = %s"
                " WHERE name = ANY(%s) AND position < %s",
                (reached, list(self._positions), reached),
            )
        self._positions = {name: max(at, reached) for name, at in self._positions.items()}
        return True

    def _awaiting(self, row: tuple[Any, ...]) -> list[PolicySpec]:
        """The policies about events of this type that have not come so far."""
        return [
            policy
            for name, policy in self._policies.items()
            if event_name(policy.event) == row[4] and row[0] > self._positions[name]
        ]

    async def _react(
        self, connection: AsyncConnection[Any], policy: PolicySpec, row: tuple[Any, ...]
    ) -> None:
        """React to one event, or set it aside together with what follows it on its stream."""
        if (policy.name, row[1], row[2]) in self._held:
            error = "follows an event that was set aside"
            await self._set_aside(connection, policy, row, error)
            return
        try:
            async with connection.transaction():
                await self._defer(connection, await self._issue_commands(policy, row))
        except Exception as error:
            if _is_passing(error):
                raise
            logger.exception("%s cannot react to position %d", policy.name, row[0])
            self._held.add((policy.name, row[1], row[2]))
            await self._set_aside(connection, policy, row, repr(error))

    async def _issue_commands(self, policy: PolicySpec, row: tuple[Any, ...]) -> list[Deferred]:
        """Issue the commands of a policy's answer to an event, and give back its jobs."""
        (event,) = await self._bus.opened([recorded(row)])
        jobs: list[Deferred] = []
        for number, reaction in enumerate(list(policy.react(event.event))):
            origin = Origin(event.position, event.tenant, event.correlation_id, policy.name, number)
            if isinstance(reaction, Job):
                jobs.append((reaction, origin))
            else:
                await self._issue(reaction, origin)
        return jobs

    async def _issue(self, command: Command, origin: Origin) -> None:
        envelope = Envelope(
            actor=SYSTEM,
            tenant=origin.tenant,
            command_id=f"policy:{origin.key}",
            correlation_id=origin.correlation_id,
            causation_id=str(origin.position),
        )
        try:
            await self._bus.handle(command, envelope)
        except (Rejected, NotFound) as refusal:
            logger.warning("%s at position %d: %s", origin.policy, origin.position, refusal.code)
        except KeyDestroyed:
            logger.warning(
                "%s at position %d: the person was forgotten", origin.policy, origin.position
            )
        except KeyReused:  # the policy said something else when it first saw this event
            logger.warning("%s has reacted to position %d before", origin.policy, origin.position)

    async def _set_aside(
        self,
        connection: AsyncConnection[Any],
        policy: PolicySpec,
        row: tuple[Any, ...],
        error: str,
    ) -> None:
        await connection.execute(
            "INSERT INTO projections.policy_dead_letters (policy, position, tenant, stream, error)"
            " VALUES (%s, %s, %s, %s, %s)",
            (policy.name, *row[:3], error),
        )

    async def _retry(self, connection: AsyncConnection[Any]) -> bool:
        """React again, in order, on the streams whose dead letters are marked for it."""
        async with connection.transaction():
            cursor = await connection.execute(_RETRIED, (list(self._policies),))
            rows = await cursor.fetchall()
            self._held -= {(row[-1], row[1], row[2]) for row in rows}
            for row in rows:
                await self._react(connection, self._policies[row[-1]], row)
        return bool(rows)


def _is_passing(error: Exception) -> bool:
    """Whether an error says nothing about the event at hand."""
    cause = error.__cause__ if isinstance(error, ConnectorException) else error
    unfit = isinstance(cause, _UNFIT) or exceeds_limit(cause)
    return isinstance(cause, _UNAVAILABLE) and not unfit
