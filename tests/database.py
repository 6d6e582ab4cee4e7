"""A real PostgreSQL for tests: one server a test process, one fresh database a test."""

import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Self
from uuid import uuid4

import psycopg
from msgspec import Struct
from psycopg import sql

from runtime.datafolder import DataFolder
from runtime.embedded import EmbeddedPostgres
from runtime.migrate import migrate

TEMPLATE = "imprimatur"


class Database(Struct, frozen=True):
    """A migrated database: connection strings of the application, its owner, and a superuser."""

    app: str
    owner: str
    superuser: str


MASTER_KEY = "nothing in any of these tests is personal"


class Server:
    """An embedded PostgreSQL that copies fresh databases from a migrated template."""

    def __init__(self) -> None:
        # Below the system's own folder: pytest's is closed to the account PostgreSQL runs as.
        self._data = Path(tempfile.mkdtemp(prefix="imprimatur-test-"))
        self._data.chmod(0o711)
        self.postgres = EmbeddedPostgres(self._data)

    def __enter__(self) -> Self:
        self.postgres.start()
        migrate(self.postgres.dsn("owner"))
        return self

    def __exit__(self, *_: object) -> None:
        self.postgres.stop()
        shutil.rmtree(self._data)

    @contextmanager
    def database(self) -> Generator[Database]:
        """A copy of the template that goes away again."""
        name = f"test_{uuid4().hex}"
        database = Database(*(self._dsn(role, name) for role in ("app", "owner", "superuser")))
        self._administer(sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER imprimatur_owner"), name)
        try:
            yield database
        finally:
            self._administer(sql.SQL("DROP DATABASE {} WITH (FORCE)"), name)

    def _administer(self, statement: sql.SQL, name: str) -> None:
        with psycopg.connect(self._dsn("superuser", "postgres"), autocommit=True) as connection:
            connection.execute(statement.format(sql.Identifier(name), sql.Identifier(TEMPLATE)))

    def _dsn(self, role: str, database: str) -> str:
        owner = self.postgres.dsn("owner")
        if role == "app":
            owner = self.postgres.dsn("app")
        elif role == "superuser":
            address = owner.partition("@")[2]
            password = DataFolder(self._data).secret("postgres.postgres")
            owner = f"postgresql://postgres:{password}@{address}"
        return owner.rpartition("/")[0] + f"/{database}"
