"""Hostile archives, crafted byte by byte, each with the refusal that it deserves."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.drawings import page, pages, picture
from tests.hostile_images import (
    flat_png,
    large_gif,
    large_jpeg,
    large_webp,
    multi_scan_jpeg,
    png,
    png_bomb,
    text_bomb,
)
from tests.zipwriter import (
    STREAMED,
    Member,
    body_and_directory,
    deflate,
    end_record,
    end_records64,
    local_header,
    unicode_path,
    write_zip,
)

LINK = 0o120777 << 16

Builder = Callable[[Path], Path]
MIB = 1024 * 1024
JPEG = picture(3)


def _with(make: Callable[[], list[Member]]) -> Builder:
    """Build an archive of one good page and what `make` adds."""
    return lambda path: write_zip(path, [*pages("001.jpg"), *make()])


def _lying(name: str | bytes = "002.jpg", data: bytes = JPEG, **fields: Any) -> Builder:
    """Build an archive in which one entry's record and header tell the same untruth."""
    return _with(lambda: [Member(name, data, **fields)])


def _renamed(raw: bytes) -> Builder:
    """Build an archive in which one entry has a harmless name for those who know its field."""
    return _lying(raw, central_extra=unicode_path(raw, b"002.jpg"))


def _link(target: bytes, method: int = 0, **fields: Any) -> Builder:
    """Build an archive with a symbolic link in a folder."""
    return _lying("a/link", target, method=method, attributes=LINK, **fields)


def _used_links(*links: tuple[str, bytes], used: str) -> Builder:
    """Build an archive with symbolic links, and an entry that lies below one of them."""
    return _with(
        lambda: [
            *(Member(name, target, method=0, attributes=LINK) for name, target in links),
            Member(used, JPEG),
        ]
    )


def _localised(**fields: Any) -> Builder:
    """Build an archive in which one local header alone has another name for some readers."""
    return _lying(extra=unicode_path(b"002.jpg", b"../x.jpg"), **fields)


def _local(**fields: int | bytes) -> Builder:
    """Build an archive in which one local header differs from the directory."""
    return _with(lambda: [Member("002.jpg", JPEG, local=dict(fields))])


def _edited(edit: Callable[[bytes], bytes]) -> Builder:
    """Build an honest archive and change its bytes."""

    def build(path: Path) -> Path:
        write_zip(path, pages("001.jpg", "002.jpg"))
        path.write_bytes(edit(path.read_bytes()))
        return path

    return build


def _zip_bytes(*members: Member) -> bytes:
    body, directory = body_and_directory(list(members))
    return body + directory + end_record(len(members), len(directory), len(body))


def _truncated(kind: str, extension: str) -> Builder:
    def build(path: Path) -> Path:
        image = picture(1, kind, (600, 900))
        return write_zip(path, [Member(f"001.{extension}", image[: len(image) * 3 // 4])])

    return build


def _quoted_overlap(path: Path) -> Path:
    """Each entry's data quotes the next header and goes on into the next entry's data."""
    zeros = bytes(20 * MIB)
    kernel = Member("250.jpg", zeros)
    body, members = local_header(kernel) + (kernel.payload or b""), [kernel]
    headers = [0]
    for number in range(249, 0, -1):
        quoted = local_header(members[0])
        stored_block = struct.pack("<B2H", 0, len(quoted), len(quoted) ^ 0xFFFF)
        size = (members[0].size or 0) + len(quoted)
        member = Member(f"{number:03}.jpg", payload=stored_block + body, size=size, crc=0)
        body = local_header(member) + stored_block + body
        members.insert(0, member)
        headers.insert(0, len(body))
    for member, from_end in zip(members, [*headers[:-1], 0], strict=True):
        member.header = len(body) - (
            from_end or len(local_header(kernel) + (kernel.payload or b""))
        )
    directory = body_and_directory(members)[1]
    path.write_bytes(body + directory + end_record(250, len(directory), len(body)))
    return path


def _same_data(path: Path) -> Path:
    kernel = Member("001.jpg", bytes(20 * MIB))
    aliases = [Member(f"{n:03}.jpg", payload=kernel.payload, size=kernel.size, crc=kernel.crc,
                      header=0) for n in range(2, 250)]  # fmt: skip
    return write_zip(path, [kernel, *aliases])


def _zeros(size: int, count: int) -> Callable[[], list[Member]]:
    def make() -> list[Member]:
        zeros = bytes(size)
        payload, crc = deflate(zeros), zlib.crc32(zeros)
        return [Member(f"{n:03}.jpg", payload=payload, size=size, crc=crc)
                for n in range(2, count + 2)]  # fmt: skip

    return make


def _too_much(path: Path) -> Path:
    noise = bytes(300_000)
    return write_zip(path, [Member(f"{n}.jpg", payload=noise, size=49 * MIB) for n in range(1, 45)])


def _jpeg_then_zeros() -> list[Member]:
    return [Member("002.jpg", JPEG + bytes(51 * MIB))]


def _spare_data(path: Path) -> Path:
    first, _ = body_and_directory(pages("001.jpg"))
    second = page("002.jpg", 2)
    body = first + b"hidden" + local_header(second) + (second.payload or b"")
    second.header = len(first) + len(b"hidden")
    (first_member,) = pages("001.jpg")
    first_member.header = 0
    directory = body_and_directory([first_member, second])[1]
    path.write_bytes(body + directory + end_record(2, len(directory), len(body)))
    return path


def _prepended_and_adjusted(path: Path) -> Path:
    stub = b"#!/bin/sh\nexit\n"
    body, directory = body_and_directory(pages("001.jpg", "002.jpg"), len(stub))
    end = end_record(2, len(directory), len(stub) + len(body))
    path.write_bytes(stub + body + directory + end)
    return path


def _zip64(path: Path, disks: int = 1, shift: int = 0, entries: int = 2) -> Path:
    body, directory = body_and_directory(pages("001.jpg", "002.jpg"))
    end = end_records64(entries, len(directory), len(body) + shift, disks)
    path.write_bytes(body + directory + end)
    return path


def _zip64_end_differs(path: Path) -> Path:
    _zip64(path)
    data = path.read_bytes()
    path.write_bytes(data[:-22] + end_record(3, 0xFFFFFFFF, 0xFFFFFFFF))
    return path


def _zip64_edited(from_end: int, value: bytes) -> Builder:
    def build(path: Path) -> Path:
        data = bytearray(_zip64(path).read_bytes())
        data[from_end : from_end + len(value)] = value
        path.write_bytes(data)
        return path

    return build


def _last_record_edited(offset: int, value: bytes) -> Builder:
    def edit(data: bytes) -> bytes:
        at = data.rindex(b"PK\1\2") + offset
        return data[:at] + value + data[at + len(value) :]

    return _edited(edit)


def _large_directory() -> list[Member]:
    extra = struct.pack("<2H", 0x9999, 60_000) + bytes(60_000)
    return [Member(f"{n}.txt", central_extra=extra) for n in range(80)]


def _wrong_descriptor() -> list[Member]:
    return [
        Member("002.jpg", JPEG, flags=STREAMED, descriptor=struct.pack("<4I", 0x08074B50, 1, 2, 3))
    ]


def _sparse(path: Path) -> Path:
    with path.open("wb") as file:
        file.truncate(501 * MIB)
        file.seek(0, 2)
        file.write(end_record(0, 0, 501 * MIB))
    return path


HOSTILE: dict[str, tuple[Builder, str, bool]] = {
    "overlap that quotes headers": (_quoted_overlap, "overlapping_entries", True),
    "overlap of everything": (_same_data, "overlapping_entries", True),
    "longer than declared": (_lying(size=len(JPEG) - 9), "longer_than_declared", False),
    "far longer than declared": (
        _lying(payload=deflate(JPEG + bytes(8 * MIB)), size=len(JPEG)), "zip_bomb", True),
    "shorter than declared": (_lying(size=len(JPEG) + 9), "shorter_than_declared", False),
    "declared beyond deflate": (_lying(size=2000 * MIB), "zip_bomb", True),
    "zeros, too many in all": (_with(_zeros(49 * MIB, 44)), "zip_bomb", True),
    "too much in all": (_too_much, "inflates_too_large", False),
    "bzip2 bomb": (_lying(method=12, size=2000 * MIB), "unsupported_method", False),
    "LZMA bomb": (_lying(method=14, size=2000 * MIB), "unsupported_method", False),
    "stored with two sizes": (_lying(method=0, size=99), "header_mismatch", False),
    "local name differs": (_local(name=b"002.exe"), "name_mismatch", False),
    "local size differs": (_local(size=9), "header_mismatch", False),
    "local checksum differs": (_local(crc=9), "header_mismatch", False),
    "local method differs": (_local(method=0), "header_mismatch", False),
    "local flags differ": (_local(flags=STREAMED), "header_mismatch", False),
    "duplicate after case folding": (_lying("001.JPG"), "duplicate_name", False),
    "duplicate after NFC": (
        _with(lambda: pages("\u30ac2.jpg", "\u30ab\u30992.jpg")), "duplicate_name", False),
    "dot dot": (_lying("a/../../002.jpg"), "path_traversal", True),
    "dot dot with backslashes": (_lying("a\\..\\..\\002.jpg"), "path_traversal", True),
    "absolute path": (_lying("/etc/002.jpg"), "absolute_path", True),
    "drive": (_lying("C:\\002.jpg"), "absolute_path", True),
    "network path": (_lying("\\\\host\\002.jpg"), "absolute_path", True),
    "NUL": (_lying(b"002.jpg\0.exe"), "nul_in_name", False),
    "no name": (_lying(b""), "bad_name", False),
    "name that is not UTF-8": (_lying(b"\xff.jpg", flags=0x0800), "bad_name", False),
    "endless name": (_lying("a" * 2000 + ".jpg"), "bad_name", False),
    "name of older readers": (_renamed(b"../2.jpg"), "path_traversal", True),
    "drive of older readers": (_renamed(b"C:\\2.jpg"), "absolute_path", True),
    "NUL for older readers": (_renamed(b"2.exe\0.jpg"), "nul_in_name", False),
    "symlink to a file outside": (_link(b"/etc/passwd"), "special_file", False),
    "symlink of a Mac": (_link(b"/etc/passwd", host=19), "special_file", False),
    "symlink to a drive": (_link(b"C:\\Windows"), "special_file", False),
    "symlink out": (_link(b"../../etc"), "special_file", False),
    "symlink out, used": (
        _used_links(("a/link", b"../../etc"), used="a/link/2.jpg"), "special_file", True),
    "symlink to a folder outside, used": (
        _used_links(("a/link", b"/etc"), used="A/./Link/2.jpg"), "special_file", True),
    "symlink to a drive, used": (
        _used_links(("a/link", b"C:\\Windows"), used="a/link/2.jpg"), "special_file", True),
    "symlink to a symlink out, used": (
        _used_links(("a/link", b"../b"), ("b", b"/etc"), used="a/link/2.jpg"),
        "special_file", True),
    "symlink within, used": (
        _used_links(("a/link", b"b"), used="a/link/2.jpg"), "special_file", False),
    "symlink out beside a folder": (
        _used_links(("a/link", b"/etc"), used="a/links/2.jpg"), "special_file", False),
    "Unicode name of the local header": (_localised(), "name_mismatch", False),
    "Unicode name of the local header, streamed": (
        _localised(flags=STREAMED), "name_mismatch", False),
    "symlink within": (_link(b"../001.jpg"), "special_file", False),
    "symlink that is too long": (_link(b"/" * 5000), "special_file", False),
    "device": (_lying("sda", data=b"", attributes=0o060660 << 16), "special_file", False),
    "file type that is none": (
        _lying("sda", data=b"", attributes=0xF000 << 16), "special_file", False),
    "streamed, local size differs": (
        _lying(flags=STREAMED, local={"size": 9}), "header_mismatch", False),
    "streamed, local packed size differs": (
        _lying(flags=STREAMED, local={"compressed": 9}), "header_mismatch", False),
    "streamed, Zip64 size differs": (
        _lying(flags=STREAMED, local={"size": 0xFFFFFFFF}, extra=struct.pack("<2HQ", 1, 8, 9)),
        "header_mismatch", False),
    "encrypted": (_lying(flags=0x0001), "encrypted", False),
    "strongly encrypted": (_lying(flags=0x0041), "encrypted", False),
    "nested ZIP": (_lying("more.zip", data=_zip_bytes(*pages("1.jpg"))), "nested_archive", False),
    "nested RAR": (_lying("more.rar", data=b"Rar!\x1a\7\1\0"), "nested_archive", False),
    "nested 7z": (_lying("more.7z", data=b"7z\xbc\xaf\x27\x1c\0\4"), "nested_archive", False),
    "nested ZIP as image": (_lying(data=_zip_bytes(*pages("1.jpg"))), "nested_archive", False),
    "prepended data": (_edited(lambda data: b"stub" + data), "prepended_data", False),
    "prepended data, adjusted": (_prepended_and_adjusted, "prepended_data", False),
    "trailing data": (_edited(lambda data: data + b"more"), "trailing_data", False),
    "data between entries": (_spare_data, "unlisted_data", False),
    "Zip64 without record": (
        _edited(lambda data: data[:-22] + end_record(2, 1, 0xFFFFFFFF)), "bad_zip64", False),
    "Zip64 record elsewhere": (lambda path: _zip64(path, shift=1), "bad_zip64", False),
    "Zip64 and old record differ": (_zip64_end_differs, "bad_zip64", False),
    "Zip64 record not before its locator": (_zip64_edited(-34, b"\0"), "bad_zip64", False),
    "Zip64 record without signature": (_zip64_edited(-98, b"XX"), "bad_zip64", False),
    "Zip64 size missing": (_lying(size=0xFFFFFFFF), "bad_zip64", False),
    "Zip64 multi-disk": (lambda path: _zip64(path, disks=2), "multi_disk", False),
    "multi-disk": (
        _edited(lambda data: data[:-18] + b"\1\0" + data[-16:]), "multi_disk", False),
    "two end records": (
        lambda path: write_zip(path, pages("1.jpg"), end_record(0, 0, 0)),
        "ambiguous_directory", False),
    "fewer entries than records": (
        _edited(lambda data: data[:-14] + b"\1\0\1\0" + data[-10:]),
        "bad_central_directory", False),
    "more entries than records": (
        _edited(lambda data: data[:-14] + b"\3\0\3\0" + data[-10:]),
        "bad_central_directory", False),
    "directory of 5 MB": (_with(_large_directory), "bad_central_directory", False),
    "data after the directory": (
        _edited(lambda data: data[:-22] + b"more" + data[-22:]), "bad_central_directory", False),
    "record over the end": (
        _last_record_edited(32, b"\xff\0"), "bad_central_directory", False),
    "entry of another disk": (_last_record_edited(34, b"\1\0"), "multi_disk", False),
    "not a ZIP": (_edited(lambda _: b"Rar!\x1a\7\1\0"), "not_a_zip", False),
    "empty file": (_edited(lambda _: b""), "not_a_zip", False),
    "cut short": (_edited(lambda data: data[: len(data) // 2]), "not_a_zip", False),
    "broken extra field": (_lying(central_extra=b"\1\0\xff\xff"), "bad_extra_field", False),
    "header that is none": (_lying(header=5), "bad_local_header", False),
    "header beyond the end": (_lying(header=0xFFFFFFF0), "runs_over_end", False),
    "data beyond the end": (
        _lying(compressed=10 * MIB), "runs_over_end", False),
    "wrong data descriptor": (_with(_wrong_descriptor), "bad_data_descriptor", False),
    "directory with data": (_lying("folder/"), "directory_with_data", False),
    "wrong checksum": (_lying(crc=1), "crc_mismatch", False),
    "broken deflate": (_lying(payload=b"\xff" * 900), "corrupt_member", False),
    "deflate cut short": (_lying(payload=deflate(JPEG)[:-20]), "truncated_member", False),
    "bytes after deflate": (_lying(payload=deflate(JPEG) + b"more"), "unused_member_data", False),
    "thousands of entries": (
        _with(lambda: [Member(f"{n}.txt") for n in range(3000)]), "too_many_entries", False),
    "archive too large": (_sparse, "archive_too_large", False),
    "page too large": (_with(_jpeg_then_zeros), "page_too_large", False),
    "PNG bomb": (_lying("2.png", data=png_bomb(513)), "image_bomb", True),
    "PNG that claims to be a bomb": (
        _lying("2.png", data=png(50_000, 50_000, 2, b"")), "image_too_large", False),
    "PNG bomb of noise": (
        _lying("2.png", data=png(50_000, 50_000, 2, b"noise")), "image_too_large", False),
    "WebP of too many pixels": (
        _lying("2.webp", data=large_webp()), "image_too_large", False),
    "GIF of too many pixels": (_lying("2.gif", data=large_gif()), "image_too_large", False),
    "JPEG of too many pixels": (_lying(data=large_jpeg()), "image_too_large", False),
    "PNG of 100 megapixels": (
        _with(lambda: [Member("2.png", flat_png(10_000, 10_000, 3))]), "image_too_large", False),
    "JPEG in many scans": (
        _with(lambda: [Member("2.jpg", multi_scan_jpeg())]), "undecodable_image", False),
    "PNG text bomb": (_with(lambda: [Member("2.png", text_bomb())]), "undecodable_image", False),
    "truncated JPEG": (_truncated("JPEG", "jpg"), "undecodable_image", False),
    "truncated PNG": (_truncated("PNG", "png"), "undecodable_image", False),
    "truncated WebP": (_truncated("WEBP", "webp"), "undecodable_image", False),
    "truncated AVIF": (_truncated("AVIF", "avif"), "undecodable_image", False),
    "truncated GIF": (_truncated("GIF", "gif"), "undecodable_image", False),
    "PNG named jpg": (_lying(data=picture(2, "PNG")), "type_mismatch", False),
    "HTML named jpg": (_lying(data=b"<html>404</html>"), "type_mismatch", False),
    "empty page": (_lying(data=b""), "type_mismatch", False),
    "ELF named jpg": (_lying(data=b"\x7fELF\2\1\1"), "disguised_executable", True),
    "PE named png": (_lying("2.png", data=b"MZ\x90\0"), "disguised_executable", True),
    "Mach-O named jpg": (_lying(data=b"\xcf\xfa\xed\xfe\7"), "disguised_executable", True),
    "script named jpg": (_lying(data=b"#!/bin/sh\n"), "disguised_executable", True),
    "no pages": (lambda path: write_zip(path, [Member("read me.txt", b"-")]), "no_pages", False),
    "no entries": (lambda path: write_zip(path, []), "no_pages", False),
    "pages in several folders": (_lying("more/002.jpg"), "several_folders", False),
    "the same page number twice": (_lying("1.png"), "duplicate_page", False),
}  # fmt: skip
"""Archives that must be refused: how to build one, the refusal code, whether it proves malice."""
