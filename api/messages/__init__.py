"""What people are told, in the languages that the site speaks."""

import re
import tomllib
from functools import lru_cache
from pathlib import Path

from babel import negotiate_locale

LANGUAGES = ("en", "ky", "ar", "so")

MAX_HEADER = 500
"""How much of an Accept-Language header is looked at; a browser's has some 50 characters."""

_RANGE = re.compile(r"\s*([a-z]{1,8}(?:-[a-z0-9]{1,8})*)\s*(?:;\s*q=(0(?:\.\d*)?|1(?:\.0*)?)\s*)?")


@lru_cache
def catalogue(language: str) -> dict[str, str]:
    """Every message of a language, by its code."""
    return tomllib.loads((Path(__file__).parent / f"{language}.toml").read_text("utf-8"))


def language_of(accept_language: str) -> str:
    """The best language for an Accept-Language header, English where none fits."""
    return _negotiated(accept_language[:MAX_HEADER].lower())


@lru_cache(maxsize=256)
def _negotiated(accept_language: str) -> str:
    ranges = [_RANGE.fullmatch(part) for part in accept_language.split(",")]
    weighed = [(float(found[2] or 1), found[1]) for found in ranges if found]
    weighed.sort(key=lambda one: one[0], reverse=True)
    preferred = [tag for quality, tag in weighed if quality > 0]
    return negotiate_locale(preferred, LANGUAGES, sep="-") or "en"


def message(code: str, accept_language: str, about: str = "") -> str:
    """The message of a code in the reader's language; the code itself where there is none."""
    return catalogue(language_of(accept_language)).get(code, code).replace("{}", about)
