"""The answers about series and chapters, as clients see them."""

from datetime import datetime

from msgspec import Struct

from domain.catalogue import ChapterStatus, Kind, Rating, SeriesStatus


class ChapterSummary(Struct, frozen=True, kw_only=True):
    """An approved chapter in its series' table of contents."""

    id: str
    number: float
    title: str
    language: str
    page_count: int
    cover_url: str
    approved_at: datetime


class Volume(Struct, frozen=True):
    """A volume and its approved chapters; chapters of no volume stand under number null."""

    number: int | None
    chapters: tuple[ChapterSummary, ...]


class SeriesSummary(Struct, frozen=True, kw_only=True):
    """A series as lists show it."""

    id: str
    slug: str
    title: str
    kind: Kind
    status: SeriesStatus
    rating: Rating
    language: str
    description: str
    aliases: tuple[str, ...]
    creators: tuple[str, ...]
    categories: tuple[str, ...]
    cover_url: str | None
    chapter_count: int
    published: bool
    created_at: datetime
    updated_at: datetime


class SeriesDetail(SeriesSummary, frozen=True, kw_only=True):
    """A series with its volumes and their approved chapters."""

    volumes: tuple[Volume, ...]


class PageDetail(Struct, frozen=True, kw_only=True):
    """A page: where its image and thumbnail are, and their size in pixels and bytes."""

    number: int
    url: str
    thumbnail_url: str
    width: int
    height: int
    bytes: int


class ChapterDetail(Struct, frozen=True, kw_only=True):
    """A chapter with its pages."""

    id: str
    series_id: str
    number: float
    volume: int | None
    title: str
    language: str
    status: ChapterStatus
    uploaded_at: datetime
    approved_at: datetime | None
    pages: tuple[PageDetail, ...]
