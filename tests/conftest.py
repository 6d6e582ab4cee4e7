"""Fixtures that many tests share."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ingest.s3 import S3Store
from tests.blobs import BUCKET, MakeFile, connect
from tests.database import Database, Server
from tests.processes import open_folder
from tests.s3 import S3Server
from tests.scenario import GivenEvents, HttpLevel, Level, LogLevel, PureLevel, given_at
from tests.site import Site, running_site
from tests.workshop import Workshop


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """One PostgreSQL server for each test process."""
    with Server() as server:
        yield server


@pytest.fixture
def database(postgres: Server) -> Iterator[Database]:
    """A fresh, migrated database."""
    with postgres.database() as database:
        yield database


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """One S3 server with a bucket for each test process."""
    with S3Server() as server:
        server.create_bucket(BUCKET)
        yield server


@pytest.fixture
def s3_store(s3: S3Server, tmp_path: Path) -> Iterator[S3Store]:
    """An empty blob store in that bucket."""
    with closing(connect(s3, prefix=tmp_path.name)) as store:
        yield store


@pytest.fixture
def make_file(tmp_path: Path) -> MakeFile:
    """Makes files with some content."""

    def make(content: bytes) -> Path:
        path = tmp_path / f"source-{len(list(tmp_path.iterdir()))}"
        path.write_bytes(content)
        return path

    return make


@pytest.fixture
def place(database: Database) -> Iterator[Workshop]:
    """A site's log and blobs, and its worker when it is at work."""
    with open_folder() as folder:
        place = Workshop(database, folder)
        place.open()
        yield place
        place.close()


@pytest.fixture(params=["pure", "log", "http"])
def given(request: pytest.FixtureRequest, tmp_path: Path) -> GivenEvents:
    """The first word of a scenario, which is told at three levels."""
    if request.param == "pure":
        return given_at(PureLevel())
    levels: dict[str, type[LogLevel]] = {"log": LogLevel, "http": HttpLevel}
    database: Database = request.getfixturevalue("database")
    level: Level = levels[request.param](database, tmp_path)
    return given_at(level)


@pytest.fixture(scope="session")
def site(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A running site for all the tests that look at it from outside."""
    with (
        postgres.database() as database,
        running_site(database, tmp_path_factory.mktemp("site")) as site,
    ):
        yield site
