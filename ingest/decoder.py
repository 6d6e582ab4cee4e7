"""The program of a decoder subprocess: open an image, say what it is, decode it, draw it anew.

It runs apart because image decoders are where hostile files do harm. After an empty
reply that says it is ready, one conversation an image:

    <- {"path": "...", "drawing": "thumbnail", "avatar" or "logo"}
    -> {"media_type", "width", "height", "memory"} or {"error", "detail"}
    <- {"memory": bytes that the decoding may take, or 0 to drop the image}
    -> {"width", "height"} as seen, and the drawing, or {"error", "detail"}

Requests are lines of JSON; replies are two lengths, the JSON and the drawing.
"""

import ctypes
import json
import resource
import signal
import struct
import sys
from collections.abc import Callable
from io import BytesIO
from math import ceil
from pathlib import Path
from typing import IO, Any, cast

from PIL import AvifImagePlugin, ExifTags, Image, ImageFile, JpegImagePlugin, PngImagePlugin, _webp
from PIL.Image import Transpose

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF")
MEDIA_TYPES = {name: f"image/{name.lower()}" for name in FORMATS} | {"MPO": "image/jpeg"}
THUMBNAIL_SIZE = (320, 480)
AVATAR_SIZE = (256, 256)
LOGO_SIZE = (512, 512)
STRIP_RATIO = 2  # of a longer image only the top is shown, or nothing could be made out
UNDECODABLE = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
)
"""What Pillow raises for a broken image."""

_TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
"""What puts an image upright, by its EXIF orientation."""

_MIB = 1024 * 1024
_BASE_MEMORY = 64 * _MIB  # the interpreter, the libraries, a thumbnail
_OPENING_MEMORY = 1280 * _MIB  # a WebP canvas of 128 million pixels, reserved but not touched
_FINE_RATIO = 1.5  # what is left for the filter that sees the detail, and takes longer
_BAND = 64
"""How many rows of a shrunk image are made at once."""


def _decoder_of_libwebp() -> Any:
    """What decodes a WebP picture in the libwebp that Pillow uses; None where Pillow hides it."""
    try:
        decode: Any = ctypes.CDLL(_webp.__file__).WebPDecodeRGBAInto
    except AttributeError:
        return None
    size, pointer = ctypes.c_size_t, ctypes.c_void_p
    decode.restype, decode.argtypes = pointer, (ctypes.c_char_p, size, pointer, size, ctypes.c_int)
    return decode


_decode_webp = _decoder_of_libwebp()


def decode_memory(image: ImageFile.ImageFile, file_bytes: int) -> int:
    """Estimate the bytes that decoding and shrinking an opened image take, before doing it."""
    pixels = image.width * image.height
    match image.format:
        case "WEBP" if _takes_one_canvas(image):
            return 8 * pixels + file_bytes  # the image, and as much again where it is lossless
        case "WEBP":
            return 16 * pixels + 2 * file_bytes  # two canvases, the frame, the image
        case "AVIF":
            return 10 * pixels + file_bytes  # planes, the frame twice, the image
        case "JPEG" | "MPO" if isinstance(image, JpegImagePlugin.JpegImageFile):
            return _jpeg_memory(image)
        case "GIF":
            return 4 * pixels
        case _:
            return pixels * (1 if image.mode in ("1", "L", "P") else 4)


def _jpeg_memory(image: JpegImagePlugin.JpegImageFile) -> int:
    """A progressive image keeps all coefficients; any other is shrunk while it is decoded."""
    pixels = image.width * image.height
    if "progressive" not in image.info:
        return pixels
    sampling = [horizontal * vertical for _, horizontal, vertical, _ in image.layer]
    return pixels + 2 * pixels * sum(sampling) // max(sampling)


def thumbnail(image: ImageFile.ImageFile) -> bytes:
    """Decode an opened image in full and answer its thumbnail, a WebP file."""
    width, height = image.size
    height = min(height, STRIP_RATIO * width)
    small = _fitted(image, (0, 0, width, height), THUMBNAIL_SIZE)
    return _file(image, small, quality=80, method=2)


def avatar(image: ImageFile.ImageFile) -> bytes:
    """Decode an opened image in full and answer the square in its middle, a WebP file."""
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    small = _fitted(image, (left, top, left + side, top + side), AVATAR_SIZE)
    return _file(image, _square(small), quality=85, method=4)


def _square(small: Image.Image) -> Image.Image:
    """A square drawing as large as an avatar, which a small image does not fill by itself."""
    untyped: Any = small
    return untyped.resize(AVATAR_SIZE, Image.Resampling.BICUBIC)


def logo(image: ImageFile.ImageFile) -> bytes:
    """Decode an opened image in full and answer it no larger than a logo, a WebP file."""
    small = _fitted(image, (0, 0, *image.size), LOGO_SIZE)
    return _file(image, small, quality=90, method=4)


DRAWINGS: dict[str, Callable[[ImageFile.ImageFile], bytes]] = {
    "thumbnail": thumbnail,
    "avatar": avatar,
    "logo": logo,
}


def _fitted(
    image: ImageFile.ImageFile, box: tuple[int, int, int, int], size: tuple[int, int]
) -> Image.Image:
    """Decode an image in full and answer a part of it, made smaller where it exceeds a size."""
    full_width, full_height = image.size
    width, height = box[2] - box[0], box[3] - box[1]
    scale = min(size[0] / width, size[1] / height, 1)
    wanted = (max(1, round(width * scale)), max(1, round(height * scale)))
    image.draft(None, (ceil(full_width * scale), ceil(full_height * scale)))
    decoded = _decoded(image)
    drafted = decoded.width / full_width
    left, top = int(box[0] * drafted), int(box[1] * drafted)
    right = min(decoded.width, ceil(box[2] * drafted))
    bottom = min(decoded.height, ceil(box[3] * drafted))
    factor = int(min((right - left) / wanted[0], (bottom - top) / wanted[1]) / _FINE_RATIO)
    small = _shrunk(decoded, (left, top, right, bottom), max(1, factor))
    small.thumbnail(wanted)
    return small


def _file(image: ImageFile.ImageFile, small: Image.Image, *, quality: int, method: int) -> bytes:
    """A drawing of an image, upright, as a file with nothing in it but the pixels."""
    if turn := _TURNS.get(orientation(image)):
        small = small.transpose(turn)
    file = BytesIO()
    small.save(file, "WEBP", quality=quality, method=method, exif=b"", icc_profile=b"", xmp=b"")
    return file.getvalue()


def _decoded(image: ImageFile.ImageFile) -> Image.Image:
    if image.format == "WEBP" and _takes_one_canvas(image):
        return _decode_still(image)
    image.load()
    return image


def _takes_one_canvas(image: ImageFile.ImageFile) -> bool:
    """Tell whether a WebP file is one picture, by the flag for animations in its first chunk."""
    if _decode_webp is None:
        return False
    head = _content(image, 21)
    return not (head[12:16] == b"VP8X" and head[20] & 2)


def _decode_still(image: ImageFile.ImageFile) -> Image.Image:
    """Decode a WebP picture straight into the memory of an image; Pillow would hold four of it."""
    vars(image).pop("_decoder")  # two of the four
    content, (width, height) = _content(image), image.size
    pixels = bytearray(4 * width * height)
    target = (ctypes.c_char * len(pixels)).from_buffer(pixels)
    if not _decode_webp(content, len(content), target, len(pixels), 4 * width):
        raise OSError("broken WebP data")
    mode = "RGBX" if image.mode == "RGB" else "RGBA"
    return Image.frombuffer(mode, image.size, pixels, "raw", mode, 0, 1)


def _content(image: ImageFile.ImageFile, length: int = -1) -> bytes:
    """Read an opened file again from its beginning."""
    file = cast("IO[bytes]", image.fp)
    file.seek(0)
    return file.read(length)


def orientation(image: ImageFile.ImageFile) -> int:
    """Tell the EXIF orientation of a decoded image, 1 to 8."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except UNDECODABLE:  # a broken remark about the picture does not spoil the picture
        return 1


def _shrunk(image: Image.Image, box: tuple[int, int, int, int], factor: int) -> Image.Image:
    """Shrink a part of an image by a whole factor, band by band: never a second full copy."""
    left, first, right, end = box
    mode = "RGBA" if image.has_transparency_data else image.mode
    if mode not in ("L", "RGB", "RGBA"):
        mode = "RGB"
    small = Image.new(mode, (ceil((right - left) / factor), ceil((end - first) / factor)))
    for top in range(first, end, factor * _BAND):
        band = image.crop((left, top, right, min(top + factor * _BAND, end)))
        if band.mode == "I;16":
            band = Image.frombytes("L", band.size, band.tobytes()[1::2])  # the high bytes
        if band.mode != mode:
            band = band.convert(mode)
        small.paste(band.reduce(factor) if factor > 1 else band, (0, (top - first) // factor))
    return small


def converse(asked: dict[str, str], seconds: int, requests: IO[bytes], replies: IO[bytes]) -> None:
    """Open and, when allowed, decode one image; a broken image ends the conversation."""
    limit(seconds, _OPENING_MEMORY)
    path, draw = Path(asked["path"]), DRAWINGS[asked["drawing"]]
    with Image.open(path, formats=FORMATS) as image:
        width, height = image.size
        memory = decode_memory(image, path.stat().st_size)
        media_type = MEDIA_TYPES[image.format or ""]
        header = {"media_type": media_type, "width": width, "height": height, "memory": memory}
        reply(replies, header)
        limit(0, _OPENING_MEMORY)
        allowed = json.loads(requests.readline())["memory"]
        if allowed:
            limit(seconds, _BASE_MEMORY + allowed)
            body = draw(image)
            if orientation(image) > 4:
                width, height = height, width
            reply(replies, {"width": width, "height": height}, body)


def reply(replies: IO[bytes], message: dict[str, Any], body: bytes = b"") -> None:
    """Send one message, framed."""
    text = json.dumps(message).encode()
    replies.write(struct.pack(">II", len(text), len(body)) + text + body)
    replies.flush()


def limit(seconds: int, memory: int) -> None:
    """Let this process live for some seconds (0: for ever) and its data grow to `memory` bytes."""
    signal.alarm(seconds)
    resource.setrlimit(resource.RLIMIT_DATA, (min(memory, _OPENING_MEMORY), _OPENING_MEMORY))


def main() -> None:
    """Answer one image after the other until the requests end."""
    seconds = int(sys.argv[1])
    Image.MAX_IMAGE_PIXELS = 64_000_000  # Pillow refuses from twice as many
    PngImagePlugin.MAX_TEXT_MEMORY = 4 * _MIB
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    Image.init()
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    requests, replies = sys.stdin.buffer, sys.stdout.buffer
    reply(replies, {})
    while line := requests.readline():
        try:
            converse(json.loads(line), seconds, requests, replies)
        except Image.DecompressionBombError as error:
            reply(replies, {"error": "too_many_pixels", "detail": str(error)})
        except MemoryError:
            reply(replies, {"error": "out_of_memory", "detail": "more than its header lets expect"})
        except UNDECODABLE as error:
            reply(replies, {"error": "undecodable", "detail": f"{type(error).__name__}: {error}"})
        limit(0, _OPENING_MEMORY)


if __name__ == "__main__":
    main()
