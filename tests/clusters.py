"""What the tests of the embedded PostgreSQL share."""

from contextlib import suppress
from pathlib import Path

import psycopg

from runtime.embedded import read_dsn

OWN = """
import signal, sys
from pathlib import Path
from runtime.embedded import EmbeddedPostgres
with EmbeddedPostgres(Path(sys.argv[1])) as server:
    print(server.dsn("owner"), flush=True)
    signal.pause()
"""
"""A script that runs a cluster until it is told to end."""


def query(dsn: str, statement: str) -> list[tuple[object, ...]]:
    """What a statement gives, on a connection of its own."""
    with psycopg.connect(dsn) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def write_a_row(dsn: str) -> None:
    """Write what `kept` looks for."""
    query(dsn, "CREATE TABLE kept (id int); INSERT INTO kept VALUES (42)")


def kept(data: Path) -> list[tuple[object, ...]]:
    """What is left of what `write_a_row` wrote."""
    return query(read_dsn(data, "owner"), "TABLE kept")


def postmaster(data: Path) -> int:
    return int((data / "postgres/cluster/postmaster.pid").read_text().split("\n")[0])


def cmdline(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def servers(data: Path) -> list[str]:
    """The command lines of all programs that were given something inside the folder."""
    found: list[str] = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            found.append(cmdline(int(process.name)))
    return [line for line in found if f"{data}/" in line]
