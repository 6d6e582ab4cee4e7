"""What staff and uploaders see: the queue of pending chapters, and one's own uploads."""

from datetime import datetime
from functools import cache
from typing import Any, Literal, LiteralString

from msgspec import Struct, json
from msgspec.structs import replace
from psycopg import AsyncConnection, sql

from domain.catalogue import (
    Chapter,
    ChapterApproved,
    ChapterDeleted,
    ChapterProcessed,
    ChapterRefused,
    ChapterRejected,
    ChapterStatus,
    ChapterUploaded,
    Finding,
    SeriesCreated,
    SeriesRevised,
)
from domain.kernel import Recorded
from domain.people import AccountCreated
from projections.kernel import Asked, ListQuery, ReadModel, Row, Rows, one, query


class SeriesName(Struct, frozen=True):
    """The series an upload belongs to."""

    id: str
    slug: str
    title: str


class PersonName(Struct, frozen=True):
    """An account by its name."""

    id: str
    username: str


UploadStatus = Literal[ChapterStatus, "deleted"]
"""What became of an upload; what its uploader deletes is listed no more."""


class _Item(Struct, frozen=True, kw_only=True):
    id: str
    number: float
    volume: int | None
    title: str
    language: str
    status: UploadStatus
    archive_bytes: int
    page_count: int
    notes: tuple[Finding, ...] = ()
    findings: tuple[Finding, ...] = ()
    uploaded_at: datetime
    decided_at: datetime | None = None
    reason: str = ""
    reviewer_note: str = ""


class Upload(_Item, frozen=True, kw_only=True):
    """A chapter on its way: what was found in it, and what was decided about it."""

    series: SeriesName
    uploaded_by: PersonName
    decided_by: PersonName | None = None


class UploadRow(Row, frozen=True, kw_only=True):
    table = "uploads"
    category = "chapter"
    columns = {
        "series_id": "text NOT NULL",
        "uploaded_by": "text NOT NULL",
        "decided_by": "text",
        "status": "text NOT NULL",
        "archive_bytes": "bigint NOT NULL",
        "position": "bigint NOT NULL",
        "item": "bytea NOT NULL",
    }
    indexes = (
        "(status, position)",
        "(uploaded_by, position)",
        "(series_id, position) WHERE status = 'pending'",
    )

    position: int
    series_id: str
    uploaded_by: str
    decided_by: str | None = None
    item: _Item

    def values(self) -> tuple[Any, ...]:
        return (
            self.series_id,
            self.uploaded_by,
            self.decided_by,
            self.item.status,
            self.item.archive_bytes,
            self.position,
            json.encode(self.item),
        )


class SeriesNameRow(Row, frozen=True, kw_only=True):
    table = "series_names"
    category = "series"
    columns = {"name": "bytea NOT NULL"}

    slug: str
    title: str

    def values(self) -> tuple[Any, ...]:
        return (json.encode(SeriesName(self.id, self.slug, self.title)),)


class PersonNameRow(Row, frozen=True, kw_only=True):
    table = "person_names"
    category = "person"
    columns = {"name": "bytea NOT NULL"}

    username: str

    def values(self) -> tuple[Any, ...]:
        return (json.encode(PersonName(self.id, self.username)),)


class Moderation(ReadModel):
    """Uploads with the names of their series and people."""

    name = "moderation"
    version = 6
    rows = (UploadRow, SeriesNameRow, PersonNameRow)
    folds = (*Chapter.folds, SeriesCreated, SeriesRevised, AccountCreated)

    @classmethod
    def fold(cls, recorded: Recorded, rows: Rows) -> None:
        match recorded.event:
            case AccountCreated() as event:
                rows.put(PersonNameRow(id=event.person_id, username=event.username))
            case SeriesCreated() as event:
                rows.put(SeriesNameRow(id=event.series_id, slug=event.slug, title=event.title))
            case SeriesRevised(title=str(title)) as event:
                name = rows.get(SeriesNameRow, event.series_id)
                if name is not None:
                    rows.put(replace(name, title=title))
            case ChapterUploaded() as event:
                rows.put(_uploaded(event, recorded))
            case _:
                _progress(recorded, rows)


def _uploaded(event: ChapterUploaded, recorded: Recorded) -> UploadRow:
    return UploadRow(
        id=event.chapter_id,
        position=recorded.position,
        series_id=event.series_id,
        uploaded_by=event.uploaded_by,
        item=_Item(
            id=event.chapter_id,
            number=event.number,
            volume=event.volume,
            title=event.title,
            language=event.language,
            status="processing",
            archive_bytes=event.archive_bytes,
            page_count=0,
            uploaded_at=recorded.recorded_at,
        ),
    )


def _progress(recorded: Recorded, rows: Rows) -> None:
    row = rows.get(UploadRow, recorded.stream.split("-", 1)[1])
    if row is None or row.item.status == "deleted":
        return
    match recorded.event:
        case ChapterProcessed() as event:
            item = replace(
                row.item, status="pending", page_count=event.page_count, notes=event.notes
            )
            rows.put(replace(row, item=item))
        case ChapterRefused() as event:
            rows.put(
                replace(row, item=replace(row.item, status="refused", findings=event.findings))
            )
        case ChapterApproved() as event:
            rows.put(_decided(row, recorded, status="approved", reviewer_note=event.note))
        case ChapterRejected() as event:
            rows.put(_decided(row, recorded, status="rejected", reason=event.reason))
        case ChapterDeleted() if recorded.actor == row.uploaded_by:
            rows.delete(UploadRow, row.id)
        case ChapterDeleted() as event:
            rows.put(_decided(row, recorded, status="deleted", reason=event.reason))
        case _:
            pass


def _decided(row: UploadRow, recorded: Recorded, **changes: Any) -> UploadRow:
    item = replace(row.item, decided_at=recorded.recorded_at, **changes)
    return replace(row, decided_by=recorded.actor, item=item)


async def _uploads(
    asked: Asked, query: ListQuery, where: LiteralString, order: str, values: dict[str, Any]
) -> bytes:
    """A page of uploads that meet a condition."""
    counting, reading = _statements(where, descending=order.startswith("-"))
    values = values | {"tenant": asked.tenant}
    (count,) = await one(await asked.connection.execute(counting, values))
    offset = (query.page - 1) * query.page_size
    cursor = await asked.connection.execute(
        reading, values | {"limit": query.page_size, "offset": offset}, binary=True
    )
    return query.answer_page(asked, count, [_named(*row) for row in await cursor.fetchall()])


@cache
def _statements(where: LiteralString, *, descending: bool) -> tuple[bytes, bytes]:
    """What counts uploads, and what reads a page of them with today's names."""
    schema, condition = sql.Identifier(Moderation.schema()), sql.SQL(where)
    counting = sql.SQL(
        "SELECT count(*) FROM {}.uploads u WHERE u.tenant = %(tenant)s AND {}"
    ).format(schema, condition)
    reading = sql.SQL(
        "SELECT u.item, s.name, p.name, d.name FROM {0}.uploads u"
        " JOIN {0}.series_names s ON s.tenant = u.tenant AND s.id = u.series_id"
        " LEFT JOIN {0}.person_names p ON p.tenant = u.tenant AND p.id = u.uploaded_by"
        " LEFT JOIN {0}.person_names d ON d.tenant = u.tenant AND d.id = u.decided_by"
        " WHERE u.tenant = %(tenant)s AND {1}"
        " ORDER BY u.position {2} LIMIT %(limit)s OFFSET %(offset)s"
    ).format(schema, condition, sql.SQL("DESC" if descending else "ASC"))
    return counting.as_bytes(), reading.as_bytes()


async def waiting_bytes(connection: AsyncConnection[Any], tenant: str) -> int:
    """What the archives take that a tenant's uploaders handed in and nobody decided about."""
    (total,) = await one(await connection.execute(_waiting(), (tenant,)))
    return total


@cache
def _waiting() -> bytes:
    return (
        sql.SQL(
            "SELECT coalesce(sum(archive_bytes), 0)::bigint FROM {}.uploads"
            " WHERE tenant = %s AND status IN ('processing', 'pending')"
        )
        .format(sql.Identifier(Moderation.schema()))
        .as_bytes()
    )


def _named(item: bytes, series: bytes, uploader: bytes | None, decider: bytes | None) -> bytes:
    """An item with the names of today put in front; all of them are encoded already."""
    return b'{"series":%b,"uploaded_by":%b,"decided_by":%b,%b' % (
        series,
        uploader or b"null",
        decider or b"null",
        item[1:],
    )


@query(get="/moderation/queue", model=Moderation, needs="moderation.read", returns=Upload)
class ModerationQueue(ListQuery):
    """List the chapters that wait for a decision, the longest waiting first."""

    series_id: str = ""
    uploaded_by: str = ""
    ordering: Literal["uploaded_at", "-uploaded_at"] = "uploaded_at"

    async def answer(self, asked: Asked) -> bytes:
        where: LiteralString = "u.status = 'pending'"
        if self.series_id:
            where += " AND u.series_id = %(series_id)s"
        if self.uploaded_by:
            where += " AND u.uploaded_by = %(uploaded_by)s"
        values = {"series_id": self.series_id, "uploaded_by": self.uploaded_by}
        return await _uploads(asked, self, where, self.ordering, values)


@query(get="/me/uploads", model=Moderation, signed_in=True, returns=Upload)
class MyUploads(ListQuery):
    """List one's own uploads with their status, the reason given, and the reviewer's notes."""

    status: tuple[
        Literal["processing", "refused", "pending", "approved", "rejected", "deleted"], ...
    ] = ()
    ordering: Literal["uploaded_at", "-uploaded_at"] = "-uploaded_at"

    async def answer(self, asked: Asked) -> bytes:
        where: LiteralString = "u.uploaded_by = %(viewer)s"
        if self.status:
            where += " AND u.status = ANY(%(status)s)"
        values = {"viewer": asked.viewer.id, "status": list(self.status)}
        return await _uploads(asked, self, where, self.ordering, values)
