"""The log as a persistence module of the eventsourcing library.

With `PERSISTENCE_MODULE=commands.recorder` the library's applications append to the log and read
from it; their tracking records and snapshots stay in tables of the library's own making. Where
streams of the bus share the log and the tenant, use `ORIGINATOR_ID_TYPE=text`.
"""

import logging
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, TypeVar
from uuid import uuid4

import psycopg
from eventsourcing import postgres
from eventsourcing.domain import DomainEventProtocol, TAggregateID
from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    Mapper,
    MapperDeserialisationError,
    Notification,
    OperationalError,
    ProcessRecorder,
    ProgrammingError,
    StoredEvent,
    Tracking,
    Transcoder,
)
from eventsourcing.utils import Environment, EnvType, resolve_topic, retry
from msgspec import json
from psycopg.conninfo import make_conninfo
from psycopg.rows import tuple_row
from psycopg.sql import SQL, Identifier, Literal

from commands.kernel import SYSTEM
from commands.log import (
    ANNOUNCE,
    APPEND,
    MAX_EVENT_BYTES,
    Append,
    Duplicate,
    LogClosed,
    LogUnavailable,
    LogWriter,
    Moved,
    NewEvent,
    Read,
    Verdict,
    encode_batch,
    read_verdicts,
)

COMMAND = "eventsourcing.insert"
"""The name under which the log keeps the library's insertions."""

_LAST = 2**63 - 1

R = TypeVar("R", bound="LogAggregateRecorder")

logger = logging.getLogger(__name__)


class LogAggregateRecorder(postgres.PostgresAggregateRecorder):
    """Records aggregate sequences as streams of the log."""

    def __init__(
        self, datastore: postgres.PostgresDatastore, *, writer: LogWriter, tenant: str
    ) -> None:
        super().__init__(datastore)
        self._writer = writer
        self._tenant = tenant
        self.sql_create_statements.clear()
        self._events = SQL(
            "(SELECT stream, stream::{id_type} AS originator_id, version AS originator_version,"
            " type AS topic, convert_to(body, 'UTF8') AS state, position AS notification_id"
            " FROM log.events WHERE tenant = {tenant}) AS stored_events"
        ).format(id_type=Identifier(datastore.originator_id_type), tenant=Literal(tenant))
        self.select_events_statement = SQL("SELECT * FROM {} WHERE stream = (%s)::text").format(
            self._events
        )

    def create_table(self) -> None:
        """Check that the log is there; migrations create it."""
        with self.datastore.get_connection() as connection:
            cursor = connection.execute("SELECT to_regprocedure('log.append(json)') AS found")
            row = cursor.fetchone()
        if row is None or row["found"] is None:
            raise ProgrammingError("the database holds no log: migrate it first")
        super().create_table()

    def insert_events(
        self, stored_events: Sequence[StoredEvent], **kwargs: Any
    ) -> Sequence[int] | None:
        if stored_events:
            self._append(stored_events)
        return None

    def _append(self, stored_events: Sequence[StoredEvent]) -> Sequence[int]:
        """Append events to their streams, and say where they stand in the log."""
        try:
            verdict = self._writer.append(self._command(stored_events)).result()
        except (LogClosed, LogUnavailable) as error:
            raise OperationalError(f"nothing can be appended: {type(error).__name__}") from error
        except psycopg.DataError as error:
            raise DataError(str(error)) from error
        except psycopg.IntegrityError as error:
            raise IntegrityError(str(error)) from error
        except psycopg.Error as error:
            raise DatabaseError(str(error)) from error
        return _positions(verdict)

    def _command(self, stored_events: Sequence[StoredEvent]) -> Append:
        command_id = uuid4().hex
        return Append(
            tenant=self._tenant,
            command_id=command_id,
            name=COMMAND,
            actor=SYSTEM,
            correlation_id=command_id,
            reads=[
                Read(str(stored_event.originator_id), stored_event.originator_version, vacant=True)
                for stored_event in stored_events
            ],
            events=[_new_event(stored_event) for stored_event in stored_events],
        )


class LogApplicationRecorder(LogAggregateRecorder, postgres.PostgresApplicationRecorder):
    """Records the application sequence: a notification's id is its position in the log."""

    def __init__(
        self, datastore: postgres.PostgresDatastore, *, writer: LogWriter, tenant: str
    ) -> None:
        super().__init__(datastore, writer=writer, tenant=tenant)
        self.channel_name = ANNOUNCE.removeprefix("NOTIFY ")
        self.max_notification_id_statement = SQL("SELECT max(notification_id) FROM {}").format(
            self._events
        )

    def insert_events(
        self, stored_events: Sequence[StoredEvent], **kwargs: Any
    ) -> Sequence[int] | None:
        return self._append(stored_events) if stored_events else None

    @retry((InterfaceError, OperationalError), max_attempts=10, wait=0.2)
    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        first = 0 if start is None else start if inclusive_of_start else start + 1
        last = _LAST if stop is None else stop
        statement = SQL(
            "SELECT * FROM {} WHERE notification_id BETWEEN %s AND %s{}"
            " ORDER BY notification_id LIMIT %s"
        ).format(self._events, SQL(" AND topic = ANY(%s)" if topics else ""))
        values = [first, last, list(topics), limit] if topics else [first, last, limit]
        with self.datastore.get_connection() as connection:
            return [
                Notification(
                    id=row["notification_id"],
                    originator_id=row["originator_id"],
                    originator_version=row["originator_version"],
                    topic=row["topic"],
                    state=row["state"],
                )
                for row in connection.execute(statement, values, prepare=True)
            ]


class LogProcessRecorder(
    postgres.PostgresTrackingRecorder, LogApplicationRecorder, ProcessRecorder
):
    """Records what a process application made of a notification, and its tracking, in one go."""

    def insert_events(
        self, stored_events: Sequence[StoredEvent], **kwargs: Any
    ) -> Sequence[int] | None:
        tracking: Tracking | None = kwargs.get("tracking")
        if tracking is None:
            return super().insert_events(stored_events, **kwargs)
        if not stored_events:
            self.insert_tracking(tracking)
            return None
        positions = self._append_tracked(self._command(stored_events), tracking)
        self._announce()
        return positions

    @retry((InterfaceError, OperationalError), max_attempts=10, wait=0.2)
    def _append_tracked(self, append: Append, tracking: Tracking) -> Sequence[int]:
        """Append and track in one transaction.

        A connection that breaks during the commit leaves its fate unknown; on trying again, what
        was committed comes back as a duplicate of itself.
        """
        with self.datastore.transaction(commit=True) as cursor:
            appending = cursor.connection.cursor(row_factory=tuple_row)
            rows = appending.execute(APPEND, (encode_batch([append]),)).fetchall()
            (verdict,) = read_verdicts(rows)
            positions = _positions(verdict)
            if not isinstance(verdict, Duplicate):
                self._insert_tracking(cursor, tracking)
        return positions

    def _announce(self) -> None:
        """Wake the followers; a wake-up that is lost is made good by the next."""
        try:
            with self.datastore.get_connection() as connection:
                connection.execute(ANNOUNCE)
        except OperationalError:
            logger.warning("followers were not woken", exc_info=True)


class JsonTextMapper(Mapper[TAggregateID]):
    """Keeps states JSON text: what a compressor or a cipher made binary becomes a JSON string."""

    def to_stored_event(self, domain_event: DomainEventProtocol[TAggregateID]) -> StoredEvent:
        stored_event = super().to_stored_event(domain_event)
        if self.compressor or self.cipher:
            return replace(stored_event, state=b'"' + b64encode(stored_event.state) + b'"')
        return stored_event

    def to_domain_event(self, stored_event: StoredEvent) -> DomainEventProtocol[TAggregateID]:
        if self.compressor or self.cipher:
            try:
                state = b64decode(json.decode(stored_event.state, type=str), validate=True)
            except ValueError as error:
                raise MapperDeserialisationError(
                    f"not a base64 string: {stored_event.topic} {stored_event.originator_version}"
                    f" of {stored_event.originator_id}"
                ) from error
            stored_event = replace(stored_event, state=state)
        return super().to_domain_event(stored_event)


class Factory(postgres.PostgresFactory):
    """Makes the library's recorders on the log; configured as its PostgreSQL module is.

    `LOG_TENANT` names the tenant, "main" unless said otherwise.
    """

    LOG_TENANT = "LOG_TENANT"

    def __init__(self, env: Environment | EnvType | None) -> None:
        super().__init__(env)
        if self.env.get(self.POSTGRES_GET_PASSWORD_TOPIC):
            raise OSError(f"{self.POSTGRES_GET_PASSWORD_TOPIC} can't be used with the log")
        self._tenant = self.env.get(self.LOG_TENANT) or "main"
        self._writer = LogWriter(
            make_conninfo(
                dbname=self.env.get(self.POSTGRES_DBNAME),
                host=self.env.get(self.POSTGRES_HOST),
                port=self.env.get(self.POSTGRES_PORT) or "5432",
                user=self.env.get(self.POSTGRES_USER),
                password=self.env.get(self.POSTGRES_PASSWORD),
            )
        )

    def aggregate_recorder(self, purpose: str = "events") -> AggregateRecorder:
        """The log for events; a table of the library's own for anything else, as snapshots."""
        if purpose != "events":
            return super().aggregate_recorder(purpose)
        return self._ready(
            LogAggregateRecorder(self.datastore, writer=self._writer, tenant=self._tenant)
        )

    def application_recorder(self) -> ApplicationRecorder:
        topic = self.env.get(self.APPLICATION_RECORDER_TOPIC)
        cls: type[LogApplicationRecorder] = (
            resolve_topic(topic) if topic else LogApplicationRecorder
        )
        return self._ready(cls(self.datastore, writer=self._writer, tenant=self._tenant))

    def process_recorder(self) -> ProcessRecorder:
        topic = self.env.get(self.PROCESS_RECORDER_TOPIC)
        cls: type[LogProcessRecorder] = resolve_topic(topic) if topic else LogProcessRecorder
        return self._ready(
            cls(
                self.datastore,
                tracking_table_name=f"{self.env.name.lower() or 'notification'}_tracking",
                writer=self._writer,
                tenant=self._tenant,
            )
        )

    def mapper(
        self,
        transcoder: Transcoder | None = None,
        mapper_class: type[Mapper[TAggregateID]] | None = None,
    ) -> Mapper[TAggregateID]:
        if mapper_class is None and not self.env.get(self.MAPPER_TOPIC):
            mapper_class = JsonTextMapper[TAggregateID]
        return super().mapper(transcoder, mapper_class)

    def close(self) -> None:
        """Write what is queued, then close the connections."""
        self._writer.close()
        super().close()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        self._writer.close()
        super().__exit__(exc_type, exc_val, exc_tb)

    def _ready(self, recorder: R) -> R:
        if self.env_create_table():
            recorder.create_table()
        return recorder


def _new_event(stored_event: StoredEvent) -> NewEvent:
    if len(stored_event.state) > MAX_EVENT_BYTES:
        raise DataError(f"a state is larger than {MAX_EVENT_BYTES} bytes: {stored_event.topic}")
    try:
        body = stored_event.state.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"a state is not text: {stored_event.topic}") from error
    return NewEvent(
        stream=str(stored_event.originator_id),
        type=stored_event.topic,
        body=body,
        version=stored_event.originator_version,
    )


def _positions(verdict: Verdict) -> Sequence[int]:
    if isinstance(verdict, Moved):
        raise IntegrityError("a version of an originator is taken")
    return list(range(verdict.first, verdict.last + 1))
