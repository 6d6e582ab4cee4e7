"""Sweeping the folder of files on their way."""

import os
from pathlib import Path

from ingest.scratch import ABANDONED_SECONDS, sweep

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
