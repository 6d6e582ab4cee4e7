"""What holds for every registered command, whatever it is."""

from collections.abc import Sequence
from datetime import timedelta
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from commands.kernel import SYSTEM, Command
from domain.access import TokenCreated
from domain.kernel import Event, stream_of_event
from domain.people import AccountDeactivated, SecondFactorAdded, SessionStarted
from domain.tenancy import ROLES
from runtime.registry import COMMANDS, POLICIES
from tests import histories
from tests.scenario import AT, NEW, PEOPLE, Given, PureLevel
from tests.strategies import structs

IDS = {
    "series_id": "s1",
    "chapter_id": "c1",
    "person_id": "ana",
    "session_id": "i1",
    "factor_id": "f1",
    "api_token_id": "t1",
    "appeal_id": "ana-1",
    "invitation_id": "v1",
}
COUNTED: dict[str, object] = {
    "requests": 0,
    "renewals": 0,
    "ban": 1,
    "end": histories.BAN_END,
    "emails": 1,
}
"""What commands say came before them."""

NAMED: dict[str, object] = {
    "role": "uploader",
    "roles": ("uploader",),
    "permissions": ("catalogue.create",),
}
"""What there is in every organisation."""

LINKED: dict[str, object] = {
    "identity_id": "l1",
    "identity": histories.IDENTITY,
    "issuer": "https://accounts.example.org",
    "subject": "ana-there",
    "email": "ana@example.org",
}
"""By what somebody signs in elsewhere."""

TIMELY = {"expires_at": AT + timedelta(days=30)}

KNOWN: dict[str, object] = {**IDS, **COUNTED, **NAMED, **LINKED, **TIMELY}

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
    (histories.email_added(confirmed=True),),
    histories.identity_linked,
    (histories.banned(until=histories.BAN_END),),
    (histories.banned(), histories.lodged),
    (histories.banned(), histories.lodged, histories.appeal_rejected),
    (histories.banned(by="aida"), replace(histories.lodged, banned_by="aida")),
    (histories.appointed,),
    (AccountDeactivated(person_id="ana", reason="Gone."),),
    (histories.opened,),
    (histories.opened, histories.role_defined),
    (SessionStarted(session_id="i1", person_id="ana", kind="token"),),
    (SecondFactorAdded(person_id="ana", factor_id="f1"),),
    (TokenCreated(api_token_id="t1", person_id="ana", name="CI", scopes=(), expires_at=AT),),
    (histories.avatar_changed, histories.logo_changed),
    (histories.email_added(),),
    (histories.email_added(confirmed=True), histories.email_requested),
    (histories.email_requested,),
    (histories.invited,),
    (histories.invited, histories.withdrawn),
    (histories.invited, histories.invitation_accepted),
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
