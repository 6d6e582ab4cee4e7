"""Reference counts against a real PostgreSQL: exact under concurrency, failure and `kill -9`."""

import hashlib
import multiprocessing
import os
import random
import signal
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from psycopg import Connection
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool

from ingest.blobs import BlobStoreUnavailable, DirectoryStore, InvalidBlobKey
from ingest.references import BlobReferences, StoredFile
from tests.database import Server

Pool = ConnectionPool[Connection[TupleRow]]
MakePage = Callable[[str], StoredFile]


class Store(DirectoryStore):
    """A directory store whose puts and deletes can be counted, and can be made to fail."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.puts: list[str] = []
        self.failing_puts: Collection[str] = ()
        self.failing_deletes: Collection[str] = ()

    def put(self, key: str, source: Path, media_type: str) -> None:
        if key in self.failing_puts:
            raise BlobStoreUnavailable("the disk is full")
        super().put(key, source, media_type)
        self.puts.append(key)

    def delete(self, key: str) -> None:
        if key in self.failing_deletes:
            raise BlobStoreUnavailable("the disk is read-only")
        super().delete(key)


class DyingStore(DirectoryStore):
    """A directory store whose process is killed right after it did what was asked."""

    def put(self, key: str, source: Path, media_type: str) -> None:
        super().put(key, source, media_type)
        os.kill(os.getpid(), signal.SIGKILL)

    def delete(self, key: str) -> None:
        super().delete(key)
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def dsn(postgres: Server) -> Iterator[str]:
    with postgres.database() as database:
        yield database.owner


@pytest.fixture
def pool(dsn: str) -> Iterator[Pool]:
    with ConnectionPool[Connection[TupleRow]](dsn, min_size=1, max_size=10, open=True) as pool:
        yield pool
        with pool.connection() as connection:
            connection.execute("TRUNCATE ingest.blobs, ingest.blob_references")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def references(pool: Pool, store: Store) -> BlobReferences:
    return BlobReferences(pool, store)


@pytest.fixture
def page(tmp_path: Path) -> MakePage:
    def make(text: str) -> StoredFile:
        digest = hashlib.sha256(text.encode()).hexdigest()
        path = tmp_path / digest
        path.write_text(text)
        return StoredFile(f"pages/{digest[:2]}/{digest}.webp", path, "image/webp", len(text))

    return make


def held(pool: Pool) -> set[tuple[str, str]]:
    with pool.connection() as connection:
        rows = connection.execute("SELECT owner, key FROM ingest.blob_references WHERE held")
        return {(owner, key) for owner, key in rows}


def assert_settled(pool: Pool, store: Store, expected: set[tuple[str, str]]) -> None:
    """Exactly these references are held, exactly their objects are stored, no intent is left."""
    assert held(pool) == expected
    keys = {key for _, key in expected}
    assert set(store.keys()) == keys
    with pool.connection() as connection:
        rows = connection.execute("SELECT key FROM ingest.blobs")
        assert {key for (key,) in rows} == keys
        rows = connection.execute("SELECT FROM ingest.blob_references WHERE NOT held")
        assert rows.fetchone() is None


def test_a_shared_page_lives_as_long_as_either_owner(
    references: BlobReferences, pool: Pool, store: Store, page: MakePage
) -> None:
    cover, first, second = page("cover"), page("first"), page("second")
    references.hold("a", [first, cover])
    references.hold("b", [cover, second])
    assert sorted(store.puts) == sorted([cover.key, first.key, second.key])
    with store.open(cover.key) as reader:
        assert (b"".join(reader), reader.media_type) == (b"cover", "image/webp")
    references.release("a")
    assert_settled(pool, store, {("b", cover.key), ("b", second.key)})
    references.release("b")
    assert_settled(pool, store, set())


def test_holding_and_releasing_twice_is_the_same_as_once(
    references: BlobReferences, pool: Pool, store: Store, page: MakePage
) -> None:
    blank = page("blank")
    references.hold("a", [blank, page("text"), page("blank")])
    references.hold("a", [blank])
    assert len(store.puts) == 2
    assert held(pool) == {("a", blank.key), ("a", page("text").key)}
    references.hold("b", [])
    for _ in range(2):
        references.release("a")
        assert_settled(pool, store, set())


def test_a_whole_chapter_is_held_and_released(
    references: BlobReferences, pool: Pool, store: Store, page: MakePage
) -> None:
    pages = [page(str(number)) for number in range(200)]
    references.hold("a", pages)
    references.hold("b", pages[::-1])
    assert len(store.puts) == 200
    references.release("a")
    assert_settled(pool, store, {("b", file.key) for file in pages})
    references.release("b")
    assert_settled(pool, store, set())


def test_an_invalid_key_leaves_nothing(
    references: BlobReferences, pool: Pool, store: Store, page: MakePage
) -> None:
    good = page("good")
    with pytest.raises(InvalidBlobKey):
        references.hold("a", [good, StoredFile("../bad", good.path, "image/webp", 4)])
    assert_settled(pool, store, set())


def test_a_put_that_fails_leaves_nothing_of_that_hold(
    references: BlobReferences, pool: Pool, store: Store, page: MakePage
) -> None:
    earlier, pages = page("earlier"), [page(str(number)) for number in range(20)]
    references.hold("a", [earlier])
    store.failing_puts = {pages[15].key}
    with pytest.raises(BlobStoreUnavailable, match="disk is full"):
        references.hold("a", [earlier, *pages])
    assert_settled(pool, store, {("a", earlier.key)})


@pytest.mark.parametrize("settle", ["retry", "release"])
def test_what_a_store_that_is_down_leaves_is_settled_by_its_owner(
    references: BlobReferences, pool: Pool, store: Store, page: MakePage, settle: str
) -> None:
    pages = [page(str(number)) for number in range(20)]
    store.failing_puts = {pages[15].key}
    store.failing_deletes = {file.key for file in pages}
    with pytest.raises(BlobStoreUnavailable, match="disk is full"):
        references.hold("a", pages)
    assert held(pool) == set()
    store.failing_puts = store.failing_deletes = ()
    if settle == "retry":
        references.hold("a", pages)
        assert_settled(pool, store, {("a", file.key) for file in pages})
    references.release("a")
    assert_settled(pool, store, set())


def test_a_release_that_fails_is_finished_by_the_next(
    references: BlobReferences, pool: Pool, store: Store, page: MakePage
) -> None:
    pages = [page(str(number)) for number in range(20)]
    references.hold("a", pages)
    store.failing_deletes = {pages[15].key}
    with pytest.raises(BlobStoreUnavailable):
        references.release("a")
    assert held(pool) == set()
    references.hold("b", [pages[0]])
    assert store.exists(pages[0].key)
    store.failing_deletes = ()
    references.release("a")
    assert_settled(pool, store, {("b", pages[0].key)})


def hold_in_process(dsn: str, root: Path, owner: str, pages: list[StoredFile]) -> None:
    with ConnectionPool[Connection[TupleRow]](dsn, min_size=1, open=True) as pool:
        BlobReferences(pool, DyingStore(root)).hold(owner, pages)


def release_in_process(dsn: str, root: Path, owner: str, _pages: list[StoredFile]) -> None:
    with ConnectionPool[Connection[TupleRow]](dsn, min_size=1, open=True) as pool:
        BlobReferences(pool, DyingStore(root)).release(owner)


def run_until_killed(
    target: Callable[[str, Path, str, list[StoredFile]], None],
    dsn: str,
    root: Path,
    pages: list[StoredFile],
) -> None:
    process = multiprocessing.get_context("spawn").Process(
        target=target, args=(dsn, root, "a", pages)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    process.close()


@pytest.mark.parametrize("settle", ["retry", "release", "another owner"])
def test_a_hold_killed_between_put_and_commit_is_settled_later(
    references: BlobReferences,
    pool: Pool,
    store: Store,
    page: MakePage,
    dsn: str,
    tmp_path: Path,
    settle: str,
) -> None:
    pages = [page("first"), page("second")]
    run_until_killed(hold_in_process, dsn, tmp_path / "store", pages)
    assert list(store.keys())
    assert held(pool) == set()
    if settle == "retry":
        references.hold("a", pages)
        assert_settled(pool, store, {("a", file.key) for file in pages})
    if settle == "another owner":
        references.hold("b", pages)
        assert sorted(store.puts) == sorted(file.key for file in pages)
        references.release("b")
    references.release("a")
    assert_settled(pool, store, set())


def test_a_release_killed_between_delete_and_commit_claims_nothing(
    references: BlobReferences, pool: Pool, store: Store, page: MakePage, dsn: str, tmp_path: Path
) -> None:
    pages = [page("first"), page("second")]
    references.hold("a", pages)
    run_until_killed(release_in_process, dsn, tmp_path / "store", pages)
    assert held(pool) == set()
    references.hold("b", pages)
    references.release("a")
    assert_settled(pool, store, {("b", file.key) for file in pages})


@pytest.mark.parametrize("releaser", ["a", "b"])
def test_a_release_racing_a_hold_spares_what_is_being_held(
    pool: Pool, store: Store, page: MakePage, tmp_path: Path, releaser: str
) -> None:
    shared, slow = page("shared"), page("slow")
    putting, proceed = threading.Event(), threading.Event()

    class SlowStore(DirectoryStore):
        def put(self, key: str, source: Path, media_type: str) -> None:
            putting.set()
            assert proceed.wait(30)
            super().put(key, source, media_type)

    BlobReferences(pool, store).hold("a", [shared])
    slowly = BlobReferences(pool, SlowStore(tmp_path / "store"))
    with ThreadPoolExecutor(2) as threads:
        holding = threads.submit(slowly.hold, "b", [shared, slow])
        assert putting.wait(30)
        releasing = threads.submit(BlobReferences(pool, store).release, releaser)
        wait_for_lock(pool, releasing)
        proceed.set()
        holding.result()
        releasing.result()
    expected = {("a", shared.key), ("b", shared.key), ("b", slow.key)}
    if releaser == "a":
        expected.remove(("a", shared.key))
    assert_settled(pool, store, expected)


def wait_for_lock(pool: Pool, task: Future[None]) -> None:
    """Return when the task waits for another transaction's row lock."""
    waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    with pool.connection() as connection:
        connection.autocommit = True
        while connection.execute(waiting).fetchone() is None:
            assert not task.done()
        connection.autocommit = False


def test_a_hold_that_a_release_overtakes_holds_all_the_same(
    pool: Pool, store: Store, page: MakePage
) -> None:
    class Overtaken(BlobReferences):
        overtaken = False

        def _declare(self, owner: str, files: Collection[StoredFile]) -> None:
            super()._declare(owner, files)
            if not self.overtaken:
                self.overtaken = True
                self.release(owner)
                store.failing_puts = store.failing_deletes = {first.key}
                with pytest.raises(BlobStoreUnavailable):
                    BlobReferences(pool, store).hold(owner, [first])
                store.failing_puts = store.failing_deletes = ()

    first, second = page("first"), page("second")
    Overtaken(pool, store).hold("a", [first, second])
    assert_settled(pool, store, {("a", first.key), ("a", second.key)})


def test_eight_threads_on_five_blobs_keep_the_counts_exact(
    references: BlobReferences, pool: Pool, store: Store, page: MakePage
) -> None:
    pages = [page(str(number)) for number in range(5)]

    def work(worker: int) -> None:
        choice = random.Random(worker)
        for _ in range(30):
            owner = choice.choice([f"own-{worker}", "common"])
            if choice.random() < 0.5:
                references.hold(owner, choice.sample(pages, choice.randint(1, 5)))
            else:
                references.release(owner)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert_settled(pool, store, held(pool))
    for owner in {owner for owner, _ in held(pool)}:
        references.release(owner)
    assert_settled(pool, store, set())
