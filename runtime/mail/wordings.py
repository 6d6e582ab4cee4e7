"""What letters say, in the languages that the site speaks."""

from functools import lru_cache
from pathlib import Path

from msgspec import Struct, toml

FOLDER = Path(__file__).parent / "letters"


class Letter(Struct, frozen=True, forbid_unknown_fields=True):
    """One kind of letter; {name} and {site} stand for whom it is for and where it is from.

    Letters about a ban may say its {reason} and when it ends, {until}; those about an appeal the
    {answer} to it.
    """

    subject: str
    text: list[str]
    button: str = ""
    """What the link says; a letter without it has no link."""
    after: list[str] = []


class Wording(Struct, frozen=True, forbid_unknown_fields=True):
    """What a language says in every letter, and in each."""

    greeting: str
    fallback: str
    """Stands before the link, for those who can't press a button."""
    footer: str
    letters: dict[str, Letter]


@lru_cache
def wording(language: str) -> Wording:
    """All that letters say in a language of the site."""
    return toml.decode((FOLDER / f"{language}.toml").read_bytes(), type=Wording)
