"""A whole site in one folder: its parts know where its database is, also after it moved."""

import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.embedded import EmbeddedPostgres
from runtime.onesite import Database
from runtime.settings import Settings
from runtime.supervisor import Child, ChildProcess
from tests.processes import open_folder, until

PART = """
import os, signal, sys
with open(sys.argv[1], "a") as file:
    file.write(os.environ["IMPRIMATUR_DSN"] + "\\n")
signal.pause()
"""


class Moving:
    """A database that can be killed, and a part of the site that uses it."""

    def __init__(self, folder: Path) -> None:
        self._told = folder / "told"
        self._told.touch()
        self._pid_file = folder / "site/postgres/cluster/postmaster.pid"
        self.postgres = EmbeddedPostgres(folder / "site")
        self.part = ChildProcess(Child("part", (sys.executable, "-c", PART, str(self._told))))
        self.database = Database(self.postgres, Settings(), [self.part])

    def start(self) -> None:
        """Do what a supervisor does: start what does not run, in order."""
        self.database.start()
        self.part.start()

    def kill(self) -> None:
        """Kill the database; returns when it has let go of its port."""
        os.kill(int(self._pid_file.read_text().splitlines()[0]), signal.SIGKILL)
        until(lambda: not self.database.running())

    def told(self) -> list[str]:
        """The address of the database that each run of the part was told."""
        return self._told.read_text().split()

    def stop(self) -> None:
        self.part.stop()
        self.database.stop()


@pytest.fixture
def moving() -> Iterator[Moving]:
    with open_folder() as folder:
        moving = Moving(folder)
        try:
            moving.start()
            until(lambda: len(moving.told()) == 1)
            yield moving
        finally:
            moving.stop()


def port_of(dsn: str) -> int:
    return int(dsn.rpartition(":")[2].partition("/")[0])


def test_a_database_that_was_killed_comes_back_on_its_port_and_the_parts_go_on(moving: Moving):
    before = moving.postgres.dsn("app")
    moving.kill()
    moving.start()
    assert moving.postgres.dsn("app") == before
    assert moving.part.running()
    assert moving.told() == [before]


def test_where_its_port_was_taken_the_parts_start_anew_with_the_new_one(moving: Moving):
    before = moving.postgres.dsn("app")
    moving.kill()
    with socket.create_server(("127.0.0.1", port_of(before))):
        moving.start()
    after = moving.postgres.dsn("app")
    assert after != before
    until(lambda: moving.told() == [before, after])
    assert moving.part.running()
