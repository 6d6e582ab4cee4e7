"""A ZIP writer that can lie: every field of every record can be set against the truth."""

import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path

STREAMED = 0x0008
UTF8 = 0x0800
REGULAR = 0o100644 << 16
UNIX = 3


@dataclass
class Member:
    """One entry; what is not given is what an honest writer would put there."""

    name: str | bytes
    data: bytes = b""
    method: int = 8
    flags: int = 0
    payload: bytes | None = None
    size: int | None = None
    crc: int | None = None
    compressed: int | None = None
    attributes: int = REGULAR
    host: int = UNIX
    extra: bytes = b""
    central_extra: bytes = b""
    local: dict[str, int | bytes] = field(default_factory=dict[str, "int | bytes"])
    descriptor: bytes | None = None
    header: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.name, str):
            if not self.name.isascii():
                self.flags |= UTF8
            self.name = self.name.encode()
        if self.payload is None:
            self.payload = deflate(self.data) if self.method == 8 else self.data
        if self.size is None:
            self.size = len(self.data)
        if self.crc is None:
            self.crc = zlib.crc32(self.data)
        if self.compressed is None:
            self.compressed = len(self.payload)


def deflate(data: bytes) -> bytes:
    """Compress to a raw deflate stream."""
    stream = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return stream.compress(data) + stream.flush()


def local_header(member: Member) -> bytes:
    """Encode what stands before an entry's data."""
    streamed = member.flags & STREAMED
    fields: dict[str, int | bytes] = {
        "name": member.name if isinstance(member.name, bytes) else b"",
        "flags": member.flags,
        "method": member.method,
        "crc": 0 if streamed else member.crc or 0,
        "compressed": 0 if streamed else member.compressed or 0,
        "size": 0 if streamed else member.size or 0,
    } | member.local
    name = fields["name"]
    assert isinstance(name, bytes)
    values = (fields[key] for key in ("flags", "method", "crc", "compressed", "size"))
    flags, method, *sizes = values
    lengths = (len(name), len(member.extra))
    packed = struct.pack("<4s5H3I2H", b"PK\3\4", 20, flags, method, 0, 0x21, *sizes, *lengths)
    return packed + name + member.extra


def unicode_path(raw: bytes, name: bytes) -> bytes:
    """Encode the extra field that names an entry anew for those who know the field."""
    field = b"\1" + struct.pack("<I", zlib.crc32(raw)) + name
    return struct.pack("<2H", 0x7075, len(field)) + field


def data_descriptor(member: Member, layout: str = "<I3I") -> bytes:
    """Encode what a streaming writer puts after an entry's data."""
    values = (member.crc, member.compressed, member.size)
    if layout.startswith("<I"):
        return struct.pack(layout, 0x08074B50, *values)
    return struct.pack(layout, *values)


def central_record(member: Member, header: int) -> bytes:
    """Encode an entry of the directory."""
    assert isinstance(member.name, bytes)
    fixed = struct.pack(
        "<4s6H3I5H2I", b"PK\1\2", member.host << 8 | 20, 20, member.flags, member.method, 0, 0x21,
        member.crc, member.compressed, member.size, len(member.name), len(member.central_extra),
        0, 0, 0, member.attributes, header,
    )  # fmt: skip
    return fixed + member.name + member.central_extra


def end_record(entries: int, size: int, start: int, comment: bytes = b"", disk: int = 0) -> bytes:
    """Encode the record that ends an archive."""
    packed = struct.pack("<4s4H2IH", b"PK\5\6", disk, disk, entries, entries, size, start,
                         len(comment))  # fmt: skip
    return packed + comment


def end_records64(entries: int, size: int, start: int, disks: int = 1) -> bytes:
    """Encode the Zip64 record, its locator, and the old record that sends readers there."""
    wide = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, entries, entries, size, start)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, start + size, disks)
    return wide + locator + end_record(0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)


def body_and_directory(members: list[Member], start: int = 0) -> tuple[bytes, bytes]:
    """Encode the entries, and the directory that lists them; `start` is added to all offsets."""
    body, directory = bytearray(), bytearray()
    for member in members:
        header = start + len(body) if member.header is None else member.header
        directory += central_record(member, header)
        if member.header is None:
            body += local_header(member) + (member.payload or b"")
            if member.flags & STREAMED:
                body += data_descriptor(member) if member.descriptor is None else member.descriptor
    return bytes(body), bytes(directory)


def write_zip(path: Path, members: list[Member], comment: bytes = b"") -> Path:
    """Write an archive of these entries."""
    body, directory = body_and_directory(members)
    end = end_record(len(members), len(directory), len(body), comment)
    path.write_bytes(body + directory + end)
    return path
