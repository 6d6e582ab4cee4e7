"""Events, the states they fold into, and the words rules are written in."""

import re
from collections.abc import Iterable
from datetime import datetime
from functools import cache
from typing import Any, ClassVar, LiteralString, Self, TypeVar, dataclass_transform

from msgspec import Struct, StructMeta, field, json

S = TypeVar("S", bound="State")

EVENTS: dict[str, type["Event"]] = {}
"""Every event type by the name it is stored under."""

HOMES: dict[type["Event"], type["State"]] = {}
"""The state, and so the stream, that each event type belongs to."""

STATES: dict[str, type["State"]] = {}
"""Every state by its category, the first part of its streams' names."""


class RegistryError(TypeError):
    """Raised while modules load, when a declaration contradicts another."""


class UnknownEventType(LookupError):
    """Raised when the log holds an event type that no module declares."""


class Rejected(Exception):
    """A command that the rules refuse; `code` is stable and translated for people."""

    def __init__(self, code: str, **details: Any) -> None:
        super().__init__(code)
        self.code = code
        self.details = details


def require(condition: object, code: str, **details: Any) -> None:
    """Refuse the command with `code` unless the condition holds."""
    if not condition:
        raise Rejected(code, **details)


def context_of(cls: type) -> str:
    """The context a class belongs to: `domain.catalogue[.part]` -> `catalogue`."""
    return cls.__module__.split(".")[1] if "." in cls.__module__ else cls.__module__


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
class FrozenMeta(StructMeta):
    """Makes every subclass frozen and its fields keyword-only, and tells type checkers so."""

    def __new__(mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
        return super().__new__(mcls, name, bases, namespace, frozen=True, kw_only=True)


class Event(Struct, metaclass=FrozenMeta):
    """Something that happened; subclasses are stored as `context.ClassName`."""

    def __init_subclass__(cls) -> None:
        name = event_name(cls)
        if name in EVENTS:
            raise RegistryError(f"two events are called {name}")
        EVENTS[name] = cls


class State(Struct, metaclass=FrozenMeta):
    """What the rules need to remember of one stream; readers see read models instead."""

    folds: ClassVar[tuple[type[Event], ...]] = ()
    """The events of this state's stream."""
    key: ClassVar[str] = ""
    """The field of those events that names the stream; `<noun>_id` unless said otherwise."""
    claim: ClassVar[bool] = False
    """Whether the stream's absence is an ordinary answer (a free name), not an error."""
    concealed: ClassVar[bool] = False
    """Whether the key must not be read from the stream's name, which then holds its digest."""

    def __init_subclass__(cls) -> None:
        noun = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()
        cls.key = cls.key or f"{noun}_id"
        if category(cls) in STATES:
            raise RegistryError(f"two states are called {category(cls)}")
        STATES[category(cls)] = cls
        for event in cls.folds:
            if event in HOMES:
                raise RegistryError(f"{event_name(event)} belongs to two states")
            HOMES[event] = cls

    def evolve(self, event: Event) -> Self:
        """The state after `event`."""
        raise NotImplementedError


class Recorded(Struct, metaclass=FrozenMeta):
    """An event as the log holds it, with who, when and why."""

    position: int
    stream: str
    version: int
    type: str
    tenant: str
    actor: str
    command_id: str
    correlation_id: str
    causation_id: str | None
    recorded_at: datetime
    event: Event


def event_name(cls: type[Event]) -> str:
    return f"{context_of(cls)}.{cls.__name__}"


@cache
def category(cls: type[State]) -> str:
    """The first part of the names of a state's streams, as in `chapter-<id>`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


def stream_of(state: type[State], key: str) -> str:
    return f"{category(state)}-{key}"


def stream_of_event(event: Event) -> str:
    """The stream an event belongs to, told by the event itself."""
    home = HOMES[type(event)]
    return stream_of(home, getattr(event, home.key))


def fold(state: S, events: Iterable[Event]) -> S:
    for event in events:
        state = state.evolve(event)
    return state


def encode(event: Event) -> str:
    """The body of an event: JSON text, byte for byte what is stored and sealed."""
    return json.encode(event).decode()


@cache
def _decoder(type_name: str) -> "json.Decoder[Event]":
    try:
        return json.Decoder(EVENTS[type_name])
    except KeyError:
        raise UnknownEventType(type_name) from None


def decode(type_name: str, body: str | bytes) -> Event:
    return _decoder(type_name).decode(body)


RECORDED_COLUMNS: LiteralString = (
    "position, tenant, stream, version, type, actor, command_id, correlation_id, causation_id, "
    "recorded_at, body"
)
"""The log's columns in the order that `recorded` takes them."""


def recorded(row: tuple[Any, ...]) -> Recorded:
    """A row of RECORDED_COLUMNS as an event with who, when and why."""
    return Recorded(
        position=row[0],
        tenant=row[1],
        stream=row[2],
        version=row[3],
        type=row[4],
        actor=row[5],
        command_id=row[6],
        correlation_id=row[7],
        causation_id=row[8],
        recorded_at=row[9],
        event=decode(row[4], row[10]),
    )
