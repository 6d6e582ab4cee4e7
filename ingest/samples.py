"""Draws chapters and packs them as people do, and one archive as nobody honest does."""

import io
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from struct import pack

from PIL import Image, ImageDraw

PAGE = (800, 1_150)
STRIP = (800, 15_000)
PACKED_AT = (2020, 1, 1, 0, 0, 0)
"""The time in every entry, so that the same sample always has the same bytes."""

_INK = (30, 30, 40)


def page(label: str, size: tuple[int, int] = PAGE, kind: str = "JPEG") -> bytes:
    """A drawn page with panels and its label."""
    width, height = size
    shade = 200 + zlib.crc32(label.encode()) % 40
    image = Image.new("RGB", size, (shade, 225, 240))
    draw = ImageDraw.Draw(image)
    for top in range(20, height - 60, 380):
        bottom = min(top + 350, height - 60)
        draw.rectangle((20, top, width - 20, bottom), fill=(250, 250, 245), outline=_INK, width=5)
        draw.ellipse((80, top + 40, 380, bottom - 40), outline=_INK, width=7)
    draw.text((width // 2 - 60, height - 45), label, fill=_INK, font_size=28)
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=80)
    return buffer.getvalue()


def pack_archive(entries: Iterable[tuple[str, bytes]]) -> bytes:
    """A ZIP of entries, in their order."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries:
            info = zipfile.ZipInfo(name, PACKED_AT)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return buffer.getvalue()


def chapter(names: Sequence[str], title: str, others: Sequence[tuple[str, bytes]] = ()) -> bytes:
    """An archive of drawn pages under these names, beside other entries."""
    pages = [
        (name, page(f"{title} {number}", kind="PNG" if name.endswith("png") else "JPEG"))
        for number, name in enumerate(names, 1)
    ]
    return pack_archive([*pages, *others])


def webtoon(title: str) -> bytes:
    """An archive of one long strip."""
    return pack_archive([("strip.jpg", page(title, STRIP))])


def overlapping() -> bytes:
    """A hostile archive: every entry of its directory points at the same few compressed bytes."""
    names = [f"{number:03}.jpg".encode() for number in range(1, 41)]
    bomb = bytes(1_000_000)
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    kernel = compressor.compress(bomb) + compressor.flush()
    sizes = pack("<LLL", zlib.crc32(bomb), len(kernel), len(bomb))
    fixed = pack("<HHHHH", 20, 0, 8, 0, 0x5021) + sizes
    local = b"PK\x03\x04" + fixed + pack("<HH", len(names[0]), 0) + names[0] + kernel
    directory = b"".join(
        b"PK\x01\x02"
        + pack("<H", 20)
        + fixed
        + pack("<HHHHHLL", len(name), 0, 0, 0, 0, 0, 0)
        + name
        for name in names
    )
    end = pack("<HHHHLLH", 0, 0, len(names), len(names), len(directory), len(local), 0)
    return local + directory + b"PK\x05\x06" + end
