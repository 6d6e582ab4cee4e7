"""What tests of processes share: folders, waiting, and scripts run by another Python."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

PROJECT = Path(__file__).parent.parent

AS_ORDINARY_USER = (
    "setpriv --reuid=nobody --regid=65534 --clear-groups "
    # So that the user can read an interpreter which is installed below a closed folder.
    "--inh-caps=+dac_read_search --ambient-caps=+dac_read_search"
    if os.geteuid() == 0
    else ""
).split()
"""What makes a command run as an ordinary user, whoever runs the tests."""


@contextmanager
def open_folder() -> Generator[Path]:
    """A temporary folder that every user can pass through, which pytest's own is not."""
    folder = Path(tempfile.mkdtemp(prefix="imprimatur-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that ended and was not yet waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state.rpartition(")")[2].split()[0] != "Z"


@contextmanager
def running(
    script: str, *arguments: str, prefix: Sequence[str] = ()
) -> Generator[subprocess.Popen[str]]:
    """Run a script, in a process group of its own, and end it with the block."""
    process = subprocess.Popen(
        [*prefix, sys.executable, "-c", script, *arguments],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()
