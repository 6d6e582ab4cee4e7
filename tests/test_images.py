"""Images: told by content, decoded in full, in processes that may die without harm."""

import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from threading import Lock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageStat

from ingest import decoder as decoder_program
from ingest.images import DecodedImage, DecoderPool, ImageRefused, MemoryBudget, sniff
from tests.drawings import picture
from tests.hostile_images import MIB, png, png_bomb

KINDS = ["JPEG", "PNG", "WEBP", "AVIF", "GIF"]


@pytest.fixture(scope="module")
def decoders() -> Iterator[DecoderPool]:
    with DecoderPool() as pool:
        yield pool


def _decode(decoders: DecoderPool, tmp_path: Path, content: bytes) -> DecodedImage:
    path = tmp_path / "image"
    path.write_bytes(content)
    return decoders.decode(path).result()


def _refusal(decoders: DecoderPool, tmp_path: Path, content: bytes) -> str:
    with pytest.raises(ImageRefused) as refused:
        _decode(decoders, tmp_path, content)
    return refused.value.code


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _thumbnail_size(decoded: DecodedImage) -> tuple[int, int]:
    with Image.open(BytesIO(decoded.drawing), formats=["WEBP"]) as thumbnail:
        return thumbnail.size


@pytest.mark.parametrize("kind", KINDS)
def test_types_are_told_by_content(kind: str) -> None:
    assert sniff(picture(1, kind)[:512]) == f"image/{kind.lower()}"


@given(st.binary(max_size=64))
def test_noise_is_no_image(noise: bytes) -> None:
    assert sniff(b"\0" + noise) in ("unknown", "image/avif")


@pytest.mark.parametrize("kind", KINDS)
def test_images_are_decoded(kind: str, decoders: DecoderPool, tmp_path: Path) -> None:
    decoded = _decode(decoders, tmp_path, picture(1, kind, (640, 1000)))
    assert (decoded.media_type, decoded.width, decoded.height) == (
        f"image/{kind.lower()}",
        640,
        1000,
    )
    width, height = _thumbnail_size(decoded)
    assert (width, height) == (307, 480)


@pytest.mark.parametrize("part", [0.05, 0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("kind", KINDS)
def test_truncated_images_are_refused(
    kind: str, part: float, decoders: DecoderPool, tmp_path: Path
) -> None:
    content = _saved(Image.effect_noise((400, 600), 60).convert("RGB"), kind)
    code = _refusal(decoders, tmp_path, content[: int(len(content) * part)])
    assert code == "undecodable_image"


def test_a_truncated_progressive_jpeg_is_refused(decoders: DecoderPool, tmp_path: Path) -> None:
    image = Image.effect_noise((800, 1200), 60)
    content = _saved(image, "JPEG", progressive=True)
    assert _refusal(decoders, tmp_path, content[: len(content) // 2]) == "undecodable_image"


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (777, 1333)])
def test_all_modes_and_shapes_have_thumbnails(
    mode: str, size: tuple[int, int], decoders: DecoderPool, tmp_path: Path
) -> None:
    decoded = _decode(decoders, tmp_path, picture(1, "PNG", size, mode))
    assert (decoded.width, decoded.height) == size
    width, height = _thumbnail_size(decoded)
    assert width <= min(320, size[0])
    assert height <= min(480, size[1])


def test_sixteen_bits_keep_their_brightness(decoders: DecoderPool, tmp_path: Path) -> None:
    grey = Image.new("I;16", (640, 640), 0x8000)
    decoded = _decode(decoders, tmp_path, _saved(grey, "PNG"))
    with Image.open(BytesIO(decoded.drawing)) as thumbnail:
        level = thumbnail.convert("L").getpixel((100, 100))
    assert level == pytest.approx(0x80, abs=3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_thumbnail_looks_like_its_image(kind: str, decoders: DecoderPool, tmp_path: Path) -> None:
    image = Image.linear_gradient("L").transform(
        (1501, 2203), Image.Transform.EXTENT, (0, 0, 256, 256)
    )
    decoded = _decode(decoders, tmp_path, _saved(image, kind))
    with Image.open(BytesIO(decoded.drawing)) as thumbnail:
        grey = thumbnail.convert("L")
    for eighth in range(8):
        level = grey.getpixel((grey.width // 2, grey.height * (2 * eighth + 1) // 16))
        assert level == pytest.approx(16 + 32 * eighth, abs=5)


def test_a_strip_shows_its_top(decoders: DecoderPool, tmp_path: Path) -> None:
    strip = Image.new("RGB", (800, 15_000), "black")
    strip.paste("white", (0, 0, 800, 1600))
    for kind in ("PNG", "JPEG"):
        decoded = _decode(decoders, tmp_path, _saved(strip, kind))
        with Image.open(BytesIO(decoded.drawing)) as thumbnail:
            assert thumbnail.size == (240, 480)
            assert min(thumbnail.convert("L").tobytes()) > 240


def test_a_turned_photograph_is_seen_upright(decoders: DecoderPool, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in ("JPEG", "PNG", "WEBP"):
        decoded = _decode(decoders, tmp_path, _saved(Image.new("RGB", (90, 40)), kind, exif=exif))
        assert (decoded.width, decoded.height) == (40, 90)
        assert _thumbnail_size(decoded) == (40, 90)


WEBPS: dict[str, tuple[str, dict[str, object]]] = {
    "lossy": ("RGB", {}),
    "lossless": ("RGB", {"lossless": True}),
    "lossy with alpha": ("RGBA", {}),
    "lossless with alpha": ("RGBA", {"lossless": True}),
    "with a profile": ("RGB", {"icc_profile": b"x" * 99}),
    "animated": ("RGB", {"save_all": True, "append_images": [Image.new("RGB", (300, 500))]}),
}


@pytest.mark.parametrize("kind", WEBPS)
def test_a_webp_looks_as_pillow_shows_it(kind: str, decoders: DecoderPool, tmp_path: Path) -> None:
    mode, options = WEBPS[kind]
    with Image.open(BytesIO(picture(1, "PNG", (300, 500)))) as drawn:
        drawing = drawn.convert(mode)
    if mode == "RGBA":
        drawing.putalpha(100)
    content = _saved(drawing, "WEBP", **options)
    decoded = _decode(decoders, tmp_path, content)
    with Image.open(BytesIO(decoded.drawing)) as thumbnail, Image.open(BytesIO(content)) as image:
        image.thumbnail(thumbnail.size)
        assert thumbnail.mode == image.mode
        difference = ImageChops.difference(thumbnail.convert("RGB"), image.convert("RGB"))
    assert max(ImageStat.Stat(difference).mean) < 8


def test_an_animation_of_one_frame_is_decoded(decoders: DecoderPool, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (300, 500), colour) for colour in ("red", "blue")]
    content = _saved(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    body = content[8 : content.rindex(b"ANMF")]
    decoded = _decode(decoders, tmp_path, b"RIFF" + struct.pack("<I", len(body)) + body)
    with Image.open(BytesIO(decoded.drawing)) as thumbnail:
        assert thumbnail.convert("RGB").getpixel((9, 9)) == pytest.approx((255, 0, 0), abs=5)


def test_a_strip_passes_in_every_format_unless_it_is_animated(
    decoders: DecoderPool, tmp_path: Path
) -> None:
    strip = Image.new("RGB", (800, 15_000), "white")
    for kind in KINDS:
        assert _decode(decoders, tmp_path, _saved(strip, kind)).height == 15_000
    blue = Image.new("RGB", strip.size, "blue")
    animation = _saved(strip, "WEBP", save_all=True, append_images=[blue])
    assert _refusal(decoders, tmp_path, animation) == "image_too_large"


def test_large_scans_pass_and_larger_do_not(decoders: DecoderPool, tmp_path: Path) -> None:
    scan = _saved(Image.new("RGB", (4000, 6000)), "PNG", compress_level=1)
    assert _decode(decoders, tmp_path, scan).height == 6000
    poster = _saved(Image.new("RGB", (5000, 7000)), "PNG", compress_level=1)
    assert _refusal(decoders, tmp_path, poster) == "image_too_large"
    grey = _saved(Image.new("L", (5000, 7000)), "PNG", compress_level=1)
    assert _decode(decoders, tmp_path, grey).height == 7000


def test_only_what_really_floods_is_a_bomb(decoders: DecoderPool, tmp_path: Path) -> None:
    assert _refusal(decoders, tmp_path, png_bomb(513)) == "image_bomb"
    for content in (
        png_bomb(511),
        png_bomb(513)[:-200_000],
        png(50_000, 50_000, 2, b""),
        png(50_000, 50_000, 2, bytes(2 * MIB)),
    ):
        assert _refusal(decoders, tmp_path, content) == "image_too_large"


@pytest.mark.parametrize(("kind", "mark", "at"), [("JPEG", b"\xff\xc0", 5), ("GIF", b"GIF", 6)])
def test_a_broken_size_is_no_bomb(
    kind: str, mark: bytes, at: int, decoders: DecoderPool, tmp_path: Path
) -> None:
    content = bytearray(picture(1, kind, (640, 1000)))
    start = content.index(mark) + at
    content[start : start + 4] = b"\xff" * 4
    with pytest.raises(ImageRefused, match="image_too_large") as refused:
        _decode(decoders, tmp_path, bytes(content))
    assert not refused.value.malicious


def test_a_killed_decoder_is_replaced(tmp_path: Path) -> None:
    with DecoderPool(1) as pool:
        path = tmp_path / "pipe"
        os.mkfifo(path)
        future = pool.decode(path)
        with path.open("wb"):  # which waits until the decoder opens it too
            os.kill(pool.processes()[0], signal.SIGKILL)
        with pytest.raises(ImageRefused, match="decoder_died"):
            future.result()
        assert _decode(pool, tmp_path, picture()).width == 120


def test_a_decoder_that_hangs_is_replaced(tmp_path: Path) -> None:
    with DecoderPool(1, seconds=2) as pool:
        assert _decode(pool, tmp_path, picture()).width == 120
        os.kill(pool.processes()[0], signal.SIGSTOP)
        assert _refusal(pool, tmp_path, picture()) == "decoder_timeout"
        assert _decode(pool, tmp_path, picture()).width == 120


def test_a_closed_pool_leaves_no_processes() -> None:
    with DecoderPool(3) as pool:
        processes = pool.processes()
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def _talk(*messages: dict[str, str | int]) -> list[dict[str, str | int]]:
    """Hold a conversation with a decoder program of our own; answer its messages."""
    lines = b"".join(json.dumps(message).encode() + b"\n" for message in messages)
    command = [sys.executable, "-P", decoder_program.__file__, "20"]
    output = subprocess.run(command, input=lines, capture_output=True, check=True).stdout
    replies: list[dict[str, str | int]] = []
    while output:
        text, body = struct.unpack_from(">II", output)
        replies.append(json.loads(output[8 : 8 + text]))
        output = output[8 + text + body :]
    return replies


def test_a_decoder_gets_no_more_memory_than_allowed(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(_saved(Image.new("RGB", (4000, 6000)), "PNG", compress_level=1))
    ready, header, refused, again, decoded = _talk(
        {"path": str(path), "drawing": "thumbnail"},
        {"memory": 1},
        {"path": str(path), "drawing": "thumbnail"},
        {"memory": 96 * 2**20},
    )
    assert ready == {}
    assert refused["error"] == "out_of_memory"
    assert header == again
    assert decoded == {"width": 4000, "height": 6000}


def test_a_decoder_cannot_write_files(tmp_path: Path) -> None:
    program = (
        f"import sys; sys.argv = ['decoder', '5']; sys.path.insert(0, {str(Path.cwd())!r})\n"
        "from ingest.decoder import Path, main; main()\n"
        f"Path({str(tmp_path / 'made')!r}).write_text('x')\n"
    )
    command = [sys.executable, "-c", program]
    answer = subprocess.run(command, input=b"", capture_output=True, check=False)
    assert b"File too large" in answer.stderr
    assert not (tmp_path / "made").stat().st_size


def test_images_share_the_memory() -> None:
    budget, lock, held, peak = MemoryBudget(10), Lock(), 0, 0

    def work(amount: int) -> None:
        nonlocal held, peak
        with budget.reserved(amount):
            with lock:
                held += min(amount, 10)
                peak = max(peak, held)
            with lock:
                held -= min(amount, 10)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, [3, 4, 5, 20, 1, 10, 7, 2] * 200))
    assert held == 0
    assert peak <= 10
