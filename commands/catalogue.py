"""Series and chapters: what may be asked, and the jobs that follow."""

from collections.abc import Iterator
from typing import Any

from msgspec import UNSET, UnsetType

from commands.kernel import Command, Context, Job, NewId, NotFound, command, job, policy
from domain.catalogue import (
    Chapter,
    ChapterApproved,
    ChapterDeleted,
    ChapterNumber,
    ChapterProcessed,
    ChapterRefused,
    ChapterRejected,
    ChapterUploaded,
    Description,
    Finding,
    Kind,
    Language,
    Names,
    Note,
    Page,
    PagesRecorded,
    Rating,
    Reason,
    Series,
    SeriesCreated,
    SeriesPublished,
    SeriesRevised,
    SeriesStatus,
    SeriesUnpublished,
    SlugClaim,
    SlugClaimed,
    Title,
    VolumeNumber,
    archive_key,
    slugify,
)
from domain.kernel import Event, require

PAGES_PER_EVENT = 60
"""Keeps an event of pages with the longest names below the log's limit for one event."""


def require_seen(ctx: Context, series: Series, chapter: Chapter | None = None) -> None:
    """Refuse what readers and the actor do not see as if it were not there."""
    if chapter is None:
        noun, owner, public = "series", series.created_by, series.published
    else:
        shown = chapter.status == "approved" and not chapter.deleted
        noun, owner, public = "chapter", chapter.uploaded_by, shown and series.published
    if not (public or owner == ctx.actor or ctx.may("moderation.read")):
        raise NotFound(noun)


@command(
    post="/series", needs="catalogue.create", status=201, series_id=Series, wanted_slug=SlugClaim
)
class CreateSeries(Command):
    """Create a series; readers see it once it is published."""

    series_id: NewId = ""
    title: Title
    kind: Kind
    status: SeriesStatus
    rating: Rating
    language: Language
    description: Description = ""
    aliases: Names = ()
    creators: Names = ()
    categories: Names = ()

    @property
    def wanted_slug(self) -> str:
        return slugify(self.title)

    def decide(self, series: Series, claim: SlugClaim, ctx: Context) -> Iterator[Event]:
        if series.created_by:
            return
        slug = self.wanted_slug
        if claim.series_id:
            slug = f"{slug}-{self.series_id[-8:]}"
        yield SlugClaimed(slug=slug, series_id=self.series_id)
        yield SeriesCreated(
            series_id=self.series_id,
            slug=slug,
            title=self.title,
            kind=self.kind,
            status=self.status,
            rating=self.rating,
            language=self.language,
            description=self.description,
            aliases=self.aliases,
            creators=self.creators,
            categories=self.categories,
            created_by=ctx.actor,
        )


@command(patch="/series/{series_id}", needs="catalogue.create", series_id=Series)
class ReviseSeries(Command):
    """Change a series' description; its address stays."""

    series_id: str
    title: Title | UnsetType = UNSET
    kind: Kind | UnsetType = UNSET
    status: SeriesStatus | UnsetType = UNSET
    rating: Rating | UnsetType = UNSET
    language: Language | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    aliases: Names | UnsetType = UNSET
    creators: Names | UnsetType = UNSET
    categories: Names | UnsetType = UNSET

    def decide(self, series: Series, ctx: Context) -> Iterator[Event]:
        require_seen(ctx, series)
        require(series.created_by == ctx.actor or ctx.may("catalogue.publish"), "not_your_series")
        changed: dict[str, Any] = {
            name: value
            for name in self.__struct_fields__[1:]
            if (value := getattr(self, name)) is not UNSET and value != series.fields[name]
        }
        if changed:
            yield SeriesRevised(series_id=self.series_id, **changed)


@command(post="/series/{series_id}/publication", needs="catalogue.publish", series_id=Series)
class PublishSeries(Command):
    """Show a series, with its approved chapters, to readers."""

    series_id: str

    def decide(self, series: Series, ctx: Context) -> Iterator[Event]:
        if not series.published:
            yield SeriesPublished(series_id=self.series_id)


@command(delete="/series/{series_id}/publication", needs="catalogue.publish", series_id=Series)
class UnpublishSeries(Command):
    """Hide a series from readers, saying why unless it is one's own."""

    series_id: str
    reason: Reason | None = None

    def decide(self, series: Series, ctx: Context) -> Iterator[Event]:
        if series.published:
            require(self.reason or series.created_by == ctx.actor, "reason_required")
            yield SeriesUnpublished(series_id=self.series_id, reason=self.reason or "")


@command(needs="catalogue.upload", series_id=Series, chapter_id=Chapter)
class UploadChapter(Command):
    """Hand in a chapter, whose archive is already in the blob store."""

    chapter_id: NewId = ""
    series_id: str
    number: ChapterNumber
    volume: VolumeNumber | None = None
    title: Title | None = None
    language: Language | None = None
    archive_sha256: str
    archive_bytes: int

    def decide(self, series: Series, chapter: Chapter, ctx: Context) -> Iterator[Event]:
        if chapter.status != "absent":
            return
        require_seen(ctx, series)
        yield ChapterUploaded(
            chapter_id=self.chapter_id,
            series_id=self.series_id,
            number=self.number,
            volume=self.volume,
            title=self.title or "",
            language=self.language or series.language,
            archive=archive_key(series.slug, self.volume, self.number, self.chapter_id),
            archive_sha256=self.archive_sha256,
            archive_bytes=self.archive_bytes,
            uploaded_by=ctx.actor,
        )


@command(chapter_id=Chapter)
class RecordPages(Command):
    """Record the pages found in an archive; the chapter then waits for a moderator."""

    chapter_id: str
    pages: tuple[Page, ...]
    notes: tuple[Finding, ...] = ()

    def decide(self, chapter: Chapter, ctx: Context) -> Iterator[Event]:
        if chapter.status != "processing" or chapter.deleted:
            return
        for start in range(0, len(self.pages), PAGES_PER_EVENT):
            yield PagesRecorded(
                chapter_id=self.chapter_id, pages=self.pages[start : start + PAGES_PER_EVENT]
            )
        yield ChapterProcessed(
            chapter_id=self.chapter_id, page_count=len(self.pages), notes=self.notes
        )


@command(chapter_id=Chapter)
class RefuseChapter(Command):
    """Refuse a chapter whose archive can't be taken."""

    chapter_id: str
    findings: tuple[Finding, ...]
    malicious: bool = False

    def decide(self, chapter: Chapter, ctx: Context) -> Iterator[Event]:
        if chapter.status == "processing":
            yield ChapterRefused(
                chapter_id=self.chapter_id,
                uploaded_by=chapter.uploaded_by,
                archive=chapter.archive,
                findings=self.findings,
                malicious=self.malicious,
            )


@command(post="/chapters/{chapter_id}/approval", needs="catalogue.approve", chapter_id=Chapter)
class ApproveChapter(Command):
    """Make a reviewed chapter visible to readers."""

    chapter_id: str
    note: Note = ""

    def decide(self, chapter: Chapter, ctx: Context) -> Iterator[Event]:
        require(not chapter.deleted, "chapter_deleted")
        if chapter.status == "approved":
            return  # repeating is harmless
        require(chapter.status == "pending", "chapter_not_pending", status=chapter.status)
        require(chapter.uploaded_by != ctx.actor, "own_upload")
        yield ChapterApproved(chapter_id=self.chapter_id, archive=chapter.archive, note=self.note)


@command(post="/chapters/{chapter_id}/rejection", needs="catalogue.approve", chapter_id=Chapter)
class RejectChapter(Command):
    """Send a chapter back to its uploader, saying why."""

    chapter_id: str
    reason: Reason

    def decide(self, chapter: Chapter, ctx: Context) -> Iterator[Event]:
        require(not chapter.deleted, "chapter_deleted")
        if chapter.status == "rejected":
            return
        require(chapter.status == "pending", "chapter_not_pending", status=chapter.status)
        require(chapter.uploaded_by != ctx.actor, "own_upload")
        yield ChapterRejected(
            chapter_id=self.chapter_id, archive=chapter.archive, reason=self.reason
        )


@command(
    delete="/chapters/{chapter_id}",
    needs="catalogue.upload",
    chapter_id=Chapter,
    series_id=Series,
)
class DeleteChapter(Command):
    """Take a chapter away, as its uploader, or as a moderator saying why; the log keeps it all."""

    chapter_id: str
    reason: Reason | None = None

    def decide(self, chapter: Chapter, series: Series, ctx: Context) -> Iterator[Event]:
        require_seen(ctx, series, chapter)
        own = chapter.uploaded_by == ctx.actor
        require(own or ctx.may("catalogue.approve"), "not_your_chapter")
        if not chapter.deleted:
            require(self.reason or own, "reason_required")
            yield ChapterDeleted(
                chapter_id=self.chapter_id, archive=chapter.archive, reason=self.reason or ""
            )


@job
class ProcessArchive(Job):
    """Examine a chapter's archive, store its pages, and report back."""

    chapter_id: str
    archive: str


@job
class DiscardArchive(Job):
    """Delete an archive that nobody needs any more."""

    archive: str


@job
class ReleasePages(Job):
    """Give up a chapter's pages; those that no other chapter uses are deleted."""

    chapter_id: str


@policy(ChapterUploaded)
def process_uploaded_archive(event: ChapterUploaded) -> Iterator[Job]:
    yield ProcessArchive(chapter_id=event.chapter_id, archive=event.archive)


@policy(ChapterApproved)
def discard_approved_archive(event: ChapterApproved) -> Iterator[Job]:
    """The pages are the work now; until approval the archive is kept for a second look."""
    yield DiscardArchive(archive=event.archive)


@policy(ChapterRefused)
def discard_refused_archive(event: ChapterRefused) -> Iterator[Job]:
    yield DiscardArchive(archive=event.archive)


@policy(ChapterRejected)
def clear_rejected_chapter(event: ChapterRejected) -> Iterator[Job]:
    yield DiscardArchive(archive=event.archive)
    yield ReleasePages(chapter_id=event.chapter_id)


@policy(ChapterDeleted)
def clear_deleted_chapter(event: ChapterDeleted) -> Iterator[Job]:
    yield DiscardArchive(archive=event.archive)
    yield ReleasePages(chapter_id=event.chapter_id)
