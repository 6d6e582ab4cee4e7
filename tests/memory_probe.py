"""Prepare archives in a fresh process and print the peak memory above idle of each, as JSON.

Arguments: a workdir, a small honest archive to warm up with, the archives. Counts this process and
its decoders, in bytes: each at its own peak, and, as sampled, all of them at the same time.
"""

import json
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

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


def _watch(processes: list[int], ended: Event, sampled: list[int]) -> None:
    while not ended.wait(0.001):
        with suppress(FileNotFoundError):  # a decoder was replaced
            sampled.append(_sum("VmRSS", processes))


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
            ended, sampled = Event(), [idle]
            watching = Thread(target=_watch, args=(processes, ended, sampled))
            watching.start()
            accepted = _prepare(archive, workdir, decoders)
            ended.set()
            watching.join()
            peak = _sum("VmHWM", [os.getpid(), *decoders.processes()])
            measured[archive.name] = {
                "accepted": accepted,
                "above_idle": peak - idle,
                "together_above_idle": max(sampled) - idle,
            }
    json.dump(measured, sys.stdout)


if __name__ == "__main__":
    main()
