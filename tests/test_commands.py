"""What holds for every registered command, whatever it is."""

from collections.abc import Sequence
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commands.kernel import SYSTEM, Command
from domain.kernel import Event, stream_of_event
from domain.people import SessionStarted
from domain.tenancy import ROLES
from runtime.registry import COMMANDS, POLICIES
from tests import histories
from tests.scenario import NEW, PEOPLE, Given, PureLevel
from tests.strategies import structs

IDS = {
    "series_id": "s1",
    "chapter_id": "c1",
    "person_id": "ana",
    "session_id": "i1",
    "invitation_id": "v1",
}
COUNTED = {"requests": 0, "emails": 1}
"""What commands say came before them."""

NAMED: dict[str, object] = {
    "role": "uploader",
    "roles": ("uploader",),
    "permissions": ("catalogue.create",),
}
"""What there is in every organisation."""

KNOWN = {**IDS, **COUNTED, **NAMED}

HISTORIES: Sequence[Sequence[Event]] = [
    (),
    (histories.created(),),
    (histories.created(), histories.slug_claimed, histories.published),
    (histories.created(), histories.uploaded()),
    (histories.created(), histories.uploaded(), histories.refused),
    histories.pending(),
    (*histories.pending(), histories.approved),
    (*histories.pending(), histories.rejected),
    (*histories.pending(), histories.deleted),
    (histories.banned(),),
    (histories.opened,),
    (histories.opened, histories.role_defined),
    (SessionStarted(session_id="i1", person_id="ana", kind="token"),),
    (histories.email_added(),),
    (histories.email_added(confirmed=True), histories.email_requested),
    (histories.email_requested,),
    (histories.invited,),
    (histories.invited, histories.withdrawn),
    (histories.invited, histories.accepted),
    (histories.left,),
]
"""Every state that a rule asks about."""


@pytest.mark.parametrize("kind", COMMANDS, ids=lambda kind: kind.__name__)
@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_handled_twice_it_appends_nothing_more(kind: type[Command], data: st.DataObject) -> None:
    new_id = COMMANDS[kind].new_id
    fixed = KNOWN | ({new_id: NEW} if new_id else {})
    command = data.draw(structs(kind, **fixed))
    history = data.draw(st.sampled_from(HISTORIES))
    by = data.draw(st.sampled_from([*PEOPLE, SYSTEM]))
    first, _ = Given(PureLevel(), history).when(command, by=by).outcome
    again, _ = Given(PureLevel(), [*history, *first]).when(command, by=by).outcome
    assert again == ()


@pytest.mark.parametrize("kind", COMMANDS, ids=lambda kind: kind.__name__)
def test_some_history_lets_it_append_something(kind: type[Command]) -> None:
    """Otherwise the property above would hold for a command that never does anything."""

    @given(structs(kind, **(KNOWN | {COMMANDS[kind].new_id or "": NEW})))
    @settings(max_examples=20, deadline=None, database=None)
    def find(command: Command) -> None:
        for history, by in product(HISTORIES, [*PEOPLE, SYSTEM]):
            events, _ = Given(PureLevel(), history).when(command, by=by).outcome
            found.extend(stream_of_event(event) for event in events)

    found: list[str] = []
    find()
    assert found


def test_every_permission_that_is_needed_can_be_had() -> None:
    granted = frozenset[str]().union(*ROLES.values())
    needed = {spec.needs for spec in COMMANDS.values() if spec.needs}
    assert needed <= granted


def test_verbs_and_routes_are_unambiguous() -> None:
    routed = [spec for spec in COMMANDS.values() if spec.method]
    assert len({spec.verb for spec in COMMANDS.values()}) == len(COMMANDS)
    assert len({(spec.method, spec.path) for spec in routed}) == len(routed)


def test_policies_are_pure_functions_of_the_event() -> None:
    for policy in POLICIES.values():
        for event in (e for history in HISTORIES for e in history):
            if isinstance(event, policy.event):
                assert list(policy.react(event)) == list(policy.react(event))
