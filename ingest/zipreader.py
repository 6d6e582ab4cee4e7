"""A strict ZIP reader: every byte of the archive belongs to exactly one entry, and says so twice.

Only what comic archives need is read: stored and deflated entries of a single-part archive, with
Zip64 and data descriptors. Whatever two readers could understand differently is refused.
"""

import stat
import struct
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from ingest.limits import MIB, Limits
from ingest.members import Entry, read_member
from ingest.names import check_name, decode_names, is_folder_of, leads_out
from ingest.refusal import ArchiveRefused, refusal

_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_END64_LOCATOR = struct.Struct("<4sIQI")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")
_EXTRA = struct.Struct("<2H")

_ENCRYPTED = 0x2041  # traditional, strong, masked headers
_DESCRIPTOR = 0x0008
_UTF8 = 0x0800
_COMPARED_FLAGS = _ENCRYPTED | _DESCRIPTOR | _UTF8
_ZIP64, _UNICODE_PATH = 0x0001, 0x7075
_STORED, _DEFLATED = 0, 8
_U16, _U32 = 0xFFFF, 0xFFFFFFFF

_COMMENT_BYTES = 0xFFFF
_DIRECTORY_BYTES = 4 * MIB
_DEFLATE_RATIO = 1032  # no deflate stream expands further
_BOMB_RATIO = 200

_UNIX_HOSTS = (3, 19)  # Unix and OS X; attributes made elsewhere hold no mode
_FILE_TYPES = (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFIFO)  # `cat 1.jpg | zip a.zip -`: a FIFO
_TARGET_BYTES = 4096


@dataclass(frozen=True, slots=True)
class _Directory:
    """Where the central directory lies; `end` is where the records after it begin."""

    entries: int
    start: int
    size: int
    end: int


@dataclass(frozen=True, slots=True)
class _Record:
    """An entry as the central directory lists it."""

    name: str
    older_name: str
    raw_name: bytes
    file_type: int
    flags: int
    method: int
    crc: int
    compressed: int
    size: int
    header: int


def read_entries(file: BinaryIO, limits: Limits) -> tuple[Entry, ...]:
    """List the entries of an archive, in the order of its directory, after checking all headers.

    Nothing is inflated but where a link points. Raises ArchiveRefused.
    """
    length = file.seek(0, 2)
    if length > limits.archive_bytes:
        raise refusal("archive_too_large", f"{length} bytes, {limits.archive_bytes} allowed")
    directory = _find_directory(file, length)
    if directory.entries > limits.entries:
        raise refusal("too_many_entries", f"{directory.entries}, {limits.entries} allowed")
    records = _read_records(file, directory)
    _check_names(records)
    _check_sharing(records)
    placed = [_place(file, record, directory.start) for record in records]
    _check_layout([(record, end) for record, (_, end) in zip(records, placed, strict=True)],
                  directory.start)  # fmt: skip
    _check_expansion(records, length, limits)
    entries = tuple(entry for entry, _ in placed)
    _check_file_types(file, [record.file_type for record in records], entries)
    return entries


def _find_directory(file: BinaryIO, length: int) -> _Directory:
    tail_start = max(0, length - _END.size - _COMMENT_BYTES)
    tail = _read(file, tail_start, length - tail_start)
    found: list[int] = []
    signed = tail.find(b"PK\5\6")
    if signed < 0:
        raise refusal("not_a_zip", "no end of central directory")
    while signed >= 0:
        header = tail[signed : signed + _END.size]
        if len(header) == _END.size and signed + _END.size + _END.unpack(header)[-1] == len(tail):
            found.append(signed)
        signed = tail.find(b"PK\5\6", signed + 1)
    if not found:
        raise refusal("trailing_data", "the archive does not end where its last record says")
    if len(found) > 1:
        raise refusal("ambiguous_directory", "two records claim to end the archive")
    end = tail_start + found[0]
    _, disk, first_disk, here, entries, size, start, _ = _END.unpack_from(tail, found[0])
    locator_at = end - _END64_LOCATOR.size
    if locator_at >= 0 and _read(file, locator_at, 4) == b"PK\6\7":
        return _find_directory64(file, locator_at, (disk, first_disk, here, entries, size, start))
    if _U16 in (disk, first_disk, here, entries) or _U32 in (size, start):
        raise refusal("bad_zip64", "Zip64 is announced and its record is missing")
    return _checked_directory(file, (disk, first_disk, here, entries, size, start), end)


def _find_directory64(file: BinaryIO, locator_at: int, short: tuple[int, ...]) -> _Directory:
    _, disk, end, disks = _END64_LOCATOR.unpack(_read(file, locator_at, _END64_LOCATOR.size))
    if disk != 0 or disks != 1:
        raise refusal("multi_disk", f"part {disk} of {disks}")
    if end + _END64.size != locator_at:
        raise refusal("bad_zip64", "the Zip64 record is not where its locator says")
    signature, size, _, _, *wide = _END64.unpack(_read(file, end, _END64.size))
    if signature != b"PK\6\6" or size != _END64.size - 12:
        raise refusal("bad_zip64", "the Zip64 record is malformed")
    for narrow, full, full_scale in zip(short, wide, (_U16,) * 4 + (_U32,) * 2, strict=True):
        if narrow not in (full, full_scale):
            raise refusal("bad_zip64", f"the two end records differ: {narrow} and {full}")
    return _checked_directory(file, tuple(wide), end)


def _checked_directory(file: BinaryIO, fields: tuple[int, ...], end: int) -> _Directory:
    disk, first_disk, here, entries, size, start = fields
    if disk or first_disk or here != entries:
        raise refusal("multi_disk", f"part {disk}, directory in part {first_disk}")
    if size > _DIRECTORY_BYTES:
        raise refusal("bad_central_directory", f"{size} bytes, {_DIRECTORY_BYTES} allowed")
    if start + size < end and entries and _read(file, end - size, 4) == b"PK\1\2":
        raise refusal("prepended_data", f"{end - size - start} bytes before the archive")
    if start + size != end:
        raise refusal("bad_central_directory", "it does not end where the end record begins")
    return _Directory(entries, start, size, end)


def _read_records(file: BinaryIO, directory: _Directory) -> list[_Record]:
    data = _read(file, directory.start, directory.size)
    records: list[_Record] = []
    at = 0
    for _ in range(directory.entries):
        if data[at : at + 4] != b"PK\1\2" or len(data) < at + _CENTRAL.size:
            raise refusal("bad_central_directory", f"no entry record at {at}")
        lengths = struct.unpack_from("<3H", data, at + 28)
        after = at + _CENTRAL.size + sum(lengths)
        if after > len(data):
            raise refusal("bad_central_directory", "an entry record runs over the end")
        records.append(_parse_record(data[at:after]))
        at = after
    if at != len(data):
        raise refusal("bad_central_directory", "more bytes than entries")
    return records


def _parse_record(data: bytes) -> _Record:
    (_, made_by, _, flags, method, _, _, crc, compressed, size, name_length, extra_length,
     _, disk, _, attributes, header) = _CENTRAL.unpack_from(data)  # fmt: skip
    raw_name = data[_CENTRAL.size : _CENTRAL.size + name_length]
    extra = _parse_extra(data[_CENTRAL.size + name_length :][:extra_length])
    name, older_name = decode_names(raw_name, flags, extra.get(_UNICODE_PATH, b""))
    size, compressed, header = _widen((size, compressed, header), extra, name)
    if flags & _ENCRYPTED:
        raise refusal("encrypted", "a password is needed", name)
    if method not in (_STORED, _DEFLATED):
        raise refusal("unsupported_method", f"compression method {method}", name)
    if disk not in (0, _U16):
        raise refusal("multi_disk", f"part {disk}", name)
    if name.endswith("/") and size:
        raise refusal("directory_with_data", f"{size} bytes", name)
    if method == _STORED and size != compressed:
        raise refusal("header_mismatch", f"stored {size} bytes as {compressed}", name)
    file_type = stat.S_IFMT(attributes >> 16) if made_by >> 8 in _UNIX_HOSTS else 0
    return _Record(
        name, older_name, raw_name, file_type, flags, method, crc, compressed, size, header
    )


def _parse_extra(data: bytes) -> dict[int, bytes]:
    fields: dict[int, bytes] = {}
    at = 0
    while len(data) - at >= _EXTRA.size:
        tag, length = _EXTRA.unpack_from(data, at)
        at += _EXTRA.size
        if at + length > len(data) or tag in fields:
            raise refusal("bad_extra_field", f"field {tag:04x}")
        fields[tag] = data[at : at + length]
        at += length
    return fields


def _widen(values: tuple[int, ...], extra: dict[int, bytes], name: str) -> tuple[int, ...]:
    wide = extra.get(_ZIP64, b"")
    widened: list[int] = []
    for value in values:
        if value == _U32:
            if len(wide) < 8:
                raise refusal("bad_zip64", "a size is announced and missing", name)
            value, wide = int.from_bytes(wide[:8], "little"), wide[8:]
        widened.append(value)
    return tuple(widened)


def _check_names(records: list[_Record]) -> None:
    seen: set[str] = set()
    for record in records:
        name = record.name
        check_name(name)
        check_name(record.older_name)
        folded = unicodedata.normalize("NFC", name.rstrip("/")).casefold()
        if folded in seen:
            raise refusal("duplicate_name", "two entries share a name", name)
        seen.add(folded)


def _check_sharing(records: list[_Record]) -> None:
    shared = len(records) - len({record.header for record in records})
    if shared:  # one may be a flipped bit, more are a plan
        detail = f"{shared} entries have the data of another"
        raise refusal("overlapping_entries", detail, malicious=shared > 1)


def _place(file: BinaryIO, record: _Record, limit: int) -> tuple[Entry, int]:
    """Check the local header against the directory; answer the entry and where it really ends."""
    name = record.name
    if record.header >= limit:
        raise refusal("runs_over_end", "its data begins after the last entry", name)
    header = _read(file, record.header, _LOCAL.size)
    if header[:4] != b"PK\3\4" or len(header) < _LOCAL.size:
        raise refusal("bad_local_header", f"none at {record.header}", name)
    _, _, flags, method, _, _, crc, compressed, size, name_length, extra_length = _LOCAL.unpack(
        header
    )
    after = _read(file, record.header + _LOCAL.size, name_length + extra_length)
    if after[:name_length] != record.raw_name:
        raise refusal("name_mismatch", "the local name differs", name)
    if method != record.method or (flags ^ record.flags) & _COMPARED_FLAGS:
        raise refusal("header_mismatch", "the local method or flags differ", name)
    streamed = bool(flags & _DESCRIPTOR)
    sizes = (size, compressed)
    unicode_path = _UNICODE_PATH.to_bytes(2, "little") in after[name_length:]
    if not streamed or _U32 in sizes or unicode_path:
        extra = _parse_extra(after[name_length:])
        if _UNICODE_PATH in extra and decode_names(
            record.raw_name, flags, extra[_UNICODE_PATH]
        ) != (name, record.older_name):
            raise refusal("name_mismatch", "the local Unicode name differs", name)
        if not streamed or _ZIP64 in extra:
            sizes = _widen(sizes, extra, name)
    for local, listed in zip(sizes, (record.size, record.compressed), strict=True):
        if local != listed and not (streamed and local in (0, _U32)):
            raise refusal("header_mismatch", "the local sizes differ", name)
    if crc != record.crc and not (streamed and crc == 0):
        raise refusal("header_mismatch", "the local checksum differs", name)
    start = record.header + _LOCAL.size + name_length + extra_length
    end = start + record.compressed
    if end > limit:
        raise refusal("runs_over_end", f"{end - limit} bytes into the directory", name)
    if streamed:
        end += _descriptor_length(_read(file, end, min(24, limit - end)), record)
    entry = Entry(
        name, record.method == _DEFLATED, record.crc, record.compressed, record.size, start
    )
    return entry, end


def _descriptor_length(data: bytes, record: _Record) -> int:
    for layout in ("<I2Q", "<3I"):
        sizes_fit = layout == "<I2Q" or max(record.compressed, record.size) < _U32
        if not sizes_fit:
            continue
        plain = struct.pack(layout, record.crc, record.compressed, record.size)
        for descriptor in (b"PK\7\x08" + plain, plain):
            if data.startswith(descriptor):
                return len(descriptor)
    raise refusal("bad_data_descriptor", "it differs from the directory", record.name)


def _check_layout(records: list[tuple[_Record, int]], directory_start: int) -> None:
    """Every byte before the directory belongs to exactly one entry."""
    expected = 0
    for record, end in sorted(records, key=lambda placed: placed[0].header):
        if record.header < expected:
            raise refusal("overlapping_entries", "two share data", record.name, malicious=True)
        if record.header > expected:
            raise _unlisted(expected, record.header)
        expected = end
    if expected < directory_start:
        raise _unlisted(expected, directory_start)


def _unlisted(start: int, end: int) -> ArchiveRefused:
    code = "unlisted_data" if start else "prepended_data"
    return refusal(code, f"{end - start} bytes at {start} belong to no entry")


def _check_expansion(records: list[_Record], length: int, limits: Limits) -> None:
    for record in records:
        if record.size > record.compressed * _DEFLATE_RATIO:
            detail = f"{record.size} bytes declared in {record.compressed}"
            raise refusal("zip_bomb", detail, record.name, malicious=True)
    total = sum(record.size for record in records)
    if total > limits.inflated_bytes:
        detail = f"{total} bytes, {limits.inflated_bytes} allowed"
        if total > length * _BOMB_RATIO:
            raise refusal("zip_bomb", detail, malicious=True)
        raise refusal("inflates_too_large", detail)


def _check_file_types(file: BinaryIO, file_types: Sequence[int], entries: Sequence[Entry]) -> None:
    """Refuse links and devices; it is a plan where links lead out and other entries pass through.

    A link alone proves nothing: `zip -y` packs those that happen to be there, wherever they lead.
    """
    kinds = zip(file_types, entries, strict=True)
    special = {entry.name: entry for kind, entry in kinds if kind not in _FILE_TYPES}
    links = [entry for kind, entry in zip(file_types, entries, strict=True) if stat.S_ISLNK(kind)]
    out = any(
        leads_out(link.name, b"".join(read_member(file, link)))
        for link in links
        if link.size <= _TARGET_BYTES
    )
    passed = any(is_folder_of(link.name, entry.name) for link in links for entry in entries)
    for name in special:
        raise refusal("special_file", "a link or a device", name, malicious=out and passed)


def _read(file: BinaryIO, start: int, length: int) -> bytes:
    file.seek(start)
    return file.read(length)
