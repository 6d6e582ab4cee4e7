"""The rows of series and chapters, and what each event does to them."""

import re
from datetime import datetime
from typing import Any
from unicodedata import category, normalize

from msgspec import Struct, json
from msgspec.structs import replace

from domain.catalogue import (
    Chapter,
    ChapterApproved,
    ChapterDeleted,
    ChapterProcessed,
    ChapterRefused,
    ChapterRejected,
    ChapterStatus,
    ChapterUploaded,
    Page,
    PagesRecorded,
    Series,
    SeriesCreated,
    SeriesPublished,
    SeriesRevised,
    SeriesUnpublished,
    revision,
)
from domain.kernel import Recorded
from projections.catalogue.answers import (
    ChapterDetail,
    ChapterSummary,
    PageDetail,
    SeriesDetail,
    SeriesSummary,
    Volume,
)
from projections.kernel import API, ReadModel, Row, Rows


class _Entry(Struct, frozen=True):
    volume: int | None
    chapter: ChapterSummary


class SeriesRow(Row, frozen=True, kw_only=True):
    table = "series"
    category = "series"
    columns = {
        "slug": "text NOT NULL",
        "published": "boolean NOT NULL",
        "created_by": "text NOT NULL",
        "kind": "text NOT NULL",
        "status": "text NOT NULL",
        "rating": "text NOT NULL",
        "categories": "text[] NOT NULL",
        "words": "text NOT NULL",
        "title": "text NOT NULL",
        "chapter_count": "int NOT NULL",
        "created_at": "timestamptz NOT NULL",
        "updated_at": "timestamptz NOT NULL",
        "summary": "bytea NOT NULL",
        "detail": "bytea NOT NULL",
    }
    indexes = (
        "(slug)",
        "(updated_at, id) WHERE published",
        "(created_at, id) WHERE published",
        "(title, id) WHERE published",
        "(chapter_count, id) WHERE published",
        "USING gin (categories)",
        "USING gin (to_tsvector('simple', words))",
        "(created_at, id) WHERE NOT published",
        "(created_by, updated_at)",
        "(status) WHERE published",
        "(kind) WHERE published",
        "(rating) WHERE published",
    )
    finders = {
        "series_in_categories": ("text[]", "categories @> $1"),
        "series_about": ("tsquery", "to_tsvector('simple', words) @@ $1"),
    }

    fields: SeriesCreated
    published: bool = False
    created_at: datetime
    updated_at: datetime
    chapters: dict[str, _Entry] = {}

    def values(self) -> tuple[Any, ...]:
        fields, summary = self.fields, self._summary()
        names = " ".join((fields.title, *fields.aliases, *fields.creators))
        return (
            fields.slug,
            self.published,
            fields.created_by,
            fields.kind,
            fields.status,
            fields.rating,
            [category.casefold() for category in fields.categories],
            " ".join(words(names)),
            fields.title.casefold(),
            len(self.chapters),
            self.created_at,
            self.updated_at,
            json.encode(summary),
            json.encode(SeriesDetail(**_fields(summary), volumes=self._volumes())),
        )

    def counted(self) -> bool:
        return self.published

    def _summary(self) -> SeriesSummary:
        fields = self.fields
        first = min(self._chapters(), key=lambda chapter: chapter.number, default=None)
        return SeriesSummary(
            id=self.id,
            slug=fields.slug,
            title=fields.title,
            kind=fields.kind,
            status=fields.status,
            rating=fields.rating,
            language=fields.language,
            description=fields.description,
            aliases=fields.aliases,
            creators=fields.creators,
            categories=fields.categories,
            cover_url=first.cover_url if first else None,
            chapter_count=len(self.chapters),
            published=self.published,
            created_at=self.created_at,
            updated_at=self.updated_at,
        )

    def _chapters(self) -> list[ChapterSummary]:
        return [entry.chapter for entry in self.chapters.values()]

    def _volumes(self) -> tuple[Volume, ...]:
        volumes: dict[int | None, list[ChapterSummary]] = {}
        for entry in self.chapters.values():
            volumes.setdefault(entry.volume, []).append(entry.chapter)
        ordered = sorted(volumes, key=lambda number: (number is None, number or 0))
        return tuple(
            Volume(number, tuple(sorted(volumes[number], key=lambda c: (c.number, c.id))))
            for number in ordered
        )


class ChapterRow(Row, frozen=True, kw_only=True):
    table = "chapters"
    category = "chapter"
    columns = {
        "series_id": "text NOT NULL",
        "status": "text NOT NULL",
        "uploaded_by": "text NOT NULL",
        "images": "text[] NOT NULL",
        "detail": "bytea NOT NULL",
    }

    uploaded: ChapterUploaded
    uploaded_at: datetime
    status: ChapterStatus = "processing"
    approved_at: datetime | None = None
    pages: tuple[Page, ...] = ()

    def values(self) -> tuple[Any, ...]:
        images = [image_name(page) for page in self.pages]
        thumbnails = [thumbnail_name(page) for page in self.pages]
        return (
            self.uploaded.series_id,
            self.status,
            self.uploaded.uploaded_by,
            list(dict.fromkeys(images + thumbnails)),
            json.encode(self._detail()),
        )

    def summary(self, approved_at: datetime) -> ChapterSummary:
        return ChapterSummary(
            id=self.id,
            number=self.uploaded.number,
            title=self.uploaded.title,
            language=self.uploaded.language,
            page_count=len(self.pages),
            cover_url=image_url(self.id, thumbnail_name(self.pages[0])),
            approved_at=approved_at,
        )

    def _detail(self) -> ChapterDetail:
        return ChapterDetail(
            id=self.id,
            series_id=self.uploaded.series_id,
            number=self.uploaded.number,
            volume=self.uploaded.volume,
            title=self.uploaded.title,
            language=self.uploaded.language,
            status=self.status,
            uploaded_at=self.uploaded_at,
            approved_at=self.approved_at,
            pages=tuple(
                PageDetail(
                    number=page.number,
                    url=image_url(self.id, image_name(page)),
                    thumbnail_url=image_url(self.id, thumbnail_name(page)),
                    width=page.width,
                    height=page.height,
                    bytes=page.bytes,
                )
                for page in self.pages
            ),
        )


class Catalogue(ReadModel):
    """Series and chapters."""

    name = "catalogue"
    version = 5
    rows = (SeriesRow, ChapterRow)
    folds = (*Series.folds, *Chapter.folds)

    @classmethod
    def fold(cls, recorded: Recorded, rows: Rows) -> None:
        event = recorded.event
        if isinstance(event, Series.folds):
            _fold_series(recorded, rows)
        else:
            _fold_chapter(recorded, rows)


def _fold_series(recorded: Recorded, rows: Rows) -> None:
    at = recorded.recorded_at
    match recorded.event:
        case SeriesCreated() as event:
            rows.put(SeriesRow(id=event.series_id, fields=event, created_at=at, updated_at=at))
        case SeriesRevised() as event:
            row = _series(rows, event.series_id)
            fields = replace(row.fields, **revision(event))
            rows.put(replace(row, fields=fields, updated_at=at))
        case SeriesPublished() as event:
            rows.put(replace(_series(rows, event.series_id), published=True, updated_at=at))
        case SeriesUnpublished() as event:
            rows.put(replace(_series(rows, event.series_id), published=False, updated_at=at))
        case _:
            pass


def _fold_chapter(recorded: Recorded, rows: Rows) -> None:
    at = recorded.recorded_at
    match recorded.event:
        case ChapterUploaded() as event:
            rows.put(ChapterRow(id=event.chapter_id, uploaded=event, uploaded_at=at))
        case PagesRecorded() as event:
            row = _chapter(rows, event.chapter_id)
            rows.put(replace(row, pages=row.pages + event.pages))
        case ChapterProcessed() as event:
            rows.put(replace(_chapter(rows, event.chapter_id), status="pending"))
        case ChapterRefused() as event:
            found = rows.get(ChapterRow, event.chapter_id)
            if found is not None:  # else: deleted while its archive was examined
                rows.put(replace(found, status="refused"))
        case ChapterApproved() as event:
            row = replace(_chapter(rows, event.chapter_id), status="approved", approved_at=at)
            rows.put(row)
            series = _series(rows, row.uploaded.series_id)
            entry = _Entry(row.uploaded.volume, row.summary(at))
            rows.put(replace(series, chapters=series.chapters | {row.id: entry}, updated_at=at))
        case ChapterRejected() as event:
            rows.put(replace(_chapter(rows, event.chapter_id), status="rejected", pages=()))
        case ChapterDeleted() as event:
            row = _chapter(rows, event.chapter_id)
            rows.delete(ChapterRow, row.id)
            series = _series(rows, row.uploaded.series_id)
            if row.id in series.chapters:
                left = {key: value for key, value in series.chapters.items() if key != row.id}
                rows.put(replace(series, chapters=left, updated_at=at))
        case _:
            pass


def _series(rows: Rows, key: str) -> SeriesRow:
    row = rows.get(SeriesRow, key)
    if row is None:
        raise LookupError(f"no series {key}")
    return row


def _chapter(rows: Rows, key: str) -> ChapterRow:
    row = rows.get(ChapterRow, key)
    if row is None:
        raise LookupError(f"no chapter {key}")
    return row


def _fields(summary: SeriesSummary) -> dict[str, Any]:
    return {name: getattr(summary, name) for name in SeriesSummary.__struct_fields__}


def words(text: str) -> list[str]:
    """The words of a text as they are searched: letters and digits, without case and accents."""
    bare = "".join(c for c in normalize("NFKD", text.casefold()) if category(c) != "Mn")
    return re.findall(r"[^\W_]+", bare)


def image_name(page: Page) -> str:
    return f"{page.sha256}.{page.extension}"


def thumbnail_name(page: Page) -> str:
    return f"{page.thumbnail_sha256}.webp"


def image_url(chapter_id: str, name: str) -> str:
    return f"{API}/chapters/{chapter_id}/images/{name}"
