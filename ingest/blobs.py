"""Where files are kept: the contract of every store, and the one that is a directory."""

import fcntl
import os
import tempfile
import unicodedata
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, Self

CHUNK_BYTES = 128 * 1024
KEY_BYTES = 1024
SEGMENT_BYTES = 255

ByteRange = tuple[int, int | None]
"""First and last byte, both included as in HTTP; no last one means up to the end."""


class BlobNotFound(Exception):
    """No blob is stored under the key."""


class BlobStoreUnavailable(Exception):
    """The store cannot be reached or cannot do its work now."""


class BlobStoreRefused(BlobStoreUnavailable):
    """The store does not accept the credentials that it was given."""


class SourceUnreadable(Exception):
    """The file that was to be stored cannot be read."""


class InvalidBlobKey(ValueError):
    """The key could not be stored alike, or safely, by every store."""


class RangeNotSatisfiable(ValueError):
    """The range asked for lies outside the blob."""


def check_key(key: str) -> None:
    """Raise InvalidBlobKey unless every store can hold the key."""
    try:
        encoded = key.encode()
    except UnicodeEncodeError as error:
        raise InvalidBlobKey("a blob key is valid Unicode") from error
    if len(encoded) > KEY_BYTES:
        raise InvalidBlobKey(f"a blob key has at most {KEY_BYTES} bytes")
    if any(unicodedata.category(character) == "Cc" for character in key):
        raise InvalidBlobKey("a blob key has no control characters")
    for segment in key.split("/"):
        if segment in ("", ".", ".."):
            raise InvalidBlobKey("a blob key is a relative path without empty or dot segments")
        if len(segment.encode()) > SEGMENT_BYTES:
            raise InvalidBlobKey(f"a segment of a blob key has at most {SEGMENT_BYTES} bytes")


def check_range(byte_range: ByteRange | None) -> None:
    """Raise RangeNotSatisfiable when no blob could have the range."""
    if byte_range is None:
        return
    first, last = byte_range
    if first < 0 or (last is not None and last < first):
        raise RangeNotSatisfiable(f"{first}-{last} is not a range")


class BlobReader:
    """An open blob, or a range of one: iterate over its chunks, and close it."""

    def __init__(
        self,
        chunks: Iterator[bytes],
        close: Callable[[], None],
        *,
        size: int,
        length: int,
        media_type: str,
        etag: str,
    ) -> None:
        self._chunks = chunks
        self._close = close
        self.size = size
        """The bytes of the whole blob."""
        self.length = length
        """The bytes that the chunks add up to."""
        self.media_type = media_type
        self.etag = etag
        """Changes when the blob does; comparable within one store only."""

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file or the connection."""
        self._close()


class BlobStore(Protocol):
    """Blobs by key; every method blocks, so call it from a worker thread."""

    def put(self, key: str, source: Path, media_type: str) -> None:
        """Store the file whole or not at all, in place of what was under the key."""
        ...

    def open(self, key: str, byte_range: ByteRange | None = None) -> BlobReader:
        """Open the blob as it is now; a later put or delete does not disturb the reader."""
        ...

    def delete(self, key: str) -> None:
        """Remove the blob if there is one."""
        ...

    def exists(self, key: str) -> bool:
        """Say whether a blob is stored under the key."""
        ...

    def keys(self, prefix: str = "") -> Iterator[str]:
        """List the keys that begin with the prefix, in the order of their UTF-8 bytes."""
        ...


class DirectoryStore:
    """Blobs as files below a folder that any number of processes may share."""

    # A file is the blob's content, its media type, and one byte with the length of the latter:
    # both are replaced by one rename, and viewers of images and archives still open the file.

    def __init__(self, root: Path) -> None:
        self._blobs = root / "blobs"
        self._incoming = root / "incoming"
        self._lock = root / "lock"
        with _directory_errors():
            self._blobs.mkdir(parents=True, exist_ok=True)
            self._incoming.mkdir(exist_ok=True)
            self._lock.touch()

    def put(self, key: str, source: Path, media_type: str) -> None:
        path = self._path(key)
        label = media_type.encode("ascii")
        with _directory_errors(), self._staged() as (staged, name):
            for chunk in _source_chunks(source):
                staged.write(chunk)
            staged.write(label + bytes([len(label)]))
            staged.flush()
            os.fsync(staged.fileno())
            with self._locked(fcntl.LOCK_SH):
                self._make_folder(path.parent)
                try:
                    name.replace(path)
                except IsADirectoryError as error:
                    raise InvalidBlobKey(f"other blobs are stored below {key!r}") from error
                _sync_folder(path.parent)

    def open(self, key: str, byte_range: ByteRange | None = None) -> BlobReader:
        path = self._path(key)
        check_range(byte_range)
        with _directory_errors():
            try:
                file = path.open("rb")
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
                self._check_mounted()
                raise BlobNotFound(key) from error
            try:
                return _read_file(file, byte_range)
            except BaseException:
                file.close()
                raise

    def delete(self, key: str) -> None:
        path = self._path(key)
        with _directory_errors(), self._locked(fcntl.LOCK_EX):
            try:
                path.unlink()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return
            folder = path.parent
            while folder != self._blobs and not any(folder.iterdir()):
                folder.rmdir()
                folder = folder.parent
            _sync_folder(folder)

    def exists(self, key: str) -> bool:
        with _directory_errors():
            self._check_mounted()
            return self._path(key).is_file()

    def keys(self, prefix: str = "") -> Iterator[str]:
        with _directory_errors():
            self._check_mounted()
        return self._walk(self._blobs, "", prefix)

    def _walk(self, folder: Path, base: str, prefix: str) -> Iterator[str]:
        with _directory_errors():
            try:
                with os.scandir(folder) as entries:
                    names = sorted(entry.name + "/" * entry.is_dir() for entry in entries)
            except FileNotFoundError:
                return  # the last blob of the folder was deleted since its parent was listed
        for name in names:
            path = base + name
            if name.endswith("/"):
                if path.startswith(prefix) or prefix.startswith(path):
                    yield from self._walk(folder / name, path, prefix)
            elif path.startswith(prefix):
                yield path

    def _path(self, key: str) -> Path:
        check_key(key)
        return self._blobs / key

    @contextmanager
    def _staged(self) -> Generator[tuple[BinaryIO, Path]]:
        handle, name = tempfile.mkstemp(dir=self._incoming)
        try:
            with os.fdopen(handle, "wb") as staged:
                yield staged, Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    @contextmanager
    def _locked(self, mode: int) -> Generator[None]:
        """Keep folders from being pruned (exclusive) while blobs are moved into them (shared)."""
        with self._lock.open("rb") as lock:
            fcntl.flock(lock, mode)
            yield

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        try:
            folder.mkdir(exist_ok=True)
        except FileExistsError as error:
            raise InvalidBlobKey(f"{folder.name!r} is a blob, not a folder of blobs") from error
        _sync_folder(folder.parent)

    def _check_mounted(self) -> None:
        if not self._blobs.is_dir():
            raise BlobStoreUnavailable(f"the folder {self._blobs} is gone")


@contextmanager
def _directory_errors() -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise BlobStoreUnavailable(str(error)) from error


def _source_chunks(source: Path) -> Iterator[bytes]:
    try:
        with source.open("rb") as content:
            while chunk := content.read(CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise SourceUnreadable(str(source)) from error


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read_file(file: BinaryIO, byte_range: ByteRange | None) -> BlobReader:
    status = os.fstat(file.fileno())
    file.seek(-1, os.SEEK_END)
    label_bytes = file.read(1)[0]
    size = status.st_size - 1 - label_bytes
    file.seek(size)
    media_type = file.read(label_bytes).decode("ascii")
    first, last = byte_range or (0, None)
    if byte_range and first >= size:
        raise RangeNotSatisfiable(f"the blob has {size} bytes")
    length = min(size, size if last is None else last + 1) - first
    return BlobReader(
        _file_chunks(file, first, length),
        file.close,
        size=size,
        length=length,
        media_type=media_type,
        etag=f"{status.st_ino:x}-{status.st_mtime_ns:x}-{size:x}",
    )


def _file_chunks(file: BinaryIO, first: int, length: int) -> Iterator[bytes]:
    with _directory_errors():
        file.seek(first)
        while length and (chunk := file.read(min(CHUNK_BYTES, length))):
            length -= len(chunk)
            yield chunk
