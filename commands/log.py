"""The log: grouped appends by one writer per process, and reads of streams.

Many callers hand their appends to a queue; one thread drains it and writes whatever has gathered
in a single transaction, so that under load the price of a commit is shared. Each append carries
the versions of every stream that its decision read, and the database checks them all.
"""

import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import Any, LiteralString

import psycopg
from msgspec import Struct, json

from commands.connections import TenantPool
from commands.vault import Vault
from domain.kernel import RECORDED_COLUMNS, Recorded, recorded

MAX_BATCH = 128
"""Appends written in one transaction, at most."""

MAX_EVENT_BYTES = 65_536
"""An event's body, at most: what one entry of a transparency log holds. Larger is a blob."""

RETRY_SECONDS = (0.05, 0.2, 0.5, 1.0, 2.0, 4.0)
"""Pauses between attempts to reach a database that is down."""

APPEND: LiteralString = "SELECT * FROM log.append(%s)"

ANNOUNCE: LiteralString = "NOTIFY imprimatur_log"
"""Sent after the commit: a NOTIFY inside the appending transaction would serialize all commits."""

_LIMIT_EXCEEDED = "54"
"""The class of errors by which PostgreSQL refuses what is too long for an index."""

_STREAM: LiteralString = (
    f"SELECT {RECORDED_COLUMNS} FROM log.events"
    " WHERE tenant = %s AND stream = %s AND version > %s ORDER BY version"
)

_ANSWERED: LiteralString = (
    "SELECT fingerprint, outcome, first_position, last_position FROM log.commands"
    " WHERE tenant = %s AND command_id = %s AND actor = %s"
)

_AT: LiteralString = (
    f"SELECT {RECORDED_COLUMNS} FROM log.events WHERE tenant = %s AND position = %s"
)

logger = logging.getLogger(__name__)


class EventTooLarge(Exception):
    """An event's body is larger than MAX_EVENT_BYTES."""


class LogUnavailable(Exception):
    """The log's database can't be reached; nothing is known of the append."""


class LogClosed(Exception):
    """The writer was closed before this append was written."""


class NewEvent(Struct, frozen=True, omit_defaults=True):
    """An event to be appended; without a version it goes to the end of its stream."""

    stream: str
    type: str
    body: str
    version: int | None = None


class Read(Struct, frozen=True, omit_defaults=True):
    """A stream's version as it was read; `vacant`: that very version must still be free."""

    stream: str
    version: int
    vacant: bool = False


class Append(Struct, frozen=True, kw_only=True):
    """One command's events, what it read, and the answer to keep."""

    tenant: str
    command_id: str
    name: str
    actor: str
    correlation_id: str
    causation_id: str | None = None
    fingerprint: str = ""
    outcome: str = ""
    reads: Sequence[Read] = ()
    events: Sequence[NewEvent] = ()


class Appended(Struct, frozen=True):
    """The events are in the log at these positions (the head of the log when there were none)."""

    first: int
    last: int


class Moved(Struct, frozen=True):
    """A stream that was read has moved since; nothing was written."""


class Duplicate(Struct, frozen=True):
    """The command id was answered before, with this outcome and these positions."""

    fingerprint: str
    outcome: str
    first: int
    last: int


Verdict = Appended | Moved | Duplicate


class _Pending(Struct):
    append: Append
    future: "Future[Verdict]"


class LogWriter:
    """Groups the appends of this process into transactions, one at a time, in one thread."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._queue: SimpleQueue[_Pending | None] = SimpleQueue()
        self._deferred: list[_Pending] = []
        self._ending = Event()
        self._closing = Lock()
        self._connection: psycopg.Connection[Any] | None = None
        self._thread = Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def append(self, append: Append) -> "Future[Verdict]":
        """Queue an append; its future resolves when it is safely on disk, or judged otherwise.

        Raises EventTooLarge at once; the future fails with LogUnavailable or LogClosed.
        """
        for event in append.events:
            if len(event.body.encode()) > MAX_EVENT_BYTES:
                raise EventTooLarge(event.type)
        future: Future[Verdict] = Future()
        with self._closing:  # so that nothing is queued behind the end, where nobody reads
            if self._ending.is_set():
                future.set_exception(LogClosed())
            else:
                self._queue.put(_Pending(append, future))
        return future

    def close(self) -> None:
        """Write what is queued, then end the thread."""
        with self._closing:
            self._ending.set()
            self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (batch := self._next_batch()) is not None:
            self._settle(batch)
        if self._connection is not None:
            self._connection.close()

    def _next_batch(self) -> list[_Pending] | None:
        """Whatever has gathered, leaving for later what would collide within the batch."""
        candidates, self._deferred = self._deferred, []
        if not candidates:
            first = self._queue.get()
            if first is None:
                return None
            candidates.append(first)
        while len(candidates) < MAX_BATCH and not self._queue.empty():
            item = self._queue.get()
            if item is None:
                self._queue.put(None)
                break
            candidates.append(item)
        batch: list[_Pending] = []
        taken = _Taken()
        for pending in candidates:
            if not taken.admits(pending.append):
                self._deferred.append(pending)
            elif pending.future.set_running_or_notify_cancel():
                batch.append(pending)
        return batch

    def _settle(self, batch: list[_Pending]) -> None:
        """Write a batch and answer its callers; what PostgreSQL refuses is refused alone."""
        try:
            verdicts = self._write([pending.append for pending in batch])
        except LogUnavailable as error:
            for pending in batch:
                pending.future.set_exception(error)
        except (psycopg.Error, UnicodeEncodeError) as error:
            if len(batch) == 1:
                batch[0].future.set_exception(error)
            else:
                for pending in batch:
                    self._settle([pending])
        else:
            for pending, verdict in zip(batch, verdicts, strict=True):
                pending.future.set_result(verdict)
            self._announce()

    def _write(self, appends: Sequence[Append]) -> list[Verdict]:
        """Write a batch, over and over until the database answers.

        A connection that breaks during the commit leaves the batch's fate unknown; writing it
        again is safe, since what was committed comes back as a duplicate of itself.
        """
        payload = encode_batch(appends)
        for pause in RETRY_SECONDS:
            try:
                return read_verdicts(self._connect().execute(APPEND, (payload,)).fetchall())
            except psycopg.OperationalError as error:
                if (error.sqlstate or "").startswith(_LIMIT_EXCEEDED):
                    raise
                logger.warning("the log's database does not answer; trying again: %r", error)
                self._disconnect()
                self._ending.wait(pause)
        raise LogUnavailable

    def _connect(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            self._connection = psycopg.connect(self._dsn, autocommit=True, prepare_threshold=1)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _announce(self) -> None:
        """Wake the followers; they poll as well, so a lost wake-up costs only time."""
        try:
            self._connect().execute(ANNOUNCE)
        except psycopg.OperationalError as error:
            logger.warning("followers were not woken: %r", error)
            self._disconnect()


class _Taken:
    """What the appends admitted to a batch have claimed."""

    def __init__(self) -> None:
        self._written: set[tuple[str, str]] = set()
        self._commands: set[tuple[str, str]] = set()

    def admits(self, append: Append) -> bool:
        """Whether an append can share the batch: no stream or command id of it is being written."""
        written = {(append.tenant, event.stream) for event in append.events}
        touched = written | {(append.tenant, read.stream) for read in append.reads}
        command = (append.tenant, append.command_id)
        if command in self._commands or not self._written.isdisjoint(touched):
            return False
        self._commands.add(command)
        self._written |= written
        return True


class _CommandRow(Struct, frozen=True):
    item: int
    tenant: str
    command_id: str
    name: str
    actor: str
    correlation_id: str
    causation_id: str | None
    fingerprint: str
    outcome: str


class _ReadRow(Struct, frozen=True):
    item: int
    tenant: str
    stream: str
    version: int
    vacant: bool


class _EventRow(Struct, frozen=True):
    item: int
    ordinal: int
    stream: str
    version: int | None
    type: str
    body: str


class _Batch(Struct, frozen=True):
    commands: list[_CommandRow]
    reads: list[_ReadRow]
    events: list[_EventRow]


def encode_batch(appends: Iterable[Append]) -> str:
    """The argument of log.append: three lists of rows that name their append by its index."""
    batch = _Batch([], [], [])
    for item, a in enumerate(appends):
        batch.commands.append(
            _CommandRow(
                item,
                a.tenant,
                a.command_id,
                a.name,
                a.actor,
                a.correlation_id,
                a.causation_id,
                a.fingerprint,
                a.outcome,
            )
        )
        batch.reads.extend(_ReadRow(item, a.tenant, r.stream, r.version, r.vacant) for r in a.reads)
        batch.events.extend(
            _EventRow(item, ordinal, e.stream, e.version, e.type, e.body)
            for ordinal, e in enumerate(a.events)
        )
    return json.encode(batch).decode()


def read_verdicts(rows: Sequence[tuple[Any, ...]]) -> list[Verdict]:
    """The rows of log.append, in the order of the appends."""
    return [_verdict(*row[1:]) for row in sorted(rows, key=lambda row: row[0])]


def _verdict(word: str, first: int, last: int, fingerprint: str, outcome: str) -> Verdict:
    match word:
        case "appended":
            return Appended(first, last)
        case "duplicate":
            return Duplicate(fingerprint, outcome, first, last)
        case _:
            return Moved()


class LogReader:
    """Reads streams from the log."""

    def __init__(self, pool: TenantPool, vault: Vault) -> None:
        self._pool = pool
        self._vault = vault

    async def stream(self, tenant: str, stream: str, *, after: int = 0) -> list[Recorded]:
        """A stream's events past a version, in order."""
        async with self._pool.of(tenant) as connection:
            cursor = await connection.execute(_STREAM, (tenant, stream, after))
            history = [recorded(row) for row in await cursor.fetchall()]
        return await self._vault.opened(history)

    async def answered(self, tenant: str, command_id: str, actor: str) -> Duplicate | None:
        """The answer that an actor was given under a command id."""
        async with self._pool.of(tenant) as connection:
            cursor = await connection.execute(_ANSWERED, (tenant, command_id, actor))
            row = await cursor.fetchone()
        return Duplicate(*row) if row else None

    async def at(self, tenant: str, position: int) -> Recorded:
        """The event of a position, which must be there."""
        async with self._pool.of(tenant) as connection:
            cursor = await connection.execute(_AT, (tenant, position))
            (one,) = [recorded(row) for row in await cursor.fetchall()]
        (opened,) = await self._vault.opened([one])
        return opened
