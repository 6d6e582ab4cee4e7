"""What is wrong with a value: a code, and what its message needs to know."""

import re
from ast import literal_eval
from collections.abc import Mapping
from functools import cache
from typing import Any, cast

from msgspec import Struct, ValidationError, convert, defstruct
from msgspec.structs import fields

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
        (r"Expected `str\b", "value_must_be_text"),
        (r"Expected `(?:int \| )?float\b", "value_must_be_number"),
        (r"Expected `int\b", "value_must_be_whole_number"),
        (r"Expected `bool\b", "value_must_be_yes_or_no"),
        (r"Expected `array\b", "value_must_be_list"),
        (r"Expected `object\b", "value_must_be_object"),
        (r"", "value_invalid"),
    )
]
"""What msgspec's complaints begin with, and what they mean; the first that fits does."""

MAX_TOLD = 50
"""Problems told of one request, about."""

_AT = re.compile(r" - at `(?:key in )?\$\.?([^`]*)`$")
_NAMED = re.compile(r"field `(.*)`$")


def problems_of(cls: type[Struct], values: Any, error: Exception) -> dict[str, Problem]:
    """What is wrong with each of the values that were given for a struct's fields.

    `error` is msgspec's complaint, which is about the first of them only.
    """
    problems = dict([problem_of(error)])
    if not isinstance(values, dict):
        return problems
    given = cast("Mapping[str, Any]", values)
    for field in _each_field(cls):
        try:
            convert(given, field)
        except ValidationError as one:
            problems |= dict([problem_of(one)])
    unknown = sorted(given.keys() - set(cls.__struct_fields__))
    return problems | {name: Problem("value_unknown") for name in unknown[:MAX_TOLD]}


@cache
def _each_field(cls: type[Struct]) -> list[type[Struct]]:
    """Structs of one field each, which know nothing of the others."""
    return [
        defstruct(
            cls.__name__, [(one.name, one.type) if one.required else (one.name, one.type, None)]
        )
        for one in fields(cls)
    ]


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
