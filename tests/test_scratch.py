"""Sweeping what was cut off on its way in."""

import os
from pathlib import Path

from psycopg import Connection
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool

from domain.tenancy import MAIN
from ingest.chapters import ChapterIngest
from ingest.images import DecoderPool
from ingest.keys import tenant_key
from ingest.references import BlobReferences
from ingest.scratch import ABANDONED_SECONDS, sweep
from runtime.ids import uuid7
from tests.database import Database
from tests.processes import open_folder
from tests.workshop import Workshop

NOW = 1_800_000_000.0


def _left(path: Path, seconds_ago: float) -> Path:
    os.utime(path, (NOW - seconds_ago, NOW - seconds_ago))
    return path


def test_only_what_was_abandoned_is_swept(tmp_path: Path) -> None:
    (tmp_path / "upload-old").write_bytes(b"half an archive")
    (tmp_path / "upload-new").write_bytes(b"half an archive")
    (tmp_path / "chapter-old").mkdir()
    (tmp_path / "chapter-old" / "0001.jpg").write_bytes(b"a page")
    _left(tmp_path / "upload-old", ABANDONED_SECONDS + 1)
    _left(tmp_path / "chapter-old", ABANDONED_SECONDS + 1)
    _left(tmp_path / "upload-new", ABANDONED_SECONDS - 1)
    sweep(tmp_path, NOW)
    assert [path.name for path in tmp_path.iterdir()] == ["upload-new"]


def test_only_archives_that_no_chapter_came_of_are_swept(database: Database) -> None:
    with open_folder() as folder, DecoderPool(1) as decoders:
        place = Workshop(database, folder)
        place.open()
        recorded = place.archive(place.upload(1))
        source = folder / "an archive"
        source.write_bytes(b"an archive")
        old, new = (
            tenant_key(MAIN, f"series/one/0/9/{uuid7(int(at * 1000), 1)}.zip") for at in (0, NOW)
        )
        for key in (old, new):
            place.store.put(key, source, "application/zip")
        with ConnectionPool[Connection[TupleRow]](database.app, open=True) as pool:
            references = BlobReferences(pool, place.store)
            ingest = ChapterIngest(place.bus, place.store, references, decoders, folder)
            place.do(ingest.sweep(MAIN, NOW))
        assert place.blobs()[0] == {recorded, new}
        place.close()
