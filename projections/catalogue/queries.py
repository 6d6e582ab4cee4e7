"""The questions about series and chapters."""

from typing import Annotated, Any, Literal

from msgspec import Meta, json
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


@query(get="/series", model=Catalogue, returns=SeriesSummary)
class ListSeries(ListQuery):
    """List the published series."""

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

    async def answer(self, asked: Asked) -> bytes:
        conditions, values = self._conditions()
        where = sql.SQL(" AND ").join(conditions)
        total = (
            sql.SQL("count(*) FROM {}.series WHERE {}").format(_SCHEMA, where)
            if values
            else sql.SQL("total FROM {}.totals WHERE name = 'series'").format(_SCHEMA)
        )
        statement = sql.SQL(
            "SELECT (SELECT {}), ARRAY(SELECT summary FROM {}.series WHERE {} ORDER BY {}"
            " LIMIT %(limit)s OFFSET %(offset)s)"
        ).format(total, _SCHEMA, where, _order(self.ordering))
        offset = (self.page - 1) * self.page_size
        cursor = await asked.connection.execute(
            statement, values | {"limit": self.page_size, "offset": offset}, binary=True
        )
        count, summaries = await one(cursor)
        return self.answer_page(asked, count, summaries)

    def _conditions(self) -> tuple[list[sql.Composable], dict[str, Any]]:
        conditions: list[sql.Composable] = [sql.SQL("published")]
        values: dict[str, Any] = {}
        for name, given in (("status", self.status), ("kind", self.kind), ("rating", self.rating)):
            if given:
                conditions.append(
                    sql.SQL("{} = ANY({})").format(sql.Identifier(name), sql.Placeholder(name))
                )
                values[name] = list(given)
        if self.category:
            conditions.append(sql.SQL("categories @> %(category)s"))
            values["category"] = [category.casefold() for category in self.category]
        if self.search:
            conditions.append(
                sql.SQL("to_tsvector('simple', words) @@ to_tsquery('simple', %(search)s)")
            )
            values["search"] = " & ".join(f"'{word}':*" for word in words(self.search))
        return conditions, values


def _order(ordering: SeriesOrdering) -> sql.Composed:
    column = sql.Identifier(ordering.removeprefix("-"))
    direction = sql.SQL("DESC" if ordering.startswith("-") else "ASC")
    return sql.SQL("{} {}, id {}").format(column, direction, direction)


@query(get="/series/{series}", model=Catalogue, returns=SeriesDetail)
class GetSeries(Query):
    """Get a series by id or slug, with its volumes and approved chapters."""

    series: str

    async def answer(self, asked: Asked) -> bytes:
        cursor = await asked.connection.execute(
            sql.SQL(
                "SELECT detail, published, created_by FROM {0}.series WHERE id = %(key)s"
                " UNION ALL SELECT detail, published, created_by FROM {0}.series"
                " WHERE slug = %(key)s LIMIT 1"
            ).format(_SCHEMA),
            {"key": self.series},
            binary=True,
        )
        row = await cursor.fetchone()
        if row is None:
            raise Missing("series")
        detail, published, created_by = row
        if published or asked.viewer.id == created_by or asked.viewer.may("moderation.read"):
            return detail
        raise Missing("series")


@query(get="/chapters/{chapter_id}", model=Catalogue, returns=ChapterDetail)
class GetChapter(Query):
    """Get a chapter with its pages; before approval only its uploader and moderators can."""

    chapter_id: str

    async def answer(self, asked: Asked) -> bytes:
        cursor = await asked.connection.execute(
            sql.SQL(
                "SELECT c.detail, c.status = 'approved' AND s.published, c.uploaded_by"
                " FROM {0}.chapters c JOIN {0}.series s ON s.id = c.series_id WHERE c.id = %s"
            ).format(_SCHEMA),
            (self.chapter_id,),
            binary=True,
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


async def image_is_public(
    connection: AsyncConnection[Any], chapter_id: str, name: str, viewer: Viewer, *, opened: bool
) -> bool:
    """Whether anybody may see an image; raises Missing where this viewer may not.

    `opened` says that the viewer carries the chapter's preview signature.
    """
    cursor = await connection.execute(
        sql.SQL(
            "SELECT c.status = 'approved' AND s.published, c.uploaded_by"
            " FROM {0}.chapters c JOIN {0}.series s ON s.id = c.series_id"
            " WHERE c.id = %s AND %s = ANY(c.images)"
        ).format(_SCHEMA),
        (chapter_id, name),
    )
    row = await cursor.fetchone()
    if row is None:
        raise Missing("image")
    public, uploaded_by = row
    if not (public or opened or viewer.id == uploaded_by or viewer.may("moderation.read")):
        raise Missing("image")
    return public
