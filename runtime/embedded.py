"""The embedded PostgreSQL: a cluster in the data folder, served only while its owner lives."""

import os
import pwd
import secrets
import shutil
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, LiteralString, Self, get_args

import psycopg
from psycopg import sql

from runtime.datafolder import (
    DataFolder,
    FolderLock,
    require_reachable,
    sync_folder,
    write_whole,
)
from runtime.leftbehind import cluster_name, end_left_behind
from runtime.lifeline import Account, Lifeline, StopStep, spawn, wait_for
from runtime.programs import programs_for, wheel_install

Role = Literal["app", "owner"]

DATABASE = "imprimatur"
SUPERUSER = "postgres"
HOST = "127.0.0.1"

SETTINGS = {
    "listen_addresses": HOST,
    "max_connections": "100",
    "shared_buffers": "256MB",
    "effective_cache_size": "768MB",
    "maintenance_work_mem": "64MB",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "checkpoint_timeout": "15min",
    "max_wal_size": "1GB",
    "min_wal_size": "128MB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # One file for each day of the week, written over a week later.
    "logging_collector": "on",
    "log_filename": "postgres-%a.log",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
    "log_truncate_on_rotation": "on",
    # The details of an error repeat the values of a row, and so personal data.
    "log_error_verbosity": "terse",
}

STEPS = (StopStep(signal.SIGINT, 20.0), StopStep(signal.SIGQUIT, 10.0))
"""PostgreSQL's fast shutdown, then its immediate one."""

INITDB_SECONDS = 120.0
READY_SECONDS = 300.0
"""Long, because a start may first have to recover from a crash."""

PORT_ATTEMPTS = 5

SHOWN_LINES = 10
"""Of what a server that did not start said, the last lines tell why."""

LOCKED = 'lock file "postmaster.pid" already exists'

SOCKET_PATH_LIMIT = 103
"""The longest path of a Unix socket that every system accepts."""


class SiteNotRunning(Exception):
    """No embedded PostgreSQL of this data folder accepts connections."""


class ServerStartFailed(Exception):
    """PostgreSQL could not be set up or ended before it was ready."""


class ForeignCluster(Exception):
    """The cluster belongs to another user than the one PostgreSQL would run as."""


class EmbeddedPostgres:
    """One PostgreSQL server on a data folder, of which this process is the only owner."""

    name = "postgres"

    def __init__(self, data: Path, install: Path | None = None) -> None:
        self._folder = DataFolder(data)
        self._home = self._folder.path / "postgres"
        self._cluster = self._home / "cluster"
        self._sockets = self._home / "socket"
        self._output_file = self._home / "output"
        self._account = _server_account()
        self._uid = self._account.uid if self._account else os.geteuid()
        self._install = install
        self._lock: FolderLock | None = None
        self._server: Lifeline | None = None

    def start(self) -> None:
        """Set the cluster up when it is new, and serve it; returns when it accepts connections."""
        if self.running():
            return
        self._require_reachable(self._folder.path.parent)
        if self._lock is None:
            self._lock = self._folder.lock("postgres")
        try:
            self._require_reachable(self._folder.path)
            self._start()
        except BaseException:
            self.stop()
            raise

    def running(self) -> bool:
        """Whether the server was started and hasn't ended."""
        return self._server is not None and self._server.running()

    def stop(self) -> None:
        """Shut the server down: fast, then immediately when that takes too long."""
        if self._server is not None:
            self._server.cut()
            self._server = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def dsn(self, role: Role) -> str:
        """The connection string of a role, as a libpq URI."""
        if not self.running():
            raise SiteNotRunning(f"the embedded PostgreSQL of {self._folder.path} is not started")
        return _dsn(self._folder, role)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _require_reachable(self, folder: Path) -> None:
        if self._account is not None:
            require_reachable(folder, self._account)

    def _start(self) -> None:
        self._home.mkdir(exist_ok=True)
        self._home.chmod(0o711 if self._account else 0o700)
        self._require_own_cluster()
        programs = programs_for(self._account, self._install or wheel_install(), self._home)
        end_left_behind(self._cluster, self._uid, STEPS)
        if not self._cluster.exists():
            self._create_cluster(programs)
        self._serve(programs)
        self._create_roles()
        # Only now: an initdb that was cut off with its owner needs a moment to end.
        for unfinished in self._home.glob("unfinished-*"):
            shutil.rmtree(unfinished)

    def _require_own_cluster(self) -> None:
        if self._cluster.exists() and self._cluster.stat().st_uid != self._uid:
            raise ForeignCluster(
                f"{self._cluster} belongs to another user than the one PostgreSQL would run as: "
                "start it as the user who created it, or choose another folder with --data DIR"
            )

    def _create_cluster(self, programs: Path) -> None:
        unfinished = self._home / f"unfinished-{secrets.token_hex(4)}"
        cluster, password = unfinished / "cluster", unfinished / "password"
        unfinished.mkdir(mode=0o700)
        password.touch(mode=0o600)
        password.write_text(self._folder.secret(_secret_name(SUPERUSER)))
        self._give(password)
        self._give(unfinished)
        initdb = self._run(
            programs / "initdb",
            f"--pgdata={cluster}",
            f"--username={SUPERUSER}",
            f"--pwfile={password}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--data-checksums",
            steps=(),
        )
        wait_for(lambda: not initdb.running(), INITDB_SECONDS)
        if initdb.cut() != 0:
            raise ServerStartFailed(f"initdb failed: {self._output()}")
        cluster.rename(self._cluster)
        sync_folder(self._home)

    def _serve(self, programs: Path) -> None:
        # A socket's lock names a pid, which after a crash may be anyone's.
        if self._sockets.exists():
            shutil.rmtree(self._sockets)
        for folder in (self._sockets, self._home / "log"):
            folder.mkdir(mode=0o700, exist_ok=True)
            self._give(folder)
        for _ in range(PORT_ATTEMPTS):
            port = self._choose_port()
            if self._is_served_at(port, programs):
                return
            if LOCKED in self._output():
                # A start that was killed a moment ago got as far as that after all.
                end_left_behind(self._cluster, self._uid, STEPS)
            elif self.running() or _is_free(port):
                break
        raise ServerStartFailed(f"PostgreSQL did not become ready: {self._reason()}")

    def _is_served_at(self, port: int, programs: Path) -> bool:
        before = _read_pid_file(self._cluster)
        options = [f"--{name}={value}" for name, value in self._settings(port).items()]
        server = self._run(programs / "postgres", "-D", str(self._cluster), *options)

        def ready() -> bool:
            pid_file = _read_pid_file(self._cluster)
            return pid_file != before and pid_file[7:] == ["ready"]

        wait_for(lambda: ready() or not server.running(), READY_SECONDS)
        return ready() and server.running()

    def _settings(self, port: int) -> dict[str, str]:
        longest_socket = os.fsencode(self._sockets / ".s.PGSQL.65535")
        return SETTINGS | {
            "port": str(port),
            "cluster_name": cluster_name(self._cluster),
            "log_directory": str(self._home / "log"),
            "unix_socket_permissions": "0700",
            "unix_socket_directories": (
                str(self._sockets) if len(longest_socket) <= SOCKET_PATH_LIMIT else ""
            ),
        }

    def _choose_port(self) -> int:
        file = _port_file(self._folder)
        if file.exists() and _is_free(port := int(file.read_text())):
            return port
        with socket.create_server((HOST, 0)) as probe:
            port = probe.getsockname()[1]
        write_whole(file, str(port))
        return port

    def _create_roles(self) -> None:
        with psycopg.connect(
            host=HOST,
            port=_port_file(self._folder).read_text(),
            user=SUPERUSER,
            password=self._folder.secret(_secret_name(SUPERUSER)),
            dbname="postgres",
            autocommit=True,
        ) as connection:
            for role in get_args(Role):
                self._create_role(_role_name(role), connection)
            if not _exists("SELECT 1 FROM pg_database WHERE datname = %s", DATABASE, connection):
                connection.execute(
                    sql.SQL("CREATE DATABASE {} OWNER {}").format(
                        sql.Identifier(DATABASE), sql.Identifier(_role_name("owner"))
                    )
                )

    def _create_role(self, name: str, connection: psycopg.Connection) -> None:
        if _exists("SELECT 1 FROM pg_roles WHERE rolname = %s", name, connection):
            return
        password = self._folder.secret(_secret_name(name))
        # The verifier in place of the password: an error would write the statement to the log.
        verifier = connection.pgconn.encrypt_password(
            password.encode(), name.encode(), b"scram-sha-256"
        )
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                sql.Identifier(name), sql.Literal(verifier.decode())
            )
        )

    def _run(self, program: Path, *arguments: str, steps: Sequence[StopStep] = STEPS) -> Lifeline:
        if self._server is not None:
            self._server.cut()
        with self._output_file.open("wb") as output:
            self._server = spawn(
                [str(program), *arguments],
                env={"PATH": os.defpath, "LC_ALL": "C"},
                steps=steps,
                cwd=self._home,
                account=self._account,
                output=output,
            )
        return self._server

    def _output(self) -> str:
        """The end of what the last program said before it wrote to its log."""
        return _last_lines(self._output_file)

    def _reason(self) -> str:
        """The end of all that the last program said, also in its log."""
        started = self._output_file.stat().st_ctime
        logs = [log for log in (self._home / "log").iterdir() if log.stat().st_mtime >= started]
        return "\n".join((self._output(), *map(_last_lines, logs)))

    def _give(self, path: Path) -> None:
        if self._account is not None:
            os.chown(path, *self._account)


def read_dsn(data: Path, role: Role) -> str:
    """The connection string of a running site, for another process of the same user."""
    folder = DataFolder(data)
    if not _port_file(folder).exists():
        raise SiteNotRunning(f"no site with an embedded PostgreSQL was ever started in {data}")
    dsn = _dsn(folder, role)
    try:
        # Whoever listens there by now, the password is not shown to it.
        psycopg.connect(dsn, connect_timeout=5, require_auth="scram-sha-256").close()
    except psycopg.OperationalError as error:
        raise SiteNotRunning(f"the site in {data} is not running: {error}") from error
    return dsn


def _dsn(folder: DataFolder, role: Role) -> str:
    user = _role_name(role)
    password = folder.secret(_secret_name(user))
    port = _port_file(folder).read_text()
    return f"postgresql://{user}:{password}@{HOST}:{port}/{DATABASE}"


def _role_name(role: Role) -> str:
    return f"imprimatur_{role}"


def _secret_name(user: str) -> str:
    return f"postgres.{user}"


def _port_file(folder: DataFolder) -> Path:
    return folder.path / "postgres" / "port"


def _server_account() -> Account | None:
    """Whom PostgreSQL runs as when that is another user: it refuses to run as root."""
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    return Account(nobody.pw_uid, nobody.pw_gid)


def _exists(query: LiteralString, name: str, connection: psycopg.Connection) -> bool:
    return connection.execute(query, [name]).fetchone() is not None


def _is_free(port: int) -> bool:
    try:
        socket.create_server((HOST, port)).close()
    except OSError:
        return False
    return True


def _last_lines(file: Path) -> str:
    return "\n".join(file.read_text(errors="replace").splitlines()[-SHOWN_LINES:])


def _read_pid_file(cluster: Path) -> list[str]:
    try:
        return [line.strip() for line in (cluster / "postmaster.pid").read_text().splitlines()]
    except FileNotFoundError:
        return []
