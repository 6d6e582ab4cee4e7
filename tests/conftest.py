"""Fixtures that many tests share."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import psycopg
import pytest

from ingest.s3 import S3Store
from projections.kernel import MODELS
from runtime.migrate import migrate
from tests.blobs import BUCKET, MakeFile, connect
from tests.database import Database, Server
from tests.mail import Certificate, MailServer, make_certificate
from tests.processes import open_folder
from tests.readmodels import Connection
from tests.s3 import S3Server
from tests.scenario import GivenEvents, HttpLevel, Level, LogLevel, PureLevel, given_at
from tests.signing import SignIn, log_in
from tests.site import Site, good, running_site
from tests.tally import Tally
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


@pytest.fixture
def browser(site: Site) -> Iterator[SignIn]:
    """Opens browsers that are signed in and send what the site's own scripts would."""
    opened: list[httpx.Client] = []

    def sign_in(username: str) -> httpx.Client:
        client = httpx.Client(base_url=site.anonymous.base_url, timeout=60)
        opened.append(client)
        answer = good(log_in(client, username, session=True)).json()
        client.headers["X-CSRF-Token"] = answer["csrf_token"]
        return client

    yield sign_in
    for client in opened:
        client.close()


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Certificate:
    """The certificate of this machine, which is trusted."""
    certificate = make_certificate(tmp_path / "trusted.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.file))
    return certificate


@pytest.fixture
def server(certificate: Certificate) -> Iterator[MailServer]:
    """A mail server that demands encryption and a password."""
    with MailServer(starttls=certificate) as server:
        yield server


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    with psycopg.connect(database.app, autocommit=True) as connection:
        yield connection


@pytest.fixture
def tally(database: Database, monkeypatch: pytest.MonkeyPatch) -> type[Tally]:
    """The read model of the tests, as one of the site's; it is broken."""
    monkeypatch.setitem(MODELS, Tally.name, Tally)
    monkeypatch.setattr(Tally, "broken", True)
    migrate(database.owner)
    return Tally
