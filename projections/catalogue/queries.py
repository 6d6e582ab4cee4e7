"""The questions about series and chapters."""

from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Any, Literal, LiteralString

from msgspec import Meta, Struct, json
from msgspec.structs import replace
from psycopg import AsyncConnection, sql

from domain.catalogue import Kind, Rating, SeriesStatus
from projections.catalogue.answers import ChapterDetail, SeriesDetail, SeriesSummary
from projections.catalogue.rows import Catalogue, words
from projections.kernel import Asked, ListQuery, Missing, Query, Viewer, one, query

_SCHEMA = sql.Identifier(Catalogue.schema())

SeriesOrdering = Literal[
    "title",
    "-title",
    "created_at",
    "-created_at",
    "updated_at",
    "-updated_at",
    "chapter_count",
    "-chapter_count",
]

_PUBLISHED: LiteralString = "published"


class _Filter(Struct, frozen=True):
    """What a series meets that passes, and how the statement takes the values that were given."""

    condition: LiteralString
    value: Callable[[Any], Any]


def _casefolded(names: tuple[str, ...]) -> list[str]:
    return [name.casefold() for name in names]


def _beginnings(text: str) -> str:
    return " & ".join(f"'{word}':*" for word in words(text))


_FILTERS = {
    "status": _Filter("status = ANY(%(status)s)", list),
    "kind": _Filter("kind = ANY(%(kind)s)", list),
    "rating": _Filter("rating = ANY(%(rating)s)", list),
    "category": _Filter("id IN (SELECT {schema}.series_in_categories(%(category)s))", _casefolded),
    "search": _Filter(
        "id IN (SELECT {schema}.series_about(to_tsquery('simple', %(search)s)))", _beginnings
    ),
}


class _SeriesList(ListQuery):
    search: Annotated[
        str, Meta(max_length=200, description="Beginnings of words in titles, aliases, creators")
    ] = ""
    status: tuple[SeriesStatus, ...] = ()
    kind: tuple[Kind, ...] = ()
    rating: tuple[Rating, ...] = ()
    category: Annotated[
        tuple[Annotated[str, Meta(max_length=120)], ...],
        Meta(description="All of the categories given", max_length=20),
    ] = ()
    ordering: SeriesOrdering = "-updated_at"

    async def _among(self, asked: Asked, scope: LiteralString) -> bytes:
        """A page of the series that meet a condition, and the filters."""
        given = {name: value for name in _FILTERS if (value := getattr(self, name))}
        values = {name: _FILTERS[name].value(value) for name, value in given.items()}
        cursor = await asked.connection.execute(
            _page(scope, tuple(given), self.ordering, self.page_size, first=self.page == 1),
            values
            | {
                "tenant": asked.tenant,
                "viewer": asked.viewer.id,
                "offset": (self.page - 1) * self.page_size,
            },
            binary=True,
        )
        count, summaries = await one(cursor)
        return self.answer_page(asked, count, summaries)


@lru_cache(1_000)
def _page(
    scope: LiteralString,
    filters: tuple[str, ...],
    ordering: SeriesOrdering,
    size: int,
    *,
    first: bool,
) -> bytes:
    """The statement for a page and the count of all; composing it takes longer than sending it."""
    conditions: list[LiteralString] = [
        "tenant = %(tenant)s",
        scope,
        *(_FILTERS[name].condition for name in filters),
    ]
    where = sql.SQL(" AND ".join(conditions)).format(schema=_SCHEMA)
    counted = (
        sql.SQL(
            "coalesce((SELECT total FROM {}.totals"
            " WHERE tenant = %(tenant)s AND name = 'series'), 0)"
        ).format(_SCHEMA)
        if scope == _PUBLISHED and not filters
        else sql.SQL("count(*) FROM {}.series WHERE {}").format(_SCHEMA, where)
    )
    column = sql.Identifier(ordering.removeprefix("-"))
    direction = sql.SQL("DESC" if ordering.startswith("-") else "ASC")
    # Written out, as the planner does not keep a plan for a limit that it cannot see.
    offset = sql.SQL("0" if first else "%(offset)s")
    statement = sql.SQL(
        "SELECT (SELECT {}), ARRAY(SELECT summary FROM {}.series WHERE {} ORDER BY {} {}, id {}"
        " LIMIT {} OFFSET {})"
    ).format(counted, _SCHEMA, where, column, direction, direction, size, offset)
    return statement.as_bytes()


@query(get="/series", model=Catalogue, returns=SeriesSummary)
class ListSeries(_SeriesList):
    """List the published series."""

    async def answer(self, asked: Asked) -> bytes:
        return await self._among(asked, _PUBLISHED)


@query(get="/me/series", model=Catalogue, signed_in=True, returns=SeriesSummary)
class MySeries(_SeriesList):
    """List the series that one created, published or not."""

    async def answer(self, asked: Asked) -> bytes:
        return await self._among(asked, "created_by = %(viewer)s")


@query(get="/moderation/series", model=Catalogue, needs="moderation.read", returns=SeriesSummary)
class ModerationSeries(_SeriesList):
    """List the series that wait for publication, the longest waiting first."""

    published: Annotated[bool, Meta(description="Those that are published instead")] = False
    ordering: SeriesOrdering = "created_at"

    async def answer(self, asked: Asked) -> bytes:
        return await self._among(asked, _PUBLISHED if self.published else "NOT published")


_SERIES = (
    sql.SQL(
        "SELECT detail, published, created_by FROM {0}.series"
        " WHERE tenant = %(tenant)s AND id = %(key)s"
        " UNION ALL SELECT detail, published, created_by FROM {0}.series"
        " WHERE tenant = %(tenant)s AND slug = %(key)s LIMIT 1"
    )
    .format(_SCHEMA)
    .as_bytes()
)


@query(get="/series/{series}", model=Catalogue, returns=SeriesDetail)
class GetSeries(Query):
    """Get a series by id or slug, with its volumes and approved chapters."""

    series: str

    async def answer(self, asked: Asked) -> bytes:
        cursor = await asked.connection.execute(
            _SERIES, {"tenant": asked.tenant, "key": self.series}, binary=True
        )
        row = await cursor.fetchone()
        if row is None:
            raise Missing("series")
        detail, published, created_by = row
        if published or asked.viewer.id == created_by or asked.viewer.may("moderation.read"):
            return detail
        raise Missing("series")


_CHAPTER = (
    sql.SQL(
        "SELECT c.detail, c.status = 'approved' AND s.published, c.uploaded_by"
        " FROM {0}.chapters c JOIN {0}.series s ON s.tenant = c.tenant AND s.id = c.series_id"
        " WHERE c.tenant = %s AND c.id = %s"
    )
    .format(_SCHEMA)
    .as_bytes()
)


@query(get="/chapters/{chapter_id}", model=Catalogue, returns=ChapterDetail)
class GetChapter(Query):
    """Get a chapter with its pages; before approval only its uploader and moderators can."""

    chapter_id: str

    async def answer(self, asked: Asked) -> bytes:
        cursor = await asked.connection.execute(
            _CHAPTER, (asked.tenant, self.chapter_id), binary=True
        )
        row = await cursor.fetchone()
        if row is None:
            raise Missing("chapter")
        detail, public, uploaded_by = row
        if public:
            return detail
        if asked.viewer.id == uploaded_by or asked.viewer.may("moderation.read"):
            return _opened(detail, asked.preview(self.chapter_id))
        raise Missing("chapter")


def _opened(detail: bytes, preview: str) -> bytes:
    """A chapter whose images carry the signature that opens them before they are public."""
    chapter = json.decode(detail, type=ChapterDetail)
    pages = tuple(
        replace(
            page,
            url=f"{page.url}?preview={preview}",
            thumbnail_url=f"{page.thumbnail_url}?preview={preview}",
        )
        for page in chapter.pages
    )
    return json.encode(replace(chapter, pages=pages))


_IMAGE = (
    sql.SQL(
        "SELECT c.status = 'approved' AND s.published, c.uploaded_by"
        " FROM {0}.chapters c JOIN {0}.series s ON s.tenant = c.tenant AND s.id = c.series_id"
        " WHERE c.tenant = %s AND c.id = %s AND %s = ANY(c.images)"
    )
    .format(_SCHEMA)
    .as_bytes()
)


async def image_is_public(
    connection: AsyncConnection[Any],
    tenant: str,
    chapter_id: str,
    name: str,
    viewer: Viewer,
    *,
    opened: bool,
) -> bool:
    """Whether anybody may see an image; raises Missing where this viewer may not.

    `opened` says that the viewer carries the chapter's preview signature.
    """
    cursor = await connection.execute(_IMAGE, (tenant, chapter_id, name))
    row = await cursor.fetchone()
    if row is None:
        raise Missing("image")
    public, uploaded_by = row
    if not (public or opened or viewer.id == uploaded_by or viewer.may("moderation.read")):
        raise Missing("image")
    return public
