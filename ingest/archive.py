"""From an uploaded archive to the pages of a chapter, or to the reason why not."""

import hashlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from ingest.images import SNIFFED_BYTES, DecodedImage, DecoderPool, ImageRefused, sniff
from ingest.limits import Limits
from ingest.members import Entry, read_member
from ingest.pages import arrange, media_type_of
from ingest.refusal import ArchiveRefused, Finding, refusal
from ingest.zipreader import read_entries

__all__ = ["ArchiveRefused", "Finding", "Limits", "PreparedChapter", "PreparedPage",
           "prepare_chapter"]  # fmt: skip

_EXTENSIONS = {
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/webp": "webp",
    "image/avif": "avif",
    "image/gif": "gif",
}
_DEFAULT_LIMITS = Limits()


class PreparedPage(Struct, frozen=True):
    """A page that was read and decoded in full, with its thumbnail, as files of the workdir."""

    number: int
    name: str
    sha256: str
    media_type: str
    extension: str
    width: int
    height: int
    bytes: int
    path: Path
    thumbnail_sha256: str
    thumbnail_bytes: int
    thumbnail_path: Path


class PreparedChapter(Struct, frozen=True):
    """The pages of an accepted archive in reading order, and what the reviewer should know."""

    pages: tuple[PreparedPage, ...]
    notes: tuple[Finding, ...]


class _WrittenPage(Struct, frozen=True):
    number: int
    name: str
    sha256: str
    media_type: str
    bytes: int
    path: Path


def prepare_chapter(
    archive: Path, workdir: Path, decoders: DecoderPool, limits: Limits = _DEFAULT_LIMITS
) -> PreparedChapter:
    """Read an archive once, front to back, into page and thumbnail files in `workdir`.

    Raises ArchiveRefused at the first bad byte; then, as after any other exception, no file that
    was made here is left.
    """
    preparation = _Preparation(workdir, decoders, limits)
    try:
        with archive.open("rb") as file:
            return preparation.run(file)
    except BaseException:
        preparation.undo()
        raise


class _Preparation:
    """One archive on its way: this thread inflates and hashes while the decoders decode."""

    def __init__(self, workdir: Path, decoders: DecoderPool, limits: Limits) -> None:
        self._workdir = workdir
        self._decoders = decoders
        self._limits = limits
        self._made: list[Path] = []
        self._decoding: deque[tuple[_WrittenPage, Future[DecodedImage]]] = deque()
        self._pages: list[PreparedPage] = []

    def run(self, file: BinaryIO) -> PreparedChapter:
        entries = read_entries(file, self._limits)
        arrangement = arrange([entry.name for entry in entries])
        numbers = {index: number for number, index in enumerate(arrangement.pages, 1)}
        for index, entry in enumerate(entries):
            if number := numbers.get(index):
                written = self._write_page(file, entry, number)
                self._decoding.append((written, self._decoders.decode(written.path)))
                self._collect(2 * self._decoders.size)
            else:
                _discard(file, entry)
        self._collect(0)
        pages = sorted(self._pages, key=lambda page: page.number)
        return PreparedChapter(tuple(pages), arrangement.notes)

    def undo(self) -> None:
        for _, future in self._decoding:
            future.cancel()
        for path in self._made:
            path.unlink()

    def _write_page(self, file: BinaryIO, entry: Entry, number: int) -> _WrittenPage:
        media_type = media_type_of(entry.name) or ""
        if entry.size > self._limits.page_bytes:
            raise refusal("page_too_large", f"{entry.size} bytes", entry.name)
        chunks = read_member(file, entry)
        head = _head(chunks)
        _check_type(head, media_type, entry.name)
        path = self._workdir / f"{number:04d}.{_EXTENSIONS[media_type]}"
        digest = hashlib.sha256(head)
        with path.open("xb", buffering=0) as page:
            self._made.append(path)
            page.write(head)
            for chunk in chunks:
                digest.update(chunk)
                page.write(chunk)
        return _WrittenPage(number, entry.name, digest.hexdigest(), media_type, entry.size, path)

    def _collect(self, allowed: int) -> None:
        """Take what is decoded, and wait until no more than `allowed` images are on their way."""
        while len(self._decoding) > allowed or (self._decoding and self._decoding[0][1].done()):
            written, future = self._decoding.popleft()
            try:
                decoded = future.result()
            except ImageRefused as error:
                raise refusal(
                    error.code, error.detail, written.name, malicious=error.malicious
                ) from error
            self._pages.append(self._finish(written, decoded))

    def _finish(self, written: _WrittenPage, decoded: DecodedImage) -> PreparedPage:
        if decoded.media_type != written.media_type:
            raise _mismatch(decoded.media_type, written.media_type, written.name)
        path = self._workdir / f"{written.number:04d}.thumbnail.webp"
        with path.open("xb") as thumbnail:
            self._made.append(path)
            thumbnail.write(decoded.drawing)
        return PreparedPage(
            number=written.number,
            name=written.name,
            sha256=written.sha256,
            media_type=written.media_type,
            extension=_EXTENSIONS[written.media_type],
            width=decoded.width,
            height=decoded.height,
            bytes=written.bytes,
            path=written.path,
            thumbnail_sha256=hashlib.sha256(decoded.drawing).hexdigest(),
            thumbnail_bytes=len(decoded.drawing),
            thumbnail_path=path,
        )


def _head(chunks: Iterator[bytes]) -> bytes:
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= SNIFFED_BYTES:
            break
    return head


def _check_type(head: bytes, promised: str, name: str) -> None:
    kind = sniff(head)
    if kind == "executable":
        raise refusal("disguised_executable", f"it says {promised}", name, malicious=True)
    if kind == "archive":
        raise refusal("nested_archive", "an archive in the archive", name)
    if kind != promised:
        raise _mismatch(kind, promised, name)


def _mismatch(kind: str, promised: str, name: str) -> ArchiveRefused:
    return refusal("type_mismatch", f"{kind} instead of {promised}", name)


def _discard(file: BinaryIO, entry: Entry) -> None:
    """Read what is not a page all the same: an accepted archive is whole."""
    chunks = read_member(file, entry)
    if sniff(_head(chunks)) == "archive":
        raise refusal("nested_archive", "an archive in the archive", entry.name)
    for _ in chunks:
        pass
