"""The rules of appeals against bans."""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from commands.appeals import AcceptAppeal, LodgeAppeal, RejectAppeal
from commands.kernel import SYSTEM, Command
from domain.kernel import Event
from domain.people import PersonUnbanned
from tests.histories import accepted, appeal_rejected, banned, lodged
from tests.scenario import AT, GivenEvents

LODGE = LodgeAppeal(person_id="ana", ban=1, text="It was not me.")
ACCEPT = AcceptAppeal(appeal_id="ana-1", note="Sorry.")
REJECT = RejectAppeal(appeal_id="ana-1", reason="It was.")
LIFTED = PersonUnbanned(person_id="ana")
BY_AIDA = (banned(by="aida"), replace(lodged, banned_by="aida"))


def test_who_is_banned_appeals(given: GivenEvents) -> None:
    given(banned()).when(LODGE, by=SYSTEM).then(lodged)


@pytest.mark.parametrize("since", [(), (appeal_rejected,)], ids=["open", "rejected"])
def test_there_is_one_appeal_against_a_ban(given: GivenEvents, since: tuple[Event, ...]) -> None:
    given(banned(), lodged, *since).when(LODGE, by=SYSTEM).then_rejected("appeal_lodged")


def test_another_ban_can_be_appealed_again(given: GivenEvents) -> None:
    again = LodgeAppeal(person_id="ana", ban=2, text="It was not me.")
    given(banned(), lodged, banned()).when(again, by=SYSTEM).then(
        replace(lodged, appeal_id="ana-2", ban=2)
    )


@pytest.mark.parametrize(
    "history",
    [(), (banned(), LIFTED), (banned(until=AT - timedelta(days=1)),)],
    ids=["never", "lifted", "ended"],
)
def test_without_a_ban_there_is_nothing_to_appeal(
    given: GivenEvents, history: tuple[Event, ...]
) -> None:
    given(*history).when(LODGE, by=SYSTEM).then_rejected("not_banned")


def test_an_accepted_appeal_lifts_the_ban(given: GivenEvents) -> None:
    given(*BY_AIDA).when(ACCEPT, by="meder").then(
        accepted, PersonUnbanned(person_id="ana", reason="Sorry.")
    )


def test_an_accepted_appeal_lifts_no_later_ban(given: GivenEvents) -> None:
    given(*BY_AIDA, banned(by="aida")).when(ACCEPT, by="meder").then(accepted)


def test_a_rejected_appeal_leaves_the_ban(given: GivenEvents) -> None:
    given(*BY_AIDA).when(REJECT, by="meder").then(appeal_rejected)


@pytest.mark.parametrize("decide", [ACCEPT, REJECT])
def test_nobody_decides_about_their_own_decision(given: GivenEvents, decide: Command) -> None:
    given(banned(), lodged).when(decide, by="meder").then_rejected("own_ban_decision")


@pytest.mark.parametrize("decide", [ACCEPT, REJECT])
def test_nobody_decides_about_their_own_appeal(given: GivenEvents, decide: Command) -> None:
    over = PersonUnbanned(person_id="meder")
    own = replace(lodged, person_id="meder", banned_by="aida")
    given(banned("meder", by="aida"), own, over).when(decide, by="meder").then_rejected(
        "own_appeal"
    )


def test_accepting_twice_is_harmless(given: GivenEvents) -> None:
    given(*BY_AIDA, accepted).when(ACCEPT, by="meder").then_nothing()


@pytest.mark.parametrize(
    ("decided", "other"),
    [(accepted, REJECT), (appeal_rejected, ACCEPT)],
    ids=["accepted", "rejected"],
)
def test_an_appeal_is_decided_once(given: GivenEvents, decided: Event, other: Command) -> None:
    given(*BY_AIDA, decided).when(other, by="meder").then_rejected("appeal_decided")


@pytest.mark.parametrize("decide", [ACCEPT, REJECT])
def test_an_appeal_that_is_not_there_is_not_found(given: GivenEvents, decide: Command) -> None:
    given().when(decide, by="meder").then_rejected("appeal_not_found")


@pytest.mark.parametrize("by", ["ben", "asel", "nur"])
def test_moderators_decide(given: GivenEvents, by: str) -> None:
    given(*BY_AIDA).when(ACCEPT, by=by).then_rejected("permission_denied")
