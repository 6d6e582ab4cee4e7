"""Servers that a crash left running on a cluster, told by their command lines, and their end."""

import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

from runtime.lifeline import StopStep, wait_for


class ServerStillRunning(Exception):
    """A server of this folder, left behind by a crash, can't be ended."""


def cluster_name(cluster: Path) -> str:
    """The name by which the processes that serve a cluster call themselves."""
    return f"imprimatur-{sha256(os.fsencode(cluster)).hexdigest()[:16]}"


def end_left_behind(cluster: Path, uid: int, steps: Sequence[StopStep]) -> None:
    """End what a crash left running on this cluster, then take away its pid file."""
    for step in (*steps, StopStep(signal.SIGKILL, 10.0)):
        targets = [
            pid
            for pid, is_postmaster in _servers(cluster, uid)
            # To the postmaster's own children SIGINT has other meanings.
            if is_postmaster or step.signal != signal.SIGINT
        ]
        for pid in targets:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, step.signal)
        if wait_for(lambda: not any(_servers(cluster, uid)), step.grace if targets else 0.0):
            break
    else:
        raise ServerStillRunning(f"processes of a former PostgreSQL on {cluster} do not end")
    # PostgreSQL takes any live process of its user for its predecessor. Where processes can't be
    # looked up, its word is the last.
    if Path("/proc/self").exists():
        (cluster / "postmaster.pid").unlink(missing_ok=True)


def _servers(cluster: Path, uid: int) -> Iterator[tuple[int, bool]]:
    """The processes that serve this very cluster, each with whether it is a postmaster."""
    title = f"postgres: {cluster_name(cluster)}: ".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            owner = process.stat().st_uid
            arguments = (process / "cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
        program = Path(os.fsdecode(arguments[0])).name
        is_postmaster = (program, *arguments[1:3]) == ("postgres", b"-D", os.fsencode(cluster))
        if owner == uid and (is_postmaster or arguments[0].startswith(title)):
            yield int(process.name), is_postmaster
