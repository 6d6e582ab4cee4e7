"""What moderators see of appeals: what was said, against which ban, and what came of it."""

from datetime import datetime
from typing import Any, Literal

from msgspec import Struct, json
from msgspec.structs import replace
from psycopg import sql

from domain.appeals import Appeal, AppealAccepted, AppealLodged, AppealRejected, AppealStatus
from domain.kernel import Recorded
from domain.people import PersonBanned
from projections.kernel import (
    Asked,
    ListQuery,
    Missing,
    Query,
    ReadModel,
    Row,
    Rows,
    one,
    query,
)
from projections.people import usernames


class Somebody(Struct, frozen=True):
    """A person by id and user name; `system` has no name."""

    id: str
    username: str | None


class BanAppealed(Struct, frozen=True, kw_only=True):
    """The ban that an appeal is against."""

    reason: str
    until: datetime | None
    banned_at: datetime
    banned_by: Somebody


class AppealDetail(Struct, frozen=True, kw_only=True):
    """An appeal; `answer` is the note or the reason of whoever decided."""

    id: str
    status: AppealStatus
    person: Somebody
    ban: BanAppealed
    text: str
    lodged_at: datetime
    decided_at: datetime | None
    decided_by: Somebody | None
    answer: str


class BanRow(Row, frozen=True, kw_only=True):
    """The last ban of a person."""

    table = "bans"
    category = "person"

    columns = {"banned_at": "timestamptz NOT NULL"}

    ban: PersonBanned
    banned_at: datetime

    def values(self) -> tuple[Any, ...]:
        return (self.banned_at,)


class AppealRow(Row, frozen=True, kw_only=True):
    table = "appeals"
    category = "appeal"
    columns = {"status": "text NOT NULL", "position": "bigint NOT NULL"}
    indexes = ("(status, position)", "(position)")

    position: int
    status: AppealStatus = "open"
    lodged: AppealLodged
    lodged_at: datetime
    ban: BanRow
    decided_at: datetime | None = None
    decided_by: str = ""
    answer: str = ""

    def values(self) -> tuple[Any, ...]:
        return self.status, self.position


class Appeals(ReadModel):
    """Appeals with the bans that they are against."""

    name = "appeals"
    version = 1
    rows = (AppealRow, BanRow)
    folds = (*Appeal.folds, PersonBanned)

    @classmethod
    def fold(cls, recorded: Recorded, rows: Rows) -> None:
        match recorded.event:
            case PersonBanned() as event:
                rows.put(BanRow(id=event.person_id, ban=event, banned_at=recorded.recorded_at))
            case AppealLodged() as event:
                ban = rows.get(BanRow, event.person_id)
                if ban is not None:
                    rows.put(_lodged(event, ban, recorded))
            case AppealAccepted() as event:
                _decide(rows, recorded, event.appeal_id, "accepted", event.note)
            case AppealRejected() as event:
                _decide(rows, recorded, event.appeal_id, "rejected", event.reason)
            case _:
                pass


def _lodged(event: AppealLodged, ban: BanRow, recorded: Recorded) -> AppealRow:
    return AppealRow(
        id=event.appeal_id,
        position=recorded.position,
        lodged=event,
        lodged_at=recorded.recorded_at,
        ban=ban,
    )


def _decide(
    rows: Rows, recorded: Recorded, appeal_id: str, status: AppealStatus, answer: str
) -> None:
    row = rows.get(AppealRow, appeal_id)
    if row is not None:
        rows.put(
            replace(
                row,
                status=status,
                decided_at=recorded.recorded_at,
                decided_by=recorded.actor,
                answer=answer,
            )
        )


_SCHEMA = sql.Identifier(Appeals.schema())


async def _named(asked: Asked, states: list[bytes]) -> list[AppealDetail]:
    """Appeals with the names of today."""
    rows = [json.decode(state, type=AppealRow) for state in states]
    ids = {who for row in rows for who in (row.lodged.person_id, row.ban.ban.banned_by)}
    ids |= {row.decided_by for row in rows}
    names = await usernames(asked.connection, asked.tenant, ids)

    def named(person_id: str) -> Somebody:
        return Somebody(person_id, names.get(person_id))

    return [
        AppealDetail(
            id=row.id,
            status=row.status,
            person=named(row.lodged.person_id),
            ban=BanAppealed(
                reason=row.ban.ban.reason,
                until=row.ban.ban.until,
                banned_at=row.ban.banned_at,
                banned_by=named(row.ban.ban.banned_by),
            ),
            text=row.lodged.text,
            lodged_at=row.lodged_at,
            decided_at=row.decided_at,
            decided_by=named(row.decided_by) if row.decided_by else None,
            answer=row.answer,
        )
        for row in rows
    ]


@query(get="/moderation/appeals", model=Appeals, needs="people.ban", returns=AppealDetail)
class ListAppeals(ListQuery):
    """List appeals against bans, the longest waiting first."""

    status: tuple[AppealStatus, ...] = ()
    ordering: Literal["lodged_at", "-lodged_at"] = "lodged_at"

    async def answer(self, asked: Asked) -> bytes:
        where = sql.SQL("tenant = %(tenant)s")
        if self.status:
            where += sql.SQL(" AND status = ANY(%(status)s)")
        statement = sql.SQL(
            "SELECT (SELECT count(*) FROM {0}.appeals WHERE {1}),"
            " ARRAY(SELECT state FROM {0}.appeals WHERE {1} ORDER BY position {2}"
            " LIMIT %(limit)s OFFSET %(offset)s)"
        ).format(_SCHEMA, where, sql.SQL("DESC" if self.ordering.startswith("-") else "ASC"))
        values = {
            "tenant": asked.tenant,
            "status": list(self.status),
            "limit": self.page_size,
            "offset": (self.page - 1) * self.page_size,
        }
        count, states = await one(await asked.connection.execute(statement, values, binary=True))
        results = await _named(asked, states)
        return self.answer_page(asked, count, [json.encode(result) for result in results])


@query(
    get="/moderation/appeals/{appeal_id}", model=Appeals, needs="people.ban", returns=AppealDetail
)
class GetAppeal(Query):
    """Get an appeal against a ban."""

    appeal_id: str

    async def answer(self, asked: Asked) -> bytes:
        statement = sql.SQL("SELECT state FROM {}.appeals WHERE tenant = %s AND id = %s")
        cursor = await asked.connection.execute(
            statement.format(_SCHEMA), (asked.tenant, self.appeal_id), binary=True
        )
        row = await cursor.fetchone()
        if row is None:
            raise Missing("appeal")
        (appeal,) = await _named(asked, [row[0]])
        return json.encode(appeal)
