"""The projector: folds the log into read models, each batch and its checkpoint in one commit."""

import logging
from collections.abc import Sequence
from threading import Event as Signal
from threading import Thread
from typing import Any, LiteralString

import psycopg
from msgspec.structs import replace

from domain.kernel import RECORDED_COLUMNS, Recorded, event_name, recorded
from domain.personal import LOAD_KEYS, MasterKeyWrong, Opener
from projections.kernel import MODELS, ReadModel
from projections.outage import Outage
from projections.rows import RowCache

BATCH = 2_000
"""Events folded in one transaction, at most."""

POLL_SECONDS = 0.5
"""How long a lost wake-up can delay a read model."""

RECONNECT_SECONDS = 0.5

_EVENTS: LiteralString = (
    f"SELECT {RECORDED_COLUMNS} FROM log.events WHERE position > %s ORDER BY position LIMIT %s"
)

_RETRIED: LiteralString = (
    f"SELECT {RECORDED_COLUMNS} FROM log.events WHERE position IN ("
    " SELECT d.position FROM projections.dead_letters d"
    " JOIN projections.dead_letters r USING (model, version, tenant, stream)"
    " WHERE d.model = %s AND d.version = %s AND r.retry"
    ") ORDER BY position"
)
"""A stream is retried as a whole, with what was set aside since it was asked for."""

logger = logging.getLogger(__name__)


class LeaseLost(Exception):
    """Another projector moved this read model's checkpoint."""


_GONE = (psycopg.OperationalError, LeaseLost, MasterKeyWrong)
"""What says nothing about the events at hand: the connection, the lease, or a key is not there."""


def exceeds_limit(error: BaseException | None) -> bool:
    """Whether the database is well, and says that what it was given is too much for it."""
    return isinstance(error, psycopg.Error) and (error.sqlstate or "").startswith("54")


def _is_gone(error: Exception) -> bool:
    return isinstance(error, _GONE) and not exceeds_limit(error)


class Projector:
    """Keeps every read model up to date, each in a thread of its own."""

    def __init__(
        self, dsn: str, opener: Opener, models: Sequence[type[ReadModel]] | None = None
    ) -> None:
        self._stopping = Signal()
        self._opener = opener
        chosen = models if models is not None else list(MODELS.values())
        self._threads = [
            Thread(target=self._run, args=(dsn, model), name=f"projector-{model.name}")
            for model in chosen
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finish the batches under way, then end."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self, dsn: str, model: type[ReadModel]) -> None:
        outage = Outage(logger, model.name)
        while not self._stopping.is_set():
            try:
                with psycopg.connect(dsn, autocommit=True) as connection:
                    self._follow(connection, Projection(connection, model, self._opener), outage)
            except _GONE as error:
                outage.goes_on(error)
                self._stopping.wait(RECONNECT_SECONDS)
            except Exception:
                logger.exception("%s starts over", model.name)
                self._stopping.wait(RECONNECT_SECONDS)

    def _follow(
        self, connection: psycopg.Connection[Any], projection: "Projection", outage: Outage
    ) -> None:
        while not projection.lease():
            outage.ends()
            if self._stopping.wait(POLL_SECONDS):
                return
        connection.execute("LISTEN imprimatur_log")
        projection.open()
        while not self._stopping.is_set():
            worked = projection.step()
            outage.ends()
            if not worked:
                for _ in connection.notifies(timeout=POLL_SECONDS, stop_after=1):
                    pass


class Projection:
    """One read model being folded, over one connection that holds its lease."""

    def __init__(
        self, connection: psycopg.Connection[Any], model: type[ReadModel], opener: Opener
    ) -> None:
        self._connection = connection
        self._model = model
        self._opener = opener
        self._types = {event_name(event) for event in model.folds}
        self._rows = RowCache(connection, model)
        self._held: set[tuple[str, str]] = set()
        self._position = 0

    def lease(self) -> bool:
        """Become the one that folds this read model, unless another one is at it."""
        row = self._connection.execute(
            "SELECT pg_try_advisory_lock(hashtext(%s), %s)", (self._model.name, self._model.version)
        ).fetchone()
        return row is not None and row[0]

    def open(self) -> None:
        """Take up where the checkpoint stands."""
        row = self._connection.execute(
            "SELECT position FROM projections.checkpoints WHERE model = %s AND version = %s",
            (self._model.name, self._model.version),
        ).fetchone()
        if row is None:
            raise LeaseLost(f"{self._model.schema()} has not been migrated")
        self._position = row[0]
        self._held = set(
            self._connection.execute(
                "SELECT DISTINCT tenant, stream FROM projections.dead_letters"
                " WHERE model = %s AND version = %s",
                (self._model.name, self._model.version),
            ).fetchall()
        )

    def step(self) -> bool:
        """Fold what is to be retried, then one batch; whether there was anything to fold."""
        retried = bool(self._held) and self._retry()
        batch = self._connection.execute(_EVENTS, (self._position, BATCH), binary=True).fetchall()
        if not batch:
            return retried
        try:
            self._commit(batch)
        except Exception as error:
            if _is_gone(error):
                raise
            logger.warning("%s goes event by event", self._model.name, exc_info=True)
            for row in batch:
                self._commit_alone(row)
        return True

    def _commit(self, batch: list[tuple[Any, ...]]) -> None:
        """Fold events and move the checkpoint, or do neither."""
        wanted = [row for row in batch if row[4] in self._types]
        held = set(self._held)
        try:
            with self._connection.transaction():
                self._connection.execute("SET LOCAL synchronous_commit TO off")
                self._rows.prefetch((row[1], row[2]) for row in wanted)
                for row in wanted:
                    self._fold(row)
                self._save(batch[-1][0])
        except BaseException:
            self._rows.forget()
            self._held = held
            raise

    def _commit_alone(self, row: tuple[Any, ...]) -> None:
        """Fold an event, or set it aside when its rows cannot be written."""
        try:
            self._commit([row])
        except Exception as error:
            if _is_gone(error):
                raise
            logger.exception("%s cannot write position %d", self._model.name, row[0])
            with self._connection.transaction():
                self._set_aside(row, repr(error))
                self._save(row[0])
            self._held.add(_stream_of(row))

    def _fold(self, row: tuple[Any, ...]) -> None:
        """Fold one event, or set it aside together with what follows it on its stream."""
        if _stream_of(row) in self._held:
            self._set_aside(row, "follows an event that was set aside")
            return
        try:
            self._rows.enter(row[1])
            self._model.fold(self._opened(recorded(row)), self._rows)
        except (psycopg.Error, MasterKeyWrong):
            raise
        except Exception as error:
            logger.exception("%s cannot fold position %d", self._model.name, row[0])
            self._rows.undo()
            self._held.add(_stream_of(row))
            self._set_aside(row, repr(error))
        else:
            self._rows.keep(row[0])

    def _opened(self, event: Recorded) -> Recorded:
        """An event with its personal texts readable."""
        if subjects := self._opener.unknown([event.event]):
            found = self._connection.execute(LOAD_KEYS, (subjects,), binary=True)
            self._opener.learn(found.fetchall())
        return replace(event, event=self._opener.open(event.event))

    def _set_aside(self, row: tuple[Any, ...], error: str) -> None:
        self._connection.execute(
            "INSERT INTO projections.dead_letters (model, version, position, tenant, stream, error)"
            " VALUES (%s, %s, %s, %s, %s, %s)",
            (self._model.name, self._model.version, *row[:3], error),
        )

    def _retry(self) -> bool:
        """Fold again, in order, the streams whose dead letters are marked for it."""
        rows = self._connection.execute(
            _RETRIED, (self._model.name, self._model.version), binary=True
        ).fetchall()
        if not rows:
            return False
        positions = [row[0] for row in rows]
        held = set(self._held)
        try:
            with self._connection.transaction():
                self._connection.execute(
                    "DELETE FROM projections.dead_letters"
                    " WHERE model = %s AND version = %s AND position = ANY(%s)",
                    (self._model.name, self._model.version, positions),
                )
                self._held -= {_stream_of(row) for row in rows}
                for row in rows:
                    self._fold(row)
                self._save(self._position)
        except Exception as error:
            if _is_gone(error):
                raise
            logger.exception("%s cannot write what was set aside", self._model.name)
            self._rows.forget()
            self._held = held
            self._connection.execute(
                "UPDATE projections.dead_letters SET retry = false, error = %s"
                " WHERE model = %s AND version = %s AND position = ANY(%s)",
                (repr(error), self._model.name, self._model.version, positions),
            )
        return True

    def _save(self, position: int) -> None:
        """Write the touched rows, move the checkpoint, and tell whoever caches answers."""
        changed = self._rows.write()
        moved = self._connection.execute(
            "UPDATE projections.checkpoints SET position = %s, changed ="
            " CASE WHEN %s > 0 THEN greatest(changed + 1, %s) ELSE changed END"
            " WHERE model = %s AND version = %s AND position = %s RETURNING changed",
            (position, changed, changed, self._model.name, self._model.version, self._position),
        ).fetchone()
        if moved is None:
            raise LeaseLost(self._model.schema())
        self._connection.execute(
            "SELECT pg_notify('imprimatur_projected', %s)",
            (f"{self._model.schema()} {position} {moved[0]}",),
        )
        self._position = position


def _stream_of(row: tuple[Any, ...]) -> tuple[str, str]:
    """An event's stream, which is one of its tenant's."""
    return row[1], row[2]
