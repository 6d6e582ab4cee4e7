"""How fast pages are ingested, beside a bare loop that does only what cannot be left out."""

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZIP_DEFLATED, ZipFile

import uvloop
from PIL import Image, ImageChops, ImageOps
from psycopg import Connection
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool

from commands.bus import Bus, Envelope
from commands.catalogue import CreateSeries, ProcessArchive, ReleasePages, UploadChapter
from commands.kernel import SYSTEM, Origin
from domain.catalogue import Chapter
from domain.tenancy import MAIN
from ingest.blobs import DirectoryStore
from ingest.chapters import ChapterIngest
from ingest.images import DecoderPool
from ingest.keys import tenant_key
from ingest.references import BlobReferences
from ingest.samples import page
from runtime.ids import new_id
from runtime.settings import Settings
from runtime.wiring import open_bus, open_pool
from tests.benchmarks.children import apart, end_with_parent, in_process
from tests.benchmarks.figures import Figure, Sizes, interleaved, rate
from tests.benchmarks.stage import staged
from tests.database import Server

CHAPTERS = 4
AT_ONCE = 2
"""Chapters processed at the same time, as a worker does; and the bare loop's processes."""

PAGE = (1_115, 1_600)
THUMBNAIL = (320, 480)
KINDS = ("JPEG", "PNG")


def ingestion(server: Server, sizes: Sizes) -> Iterator[Figure]:
    """Whole jobs, from the archive in the store to the command that reports its pages."""
    with staged(server) as stage, TemporaryDirectory() as folder, apart() as pool:
        ingest = in_process(pool, ingested_per_second)
        for kind in KINDS:
            archives = [Path(folder) / f"{kind}-{number}.zip" for number in range(CHAPTERS)]
            for archive in archives:
                _pack(archive, kind, sizes.pages)
            found = interleaved(
                {
                    "site": partial(ingest, stage.settings, archives, sizes.pages),
                    "bare": partial(bare_per_second, archives, sizes.pages),
                }
            )
            yield rate(
                f"{kind} pages ingested, 2 cores",
                found["site"],
                "bare loop, 2 processes",
                found["bare"],
                at_least=0.85,
            )


def _pack(path: Path, kind: str, pages: int) -> None:
    """A chapter of drawn pages with the grain of a scan, each different."""
    grain = Image.effect_noise(PAGE, 20).convert("RGB")
    with ZipFile(path, "w", ZIP_DEFLATED, compresslevel=1) as archive:
        for number in range(1, pages + 1):
            drawn = Image.open(BytesIO(page(f"{path.stem} {number}", PAGE)))
            scan = ImageChops.add(drawn, grain, scale=1, offset=-128)
            file = BytesIO()
            if kind == "PNG":
                ImageOps.posterize(scan.convert("L"), 4).save(file, kind, compress_level=1)
            else:
                scan.save(file, kind, quality=85)
            archive.writestr(f"{number:03}.{kind.lower()}", file.getvalue())


def ingested_per_second(settings: Settings, archives: Sequence[Path], pages: int) -> float:
    """How many pages a second become part of the site."""
    return len(archives) * pages / uvloop.run(_ingest(settings, archives))


async def _ingest(settings: Settings, archives: Sequence[Path]) -> float:
    async with _worker(settings) as (bus, ingest, store):
        system = Envelope(actor=SYSTEM)
        series = await bus.handle(
            CreateSeries(
                title=new_id(), kind="manga", status="ongoing", rating="safe", language="en"
            ),
            system,
        )
        jobs: list[ProcessArchive] = []
        for number, archive in enumerate(archives):
            upload = UploadChapter(
                series_id=series.id, number=number, archive_sha256="", archive_bytes=1
            )
            chapter_id = (await bus.handle(upload, system)).id
            chapter = await bus.state(Chapter, chapter_id, system.tenant)
            assert chapter is not None
            store.put(tenant_key(MAIN, chapter.archive), archive, "application/zip")
            jobs.append(ProcessArchive(chapter_id=chapter_id, archive=chapter.archive))
        free = asyncio.Semaphore(AT_ONCE)

        async def process(job: ProcessArchive) -> None:
            async with free:
                await ingest.process(job, Origin(0, MAIN, new_id(), new_id(), 0))

        begun = time.perf_counter()
        await asyncio.gather(*map(process, jobs))
        taken = time.perf_counter() - begun
        for job in jobs:
            chapter = await bus.state(Chapter, job.chapter_id, system.tenant)
            assert chapter is not None
            assert chapter.status == "pending"
            # The next round's pages are the same, and would not be stored again.
            await ingest.release(ReleasePages(chapter_id=job.chapter_id))
        return taken


@asynccontextmanager
async def _worker(
    settings: Settings,
) -> AsyncGenerator[tuple[Bus, ChapterIngest, DirectoryStore]]:
    """What a worker process carries chapters out with."""
    store = DirectoryStore(Path(settings.blob_dir))
    connections = ConnectionPool[Connection[TupleRow]](
        settings.dsn, min_size=1, max_size=AT_ONCE + 1, open=True
    )
    async with open_pool(settings) as pool, open_bus(settings, pool) as bus:
        with connections, DecoderPool() as decoders:
            references = BlobReferences(connections, store)
            scratch = settings.scratch()
            yield bus, ChapterIngest(bus, store, references, decoders, scratch), store


def bare_per_second(archives: Sequence[Path], pages: int) -> float:
    """How many pages a second processes of nothing else get through."""
    with ProcessPoolExecutor(AT_ONCE, get_context("spawn"), end_with_parent) as processes:
        list(processes.map(bare_loop, [()] * AT_ONCE, range(AT_ONCE)))
        begun = time.perf_counter()
        list(processes.map(bare_loop, [archives] * AT_ONCE, range(AT_ONCE)))
        return len(archives) * pages / (time.perf_counter() - begun)


def bare_loop(archives: Sequence[Path], share: int) -> None:
    """Inflate, hash, decode and shrink this process's share of the pages."""
    for path in archives:
        with ZipFile(path) as archive:
            for name in archive.namelist()[share::AT_ONCE]:
                content = archive.read(name)
                hashlib.sha256(content).hexdigest()
                image = Image.open(BytesIO(content))
                image.thumbnail(THUMBNAIL)
                image.save(BytesIO(), "WEBP", quality=80, method=2)
