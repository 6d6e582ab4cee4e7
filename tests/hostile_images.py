"""Images that are made to do harm, or that only look so."""

import struct
import zlib
from io import BytesIO

from PIL import Image

from tests.drawings import picture

MIB = 1024 * 1024


def png(width: int, height: int, colour: int, data: bytes, extra: bytes = b"") -> bytes:
    """Encode a PNG whose header promises what it likes; `extra` are chunks before the data."""
    header = struct.pack(">2I5B", width, height, 8, colour, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra
            + chunk(b"IDAT", data) + chunk(b"IEND", b""))  # fmt: skip


def chunk(kind: bytes, data: bytes) -> bytes:
    """Encode a chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def flat_png(width: int, height: int, channels: int) -> bytes:
    stream, file = zlib.compressobj(1), BytesIO()
    for _ in range(height):
        file.write(stream.compress(bytes(1 + width * channels)))
    file.write(stream.flush())
    return png(width, height, 2 if channels == 3 else 0, file.getvalue())


def png_bomb(mebibytes: int) -> bytes:
    """Encode a PNG whose data inflates that far: the same few bytes over and over."""
    stream = zlib.compressobj(9)
    head = stream.compress(b"") + stream.flush(zlib.Z_FULL_FLUSH)
    again = stream.compress(bytes(MIB)) + stream.flush(zlib.Z_FULL_FLUSH)
    return png(50_000, 50_000, 2, head + again * mebibytes)


def text_bomb() -> bytes:
    text = b"Comment\0\0" + zlib.compress(bytes(512 * MIB // 4))
    return png(8, 8, 0, zlib.compress(bytes(72)), chunk(b"zTXt", text) * 40)


def large_webp() -> bytes:
    canvas = struct.pack("<I", 16382)[:3]
    body = b"WEBP" + b"VP8X" + struct.pack("<I", 10) + b"\x10\0\0\0" + canvas * 2
    return b"RIFF" + struct.pack("<I", len(body)) + body


def large_gif() -> bytes:
    screen = struct.pack("<2H", 65535, 65535)
    image = b"," + struct.pack("<4H", 0, 0, 65535, 65535) + b"\0\2\2\x4c\1\0;"
    return b"GIF89a" + screen + b"\x80\0\0" + bytes(6) + image


def large_jpeg() -> bytes:
    data = bytearray(picture(3))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">2H", 65000, 65000)
    return bytes(data)


def multi_scan_jpeg() -> bytes:
    """A sequential JPEG of 100 million pixels whose components come in scans of their own."""
    file = BytesIO()
    Image.new("RGB", (9000, 9000)).save(file, "JPEG", subsampling=0, quality=5)
    data = bytearray(file.getvalue())
    scan = data.index(b"\xff\xda")
    data[scan : scan + 14] = b"\xff\xda\0\x08\x01\x01\0\0\x3f\0"
    return bytes(data)
