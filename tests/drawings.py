"""Small pages, drawn the same way every time."""

from functools import cache
from io import BytesIO

from PIL import Image, ImageDraw

from tests.zipwriter import Member


@cache
def picture(
    number: int = 1, kind: str = "JPEG", size: tuple[int, int] = (120, 180), mode: str = "RGB"
) -> bytes:
    """Draw a small page that differs from its neighbours."""
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    for line in range(0, size[1], 7):
        draw.line(
            (0, line, size[0], (line * (number + 3)) % size[1]), fill=(number * 40 % 256, 9, 9)
        )
    file = BytesIO()
    image.convert(mode).save(file, kind)
    return file.getvalue()


def page(name: str | bytes, number: int = 1, kind: str = "JPEG", method: int = 8) -> Member:
    """Make an entry with a small page."""
    return Member(name, picture(number, kind), method)


def pages(*names: str | bytes, kind: str = "JPEG") -> list[Member]:
    """Make entries with small pages that differ."""
    return [page(name, number, kind) for number, name in enumerate(names, 1)]
