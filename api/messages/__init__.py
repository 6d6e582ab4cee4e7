"""What people are told, in the languages that the site speaks."""

import tomllib
from functools import lru_cache
from pathlib import Path

from babel import negotiate_locale

LANGUAGES = ("en", "ky", "ar", "so")


@lru_cache
def catalogue(language: str) -> dict[str, str]:
    """Every message of a language, by its code."""
    return tomllib.loads((Path(__file__).parent / f"{language}.toml").read_text())


@lru_cache(maxsize=256)
def language_of(accept_language: str) -> str:
    """The best language for an Accept-Language header."""
    wanted: list[tuple[float, str]] = []
    for part in accept_language[:200].split(","):
        tag, _, quality = part.strip().partition(";q=")
        try:
            wanted.append((-float(quality or 1), tag.strip()))
        except ValueError:
            continue
    preferred = [tag for _, tag in sorted(wanted, key=lambda one: one[0])]
    return negotiate_locale(preferred, LANGUAGES, sep="-") or "en"


def message(code: str, accept_language: str) -> str:
    """The message of a code in the reader's language; the code itself where there is none."""
    return catalogue(language_of(accept_language)).get(code, code)
