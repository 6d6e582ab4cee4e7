"""Memberships: who belongs to which organisation, and who was invited into one."""

from datetime import datetime
from functools import cache
from typing import Any, Literal, LiteralString

from msgspec import Struct, json
from msgspec.structs import replace
from psycopg import AsyncConnection, sql

from domain.kernel import Recorded
from domain.memberships import (
    INVITED_FOR,
    Invitation,
    InvitationAccepted,
    InvitationRenewed,
    InvitationSent,
    InvitationStatus,
    InvitationWithdrawn,
)
from domain.people import AccountCreated, AccountLeft, RolesAssigned
from projections.kernel import Asked, ListQuery, ReadModel, Row, Rows, one, query


class Membership(Struct, frozen=True):
    """An organisation that a person belongs to, and as what."""

    tenant: str
    roles: tuple[str, ...]


class MembershipRow(Row, frozen=True, kw_only=True):
    table = "memberships"
    category = "person"
    columns = {"roles": "text[] NOT NULL"}
    indexes = ("USING btree (id)",)

    roles: tuple[str, ...]

    def values(self) -> tuple[Any, ...]:
        return (list(self.roles),)


class Memberships(ReadModel):
    """Who belongs to which organisation."""

    name = "memberships"
    version = 1
    rows = (MembershipRow,)
    folds = (AccountCreated, RolesAssigned, AccountLeft)

    @classmethod
    def fold(cls, recorded: Recorded, rows: Rows) -> None:
        match recorded.event:
            case AccountCreated() as event:
                rows.put(MembershipRow(id=event.person_id, roles=event.roles))
            case RolesAssigned() as event:
                rows.put(MembershipRow(id=event.person_id, roles=event.roles))
            case AccountLeft() as event:
                rows.delete(MembershipRow, event.person_id)
            case _:
                pass


_OF_PERSON = (
    sql.SQL("SELECT tenant, roles FROM {}.memberships WHERE id = %s ORDER BY tenant")
    .format(sql.Identifier(Memberships.schema()))
    .as_bytes()
)


async def memberships_of(connection: AsyncConnection[Any], person_id: str) -> list[Membership]:
    """Where a person is a member, of all the tenants that the connection serves."""
    cursor = await connection.execute(_OF_PERSON, (person_id,))
    return [Membership(tenant, tuple(roles)) for tenant, roles in await cursor.fetchall()]


class InvitationItem(Struct, frozen=True, kw_only=True):
    """An invitation: for whom, as what, and what became of it."""

    id: str
    email: str
    roles: tuple[str, ...]
    language: str
    message: str
    status: InvitationStatus
    sent_by: str
    sent_at: datetime
    expires_at: datetime
    accepted_by: str | None = None
    decided_at: datetime | None = None
    reason: str = ""


class InvitationRow(Row, frozen=True, kw_only=True):
    table = "invitations"
    category = "invitation"
    columns = {
        "status": "text NOT NULL",
        "position": "bigint NOT NULL",
        "item": "bytea NOT NULL",
    }
    indexes = ("(position)", "(status, position)")

    position: int
    item: InvitationItem

    def values(self) -> tuple[Any, ...]:
        return self.item.status, self.position, json.encode(self.item)


class Invitations(ReadModel):
    """Invitations with what became of each."""

    name = "invitations"
    version = 1
    rows = (InvitationRow,)
    folds = Invitation.folds

    @classmethod
    def fold(cls, recorded: Recorded, rows: Rows) -> None:
        if isinstance(recorded.event, InvitationSent):
            rows.put(_sent(recorded.event, recorded.position))
            return
        row = rows.get(InvitationRow, recorded.stream.split("-", 1)[1])
        if row is not None:
            rows.put(replace(row, item=_progress(row.item, recorded)))


def _sent(event: InvitationSent, position: int) -> InvitationRow:
    item = InvitationItem(
        id=event.invitation_id,
        email=event.email,
        roles=event.roles,
        language=event.language,
        message=event.message,
        status="pending",
        sent_by=event.sent_by,
        sent_at=event.sent_at,
        expires_at=event.sent_at + INVITED_FOR,
    )
    return InvitationRow(id=event.invitation_id, position=position, item=item)


def _progress(item: InvitationItem, recorded: Recorded) -> InvitationItem:
    at = recorded.recorded_at
    match recorded.event:
        case InvitationRenewed() as event:
            until = event.sent_at + INVITED_FOR
            return replace(item, sent_by=event.sent_by, sent_at=event.sent_at, expires_at=until)
        case InvitationWithdrawn() as event:
            return replace(item, status="withdrawn", decided_at=at, reason=event.reason)
        case InvitationAccepted() as event:
            return replace(item, status="accepted", decided_at=at, accepted_by=event.person_id)
        case _:
            return item


@query(get="/admin/invitations", model=Invitations, needs="people.create", returns=InvitationItem)
class ListInvitations(ListQuery):
    """List the invitations into one's organisation, and what became of each."""

    status: tuple[InvitationStatus, ...] = ()
    ordering: Literal["sent", "-sent"] = "-sent"

    async def answer(self, asked: Asked) -> bytes:
        where: LiteralString = " AND status = ANY(%(status)s)" if self.status else ""
        counting, reading = _statements(where, descending=self.ordering.startswith("-"))
        values: dict[str, Any] = {"tenant": asked.tenant, "status": list(self.status)}
        (count,) = await one(await asked.connection.execute(counting, values))
        place = {"limit": self.page_size, "offset": (self.page - 1) * self.page_size}
        cursor = await asked.connection.execute(reading, values | place, binary=True)
        return self.answer_page(asked, count, [item for (item,) in await cursor.fetchall()])


@cache
def _statements(where: LiteralString, *, descending: bool) -> tuple[bytes, bytes]:
    """What counts invitations, and what reads a page of them in the order of their sending."""
    table = sql.SQL("{}.invitations WHERE tenant = %(tenant)s{}").format(
        sql.Identifier(Invitations.schema()), sql.SQL(where)
    )
    counting = sql.SQL("SELECT count(*) FROM {}").format(table)
    reading = sql.SQL(
        "SELECT item FROM {} ORDER BY position {} LIMIT %(limit)s OFFSET %(offset)s"
    ).format(table, sql.SQL("DESC" if descending else "ASC"))
    return counting.as_bytes(), reading.as_bytes()
