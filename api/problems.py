"""What is wrong with a value: a code, and what its message needs to know."""

import re
from ast import literal_eval

from msgspec import Struct

A_MOMENT = "2026-01-31T12:00:00Z"


class Problem(Struct, frozen=True):
    """A code with a message in every language, in which `{}` stands for `about`."""

    code: str
    about: str = ""


COMPLAINTS = [
    (re.compile(shape), code)
    for shape, code in (
        (r"Object missing required field", "value_missing"),
        (r"Object contains unknown field", "value_unknown"),
        (r"Invalid enum value (.+)", "value_not_a_choice"),
        (r"Invalid RFC3339|Expected `datetime|Timestamp", "value_not_a_moment"),
        (r"Expected `\w+` of length >= (\d+)", "value_too_short"),
        (r"Expected `\w+` of length <= (\d+)", "value_too_long"),
        (r"Expected `\w+` >= (\S+?)(?:\.0)?$", "value_too_small"),
        (r"Expected `\w+` <= (\S+?)(?:\.0)?$", "value_too_great"),
        (r"Expected `str` matching regex (.+)", "value_unlike_pattern"),
        (r"Expected `([^`]+)`", "value_of_another_type"),
        (r"", "value_invalid"),
    )
]
"""What msgspec's complaints begin with, and what they mean; the first that fits does."""

_AT = re.compile(r" - at `(?:key in )?\$\.?([^`]*)`$")
_NAMED = re.compile(r"field `(.*)`$")


def problem_of(error: Exception) -> tuple[str, Problem]:
    """The field that a complaint of msgspec's is about, and what is wrong with it."""
    text = str(error)
    where = _AT.search(text)
    field = where.group(1) if where else ""
    text = _AT.sub("", text)
    named = _NAMED.search(text)  # a field that is missing or unknown is not in the path
    if named:
        field = f"{field}.{named.group(1)}".lstrip(".")
    code, about = next((code, found) for shape, code in COMPLAINTS if (found := shape.match(text)))
    if code == "value_not_a_moment":
        return field, Problem(code, A_MOMENT)
    return field, Problem(code, *map(_unquoted, about.groups()))


def _unquoted(text: str) -> str:
    return literal_eval(text) if text.startswith(("'", '"')) else text
