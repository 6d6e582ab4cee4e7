"""How read models and queries are declared."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import (
    Annotated,
    Any,
    ClassVar,
    LiteralString,
    Protocol,
    TypeVar,
    cast,
    dataclass_transform,
)
from urllib.parse import urlencode

from msgspec import Meta, Struct, StructMeta, field, json, to_builtins
from msgspec.structs import fields as struct_fields
from psycopg import AsyncConnection, AsyncCursor, sql

from domain.kernel import Event, Recorded, RegistryError
from domain.personal import PersonalText

API = "/api/v1"
"""Where every address begins."""

PAGE_SIZE = 20
MAX_PAGE_SIZE = 100


class Row(Struct, frozen=True, kw_only=True):
    """One row of a read model: folded in memory, kept as JSON beside the columns readers need.

    A row belongs to the tenant of the event that made it.
    """

    table: ClassVar[str]
    category: ClassVar[str]
    """The category of the streams that these rows are about; a row's id is the stream's."""
    columns: ClassVar[Mapping[str, str]]
    """The SQL types of what `values` gives, beside `id` and `state`."""
    indexes: ClassVar[Sequence[str]] = ()
    """`CREATE INDEX` statements' tails: the columns after the tenant, or another kind of index."""
    finders: ClassVar[Mapping[str, tuple[str, str]]] = {}
    """Functions that find ids of the connection's tenant: what they are asked, and a condition.

    The wall between tenants keeps PostgreSQL from using an index for anything but plain
    comparisons; a finder may use any, and stands behind the wall by itself.
    """

    id: str

    def values(self) -> tuple[Any, ...]:
        """What the columns hold, in their order."""
        raise NotImplementedError

    def counted(self) -> bool:
        """Whether the row belongs to the total kept for its table."""
        return False


R = TypeVar("R", bound=Row)


class Rows(Protocol):
    """The rows of a read model, as its fold sees them: those of the event's tenant."""

    def get(self, row: type[R], key: str) -> R | None: ...

    def put(self, row: Row) -> None: ...

    def delete(self, row: type[Row], key: str) -> None: ...


class ReadModel:
    """Tables folded from the log; raise `version` when the same events should give other rows."""

    name: ClassVar[str]
    version: ClassVar[int]
    rows: ClassVar[Sequence[type[Row]]]
    folds: ClassVar[Sequence[type[Event]]]

    def __init_subclass__(cls) -> None:
        if cls.name in MODELS:
            raise RegistryError(f"two read models are called {cls.name}")
        MODELS[cls.name] = cls

    @classmethod
    def schema(cls) -> str:
        return f"{cls.name}_{cls.version}"

    @classmethod
    def fold(cls, recorded: Recorded, rows: Rows) -> None:
        """Change the rows that an event touches."""
        raise NotImplementedError


MODELS: dict[str, type[ReadModel]] = {}


_WALL: LiteralString = (
    "CREATE POLICY one_tenant ON {}"
    " USING (coalesce(current_setting('imprimatur.tenant', true), '*') IN (tenant, '*'))"
)
"""As runtime/migrations/0007.tenants.sql has it for the log."""


_FINDER: LiteralString = (
    "CREATE FUNCTION {}({}) RETURNS SETOF text LANGUAGE sql STABLE SECURITY DEFINER"
    " SET search_path = pg_catalog, pg_temp AS"
    " $$SELECT id FROM {} WHERE tenant = current_setting('imprimatur.tenant') AND {}$$"
)


def ddl(model: type[ReadModel]) -> Iterable[sql.Composed]:
    """The statements that create a read model's schema where it is not there yet."""
    schema = sql.Identifier(model.schema())
    yield sql.SQL("CREATE SCHEMA {}").format(schema)
    totals = sql.SQL("{}.totals").format(schema)
    yield sql.SQL(
        "CREATE TABLE {} ("
        "tenant text, name text, total bigint NOT NULL, PRIMARY KEY (tenant, name))"
    ).format(totals)
    yield from _wall(totals)
    for row in model.rows:
        table = sql.SQL("{}.{}").format(schema, sql.Identifier(row.table))
        yield from _table(model.schema(), table, row)
        yield from _wall(table)


def _table(schema: str, table: sql.Composed, row: type[Row]) -> Iterable[sql.Composed]:
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(cast("Any", kind)))
        for name, kind in row.columns.items()
    )
    yield sql.SQL(
        "CREATE TABLE {} (tenant text, id text, state bytea NOT NULL, {}, PRIMARY KEY (tenant, id))"
    ).format(table, columns)
    # Compressing what was encoded would take longer than all the rest of a rebuild.
    for name, kind in {"state": "bytea", **row.columns}.items():
        if kind.startswith(("bytea", "text[]")):
            yield sql.SQL("ALTER TABLE {} ALTER COLUMN {} SET STORAGE EXTERNAL").format(
                table, sql.Identifier(name)
            )
    for index in row.indexes:
        of_tenant = f"(tenant, {index[1:]}" if index.startswith("(") else index
        yield sql.SQL("CREATE INDEX ON {} {}").format(table, sql.SQL(cast("Any", of_tenant)))
    for name, (asked, condition) in row.finders.items():
        yield sql.SQL(_FINDER).format(
            sql.Identifier(schema, name),
            sql.SQL(cast("Any", asked)),
            table,
            sql.SQL(cast("Any", condition)),
        )


def _wall(table: sql.Composed) -> Iterable[sql.Composed]:
    """What keeps a tenant's connection from the rows of the others, whatever it asks."""
    yield sql.SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY").format(table)
    yield sql.SQL(_WALL).format(table)


class Viewer(Struct, frozen=True):
    """Who reads: nobody in particular, or an account with its permissions."""

    id: str = ""
    permissions: frozenset[str] = frozenset()

    def may(self, permission: str) -> bool:
        return permission in self.permissions


class Asked(Struct, frozen=True, kw_only=True):
    """What a query is answered with.

    `preview` signs a chapter's id so that its images open; `opened` makes personal texts readable,
    and `opened_texts` those that are kept beside the log.
    """

    connection: AsyncConnection[Any]
    tenant: str
    viewer: Viewer
    path: str
    preview: Callable[[str], str]
    opened: Callable[[list[Recorded]], Awaitable[list[Recorded]]]
    opened_texts: Callable[[Sequence[PersonalText]], Awaitable[list[str]]]


class Missing(Exception):
    """What was asked for does not exist, or not for this reader."""

    def __init__(self, noun: str) -> None:
        super().__init__(f"{noun}_not_found")
        self.code = f"{noun}_not_found"


class NoSuchValue(Exception):
    """A parameter names what cannot exist."""

    def __init__(self, name: str, value: str) -> None:
        super().__init__(f"{name}: {value}")
        self.name = name
        self.value = value


async def one(cursor: AsyncCursor[Any]) -> tuple[Any, ...]:
    """The single row of a statement that always gives one."""
    row = await cursor.fetchone()
    if row is None:
        raise LookupError("the statement gave no row")
    return row


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
class QueryMeta(StructMeta):
    """Makes every query frozen, keyword-only, and strict about unknown names."""

    def __new__(mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
        return super().__new__(
            mcls, name, bases, namespace, frozen=True, kw_only=True, forbid_unknown_fields=True
        )


class Query(Struct, metaclass=QueryMeta):
    """A question; its fields are the parameters of the address."""

    def check(self) -> None:
        """Refuse values that no answer could be about; raises NoSuchValue."""

    async def answer(self, asked: Asked) -> bytes:
        """The answer as JSON; raises Missing."""
        raise NotImplementedError

    def address(self, path: str, **changes: Any) -> str:
        """The address of this question with some parameters changed."""
        given = {
            name: value
            for name, default in _parameters(type(self)).items()
            if (value := getattr(self, name)) != default
        }
        plain = {
            name: str(value).lower() if isinstance(value, bool) else value
            for name, value in to_builtins(given | changes).items()
        }
        return f"{path}?{urlencode(plain, doseq=True)}"


@cache
def _parameters(query: type[Query]) -> Mapping[str, Any]:
    """The parameters of a query's address, and what they are where they are not given."""
    path = QUERIES[query].path
    return {f.name: f.default for f in struct_fields(query) if f"{{{f.name}}}" not in path}


PageNumber = Annotated[int, Meta(ge=1, le=100_000, description="Which page, from 1")]
PageSize = Annotated[
    int, Meta(ge=1, le=MAX_PAGE_SIZE, description=f"Results a page, at most {MAX_PAGE_SIZE}")
]


class ListQuery(Query):
    """A question whose answer comes in pages; every other field is a filter."""

    page: PageNumber = 1
    page_size: PageSize = PAGE_SIZE

    def filters_applied(self) -> dict[str, Any]:
        """The filters that were given, by name."""
        plain = ("page", "page_size", "ordering")
        given = {name: getattr(self, name) for name in self.__struct_fields__}
        return {
            name: value
            for name, value in given.items()
            if name not in plain and value not in ("", (), None)
        }

    def answer_page(self, asked: Asked, count: int, results: Iterable[bytes]) -> bytes:
        """`{count, next, previous, results, filters_applied}` around results encoded before."""
        following = self.page + 1 if self.page * self.page_size < count else None
        preceding = self.page - 1 if self.page > 1 else None
        return b"".join(
            (
                b'{"count":%d,"next":' % count,
                self._link(asked, following),
                b',"previous":',
                self._link(asked, preceding),
                b',"results":[',
                b",".join(results),
                b'],"filters_applied":',
                json.encode(self.filters_applied()),
                b"}",
            )
        )

    def _link(self, asked: Asked, page: int | None) -> bytes:
        return b"null" if page is None else json.encode(self.address(asked.path, page=page))


class QuerySpec(Struct, frozen=True, kw_only=True):
    """What a `@query` declaration says."""

    cls: type[Query]
    summary: str
    path: str
    model: type[ReadModel] | None
    needs: str | None
    signed_in: bool
    returns: Any


Q = TypeVar("Q", bound=type[Query])

QUERIES: dict[type[Query], QuerySpec] = {}


def query(
    *,
    get: str,
    returns: Any,
    model: type[ReadModel] | None = None,
    needs: str | None = None,
    signed_in: bool = False,
) -> Callable[[Q], Q]:
    """Declare a query: its route, the read model it rests on, and who may ask.

    Without `needs` or `signed_in` anybody may ask, and what nobody in particular is answered is
    cached until the read model changes. Without a model the answer comes from the log itself.
    """

    def declare(cls: Q) -> Q:
        if not cls.__doc__:
            raise RegistryError(f"{cls.__name__} needs a docstring: it is the operation's summary")
        QUERIES[cls] = QuerySpec(
            cls=cls,
            summary=cls.__doc__.strip().splitlines()[0],
            path=get,
            model=model,
            needs=needs,
            signed_in=signed_in or needs is not None,
            returns=returns,
        )
        return cls

    return declare
