"""The content of an archive's entries: inflated within bounds, and only as it was declared."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ingest.limits import MIB
from ingest.refusal import refusal

_CHUNK = 64 * 1024
_PROOF_OF_BOMB = MIB


@dataclass(frozen=True, slots=True)
class Entry:
    """One member of an archive: where its data lies and what it must turn out to be."""

    name: str
    deflated: bool
    crc: int
    compressed: int
    size: int
    start: int


def read_member(file: BinaryIO, entry: Entry) -> Iterator[bytes]:
    """Yield the content of an entry in chunks; it is whole and genuine once the iterator ends.

    Raises ArchiveRefused at the first byte that contradicts the directory.
    """
    crc, left = 0, entry.size
    for chunk in _inflated(file, entry) if entry.deflated else _stored(file, entry):
        crc = zlib.crc32(chunk, crc)
        left -= len(chunk)
        yield chunk
    if left:
        raise refusal("shorter_than_declared", f"{left} bytes are missing", entry.name)
    if crc != entry.crc:
        raise refusal("crc_mismatch", f"{crc:08x} instead of {entry.crc:08x}", entry.name)


def _stored(file: BinaryIO, entry: Entry) -> Iterator[bytes]:
    file.seek(entry.start)
    left = entry.size
    while left and (chunk := file.read(min(_CHUNK, left))):
        left -= len(chunk)
        yield chunk


def _inflated(file: BinaryIO, entry: Entry) -> Iterator[bytes]:
    file.seek(entry.start)
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    unread, left, excess = entry.compressed, entry.size, 0
    while not stream.eof:
        data = stream.unconsumed_tail
        if not data:
            data = file.read(min(_CHUNK, unread))
            unread -= len(data)
        try:
            chunk = stream.decompress(data, min(_CHUNK, left) or _CHUNK)
        except zlib.error as error:
            raise refusal("corrupt_member", str(error), entry.name) from error
        if not (chunk or data or stream.eof):
            raise refusal("truncated_member", "the compressed data stops early", entry.name)
        if left:
            left -= len(chunk)
            yield chunk
        else:
            excess += len(chunk)
        if excess > _PROOF_OF_BOMB:
            detail = f"more than {excess} bytes beyond the declared {entry.size}"
            raise refusal("zip_bomb", detail, entry.name, malicious=True)
    if excess:
        raise refusal("longer_than_declared", f"{excess} bytes too many", entry.name)
    if unread or stream.unused_data:
        raise refusal("unused_member_data", "bytes after the compressed data", entry.name)
