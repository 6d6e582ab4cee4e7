"""A whole site in one folder: embedded PostgreSQL, blobs in a directory, every process a child."""

import shutil
import socket
import sys
from collections.abc import Sequence
from errno import EADDRNOTAVAIL
from pathlib import Path

from msgspec.structs import replace

from runtime.datafolder import DataFolder
from runtime.embedded import EmbeddedPostgres, read_dsn
from runtime.lifeline import wait_for
from runtime.migrate import migrate
from runtime.prune import prune
from runtime.settings import Settings, environment_of
from runtime.supervisor import Child, ChildProcess, Supervisor

PARTS = ("api", "projector", "worker")

PORT_SECONDS = 15.0
"""How long an earlier site of ours may take to let go of its port."""


class PortTaken(Exception):
    """The port can't be listened on: something else does, or the address is not this machine's."""


class OneSite:
    """Everything of a site on one machine, below one data folder."""

    def __init__(self, data: Path, settings: Settings) -> None:
        self.folder = DataFolder(data)
        self._given = settings
        self._postgres = EmbeddedPostgres(data)

    def supervisor(self) -> Supervisor:
        """The site's processes; the database is brought up to date before any of them starts."""
        await_port(self._given.host, self._given.port)
        self._postgres.start()
        try:
            migrate(self._postgres.dsn("owner"))
            prune(self._postgres.dsn("owner"))
            # What an upload or a worker left behind when it was killed.
            shutil.rmtree(self.folder.path / "scratch", ignore_errors=True)
            settings = replace(site_settings(self.folder, self._given), admin_dsn="")
        except BaseException:
            self._postgres.stop()
            raise
        parts = [
            ChildProcess(Child(part, (sys.executable, "-m", "runtime.cli", part))) for part in PARTS
        ]
        return Supervisor([Database(self._postgres, settings, parts), *parts])


class Database:
    """The site's PostgreSQL, whose parts start anew where it comes back on another port."""

    name = "postgres"

    def __init__(
        self, postgres: EmbeddedPostgres, settings: Settings, parts: Sequence[ChildProcess]
    ) -> None:
        self._postgres = postgres
        self._settings = settings
        self._parts = parts

    def start(self) -> None:
        """Serve, and tell the parts where."""
        self._postgres.start()
        environment = environment_of(replace(self._settings, dsn=self._postgres.dsn("app")))
        for part in self._parts:
            part.give(environment)

    def running(self) -> bool:
        """Whether the server was started and hasn't ended."""
        return self._postgres.running()

    def stop(self) -> None:
        """Shut the server down."""
        self._postgres.stop()


def await_port(host: str, port: int) -> None:
    """Wait until the port is free; raises PortTaken when it stays taken."""
    if not wait_for(lambda: _is_free(host, port), PORT_SECONDS):
        raise PortTaken(f"port {port} is taken; choose another with --port")


def _is_free(host: str, port: int) -> bool:
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        if error.errno == EADDRNOTAVAIL:
            raise PortTaken(f"{host} is no address of this machine") from error
        return False
    return True


def site_settings(folder: DataFolder, given: Settings) -> Settings:
    """The settings of a site in a folder: what is given, and the folder's own for the rest."""
    blobs, scratch, mail = (folder.path / name for name in ("blobs", "scratch", "mail"))
    for path in (blobs, scratch, mail):
        path.mkdir(mode=0o700, exist_ok=True)
    settings = replace(
        given,
        secret=given.secret or folder.secret("site"),
        master_key=given.master_key or folder.secret("master"),
        blob_dir=given.blob_dir or str(blobs),
        scratch_dir=given.scratch_dir or str(scratch),
    )
    if given.smtp_url:  # then who writes, and where links lead, is for the operator to say
        return settings
    return replace(
        settings,
        mail_dir=given.mail_dir or str(mail),
        mail_from=given.mail_from or "Imprimatur <imprimatur@localhost>",
        public_url=given.public_url or f"http://{given.host}:{given.port}",
    )


def running_settings(data: Path, given: Settings) -> Settings:
    """The settings of a site that runs in a folder, for another process beside it."""
    dsn, admin_dsn = read_dsn(data, "app"), read_dsn(data, "owner")
    return replace(site_settings(DataFolder(data), given), dsn=dsn, admin_dsn=admin_dsn)
