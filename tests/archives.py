"""Archives for tests and benchmarks: honest ones, and hostile ones with the code they deserve."""

import stat
import struct
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

from PIL import Image

from tests.drawings import page, pages, picture
from tests.hostile import HOSTILE
from tests.zipwriter import (
    STREAMED,
    UNIX,
    Member,
    body_and_directory,
    data_descriptor,
    end_record,
    end_records64,
    local_header,
    unicode_path,
    write_zip,
)

__all__ = ["HONEST", "HOSTILE", "STRIPS", "large_chapter"]

Builder = Callable[[Path], Path]


def _named(*names: str | bytes, kind: str = "JPEG") -> Builder:
    return lambda path: write_zip(path, pages(*names, kind=kind))


def _file(name: str, data: bytes) -> Builder:
    return lambda path: write_zip(path, [*pages("001.jpg", "002.jpg"), Member(name, data)])


def _strip(path: Path) -> Path:
    return write_zip(path, [Member(f"{n}.jpg", picture(n, "JPEG", (800, 15_000))) for n in (1, 2)])


def _streamed(layout: str) -> Builder:
    def build(path: Path) -> Path:
        members = pages("001.jpg", "002.jpg")
        for member in members:
            member.flags |= STREAMED
            member.descriptor = data_descriptor(member, layout)
        return write_zip(path, members)

    return build


def _zipped_to_a_pipe(path: Path) -> Path:
    """What `zip -q - 001.jpg 002.jpg | cat` writes: the size is known, the rest is not yet."""
    members = pages("001.jpg", "002.jpg")
    for member in members:
        member.flags |= STREAMED
        member.local = {"size": member.size or 0}
    return write_zip(path, members)


def _streamed_zip64(size: int, compressed: int) -> Builder:
    def build(path: Path) -> Path:
        members = pages("001.jpg", "002.jpg")
        for member in members:
            member.flags |= STREAMED
            member.local = {"size": 0xFFFFFFFF, "compressed": 0xFFFFFFFF}
            sizes = ((member.size or 0) * size, (member.compressed or 0) * compressed)
            member.extra = struct.pack("<2H2Q", 1, 16, *sizes)
            member.descriptor = data_descriptor(member, "<II2Q")
        return write_zip(path, members)

    return build


def _attributes(attributes: int, host: int) -> Builder:
    def build(path: Path) -> Path:
        member = Member("-", picture(), attributes=attributes, host=host)
        return write_zip(path, [*pages("001.jpg", "002.jpg"), member])

    return build


def _zip64(path: Path) -> Path:
    members = pages("001.jpg", "002.jpg")
    for member in members:
        member.local = {"size": 0xFFFFFFFF, "compressed": 0xFFFFFFFF}
        member.extra = struct.pack("<2H2Q", 1, 16, member.size, member.compressed)
    body, directory = body_and_directory(members)
    path.write_bytes(body + directory + end_records64(2, len(directory), len(body)))
    return path


def _directories(path: Path) -> Path:
    folders = [Member("Series/", method=0), Member("Series/Chapter 1/")]
    return write_zip(path, folders + pages("Series/Chapter 1/1.jpg", "Series/Chapter 1/2.jpg"))


def _unicode_path(path: Path) -> Path:
    members = pages("表紙001.jpg".encode("cp932"), "表紙002.jpg".encode("cp932"))
    for number, member in enumerate(members, 1):
        assert isinstance(member.name, bytes)
        member.central_extra = unicode_path(member.name, f"第{number}.jpg".encode())
    return write_zip(path, members)


def _modes(path: Path) -> Path:
    modes = (("PNG", "1"), ("PNG", "L"), ("PNG", "P"), ("PNG", "LA"), ("PNG", "RGBA"),
             ("PNG", "I;16"), ("JPEG", "L"), ("JPEG", "CMYK"), ("WEBP", "RGBA"))  # fmt: skip
    members = [
        Member(f"{number}.{kind.lower()}", picture(number, kind, mode=mode))
        for number, (kind, mode) in enumerate(modes, 1)
    ]
    return write_zip(path, members)


HONEST: dict[str, Builder] = {
    "plain numbers": _named(*(f"{n}.jpeg" for n in range(11))),
    "p000": _named("p000.jpg", "p001.jpg", "p002.jpg"),
    "pg00a": _named("pg00a.jpg", "pg00b.jpg", "pg01a.jpg"),
    "image-001": _named("image-001.jpg", "image-002.jpg"),
    "natural order": _named("page 10.jpg", "page 2.jpg", "page 1.jpg"),
    "volume and chapter": _named("Vol.1 Ch.2 - 003.png", "Vol.1 Ch.2 - 004.png", kind="PNG"),
    "spread": _named("003.jpg", "004-005.jpg", "006.jpg"),
    "gap": _named("001.jpg", "002.jpg", "007.jpg"),
    "other start": _named("017.jpg", "018.jpg"),
    "credits": _named("001.jpg", "002.jpg", "!001.jpg"),
    "dots in a name": _named("001.jpg", "Wait...what.jpg"),
    "wrapper folder": _named("Chapter 1/001.jpg", "Chapter 1/002.jpg"),
    "two wrapper folders": _named("Series/Chapter 1/001.jpg", "Series/Chapter 1/002.jpg"),
    "__MACOSX": _file("__MACOSX/._001.jpg", b"\0\5\x16\7\0\2"),
    "._ files": _file("._001.jpg", b"\0\5\x16\7\0\2"),
    ".DS_Store": _file(".DS_Store", b"\0\0\0\1Bud1"),
    "Thumbs.db": _file("Thumbs.db", b"\xd0\xcf\x11\xe0"),
    "ComicInfo.xml": _file("ComicInfo.xml", b"<ComicInfo/>"),
    "other files": _file("read me.txt", b"scanned by us"),
    "webtoon strip": _strip,
    "AVIF": _named("1.avif", "2.avif", kind="AVIF"),
    "WebP": _named("1.webp", "2.webp", kind="WEBP"),
    "GIF": _named("1.gif", "2.gif", kind="GIF"),
    "PNG": _named("1.png", "2.png", kind="PNG"),
    "colour modes": _modes,
    "capital extension": _named("1.JPG", "2.Jpeg"),
    "no directory records": _named("a/b/001.jpg", "a/b/002.jpg"),
    "directory records": _directories,
    "cp932 names": _named("表紙001.jpg".encode("cp932"), "表紙002.jpg".encode("cp932")),
    "UTF-8 names": _named("ページ1.jpg", "ページ2.jpg"),
    "Unicode path field": _unicode_path,
    "backslashes": _named("Chapter 1\\001.jpg", "Chapter 1\\002.jpg"),
    "stored": lambda path: write_zip(path, [page("1.jpg", 1, method=0), page("2.jpg", 2)]),
    "the same page twice": lambda path: write_zip(path, [page("1.jpg"), page("2.jpg")]),
    "data descriptors": _streamed("<I3I"),
    "data descriptors without signature": _streamed("<3I"),
    "64-bit data descriptors": _streamed("<II2Q"),
    "Zip64": _zip64,
    "zipped to a pipe": _zipped_to_a_pipe,
    "zipped to a pipe, Zip64": _streamed_zip64(0, 0),
    "zipped to a pipe, Zip64, size known": _streamed_zip64(1, 0),
    "zipped from a pipe": _attributes(stat.S_IFIFO << 16 | 0o600 << 16, UNIX),
    "link bits of another host": _attributes(stat.S_IFLNK << 16, 0),
    "odd bits of another host": _attributes(0xF000 << 16, 10),
    "colons": _named("X:1999 - 001.jpg", "X:1999 - 002.jpg"),
    "a colon in a folder": _named("K:Return/001.jpg", "K:Return/002.jpg"),
    "comment": lambda path: write_zip(
        path, pages("1.jpg", "2.jpg"), b"Scans by PK\5\6 and friends"
    ),
}
"""Archives that must be accepted."""


def _scanned_strips(kind: str, mode: str, **options: object) -> Builder:
    def build(path: Path) -> Path:
        file = BytesIO()
        Image.effect_noise((800, 15_000), 20).convert(mode).save(file, kind, **options)
        strip = file.getvalue()
        return write_zip(path, [Member(f"{n}.{kind.lower()}", strip, 0) for n in (1, 2, 3, 4)])

    return build


STRIPS: dict[str, Builder] = {
    "lossy WebP": _scanned_strips("WEBP", "RGB", method=0),
    "lossless WebP": _scanned_strips("WEBP", "RGB", lossless=True, quality=0, method=0),
    "WebP with alpha": _scanned_strips("WEBP", "RGBA", method=0),
    "PNG": _scanned_strips("PNG", "RGBA", compress_level=1),
    "progressive JPEG": _scanned_strips("JPEG", "RGB", progressive=True, subsampling=0),
    "AVIF": _scanned_strips("AVIF", "RGB", speed=10),
}
"""Archives of webtoon strips of 800 x 15000 with the grain of a scan."""


def large_chapter(path: Path, count: int = 375) -> Path:
    """Write an honest archive of nearly 500 MB: noise in stored JPEG pages of about a megabyte."""
    noise = Image.effect_noise((1150, 1700), 90).convert("RGB")
    file = BytesIO()
    noise.save(file, "JPEG", quality=85)
    jpeg = file.getvalue()
    directory, at = bytearray(), 0
    with path.open("wb") as archive:
        for number in range(1, count + 1):
            remark = struct.pack(">2sH8s", b"\xff\xfe", 10, b"%08d" % number)
            member = Member(f"{number:03}.jpg", jpeg[:2] + remark + jpeg[2:], 0)
            member.header = at
            directory += body_and_directory([member])[1]
            at += archive.write(local_header(member) + member.data)
        archive.write(directory + end_record(count, len(directory), at))
    return path
