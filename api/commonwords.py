"""Passwords that everybody tries first, told by their shape and by a short list of words."""

import re
from collections.abc import Iterable

MIN_NAME = 4
"""Names of fewer letters are in many good passwords by chance."""

MIN_CHARACTERS = 5
"""Fewer different characters than this make a pattern, whatever the length."""

WORDS = """
    abc admin administrator angel apple baby bailey banana baseball basketball batman beautiful
    buster butterfly changeme charlie chelsea chocolate computer cookie daniel default demo diamond
    donald dragon dreams facebook family father flower football forever freedom friend friends
    george ginger google guest harley hello hockey hunter iloveyou imprimatur internet jennifer
    jessica jordan joshua killer king letmein liverpool login love lovely lover maggie manager manga
    master matrix matthew merlin michael michelle monkey mother mustang my mypassword naruto nicole
    ninja nothing onepiece orange pass passphrase passwd password pepper pokemon princess purple
    qazwsx qwerty ranger robert root samsung secret shadow silver snoopy soccer spiderman starwars
    summer sunshine superman superuser system taylor temp test the thomas thunder tigger trustno
    user welcome whatever william winner winter yellow you your
"""
"""English, because lists of leaked passwords are."""

ROWS = (
    "abcdefghijklmnopqrstuvwxyz",
    "01234567890",
    "qwertyuiop",
    "asdfghjkl",
    "zxcvbnm",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p",
    "йцукенгшщзхъ",
    "фывапролджэ",
    "ячсмитьбю",
)
"""What fingers and tongues walk along."""

STEPS = 4
"""So many neighbours in a row are a walk."""

_WALKS = {
    row[start : start + STEPS]
    for line in ROWS
    for row in (line, line[::-1])
    for start in range(len(row) - STEPS + 1)
}
_LETTERS = str.maketrans("@4310$57!", "aaeiossti")
"""What stands for letters in passwords that were told to hold digits."""

_DECORATION = re.compile(r"^[\W\d_]+|[\W\d_]+$")

_LONGEST_FIRST = "|".join(sorted(WORDS.split(), key=len, reverse=True))
_ONLY_WORDS = re.compile(f"(?>{_LONGEST_FIRST})*+")


def is_common(password: str, about: Iterable[str] = ()) -> bool:
    """Whether a password is a name, a pattern, or common words with decorations."""
    text = password.casefold()
    return (
        any(len(name) >= MIN_NAME and name.casefold() in text for name in about)
        or len(set(text)) < MIN_CHARACTERS
        or text in (text + text)[1:-1]  # repeats itself
        or _is_only_words(text)
        or _is_only_words(_DECORATION.sub("", text).translate(_LETTERS))
    )


def _is_only_words(text: str) -> bool:
    letters = re.sub(r"[\W\d_]+", "", _without_walks(text))
    return _ONLY_WORDS.fullmatch(letters) is not None


def _without_walks(text: str) -> str:
    walked = {
        start + step
        for start in range(len(text) - STEPS + 1)
        if text[start : start + STEPS] in _WALKS
        for step in range(STEPS)
    }
    return "".join(one for place, one in enumerate(text) if place not in walked)
