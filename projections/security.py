"""What auditors see of refusals: failed sign-ins, lock-outs, missing permissions."""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, json
from psycopg import sql

from domain.personal import PersonalText
from projections.kernel import Asked, ListQuery, one, query
from projections.people import usernames

IncidentKind = Literal["permission_denied", "sign_in_failed", "sign_in_held", "sign_in_refused"]
"""A missing permission; a wrong password; too many of them; an account that may not sign in."""

ADDRESS, USER_AGENT = "security.address", "security.user_agent"
"""The places that the texts of an incident are bound to."""

Moment = Annotated[datetime, Meta(tz=True)]


class Incident(Struct, frozen=True, kw_only=True):
    """A refusal; `times` is more than 1 where a flood was only counted, minute by minute."""

    id: int
    at: datetime
    kind: IncidentKind
    times: int
    person_id: str | None
    username: str | None
    address: str
    user_agent: str
    request_id: str


@query(get="/audit/security", needs="audit.read", returns=Incident)
class ListIncidents(ListQuery):
    """List what was refused in the last ninety days, the newest first."""

    kind: tuple[IncidentKind, ...] = ()
    person: Annotated[str, Meta(max_length=200, description="The id of a person")] = ""
    since: Moment | None = None
    until: Moment | None = None
    ordering: Literal["at", "-at"] = "-at"

    async def answer(self, asked: Asked) -> bytes:
        given = self.filters_applied()
        where = sql.SQL(" AND ").join(
            [sql.SQL("tenant = %(tenant)s"), *(_CONDITIONS[name] for name in given)]
        )
        direction = sql.SQL("DESC" if self.ordering.startswith("-") else "ASC")
        values = given | {
            "tenant": asked.tenant,
            "kind": list(self.kind),
            "limit": self.page_size,
            "offset": (self.page - 1) * self.page_size,
        }
        counting = sql.SQL("SELECT count(*) FROM security.incidents WHERE {}").format(where)
        (count,) = await one(await asked.connection.execute(counting, values))
        reading = sql.SQL(
            "SELECT id, at, kind, times, person_id, request_id, subject, address, user_agent"
            " FROM security.incidents WHERE {0} ORDER BY at {1}, id {1}"
            " LIMIT %(limit)s OFFSET %(offset)s"
        ).format(where, direction)
        rows = await (await asked.connection.execute(reading, values)).fetchall()
        return self.answer_page(asked, count, map(json.encode, await _readable(asked, rows)))


_CONDITIONS = {
    "kind": sql.SQL("kind = ANY(%(kind)s)"),
    "person": sql.SQL("person_id = %(person)s"),
    "since": sql.SQL("at >= %(since)s"),
    "until": sql.SQL("at < %(until)s"),
}


async def _readable(asked: Asked, rows: list[tuple[Any, ...]]) -> list[Incident]:
    """Incidents with the names of today, and with what was sealed."""
    named = await usernames(asked.connection, asked.tenant, {row[4] for row in rows if row[4]})
    addresses = await asked.opened_texts([PersonalText(row[6], ADDRESS, row[7]) for row in rows])
    programs = await asked.opened_texts([PersonalText(row[6], USER_AGENT, row[8]) for row in rows])
    return [
        Incident(
            id=row[0],
            at=row[1],
            kind=row[2],
            times=row[3],
            person_id=row[4],
            username=named.get(row[4]),
            request_id=row[5],
            address=address,
            user_agent=program,
        )
        for row, address, program in zip(rows, addresses, programs, strict=True)
    ]
