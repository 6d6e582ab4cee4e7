"""The folder of files on their way: what a killed process left there is swept out later."""

import shutil
from contextlib import suppress
from pathlib import Path

ABANDONED_SECONDS = 24 * 3_600
"""No upload and no job takes this long."""


def sweep(folder: Path, now: float) -> None:
    """Delete what nothing has touched for ABANDONED_SECONDS; `now` in seconds since the epoch."""
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # another process sweeps, or has just finished with it
            if now - path.stat().st_mtime < ABANDONED_SECONDS:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
