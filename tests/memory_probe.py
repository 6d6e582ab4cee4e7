"""Prepare archives in a fresh process and print the peak memory above idle of each, as JSON.

Arguments: a workdir, a small honest archive to warm up with, the archives. Counts this process and
its decoders, each at its own peak, in bytes.
"""

import json
import os
import shutil
import sys
from pathlib import Path

from ingest.archive import ArchiveRefused, prepare_chapter
from ingest.images import DecoderPool


def _sum(field: str, processes: list[int]) -> int:
    total = 0
    for process in processes:
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith(field):
                total += int(line.split()[1]) * 1024
    return total


def _prepare(archive: Path, workdir: Path, decoders: DecoderPool) -> bool:
    workdir.mkdir()
    try:
        prepare_chapter(archive, workdir, decoders)
    except ArchiveRefused:
        return False
    finally:
        shutil.rmtree(workdir)
    return True


def main() -> None:
    """Measure one archive after the other."""
    workdir, warm_up, *archives = map(Path, sys.argv[1:])
    measured: dict[str, dict[str, int | bool]] = {}
    with DecoderPool() as decoders:
        _prepare(warm_up, workdir, decoders)
        for archive in archives:
            processes = [os.getpid(), *decoders.processes()]
            for process in processes:
                Path(f"/proc/{process}/clear_refs").write_text("5")
            idle = _sum("VmRSS", processes)
            accepted = _prepare(archive, workdir, decoders)
            peak = _sum("VmHWM", [os.getpid(), *decoders.processes()])
            measured[archive.name] = {"accepted": accepted, "above_idle": peak - idle}
    json.dump(measured, sys.stdout)


if __name__ == "__main__":
    main()
