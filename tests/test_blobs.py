"""One contract for both blob stores, and what only a directory can show."""

import io
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.blobs import (
    BlobNotFound,
    BlobStore,
    BlobStoreUnavailable,
    DirectoryStore,
    InvalidBlobKey,
    RangeNotSatisfiable,
    SourceUnreadable,
    check_key,
)
from tests.blobs import EIGHT_MIB, MakeFile, assert_every_use_raises, content_of
from tests.s3 import LISTING_PAGE


@pytest.fixture
def directory_store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


@pytest.fixture(params=["directory_store", "s3_store"])
def store(request: pytest.FixtureRequest) -> BlobStore:
    return request.getfixturevalue(request.param)


def test_a_blob_is_read_as_it_was_put(store: BlobStore, make_file: MakeFile) -> None:
    store.put("pages/ab/abcd.webp", make_file(b"picture"), "image/webp")
    with store.open("pages/ab/abcd.webp") as reader:
        assert (reader.size, reader.length, reader.media_type) == (7, 7, "image/webp")
        assert b"".join(reader) == b"picture"


def test_an_empty_blob_is_a_blob(store: BlobStore, make_file: MakeFile) -> None:
    store.put("empty", make_file(b""), "text/plain")
    assert store.exists("empty")
    assert content_of(store.open("empty")) == b""


def test_overwriting_replaces_content_media_type_and_etag(
    store: BlobStore, make_file: MakeFile
) -> None:
    store.put("cover", make_file(b"old and longer"), "image/png")
    before = store.open("cover")
    store.put("cover", make_file(b"new"), "image/webp")
    after = store.open("cover")
    assert (after.media_type, after.size) == ("image/webp", 3)
    assert before.etag != after.etag
    assert content_of(before) == b"old and longer"
    assert content_of(after) == b"new"


def test_an_absent_blob_is_not_found(store: BlobStore, make_file: MakeFile) -> None:
    store.put("series/one", make_file(b"x"), "text/plain")
    for key in ("nothing", "series", "series/one/deeper"):
        assert not store.exists(key)
        with pytest.raises(BlobNotFound):
            store.open(key)
        store.delete(key)
    assert list(store.keys()) == ["series/one"]


def test_a_deleted_blob_is_gone(store: BlobStore, make_file: MakeFile) -> None:
    store.put("a/b/c", make_file(b"x"), "text/plain")
    store.put("a/d", make_file(b"x"), "text/plain")
    store.delete("a/b/c")
    assert not store.exists("a/b/c")
    assert store.exists("a/d")


def test_keys_may_be_in_any_script(store: BlobStore, make_file: MakeFile) -> None:
    keys = [
        "series/эже и сестра/1/12/a b.zip",
        "series/сериал-ө/1/1/x.zip",
        "series/漫画/%2F+&?#.zip",
    ]
    for key in keys:
        store.put(key, make_file(key.encode()), "application/zip")
    assert list(store.keys("series/")) == sorted(keys)
    assert [content_of(store.open(key)).decode() for key in keys] == keys


def test_keys_come_in_order_over_many_pages(store: BlobStore, make_file: MakeFile) -> None:
    keys = [f"list/{number:03}/x" for number in range(2 * LISTING_PAGE + 1)]
    keys += ["list/000.x", "list/000-x", "list/😀", "list/\ufb01", "other"]
    source = make_file(b"x")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(store.put, keys, repeat(source), repeat("text/plain")))
    assert list(store.keys()) == sorted(keys)
    assert list(store.keys("list/")) == sorted(keys)[:-1]
    assert list(store.keys("list/000")) == ["list/000-x", "list/000.x", "list/000/x"]
    assert list(store.keys("list/01")) == [f"list/01{digit}/x" for digit in range(10)]
    assert list(store.keys("absent/")) == []
    assert list(store.keys("../")) == []


@pytest.mark.parametrize(
    ("byte_range", "expected"),
    [
        ((0, 0), slice(0, 1)),
        ((10, 19), slice(10, 20)),
        ((299_990, None), slice(299_990, None)),
        ((100, 900_000), slice(100, None)),
        ((1000, 290_000), slice(1000, 290_001)),
    ],
)
def test_a_range_has_its_first_and_last_byte(
    store: BlobStore, make_file: MakeFile, byte_range: tuple[int, int | None], expected: slice
) -> None:
    content = bytes(number % 251 for number in range(300_000))
    store.put("film", make_file(content), "video/mp4")
    with store.open("film", byte_range) as reader:
        assert b"".join(reader) == content[expected]
        assert (reader.size, reader.length) == (300_000, len(content[expected]))
        assert reader.media_type == "video/mp4"


@pytest.mark.parametrize("byte_range", [(5, None), (5, 9), (3, 2), (-2, None), (-2, 3)])
def test_a_range_outside_the_blob_is_refused(
    store: BlobStore, make_file: MakeFile, byte_range: tuple[int, int | None]
) -> None:
    store.put("short", make_file(b"12345"), "text/plain")
    with pytest.raises(RangeNotSatisfiable):
        store.open("short", byte_range)


def test_a_large_blob_streams_in_bounded_chunks(store: BlobStore, make_file: MakeFile) -> None:
    content = random.Random(1).randbytes(21 * 1024 * 1024)
    store.put("archive.zip", make_file(content), "application/zip")
    with store.open("archive.zip") as reader:
        chunks = list(reader)
    assert max(map(len, chunks)) <= 256 * 1024
    assert b"".join(chunks) == content
    middle = (EIGHT_MIB - 10, EIGHT_MIB + 10)
    assert content_of(store.open("archive.zip", middle)) == content[middle[0] : middle[1] + 1]


def test_a_closed_reader_reads_no_more(store: BlobStore, make_file: MakeFile) -> None:
    store.put("archive.zip", make_file(bytes(EIGHT_MIB)), "application/zip")
    with store.open("archive.zip") as reader:
        assert next(iter(reader))
    with pytest.raises((ValueError, BlobStoreUnavailable)):
        list(reader)


def test_readers_see_whole_blobs_while_others_overwrite(
    store: BlobStore, make_file: MakeFile
) -> None:
    versions = [bytes([number]) * 300_000 for number in range(4)]
    sources = [make_file(version) for version in versions]
    store.put("contended", sources[0], "text/plain")
    written = threading.Event()

    def write() -> None:
        for source in sources * 5:
            store.put("contended", source, "text/plain")
        written.set()

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        while not written.is_set() and not writing.done():
            assert content_of(store.open("contended")) in versions
        writing.result()


def test_putting_and_deleting_one_key_at_once_harms_nothing(
    store: BlobStore, make_file: MakeFile
) -> None:
    source = make_file(b"x" * 1000)

    def put_and_delete(worker: int) -> None:
        for turn in range(10):
            store.put("a/b/c/same", source, "text/plain")
            store.put(f"a/b/{worker}", source, "text/plain")
            store.delete("a/b/c/same")
            if turn % 2:
                store.delete(f"a/b/{worker}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put_and_delete, range(4)))
    store.put("a/b/c/same", source, "text/plain")
    assert content_of(store.open("a/b/c/same")) == b"x" * 1000
    store.delete("a/b/c/same")
    assert list(store.keys()) == []


@pytest.mark.parametrize(
    "key",
    [
        *("", "/etc/passwd", "a//b", "a/", "../x", "a/../b", "a/./b", "a/.."),
        *("a\nb", "a\0b", "a\x85", "\ud800"),
        *("é" * 128, "/".join(["k" * 255] * 4) + "/k"),
    ],
)
def test_a_key_that_not_every_store_can_hold_is_refused(
    store: BlobStore, make_file: MakeFile, key: str
) -> None:
    source = make_file(b"x")
    for use in (store.open, store.delete, store.exists):
        with pytest.raises(InvalidBlobKey):
            use(key)
    with pytest.raises(InvalidBlobKey):
        store.put(key, source, "text/plain")
    assert list(store.keys()) == []


@given(
    st.lists(st.sampled_from(["..", ".", "", "a", "é", "\\", "\t", "~"]), max_size=6).map("/".join)
)
def test_an_accepted_key_stays_below_the_root(key: str) -> None:
    root = Path("/store/blobs")
    try:
        check_key(key)
    except InvalidBlobKey:
        assert {"", ".", ".."} & set(key.split("/")) or "\t" in key
    else:
        segments = (root / key).parts
        assert segments[:3] == root.parts
        assert ".." not in segments
        assert "/".join(segments[3:]) == key


@pytest.mark.parametrize("readable", [0, 100_000, 2 * EIGHT_MIB + 1])
def test_a_source_that_fails_midway_leaves_nothing(
    store: BlobStore, make_file: MakeFile, tmp_path: Path, readable: int
) -> None:
    class FailingFile(io.FileIO):
        def readinto(  # pyright: ignore[reportIncompatibleMethodOverride]
            self, buffer: memoryview, /
        ) -> int:
            if self.tell() >= readable:
                raise OSError("the disk is broken")
            return super().readinto(buffer[: readable - self.tell()])

    class FailingPath(type(Path())):
        def open(self, *_: object) -> io.BufferedReader:  # pyright: ignore[reportIncompatibleMethodOverride]
            return io.BufferedReader(FailingFile(str(self)))

    source = FailingPath(make_file(bytes(3 * EIGHT_MIB)))
    with pytest.raises(SourceUnreadable):
        store.put("pages/ab/broken", source, "text/plain")
    assert list(store.keys()) == []
    assert not store.exists("pages/ab/broken")
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(set(left) - {"lock"}) == [source.name]


def test_an_absent_source_is_not_the_store_s_fault(store: BlobStore, tmp_path: Path) -> None:
    with pytest.raises(SourceUnreadable):
        store.put("key", tmp_path / "absent", "text/plain")


def test_a_directory_that_is_gone_is_unavailable(
    directory_store: DirectoryStore, make_file: MakeFile, tmp_path: Path
) -> None:
    root = tmp_path / "store"
    root.rename(tmp_path / "unmounted")
    assert_every_use_raises(BlobStoreUnavailable, directory_store, make_file(b"x"))
    assert not root.exists()


def test_a_directory_that_is_no_directory_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BlobStoreUnavailable):
        DirectoryStore(tmp_path / "file")


def test_deleting_prunes_the_folders_that_it_emptied(
    directory_store: DirectoryStore, make_file: MakeFile, tmp_path: Path
) -> None:
    for key in ("a/b/c/d", "a/e"):
        directory_store.put(key, make_file(b"x"), "text/plain")
    directory_store.delete("a/b/c/d")
    blobs = tmp_path / "store" / "blobs"
    assert sorted(str(path.relative_to(blobs)) for path in blobs.rglob("*")) == ["a", "a/e"]
    directory_store.delete("a/e")
    assert list(blobs.iterdir()) == []


def test_a_listing_passes_over_folders_pruned_meanwhile(
    directory_store: DirectoryStore, make_file: MakeFile
) -> None:
    for key in ("a/1", "b/1", "c/1"):
        directory_store.put(key, make_file(b"x"), "text/plain")
    keys = directory_store.keys()
    assert next(keys) == "a/1"
    directory_store.delete("b/1")
    assert list(keys) == ["c/1"]


def test_a_directory_cannot_hold_a_blob_below_a_blob(
    directory_store: DirectoryStore, make_file: MakeFile
) -> None:
    source = make_file(b"x")
    directory_store.put("a/b", source, "text/plain")
    for key in ("a", "a/b/c", "a/b/c/d"):
        with pytest.raises(InvalidBlobKey):
            directory_store.put(key, source, "text/plain")
    assert list(directory_store.keys()) == ["a/b"]
