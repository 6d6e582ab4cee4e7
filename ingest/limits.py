"""How much of everything an archive may have."""

from msgspec import Struct

MIB = 1024 * 1024


class Limits(Struct, frozen=True):
    """The bounds of one archive; sizes in bytes."""

    archive_bytes: int = 500 * MIB
    entries: int = 1000
    inflated_bytes: int = 2048 * MIB
    page_bytes: int = 50 * MIB
