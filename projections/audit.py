"""What auditors see: the log itself, by position."""

from datetime import datetime
from typing import Annotated, Any, LiteralString

from msgspec import Meta, Raw, Struct, json
from psycopg import sql

from domain.kernel import EVENTS, STATES, encode, recorded
from domain.personal import personal_fields
from projections.kernel import Asked, Missing, NoSuchValue, Query, query
from projections.people import usernames

Position = Annotated[int, Meta(ge=0, le=2**62)]
Limit = Annotated[int, Meta(ge=1, le=1_000, description="Events an answer, at most 1,000")]
Word = Annotated[str, Meta(max_length=200)]
Stream = Annotated[
    str, Meta(max_length=200, description="Such as `chapter-ID`, `series-ID` or `person-ID`")
]
Type = Annotated[str, Meta(max_length=200, description="Such as `catalogue.ChapterRejected`")]
Actor = Annotated[str, Meta(max_length=200, description="The id of a person, or `system`")]
Moment = Annotated[datetime, Meta(tz=True)]


class AuditEvent(Struct, frozen=True, kw_only=True):
    """An event with who, when and why; `command` is what was asked.

    `actor_name` is the actor's user name of today, null for `system`.
    """

    position: int
    stream: str
    version: int
    type: str
    tenant: str
    actor: str
    actor_name: str | None
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


_LAST = 2**63 - 1

_SELECT = sql.SQL(
    "SELECT e.position, e.tenant, e.stream, e.version, e.type, e.actor, e.command_id,"
    " e.correlation_id, e.causation_id, e.recorded_at, e.body,"
    " (SELECT c.name FROM log.commands c"
    " WHERE c.tenant = e.tenant AND c.command_id = e.command_id)"
    " FROM log.events e WHERE e.tenant = %(tenant)s AND {} ORDER BY {} LIMIT %(limit)s"
)
_BETWEEN = sql.SQL("e.position > %(after)s AND e.position < %(before)s")
# An equality would let the planner walk the whole log by position for a name it takes for common.
_ALONG = sql.SQL("({0}, e.position) > ({1}, %(after)s) AND ({0}, e.position) < ({1}, %(before)s)")
_INDEXED = ({"actor"}, {"type"}, {"correlation_id"}, {"actor", "type"})
"""Filters that have an index by position."""
_OF_STREAM = sql.SQL("e.stream = %(stream)s AND e.version > %(version)s")
_VERSION: LiteralString = (
    "SELECT version FROM log.events"
    " WHERE position = %(after)s AND tenant = %(tenant)s AND stream = %(stream)s"
)
_BOUNDS: LiteralString = """
    SELECT greatest(%(after)s, log.position_at(%(since)s::timestamptz) - 1, c.first_position - 1),
           least(%(before)s, log.position_at(%(until)s::timestamptz), c.last_position + 1)
    FROM (SELECT %(command_id)s) AS asked (command_id)
    LEFT JOIN log.commands c ON c.tenant = %(tenant)s AND c.command_id = asked.command_id
    WHERE asked.command_id = '' OR c.command_id IS NOT NULL
"""
"""Between which positions the events of a time and of a command are."""


async def _version(asked: Asked, stream: str, after: int) -> int:
    """What a page of a stream begins after: the one before it ended at an event of the stream.

    It has a statement of its own, as the wall between tenants lets no index serve a subquery.
    """
    cursor = await asked.connection.execute(
        _VERSION, {"tenant": asked.tenant, "stream": stream, "after": after}
    )
    row = await cursor.fetchone()
    return row[0] if row else 0


async def _read(
    asked: Asked,
    conditions: list[sql.Composable],
    order: sql.Composable,
    values: dict[str, Any],
) -> list[AuditEvent]:
    # Planned for the values of each question: an actor may have done half of all, or nothing.
    cursor = await asked.connection.execute(
        _SELECT.format(sql.SQL(" AND ").join(conditions), order), values, prepare=False
    )
    rows = await cursor.fetchall()
    personal = [row for row in rows if row[4] in EVENTS and personal_fields(EVENTS[row[4]])]
    opened = await asked.opened([recorded(row[:11]) for row in personal])
    readable = {event.position: encode(event.event) for event in opened}
    names = await usernames(asked.connection, asked.tenant, {row[5] for row in rows})
    return [
        AuditEvent(
            position=row[0],
            tenant=row[1],
            stream=row[2],
            version=row[3],
            type=row[4],
            actor=row[5],
            actor_name=names.get(row[5]),
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
    stream: Stream = ""
    type: Type = ""
    actor: Actor = ""
    command_id: Word = ""
    correlation_id: Word = ""
    since: Moment | None = None
    until: Moment | None = None

    def check(self) -> None:
        if self.type and self.type not in EVENTS:
            raise NoSuchValue("type", self.type)
        if self.stream and self.stream.partition("-")[0] not in STATES:
            raise NoSuchValue("stream", self.stream)

    async def answer(self, asked: Asked) -> bytes:
        values: dict[str, Any] = {name: getattr(self, name) for name in self.__struct_fields__}
        values |= {"tenant": asked.tenant, "before": _LAST}
        if self.stream:
            values["version"] = await _version(asked, self.stream, self.after)
        if self.since or self.until or self.command_id:
            cursor = await asked.connection.execute(_BOUNDS, values)
            bounds = await cursor.fetchone()
            if bounds is None:
                return json.encode(AuditPage([], None))
            values["after"], values["before"] = bounds
        events = await _read(asked, *self._found(), values)
        full = len(events) == self.limit
        following = self.address(asked.path, after=events[-1].position) if full else None
        return json.encode(AuditPage(events, following))

    def _found(self) -> tuple[list[sql.Composable], sql.Composable]:
        """The conditions and the order; of several the planner finds which to begin with."""
        equal: dict[str, sql.Composable] = {
            name: sql.SQL("e.{} = {}").format(sql.Identifier(name), sql.Placeholder(name))
            for name in ("correlation_id", "actor", "type")
            if getattr(self, name)
        }
        if self.stream:
            return [_OF_STREAM, _BETWEEN, *equal.values()], sql.SQL("e.version")
        if equal.keys() not in _INDEXED or self.command_id:
            return [_BETWEEN, *equal.values()], sql.SQL("e.position")
        columns = sql.SQL(", ").join(sql.Identifier("e", name) for name in equal)
        along = _ALONG.format(columns, sql.SQL(", ").join(map(sql.Placeholder, equal)))
        return [along], sql.SQL("{}, e.position").format(columns)


@query(get="/audit/streams/{stream}", needs="audit.read", returns=AuditPage)
class AuditStream(Query):
    """Read one stream's whole history, in order."""

    stream: Stream
    after: Position = 0
    limit: Limit = 100

    async def answer(self, asked: Asked) -> bytes:
        values = {
            "tenant": asked.tenant,
            "stream": self.stream,
            "version": await _version(asked, self.stream, self.after),
            "after": self.after,
            "before": _LAST,
            "limit": self.limit,
        }
        events = await _read(asked, [_OF_STREAM, _BETWEEN], sql.SQL("e.version"), values)
        if not events and not self.after:
            raise Missing("stream")
        full = len(events) == self.limit
        following = self.address(asked.path, after=events[-1].position) if full else None
        return json.encode(AuditPage(events, following))
