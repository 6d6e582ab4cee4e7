"""What auditors see: the log itself, by position."""

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, Raw, Struct, json
from psycopg import sql

from domain.kernel import EVENTS, encode, recorded
from domain.personal import personal_fields
from projections.kernel import Asked, Missing, Query, query

Position = Annotated[int, Meta(ge=0, le=2**62)]
Limit = Annotated[int, Meta(ge=1, le=1_000, description="Events an answer, at most 1,000")]
Word = Annotated[str, Meta(max_length=200)]
Moment = Annotated[datetime, Meta(tz=True)]


class AuditEvent(Struct, frozen=True, kw_only=True):
    """An event with who, when and why; `command` is what was asked."""

    position: int
    stream: str
    version: int
    type: str
    tenant: str
    actor: str
    command: str
    command_id: str
    correlation_id: str
    causation_id: str | None
    recorded_at: datetime
    data: Raw


class AuditPage(Struct, frozen=True):
    """Events by position; `next` is the address of those that follow, null at the end."""

    results: list[AuditEvent]
    next: str | None


_SELECT = sql.SQL(
    "SELECT e.position, e.tenant, e.stream, e.version, e.type, e.actor, e.command_id,"
    " e.correlation_id, e.causation_id, e.recorded_at, e.body, c.name FROM {} WHERE {}"
    " ORDER BY {} LIMIT %(limit)s"
)
_OF_TENANT = sql.SQL("e.tenant = %(tenant)s")
_BY_EVENT = sql.SQL(
    "log.events e LEFT JOIN log.commands c ON c.tenant = e.tenant AND c.command_id = e.command_id"
)
_BY_COMMAND = sql.SQL(
    "log.commands c JOIN log.events e ON e.position BETWEEN c.first_position AND c.last_position"
)


async def _read(
    asked: Asked,
    source: sql.Composable,
    conditions: list[sql.Composable],
    order: sql.Composable,
    values: dict[str, Any],
) -> list[AuditEvent]:
    cursor = await asked.connection.execute(
        _SELECT.format(source, sql.SQL(" AND ").join(conditions), order), values
    )
    rows = await cursor.fetchall()
    personal = [row for row in rows if row[4] in EVENTS and personal_fields(EVENTS[row[4]])]
    opened = await asked.opened([recorded(row[:11]) for row in personal])
    readable = {event.position: encode(event.event) for event in opened}
    return [
        AuditEvent(
            position=row[0],
            tenant=row[1],
            stream=row[2],
            version=row[3],
            type=row[4],
            actor=row[5],
            command_id=row[6],
            correlation_id=row[7],
            causation_id=row[8],
            recorded_at=row[9],
            data=Raw((readable.get(row[0]) or row[10]).encode()),
            command=row[11] or "",
        )
        for row in rows
    ]


@query(get="/audit/events", needs="audit.read", returns=AuditPage)
class AuditEvents(Query):
    """Read the log by position, filtered by who, what, when and why."""

    after: Position = 0
    limit: Limit = 100
    stream: Word = ""
    type: Word = ""
    actor: Word = ""
    command_id: Word = ""
    correlation_id: Word = ""
    since: Moment | None = None
    until: Moment | None = None

    async def answer(self, asked: Asked) -> bytes:
        conditions: list[sql.Composable] = [_OF_TENANT, sql.SQL("e.position > %(after)s")]
        conditions += [
            sql.SQL("e.{} = {}").format(sql.Identifier(name), sql.Placeholder(name))
            for name in ("stream", "type")
            if getattr(self, name)
        ]
        of_command: list[sql.Composable] = [
            sql.SQL("c.{} = {}").format(sql.Identifier(name), sql.Placeholder(name))
            for name in ("actor", "command_id", "correlation_id")
            if getattr(self, name)
        ]
        if self.since is not None:
            conditions.append(sql.SQL("e.recorded_at >= %(since)s"))
        if self.until is not None:
            conditions.append(sql.SQL("e.recorded_at < %(until)s"))
        source = _BY_EVENT
        order = sql.SQL("e.position")
        if of_command:
            source = _BY_COMMAND
            order = sql.SQL("c.first_position, e.position")
            conditions += [
                *of_command,
                sql.SQL("c.tenant = %(tenant)s"),
                sql.SQL("c.last_position > %(after)s"),
            ]
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        values["tenant"] = asked.tenant
        events = await _read(asked, source, conditions, order, values)
        full = len(events) == self.limit
        following = self.address(asked.path, after=events[-1].position) if full else None
        return json.encode(AuditPage(events, following))


@query(get="/audit/streams/{stream}", needs="audit.read", returns=AuditPage)
class AuditStream(Query):
    """Read one stream's whole history, in order."""

    stream: Word
    after: Position = 0
    limit: Limit = 100

    async def answer(self, asked: Asked) -> bytes:
        conditions: list[sql.Composable] = [
            _OF_TENANT,
            sql.SQL("e.stream = %(stream)s"),
            sql.SQL("e.position > %(after)s"),
        ]
        values = {
            "tenant": asked.tenant,
            "stream": self.stream,
            "after": self.after,
            "limit": self.limit,
        }
        events = await _read(asked, _BY_EVENT, conditions, sql.SQL("e.position"), values)
        if not events and not self.after:
            raise Missing("stream")
        full = len(events) == self.limit
        following = self.address(asked.path, after=events[-1].position) if full else None
        return json.encode(AuditPage(events, following))
