"""Values that come as texts: in addresses, in forms, and as flags of the command line."""

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, TypeVar, cast

from msgspec import Struct, ValidationError, convert, inspect, json

from api.errors import invalid, mistaken
from api.problems import problems_of

T = TypeVar("T", bound=Struct)


class NoParameters(Struct, frozen=True, forbid_unknown_fields=True):
    """What the address of a route that does not say otherwise may hold."""


def from_texts(cls: type[T], given: Iterable[tuple[str, str]]) -> T:
    """A struct of values given by name; only where it holds several may a name repeat."""
    several, numbers, flags = _kinds(cls)
    values: dict[str, Any] = {}
    for name, text in given:
        value: Any = text
        if name in numbers:
            value = _number(text)
        elif name in flags:
            value = _FLAGS.get(text, text)
        if name in several:
            values.setdefault(name, []).append(value)
        elif name in values:
            raise invalid(name, "value_repeated")
        else:
            values[name] = value
    try:
        return convert(values, cls)
    except ValidationError as error:
        problems = problems_of(cls, values, error)
        # One of several has no name of its own.
        named = {field.partition("[")[0]: problem for field, problem in problems.items()}
        raise mistaken(named) from error


def _number(text: str) -> float | str:
    """A number where the text is one; only numbers are read as leniently as texts need it."""
    try:
        return convert(text, int | float, strict=False)
    except ValidationError:
        return text


_FLAGS = {"true": True, "false": False}


@cache
def _kinds(cls: type[Struct]) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """The names of the fields that hold several values, numbers, or yes and no."""
    several, numbers, flags = set[str](), set[str](), set[str]()
    for field in fields_of(cls):
        for part in parts(field.type):
            if isinstance(part, inspect.VarTupleType):
                several.add(field.name)
            elif isinstance(part, inspect.IntType | inspect.FloatType):
                numbers.add(field.name)
            elif isinstance(part, inspect.BoolType):
                flags.add(field.name)
    return frozenset(several), frozenset(numbers), frozenset(flags)


def fields_of(cls: type[Struct]) -> tuple[inspect.Field, ...]:
    """A struct's fields with their types as msgspec sees them."""
    return cast("inspect.StructType", inspect.type_info(cls)).fields


def parts(kind: inspect.Type) -> Iterator[inspect.Type]:
    """A type, and what it is made of."""
    yield kind
    if isinstance(kind, inspect.UnionType):
        for one in kind.types:
            yield from parts(one)
    elif isinstance(kind, inspect.Metadata):
        yield from parts(kind.type)
    elif isinstance(kind, inspect.VarTupleType):
        yield from parts(kind.item_type)


def schemas_of(cls: type[Struct]) -> dict[str, dict[str, Any]]:
    """The JSON schema of each field, as a text can give it: never null."""
    described: Any = json.decode(json.encode(json.schema(cls)))
    properties: dict[str, dict[str, Any]] = described["$defs"][cls.__name__]["properties"]
    for schema in properties.values():
        if "anyOf" in schema:
            (some,) = [one for one in schema.pop("anyOf") if one != {"type": "null"}]
            schema.update(some)
            del schema["default"]
        if "enum" in schema:
            schema["type"] = "string"
    return properties
