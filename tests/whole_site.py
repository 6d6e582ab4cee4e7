"""A whole site as `imprimatur up` runs it: one process, whose parts can be killed."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from tests.processes import PROJECT, is_alive, until

IMPRIMATUR = (sys.executable, "-m", "runtime.cli")

READY_SECONDS = 60.0
END_SECONDS = 60.0


def bare_environment(**settings: str) -> dict[str, str]:
    """This process's environment with these settings of a site, and no others."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("IMPRIMATUR_")}
    return kept | {"COLUMNS": "80"} | settings


def imprimatur(
    *arguments: str, stdin: str = "", **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run a command of the command line to its end."""
    return subprocess.run(
        [*IMPRIMATUR, *arguments],
        cwd=PROJECT,
        env=bare_environment(**settings),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def descendants(pid: int) -> list[int]:
    """The processes that a process started, and those that they started."""
    found = [pid]
    for ancestor in found:
        for thread in Path(f"/proc/{ancestor}/task").glob("*/children"):
            with suppress(FileNotFoundError, ProcessLookupError):
                found += map(int, thread.read_text().split())
    return found[1:]


def at_work_in(folder: Path) -> list[int]:
    """The processes that were told about a folder when they were started."""
    found: list[int] = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            told = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            if os.fsencode(folder) in told:
                found.append(int(process.name))
    return found


class WholeSite:
    """A site in a folder."""

    def __init__(self, data: Path, port: int) -> None:
        self.data = data
        self.url = f"http://127.0.0.1:{port}"
        self._client = httpx.Client(base_url=self.url)
        self._arguments = ("up", "--data", str(data), "--port", str(port))
        self._output = data.with_name(f"{data.name}.output")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Run the site; returns when it is ready."""
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                [*IMPRIMATUR, *self._arguments],
                cwd=PROJECT,
                env=bare_environment(IMPRIMATUR_RATE_LIMITS="off"),
                stdout=output,
                stderr=output,
            )
        until(lambda: self.is_ready() or self._has_ended(), READY_SECONDS)
        assert not self._has_ended(), self.said

    def is_ready(self) -> bool:
        """Whether the site serves, and its database does."""
        with suppress(httpx.TransportError):
            return self._client.get("/api/v1/health").is_success
        return False

    def stop(self) -> int:
        """End the site as an operator does; returns its exit status."""
        assert self._process is not None
        self._client.close()
        self._process.terminate()
        status = self._process.wait(END_SECONDS)
        assert at_work_in(self.data) == [], "something of the site is still running"
        return status

    def pid_of(self, part: str) -> int | None:
        """The process of a part of the site, if it runs."""
        if part == "postgres":
            return self._postmaster()
        for pid in descendants(self.pid):
            with suppress(FileNotFoundError, ProcessLookupError):
                arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if arguments[1:4] == [b"-m", b"runtime.cli", part.encode()]:
                    return pid
        return None

    def kill(self, part: str) -> None:
        """`kill -9` a part; returns when another one runs in its place."""
        killed = self.pid_of(part)
        assert killed is not None, f"{part} does not run"
        os.kill(killed, signal.SIGKILL)
        until(lambda: self.pid_of(part) not in (None, killed))

    def kill_whole(self) -> None:
        """`kill -9` the process that runs the site, and run it again."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(END_SECONDS)
        self.start()

    @property
    def said(self) -> str:
        """What all processes of the site wrote while they ran."""
        return self._output.read_text(errors="replace")

    def _has_ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def _postmaster(self) -> int | None:
        file = self.data / "postgres" / "cluster" / "postmaster.pid"
        with suppress(FileNotFoundError, IndexError):
            pid = int(file.read_text().splitlines()[0])
            return pid if is_alive(pid) else None
        return None


@contextmanager
def whole_site(folder: Path) -> Generator[WholeSite]:
    """A site that runs while the block does."""
    site = WholeSite(folder / "site", free_port())
    site.start()
    try:
        yield site
    finally:
        if is_alive(site.pid):
            site.stop()
