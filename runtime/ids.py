"""Ids that sort by the time they were made."""

import secrets
import time
from uuid import UUID


def uuid7(milliseconds: int, randomness: int) -> str:
    """A version 7 UUID (RFC 9562) of a time and 74 random bits."""
    value = (milliseconds & (1 << 48) - 1) << 80
    value |= 0x7 << 76 | (randomness >> 62 & 0xFFF) << 64
    value |= 0b10 << 62 | randomness & (1 << 62) - 1
    return str(UUID(int=value))


def new_id() -> str:
    return uuid7(time.time_ns() // 1_000_000, secrets.randbits(74))
