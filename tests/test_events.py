"""The events' schemas are a promise: what was stored can be read for ever."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.json import schema_components

from domain.kernel import HOMES, Event, decode, encode, event_name
from runtime.registry import EVENTS
from tests.strategies import structs

SNAPSHOT = Path(__file__).parent / "event_schemas.json"


def schemas() -> dict[str, Any]:
    """The JSON schema of every event by its stored name, with what it refers to."""
    described: dict[str, Any] = {}
    for name, event in sorted(EVENTS.items()):
        _, components = schema_components([event])
        described[name] = components
    return json.loads(json.dumps(described))


def test_event_schemas_are_as_they_were() -> None:
    """A new event or field is added with `python -m tests.test_events`; nothing else ever is."""
    assert schemas() == json.loads(SNAPSHOT.read_text())


def test_nothing_recorded_is_renamed_dropped_or_newly_required() -> None:
    now = schemas()
    for name, before in json.loads(SNAPSHOT.read_text()).items():
        for part, schema in before.items():
            after = now[name][part]
            assert schema["properties"].items() <= after["properties"].items(), (name, part)
            assert set(after["required"]) == set(schema["required"]), (name, part)


@pytest.mark.parametrize("event", EVENTS.values(), ids=lambda event: event.__name__)
def test_an_event_reads_back_as_it_was_written(event: type[Event]) -> None:
    @given(one=structs(event))
    def holds(one: Event) -> None:
        assert decode(event_name(event), encode(one)) == one

    holds()


def test_every_event_belongs_to_a_stream() -> None:
    assert set(HOMES) == set(EVENTS.values())


@given(extra=st.text())
def test_a_field_that_came_later_does_not_disturb_an_older_reader(extra: str) -> None:
    body = json.dumps({"series_id": "s1", "a_field_of_tomorrow": extra})
    event = decode("catalogue.SeriesPublished", body)
    assert encode(event) == '{"series_id":"s1"}'


if __name__ == "__main__":
    SNAPSHOT.write_text(json.dumps(schemas(), indent=2, sort_keys=True) + "\n")
