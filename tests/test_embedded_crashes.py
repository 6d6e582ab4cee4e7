"""The embedded PostgreSQL: what it survives."""

import os
import signal
import subprocess
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest

from runtime.embedded import EmbeddedPostgres
from runtime.programs import wheel_install
from tests.clusters import OWN, cmdline, kept, postmaster, query, servers, write_a_row
from tests.processes import is_alive, open_folder, running, until


@pytest.fixture
def data() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder / "site"


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@contextmanager
def server_user(command: list[str]) -> Generator[subprocess.Popen[bytes]]:
    """A process of the user that PostgreSQL runs as."""
    user = 65_534 if os.geteuid() == 0 else None
    with subprocess.Popen(command, user=user, group=user, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def test_after_the_server_was_killed_under_load_it_starts_again(data: Path):
    with EmbeddedPostgres(data) as server:
        write_a_row(server.dsn("owner"))
        with closing(psycopg.connect(server.dsn("owner"))) as busy:
            # A backend deep in a computation does not notice that its postmaster is gone.
            busy.pgconn.send_query(b"DO 'BEGIN LOOP END LOOP; END'")
            backend = busy.info.backend_pid
            until(lambda: "DO" in cmdline(backend))
            os.kill(postmaster(data), signal.SIGKILL)
            until(lambda: not server.running())
            assert is_alive(backend)
            try:
                server.start()
                assert not is_alive(backend)
            finally:
                if is_alive(backend):
                    os.kill(backend, signal.SIGKILL)
        assert kept(data) == [(42,)]


def test_nothing_is_left_running_when_the_owner_is_killed(data: Path):
    with running(OWN, str(data)) as owner:
        assert owner.stdout is not None
        write_a_row(owner.stdout.readline().strip())
        owner.kill()
        until(lambda: not servers(data))
    with EmbeddedPostgres(data):
        assert kept(data) == [(42,)]


def test_the_next_owner_need_not_wait_for_what_the_last_one_left(data: Path):
    with running(OWN, str(data)) as owner:
        assert owner.stdout is not None
        write_a_row(owner.stdout.readline().strip())
        owner.kill()
        owner.wait()
        with EmbeddedPostgres(data):
            assert kept(data) == [(42,)]


def test_the_server_ends_even_when_its_watcher_is_killed(data: Path):
    with EmbeddedPostgres(data) as server:
        write_a_row(server.dsn("owner"))
        pid = postmaster(data)
        os.kill(parent(pid), signal.SIGKILL)
        until(lambda: not is_alive(pid))
        server.start()
        assert kept(data) == [(42,)]


def test_a_server_that_nobody_watches_is_ended_first(data: Path):
    with EmbeddedPostgres(data) as server:
        write_a_row(server.dsn("owner"))
    cluster = data / "postgres/cluster"
    port = (data / "postgres/port").read_text()
    command = [str(wheel_install() / "bin/postgres"), "-D", str(cluster), "-p", port]
    with server_user([*command, "-c", "unix_socket_directories="]) as orphan:
        until(lambda: (data / "postgres/cluster/postmaster.pid").exists())
        with EmbeddedPostgres(data):
            assert orphan.wait() == 0
            assert kept(data) == [(42,)]


def test_a_stale_pid_of_a_living_stranger_confuses_nobody(data: Path):
    server = EmbeddedPostgres(data)
    server.start()
    write_a_row(server.dsn("owner"))
    port = (data / "postgres/port").read_text()
    pid_file = data / "postgres/cluster/postmaster.pid"
    socket_lock = data / f"postgres/socket/.s.PGSQL.{port}.lock"
    left = {file: file.read_text() for file in (pid_file, socket_lock)}
    pid = postmaster(data)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not server.running())
    server.stop()
    with server_user(["/bin/sleep", "infinity"]) as stranger:
        for file, text in left.items():
            file.write_text(text.replace(str(pid), str(stranger.pid), 1))
            if os.geteuid() == 0:
                os.chown(file, 65_534, 65_534)
        with server:
            assert kept(data) == [(42,)]
        assert stranger.poll() is None


@pytest.mark.parametrize(
    "moment",
    [
        "postgres.lock",
        "postgres/unfinished-*",
        "postgres/unfinished-*/cluster/base/1",
        "postgres/cluster",
        "postgres/port",
        "postgres/cluster/postmaster.pid",
        "secrets/postgres.imprimatur_app",
        "secrets/postgres.imprimatur_owner",
    ],
)
def test_a_first_start_that_was_killed_can_be_repeated(data: Path, moment: str):
    """Killed as soon as the given file is there."""
    with running(OWN, str(data)) as owner:
        until(lambda: any(data.glob(moment)))
        owner.kill()
        owner.wait()
        with EmbeddedPostgres(data) as server:
            write_a_row(server.dsn("owner"))
            assert query(server.dsn("app"), "SELECT current_user") == [("imprimatur_app",)]
    assert not any(data.glob("postgres/unfinished-*"))
