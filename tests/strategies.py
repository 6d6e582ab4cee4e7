"""Hypothesis strategies for anything that msgspec can describe."""

from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from msgspec import NODEFAULT, UNSET, Struct, inspect

from tests.scenario import AT


def values(kind: inspect.Type) -> st.SearchStrategy[Any]:
    """Valid values of a type as msgspec.inspect describes it."""
    match kind:
        case inspect.Metadata():
            return values(kind.type)
        case inspect.StrType():
            return _texts(kind)
        case inspect.IntType():
            return st.integers(kind.ge or 0, kind.le if kind.le is not None else 10**6)
        case inspect.FloatType():
            return st.floats(kind.ge or 0, kind.le if kind.le is not None else 10**6)
        case inspect.BoolType():
            return st.booleans()
        case inspect.NoneType():
            return st.none()
        case inspect.LiteralType():
            return st.sampled_from(kind.values)
        case inspect.DateTimeType():
            return st.timedeltas(timedelta(days=1), timedelta(days=999)).map(lambda t: AT + t)
        case inspect.VarTupleType():
            return st.lists(values(kind.item_type), min_size=kind.min_length or 0, max_size=3).map(
                tuple
            )
        case inspect.UnionType():
            return st.one_of([values(one) for one in kind.types])
        case inspect.StructType():
            return structs(kind.cls)
        case _:
            raise NotImplementedError(f"no strategy for {kind}")


def _texts(kind: inspect.StrType) -> st.SearchStrategy[str]:
    low, high = kind.min_length or 0, kind.max_length or 20
    if kind.pattern is None:
        return st.text(min_size=low, max_size=min(high, 20))
    return st.from_regex(kind.pattern).filter(lambda text: low <= len(text) <= high)


def structs(cls: type[Struct], **fixed: Any) -> st.SearchStrategy[Any]:
    """Valid instances of a struct, with some fields fixed."""
    described = inspect.type_info(cls)
    assert isinstance(described, inspect.StructType)
    given = {name: st.just(value) for name, value in fixed.items()}
    fields = {field.name: given.get(field.name, _field(field)) for field in described.fields}
    return st.builds(cls, **fields)


def _field(field: inspect.Field) -> st.SearchStrategy[Any]:
    """Valid values of a field; one that may stay unset sometimes does."""
    given = values(field.type)
    may_stay_unset = not field.required and field.default is field.default_factory is NODEFAULT
    return st.one_of(given, st.just(UNSET)) if may_stay_unset else given
