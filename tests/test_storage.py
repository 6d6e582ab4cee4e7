"""How much an organisation stores, and what happens when its plan allows no more."""

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import psycopg
import pytest
from psycopg import Connection
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool

from api.passwords import Passwords
from commands.bus import Envelope
from commands.kernel import SYSTEM
from commands.people import CreateAccount
from commands.pictures import ChangeAvatar, ChangeLogo
from commands.tenancy import OpenTenant
from domain.tenancy import PLANS
from ingest.blobs import DirectoryStore
from ingest.images import DecoderPool
from ingest.keys import picture_key
from ingest.pictures import Incoming, Pictures
from ingest.references import BlobReferences, StoredFile
from ingest.storage import add_up, stored_bytes
from runtime.ids import new_id, uuid7
from runtime.settings import Settings
from runtime.wiring import open_bus, open_pool
from tests.database import Database
from tests.drawings import picture
from tests.processes import open_folder
from tests.site import PASSWORD, Request, Site, archive, good, new_series, refused
from tests.workshop import Workshop

LIMIT = PLANS["basic"].storage_bytes or 0
MakePage = Callable[[str, str], StoredFile]


@pytest.fixture
def page(tmp_path: Path) -> MakePage:
    def make(tenant: str, text: str) -> StoredFile:
        path = tmp_path / text
        path.write_text(text)
        digest = hashlib.sha256(text.encode()).hexdigest()
        return StoredFile(picture_key(tenant, digest), path, "image/webp", len(text))

    return make


def stored(database: Database, tenant: str) -> int:
    async def ask() -> int:
        async with open_pool(Settings(dsn=database.app)) as pool, pool.of(tenant) as connection:
            return await stored_bytes(connection, tenant)

    return asyncio.run(ask())


def adding_up(database: Database) -> None:
    async def ask() -> None:
        async with open_pool(Settings(dsn=database.app)) as pool, pool.of("*") as connection:
            await add_up(connection)

    asyncio.run(ask())


def test_what_a_tenant_stores_is_the_sum_of_its_blobs(
    database: Database, tmp_path: Path, page: MakePage
) -> None:
    with ConnectionPool[Connection[TupleRow]](database.app, open=True) as pool:
        references = BlobReferences(pool, DirectoryStore(tmp_path / "store"))
        references.hold("a", [page("school", "four"), page("school", "eleven-more")])
        references.hold("b", [page("school", "four"), page("club", "four")])
        assert (stored(database, "school"), stored(database, "club")) == (15, 4)
        references.hold("a", [page("school", "four")])
        references.release("a")
        assert stored(database, "school") == 4
        references.release("b")
        assert (stored(database, "school"), stored(database, "club")) == (0, 0)


def test_adding_up_beside_changes_loses_nothing(
    database: Database, tmp_path: Path, page: MakePage
) -> None:
    pages = [page("school", f"{number:04}") for number in range(40)]
    with ConnectionPool[Connection[TupleRow]](database.app, max_size=6, open=True) as pool:
        references = BlobReferences(pool, DirectoryStore(tmp_path / "store"))
        with ThreadPoolExecutor(6) as threads:
            holding = [threads.submit(references.hold, one.key, [one]) for one in pages]
            summing = [threads.submit(adding_up, database) for _ in range(4)]
            for future in (*holding, *summing):
                future.result()
        adding_up(database)
    assert stored(database, "school") == 4 * len(pages)
    with psycopg.connect(database.app) as connection:
        rows = connection.execute("SELECT tenant, bytes FROM ingest.stored").fetchall()
    assert rows == [("school", 4 * len(pages))]


def test_a_tenant_sees_only_its_own_figure(database: Database) -> None:
    with psycopg.connect(database.app, autocommit=True) as connection:
        connection.execute("INSERT INTO ingest.stored VALUES ('a', 1), ('b', 2)")
        connection.execute("SET imprimatur.tenant = 'a'")
        assert connection.execute("SELECT tenant FROM ingest.stored").fetchall() == [("a",)]


class School:
    """An organisation on the smallest plan, and its administrator."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.id = f"school-{new_id()[-12:]}"
        asyncio.run(self._open())
        self.client = httpx.Client(base_url=f"{site.url}/api/v1", headers={"X-Tenant": self.id})
        said = {"username": "head", "password": PASSWORD}
        token = good(self.client.post("/auth/login", json=said)).json()["access_token"]
        self.client.headers["Authorization"] = f"Bearer {token}"
        self.series = good(self.client.post("/series", json=new_series())).json()["id"]

    async def _open(self) -> None:
        settings = self.site.settings
        head = CreateAccount(person_id=new_id(), username="head", roles=("administrator",))
        async with open_pool(settings) as pool, open_bus(settings, pool) as bus:
            passwords = Passwords(pool)
            await passwords.keep(head.person_id, PASSWORD, "head")
            passwords.close()
            for command in (OpenTenant(name="A School", plan="basic"), head):
                await bus.handle(command, Envelope(actor=SYSTEM, tenant=self.id))

    def close(self) -> None:
        self.client.close()

    def store(self, size: int) -> None:
        """Store so much more, as far as anybody can tell."""
        with psycopg.connect(self.site.settings.dsn) as connection:
            connection.execute("INSERT INTO ingest.stored VALUES (%s, %s)", (self.id, size))

    def upload(self, content: bytes) -> httpx.Response:
        return self.client.post(
            f"/series/{self.series}/chapters", data={"number": "1"}, files={"archive": content}
        )

    def send_head_alone(self, path: str) -> Request:
        """A request of which nobody will ever send the body."""
        headers = {"Transfer-Encoding": "chunked", "Content-Type": "application/octet-stream"}
        sent = dict(self.client.headers) | headers
        return Request(self.site.settings, "PUT", f"/api/v1{path}", sent)


@pytest.fixture
def school(site: Site) -> Iterator[School]:
    with closing(School(site)) as school:
        yield school


def test_a_full_plan_takes_nothing_more_and_reads_no_body(site: Site, school: School) -> None:
    good(school.client.put("/me/avatar", files={"image": picture()}))
    school.store(LIMIT)
    for path in ("/me/avatar", "/tenant/logo", f"/series/{school.series}/chapters?number=1"):
        with school.send_head_alone(path) as request:
            status, body = request.answer()
        assert (status, body["error"]["code"]) == (422, "plan_storage_reached")
        assert body["error"]["details"] == {"limit": LIMIT}
    assert site.arriving() == []
    good(school.client.delete("/me/avatar"))
    school.store(-LIMIT)
    good(school.client.put("/tenant/logo", files={"image": picture()}))


def test_what_is_larger_than_the_room_is_refused(site: Site, school: School) -> None:
    content = archive()
    school.store(LIMIT - len(content) + 1)
    refused(school.upload(content), 422, "plan_storage_reached")
    with school.send_head_alone(f"/series/{school.series}/chapters?number=1") as request:
        request.send_chunk(content)
        request.send(b"0\r\n\r\n")
        status, body = request.answer()
    assert (status, body["error"]["code"]) == (422, "plan_storage_reached")
    assert list(site.store.keys(f"{school.id}/series/")) == []


def test_an_archive_that_waits_takes_room(school: School) -> None:
    content = archive()
    school.store(LIMIT - 3 * len(content))
    answer = good(school.upload(content))
    position = {"X-Min-Position": answer.headers["X-Position"]}
    good(school.client.get("/moderation/queue", headers=position))
    refused(school.upload(bytes(2 * len(content) + 1)), 422, "plan_storage_reached")


def test_a_plan_without_a_limit_is_never_full(site: Site) -> None:
    with psycopg.connect(site.settings.dsn) as connection:
        connection.execute("INSERT INTO ingest.stored VALUES ('main', %s)", (LIMIT * 1_000,))
    good(site.client("reader").put("/me/avatar", files={"image": picture()}))


def test_a_picture_that_was_never_recorded_is_swept(database: Database) -> None:
    now = 1_800_000_000.0
    old, new, shown = (uuid7(int(at * 1_000), n) for n, at in enumerate((0, now, 1)))
    with open_folder() as folder, DecoderPool(1) as decoders:
        place = Workshop(database, folder)
        place.open()
        with ConnectionPool[Connection[TupleRow]](database.app, open=True) as pool:
            references = BlobReferences(pool, place.store)
            pictures = Pictures(place.bus, references, decoders, folder)
            for subject in ("avatar/ana", "logo"):
                for number, picture_id in enumerate((old, new, shown)):
                    incoming = Incoming("main", subject, str(picture_id))
                    place.do(pictures.hold(incoming, f"{subject} {number}".encode()))
            digests = {
                subject: hashlib.sha256(f"{subject} 2".encode()).hexdigest()
                for subject in ("avatar/ana", "logo")
            }
            face = ChangeAvatar(picture_id=str(shown), sha256=digests["avatar/ana"])
            place.ask(face, by="ana")
            place.ask(ChangeLogo(picture_id=str(shown), sha256=digests["logo"]))
            place.do(pictures.sweep(now))
        kept = {
            picture_key("main", hashlib.sha256(f"{subject} {number}".encode()).hexdigest())
            for subject in ("avatar/ana", "logo")
            for number in (1, 2)
        }
        assert set(place.store.keys()) == kept
        place.close()
