"""What somebody says at the command line, taken as exactly what is asked for."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

import click
from msgspec import Struct

from api.errors import Refusal
from api.messages import message
from api.parameters import from_texts, schemas_of

S = TypeVar("S", bound=Struct)


def taken(wanted: type[S], said: Iterable[tuple[str, str]]) -> S:
    """The struct that these texts make, or a complaint about each that is wrong."""
    try:
        return from_texts(wanted, said)
    except Refusal as refusal:
        raise click.BadParameter(" ".join(_complaints(wanted, refusal))) from refusal


def _complaints(wanted: type[Struct], refusal: Refusal) -> Iterator[str]:
    """What is wrong; a pattern is told as its field describes it."""
    for name, problem in refusal.problems.items():
        described = schemas_of(wanted)[name].get("description")
        if problem.code == "value_unlike_pattern" and described:
            yield f"{name}: {described}."
        else:
            yield f"{name}: {message(problem.code, '', problem.about)}"
