"""The questions about series and chapters."""

import re
from typing import Annotated, Any, Literal

from msgspec import Meta
from psycopg import sql

from domain.catalogue import Kind, Rating, SeriesStatus
from projections.catalogue.answers import ChapterDetail, SeriesDetail, SeriesSummary
from projections.catalogue.rows import Catalogue
from projections.kernel import Asked, ListQuery, Missing, Query, one, query

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
            words = re.findall(r"[^\W_]+", self.search.casefold())
            values["search"] = " & ".join(f"'{word}':*" for word in words)
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
        if public or asked.viewer.id == uploaded_by or asked.viewer.may("moderation.read"):
            return detail
        raise Missing("chapter")
