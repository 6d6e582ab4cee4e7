"""Personal data: which fields of an event are about whom, so that a person can be forgotten."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, LiteralString, Protocol, get_args, get_type_hints

from msgspec import Struct

from domain.kernel import Event, RegistryError


class Personal(Struct, frozen=True):
    """Marks a text about a person: kept under the key of whom the field named `subject` says."""

    subject: str


LOAD_KEYS: LiteralString = "SELECT subject, wrapped FROM people.keys WHERE subject = ANY(%s)"
"""Gives the rows that `Opener.learn` takes."""


class PersonalText(Struct, frozen=True):
    """A text about somebody that is kept beside the log, and the place that it is bound to."""

    subject: str
    place: str
    text: str


class MasterKeyWrong(Exception):
    """A person's key was wrapped by a master key that this process does not have."""


class Opener(Protocol):
    """Makes the personal texts of recorded events readable, as long as their keys exist."""

    def unknown(self, events: Iterable[Event]) -> list[str]:
        """The subjects whose keys have to be loaded before these events can be opened."""
        ...

    def learn(self, rows: Iterable[tuple[str, bytes | None]]) -> None:
        """Take over what LOAD_KEYS gave; raises MasterKeyWrong."""
        ...

    def open(self, event: Event) -> Event:
        """The event with its personal texts readable, or empty where they were forgotten."""
        ...


@cache
def personal_fields(cls: type[Event]) -> Mapping[str, str]:
    """Each personal field of an event, and the field that names its subject."""
    hints = get_type_hints(cls, include_extras=True)
    found = {
        name: mark.subject
        for name, hint in hints.items()
        for mark in get_args(hint)
        if isinstance(mark, Personal)
    }
    for name, subject in found.items():
        if subject not in hints:
            raise RegistryError(f"{cls.__name__}.{name} is about {subject}, which is no field")
    return found


def subjects_of(event: Event) -> set[str]:
    """Whom an event's personal fields are about."""
    fields: Iterable[Any] = personal_fields(type(event)).values()
    return {getattr(event, subject) for subject in fields}
