"""Series and their chapters: from an uploader's archive to what readers may see."""

import re
import unicodedata
from typing import Annotated, Any, Literal, Self

from msgspec import UNSET, Meta, Struct, UnsetType, field
from msgspec.structs import asdict, replace

from domain.kernel import Event, State

Kind = Literal["manga", "manhwa", "manhua", "comic", "webtoon"]
SeriesStatus = Literal["ongoing", "completed", "hiatus", "canceled"]
Rating = Literal["safe", "suggestive", "explicit"]
ChapterStatus = Literal["absent", "processing", "refused", "pending", "approved", "rejected"]

Title = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"\S")]
Names = Annotated[
    tuple[Annotated[str, Meta(min_length=1, max_length=120, pattern=r"\S")], ...],
    Meta(max_length=50),
]
Language = Annotated[
    str,
    Meta(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$(?!\n)", max_length=20, examples=["en", "ky"]),
]
Description = Annotated[str, Meta(max_length=5_000)]
ChapterNumber = Annotated[float, Meta(ge=0, le=100_000)]
VolumeNumber = Annotated[int, Meta(ge=0, le=10_000)]
Reason = Annotated[str, Meta(min_length=1, max_length=1_000, pattern=r"\S")]
Note = Annotated[str, Meta(max_length=1_000)]


class Finding(Struct, frozen=True):
    """What the examination of an archive noticed: a stable code, and where."""

    code: str
    detail: str = ""
    entry: str = ""


class Page(Struct, frozen=True):
    """One page's image and its thumbnail, both named by the SHA-256 of their bytes."""

    number: int
    name: str
    sha256: str
    extension: str
    width: int
    height: int
    bytes: int
    thumbnail_sha256: str
    thumbnail_bytes: int


class SeriesCreated(Event):
    series_id: str
    slug: str
    title: str
    kind: Kind
    status: SeriesStatus
    rating: Rating
    language: str
    description: str = ""
    aliases: tuple[str, ...] = ()
    creators: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    created_by: str


class SeriesRevised(Event):
    """Only the fields that changed are set."""

    series_id: str
    title: str | UnsetType = UNSET
    kind: Kind | UnsetType = UNSET
    status: SeriesStatus | UnsetType = UNSET
    rating: Rating | UnsetType = UNSET
    language: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    aliases: tuple[str, ...] | UnsetType = UNSET
    creators: tuple[str, ...] | UnsetType = UNSET
    categories: tuple[str, ...] | UnsetType = UNSET


class SeriesPublished(Event):
    series_id: str


class SeriesUnpublished(Event):
    series_id: str
    reason: str = ""


class SlugClaimed(Event):
    slug: str
    series_id: str


class ChapterUploaded(Event):
    chapter_id: str
    series_id: str
    number: float
    volume: int | None = None
    title: str = ""
    language: str
    archive: str
    archive_sha256: str
    archive_bytes: int
    uploaded_by: str


class PagesRecorded(Event):
    """Some of a chapter's pages; a long chapter has several of these."""

    chapter_id: str
    pages: tuple[Page, ...]


class ChapterProcessed(Event):
    chapter_id: str
    page_count: int
    notes: tuple[Finding, ...] = ()


class ChapterRefused(Event):
    chapter_id: str
    uploaded_by: str
    archive: str
    findings: tuple[Finding, ...]
    malicious: bool = False


class ChapterApproved(Event):
    chapter_id: str
    archive: str
    note: str = ""


class ChapterRejected(Event):
    chapter_id: str
    archive: str
    reason: str


class ChapterDeleted(Event):
    chapter_id: str
    archive: str
    reason: str = ""


class Series(State):
    """A series as the rules see it; readers see projections.catalogue."""

    folds = (SeriesCreated, SeriesRevised, SeriesPublished, SeriesUnpublished)

    created_by: str = ""
    slug: str = ""
    language: str = ""
    published: bool = False
    fields: dict[str, Any] = field(default_factory=dict[str, Any])

    def evolve(self, event: Event) -> Self:
        match event:
            case SeriesCreated():
                return replace(
                    self,
                    created_by=event.created_by,
                    slug=event.slug,
                    language=event.language,
                    fields=asdict(event),
                )
            case SeriesRevised():
                fields = self.fields | revision(event)
                return replace(self, language=fields["language"], fields=fields)
            case SeriesPublished():
                return replace(self, published=True)
            case SeriesUnpublished():
                return replace(self, published=False)
            case _:
                return self


class SlugClaim(State):
    """A series' name in addresses, taken once and for ever."""

    folds = (SlugClaimed,)
    key = "slug"
    claim = True

    series_id: str = ""

    def evolve(self, event: Event) -> Self:
        match event:
            case SlugClaimed():
                return replace(self, series_id=event.series_id)
            case _:
                return self


class Chapter(State):
    """A chapter as the rules see it; readers see projections.catalogue."""

    folds = (
        ChapterUploaded,
        PagesRecorded,
        ChapterProcessed,
        ChapterRefused,
        ChapterApproved,
        ChapterRejected,
        ChapterDeleted,
    )

    status: ChapterStatus = "absent"
    series_id: str = ""
    uploaded_by: str = ""
    archive: str = ""
    deleted: bool = False

    def evolve(self, event: Event) -> Self:
        match event:
            case ChapterUploaded():
                return replace(
                    self,
                    status="processing",
                    series_id=event.series_id,
                    uploaded_by=event.uploaded_by,
                    archive=event.archive,
                )
            case ChapterProcessed():
                return replace(self, status="pending")
            case ChapterRefused():
                return replace(self, status="refused")
            case ChapterApproved():
                return replace(self, status="approved")
            case ChapterRejected():
                return replace(self, status="rejected")
            case ChapterDeleted():
                return replace(self, deleted=True)
            case _:
                return self


def revision(event: SeriesRevised) -> dict[str, Any]:
    """The fields that a revision sets."""
    return {k: v for k, v in asdict(event).items() if v is not UNSET and k != "series_id"}


def archive_key(slug: str, volume: int | None, number: float, chapter_id: str) -> str:
    """Where a chapter's archive is kept until it is decided about."""
    return f"series/{slug}/{volume or 0}/{number:g}/{chapter_id}.zip"


MAX_SLUG_BYTES = 200
"""Leaves room for an id's tail within what a file system takes for one name."""


def slugify(title: str) -> str:
    """A title as it stands in an address: letters and digits of any script, and hyphens."""
    folded = unicodedata.normalize("NFKC", title).casefold()
    slug = re.sub(r"[\W_]+", "-", folded).strip("-")[:80]
    return slug.encode()[:MAX_SLUG_BYTES].decode(errors="ignore").strip("-") or "untitled"
