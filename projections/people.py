"""What staff see of accounts: all that administrators need, and names for everybody else."""

from datetime import datetime
from typing import Annotated, Any, Literal, LiteralString

from msgspec import Meta, Struct, json
from psycopg import AsyncConnection, sql

from domain.kernel import Recorded
from domain.people import AccountCreated, Person
from domain.tenancy import RoleName
from projections.catalogue.rows import words
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

Moment = Annotated[datetime, Meta(tz=True)]


class PersonSummary(Struct, frozen=True, kw_only=True):
    """An account by its names."""

    id: str
    username: str
    name: str


class AccountBan(Struct, frozen=True, kw_only=True):
    """A ban, and the id of who banned; `until` is null where it has no end."""

    reason: str
    until: datetime | None
    banned_by: str


class AccountDetail(PersonSummary, frozen=True, kw_only=True):
    """An account as its administrators see it."""

    email: str
    email_confirmed: bool
    roles: list[str]
    permissions: list[str]
    is_active: bool
    ban: AccountBan | None
    registered_at: datetime


class PersonRow(Row, frozen=True, kw_only=True):
    table = "people"
    category = "person"
    columns = {
        "username": "text NOT NULL",
        "roles": "text[] NOT NULL",
        "is_active": "boolean NOT NULL",
        "registered_at": "timestamptz NOT NULL",
        "names": "text NOT NULL",
        "names_and_address": "text NOT NULL",
        "summary": "bytea NOT NULL",
        "detail": "bytea NOT NULL",
    }
    indexes = (
        "(username)",
        "(registered_at, id)",
        "USING gin (roles)",
        "USING gin (to_tsvector('simple', names))",
        "USING gin (to_tsvector('simple', names_and_address))",
    )
    finders = {
        "people_with_role": ("text", "roles @> ARRAY[$1]"),
        "people_named": ("tsquery", "to_tsvector('simple', names) @@ $1"),
        "people_about": ("tsquery", "to_tsvector('simple', names_and_address) @@ $1"),
    }

    person: Person
    registered_at: datetime

    def values(self) -> tuple[Any, ...]:
        person = self.person
        named = words(f"{person.username} {person.name}")
        return (
            person.username,
            list(person.roles),
            person.active,
            self.registered_at,
            " ".join(named),
            " ".join([*named, *words(person.email)]),
            json.encode(PersonSummary(id=self.id, username=person.username, name=person.name)),
            json.encode(self._detail()),
        )

    def _detail(self) -> AccountDetail:
        person, ban = self.person, self.person.ban
        return AccountDetail(
            id=self.id,
            username=person.username,
            name=person.name,
            email=person.email,
            email_confirmed=person.email_confirmed,
            roles=list(person.roles),
            permissions=sorted(person.permissions),
            is_active=person.active,
            ban=ban and AccountBan(reason=ban.reason, until=ban.until, banned_by=ban.by),
            registered_at=self.registered_at,
        )


class People(ReadModel):
    """Accounts as they stand."""

    name = "people"
    version = 1
    rows = (PersonRow,)
    folds = Person.folds

    @classmethod
    def fold(cls, recorded: Recorded, rows: Rows) -> None:
        person_id = recorded.stream.split("-", 1)[1]
        known = rows.get(PersonRow, person_id)
        if known is not None:
            person = known.person.evolve(recorded.event)
            registered_at = known.registered_at
        elif isinstance(recorded.event, AccountCreated):
            person = Person().evolve(recorded.event)
            registered_at = recorded.recorded_at
        else:
            return
        rows.put(PersonRow(id=person_id, person=person, registered_at=registered_at))


_SCHEMA = sql.Identifier(People.schema())

_OF_TENANT: LiteralString = "tenant = %(tenant)s"

_CONDITIONS: dict[str, LiteralString] = {
    "is_active": "is_active = %(is_active)s",
    "role": "id IN (SELECT {schema}.people_with_role(%(role)s))",
    "registered_since": "registered_at >= %(registered_since)s",
    "registered_until": "registered_at < %(registered_until)s",
    "search": "id IN (SELECT {schema}.people_about(to_tsquery('simple', %(search)s)))",
    "named": "id IN (SELECT {schema}.people_named(to_tsquery('simple', %(named)s)))",
}


def _beginnings(text: str) -> str:
    return " & ".join(f"'{word}':*" for word in words(text))


async def _page(
    asked: Asked, query: ListQuery, column: LiteralString, ordering: str, given: dict[str, Any]
) -> bytes:
    """A page of the accounts that meet the conditions given by name."""
    conditions: list[LiteralString] = [_OF_TENANT, *(_CONDITIONS[name] for name in given)]
    where = sql.SQL(" AND ").join(
        sql.SQL(condition).format(schema=_SCHEMA) for condition in conditions
    )
    values = given | {
        "tenant": asked.tenant,
        "limit": query.page_size,
        "offset": (query.page - 1) * query.page_size,
    }
    direction = sql.SQL("DESC" if ordering.startswith("-") else "ASC")
    by = sql.Identifier(ordering.removeprefix("-"))
    statement = sql.SQL(
        "SELECT (SELECT count(*) FROM {0}.people WHERE {1}),"
        " ARRAY(SELECT {2} FROM {0}.people WHERE {1} ORDER BY {3} {4}, id {4}"
        " LIMIT %(limit)s OFFSET %(offset)s)"
    ).format(_SCHEMA, where, sql.Identifier(column), by, direction)
    count, results = await one(await asked.connection.execute(statement, values, binary=True))
    return query.answer_page(asked, count, results)


async def _one(asked: Asked, column: LiteralString, person_id: str) -> bytes:
    statement = sql.SQL("SELECT {} FROM {}.people WHERE tenant = %s AND id = %s")
    cursor = await asked.connection.execute(
        statement.format(sql.Identifier(column), _SCHEMA), (asked.tenant, person_id), binary=True
    )
    row = await cursor.fetchone()
    if row is None:
        raise Missing("person")
    return row[0]


async def usernames(connection: AsyncConnection[Any], tenant: str, ids: set[str]) -> dict[str, str]:
    """The user names of those of these ids that are accounts."""
    statement = sql.SQL("SELECT id, username FROM {}.people WHERE tenant = %s AND id = ANY(%s)")
    cursor = await connection.execute(statement.format(_SCHEMA), (tenant, sorted(ids)))
    return dict(await cursor.fetchall())


Search = Annotated[str, Meta(max_length=200, description="Beginnings of words in names")]


@query(get="/people", model=People, needs="people.read", returns=PersonSummary)
class ListPeople(ListQuery):
    """List people by name, to find whom a decision is about."""

    search: Search = ""
    ordering: Literal["username", "-username"] = "username"

    async def answer(self, asked: Asked) -> bytes:
        given = {"named": _beginnings(self.search)} if self.search else {}
        return await _page(asked, self, "summary", self.ordering, given)


@query(get="/people/{person_id}", model=People, needs="people.read", returns=PersonSummary)
class GetPerson(Query):
    """Get a person's names."""

    person_id: str

    async def answer(self, asked: Asked) -> bytes:
        return await _one(asked, "summary", self.person_id)


@query(get="/admin/users", model=People, needs="people.administer", returns=AccountDetail)
class ListAccounts(ListQuery):
    """List the accounts of one's organisation."""

    is_active: bool | None = None
    role: RoleName | None = None
    registered_since: Moment | None = None
    registered_until: Moment | None = None
    search: Annotated[
        str, Meta(max_length=200, description="Beginnings of words in names and the address")
    ] = ""
    ordering: Literal["username", "-username", "registered_at", "-registered_at"] = "-registered_at"

    async def answer(self, asked: Asked) -> bytes:
        given = self.filters_applied()
        if self.search:
            given["search"] = _beginnings(self.search)
        return await _page(asked, self, "detail", self.ordering, given)


@query(
    get="/admin/users/{person_id}", model=People, needs="people.administer", returns=AccountDetail
)
class GetAccount(Query):
    """Get an account with its roles, its permissions and its ban."""

    person_id: str

    async def answer(self, asked: Asked) -> bytes:
        return await _one(asked, "detail", self.person_id)
