"""What a worker does about chapters: read an archive, keep its pages, let go of them again."""

import asyncio
import logging
import tempfile
from pathlib import Path, PurePosixPath
from uuid import UUID

from commands.bus import Bus, Envelope, KeyReused
from commands.catalogue import (
    DiscardArchive,
    ProcessArchive,
    RecordPages,
    RefuseChapter,
    ReleasePages,
)
from commands.kernel import SYSTEM, Command, Origin
from domain.catalogue import Chapter, Page
from ingest.archive import ArchiveRefused, PreparedChapter, PreparedPage, prepare_chapter
from ingest.blobs import BlobNotFound, BlobStore
from ingest.images import DecoderPool
from ingest.keys import page_key, tenant_key
from ingest.references import BlobReferences, StoredFile
from ingest.refusal import bounded
from ingest.scratch import ABANDONED_SECONDS

ARCHIVES = "series/"
PREFIX = "chapter-"

MAX_NAME = 120
"""What is kept of an entry's name: its end, which tells pages apart."""

logger = logging.getLogger(__name__)


class ChapterIngest:
    """Runs the catalogue's jobs; each may run again after a crash and then changes nothing."""

    def __init__(
        self,
        bus: Bus,
        store: BlobStore,
        references: BlobReferences,
        decoders: DecoderPool,
        scratch: Path,
    ) -> None:
        self._bus = bus
        self._store = store
        self._references = references
        self._decoders = decoders
        self._scratch = scratch

    async def process(self, job: ProcessArchive, origin: Origin) -> None:
        """Examine an archive, hold its pages, and report what was found."""
        with tempfile.TemporaryDirectory(dir=self._scratch, prefix=PREFIX) as folder:
            archive, workdir = Path(folder) / "archive.zip", Path(folder) / "pages"
            workdir.mkdir()
            try:
                await asyncio.to_thread(
                    self._fetch, tenant_key(origin.tenant, job.archive), archive
                )
                prepared = await asyncio.to_thread(
                    prepare_chapter, archive, workdir, self._decoders
                )
            except BlobNotFound:
                # Gone with a decision that was made before this job could end.
                if await self._is_awaited(job.chapter_id, origin.tenant):
                    raise
                await self._let_go_if_unwanted(job.chapter_id, origin.tenant)
                return
            except ArchiveRefused as refused:
                report = RefuseChapter(
                    chapter_id=job.chapter_id,
                    findings=bounded(refused.findings),
                    malicious=refused.malicious,
                )
                await self._report(report, origin)
                return
            await asyncio.to_thread(
                self._references.hold, job.chapter_id, _files(origin.tenant, prepared)
            )
        await self._report(_pages(job.chapter_id, prepared), origin)
        await self._let_go_if_unwanted(job.chapter_id, origin.tenant)

    async def sweep(self, tenant: str, now: float) -> None:
        """Delete a tenant's archives that no chapter came of; `now` in seconds since the epoch.

        An upload that is cut off between storing its archive and recording it leaves one.
        """
        prefix = tenant_key(tenant, ARCHIVES)
        for key in await asyncio.to_thread(lambda: list(self._store.keys(prefix))):
            chapter_id = PurePosixPath(key).stem
            abandoned = now - made_at(chapter_id) > ABANDONED_SECONDS
            if abandoned and await self._bus.state(Chapter, chapter_id, tenant) is None:
                await self._delete(key)

    async def discard(self, job: DiscardArchive, origin: Origin) -> None:
        """Delete an archive."""
        await self._delete(tenant_key(origin.tenant, job.archive))

    async def _delete(self, key: str) -> None:
        await asyncio.to_thread(self._store.delete, key)

    async def release(self, job: ReleasePages) -> None:
        """Let go of a chapter's pages."""
        await asyncio.to_thread(self._references.release, job.chapter_id)

    async def _report(self, command: Command, origin: Origin) -> None:
        envelope = Envelope(
            actor=SYSTEM,
            tenant=origin.tenant,
            command_id=f"job:{origin.key}:{type(command).__name__}",
            correlation_id=origin.correlation_id,
            causation_id=str(origin.position),
        )
        try:
            await self._bus.handle(command, envelope)
        except KeyReused:  # the archive was read otherwise before this job was cut off
            logger.warning("%s was reported on before", origin.key)

    async def _is_awaited(self, chapter_id: str, tenant: str) -> bool:
        """Whether the archive still has to be examined."""
        chapter = await self._bus.state(Chapter, chapter_id, tenant)
        return chapter is not None and chapter.status == "processing" and not chapter.deleted

    async def _let_go_if_unwanted(self, chapter_id: str, tenant: str) -> None:
        """Leave no pages of a chapter that was rejected or deleted meanwhile."""
        chapter = await self._bus.state(Chapter, chapter_id, tenant)
        if chapter is None or chapter.status == "rejected" or chapter.deleted:
            await self.release(ReleasePages(chapter_id=chapter_id))

    def _fetch(self, key: str, target: Path) -> None:
        with self._store.open(key) as reader, target.open("wb") as file:
            for chunk in reader:
                file.write(chunk)


def made_at(identifier: str) -> float:
    """When an id was made, which a version 7 UUID begins with, in seconds since the epoch."""
    return (UUID(identifier).int >> 80) / 1_000


def _files(tenant: str, prepared: PreparedChapter) -> list[StoredFile]:
    """The images and thumbnails of a chapter, under the keys they are kept by."""
    files: list[StoredFile] = []
    for page in prepared.pages:
        image, thumbnail = f"{page.sha256}.{page.extension}", f"{page.thumbnail_sha256}.webp"
        files += [
            StoredFile(page_key(tenant, image), page.path, page.media_type, page.bytes),
            StoredFile(
                page_key(tenant, thumbnail), page.thumbnail_path, "image/webp", page.thumbnail_bytes
            ),
        ]
    return files


def _pages(chapter_id: str, prepared: PreparedChapter) -> RecordPages:
    pages = tuple(_page(page) for page in prepared.pages)
    return RecordPages(chapter_id=chapter_id, pages=pages, notes=bounded(prepared.notes))


def _page(page: PreparedPage) -> Page:
    return Page(
        number=page.number,
        name=page.name[-MAX_NAME:],
        sha256=page.sha256,
        extension=page.extension,
        width=page.width,
        height=page.height,
        bytes=page.bytes,
        thumbnail_sha256=page.thumbnail_sha256,
        thumbnail_bytes=page.thumbnail_bytes,
    )
