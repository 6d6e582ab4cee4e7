"""The rules of administration: roles, accounts switched off, passwords asked anew."""

import asyncio
from uuid import uuid4

import pytest

from commands.bus import Envelope
from commands.kernel import SYSTEM, Command
from commands.people import CreateAccount
from commands.people.administration import AssignRoles, SendPasswordReset, ToggleActive
from commands.people.bans import BanPerson, EndBan, UnbanPerson
from domain.kernel import Event, Rejected
from domain.people import (
    AccountActivated,
    AccountDeactivated,
    PasswordResetRequested,
    PersonUnbanned,
    RolesAssigned,
)
from domain.tenancy import (
    MAIN,
    AdministratorAppointed,
    AdministratorDismissed,
    Members,
    RoleDefined,
)
from runtime.settings import Settings
from runtime.wiring import open_bus, open_pool
from tests.database import MASTER_KEY, Database
from tests.histories import BAN_END, appointed, banned, email_added
from tests.scenario import NEW, GivenEvents

WHY = "As agreed."

DISMISSED = AdministratorDismissed(tenant_id=MAIN, person_id="aida")
SECOND = AdministratorAppointed(tenant_id=MAIN, person_id="beka")
CLERK = RoleDefined(tenant_id=MAIN, role="auditor", permissions=("people.administer",))
"""By which an auditor may administer accounts, and do nothing else."""

DEMOTE = AssignRoles(person_id="aida", roles=("reader",), reason=WHY)
SWITCH_OFF = ToggleActive(person_id="aida", is_active=False, reason=WHY)
BAN_CHIEF = BanPerson(person_id="aida", reason="spam")
OFF = ToggleActive(person_id="ana", is_active=False, reason=WHY)
RESET = SendPasswordReset(person_id="ana", reason=WHY)


def assigned(person: str, *roles: str, permissions: tuple[str, ...] = ()) -> RolesAssigned:
    return RolesAssigned(person_id=person, roles=roles, permissions=permissions, reason=WHY)


def test_an_administrator_assigns_roles_and_permissions(given: GivenEvents) -> None:
    assign = AssignRoles(
        person_id="ana",
        roles=("moderator", "uploader", "moderator"),
        permissions=("audit.read",),
        reason=WHY,
    )
    event = assigned("ana", "moderator", "uploader", permissions=("audit.read",))
    given().when(assign, by="aida").then(event)


def test_what_somebody_has_already_is_not_assigned(given: GivenEvents) -> None:
    same = AssignRoles(person_id="ana", roles=("uploader",), reason=WHY)
    given().when(same, by="aida").then_nothing()


@pytest.mark.parametrize(
    ("assign", "code"),
    [
        (AssignRoles(person_id="ana", roles=("king",), reason=WHY), "role_unknown"),
        (
            AssignRoles(person_id="ana", roles=("reader",), permissions=("x.y",), reason=WHY),
            "permission_unknown",
        ),
    ],
)
def test_roles_and_permissions_are_those_there_are(
    given: GivenEvents, assign: Command, code: str
) -> None:
    given().when(assign, by="aida").then_rejected(code)


@pytest.mark.parametrize(
    "assign",
    [
        AssignRoles(person_id="nur", roles=("moderator",), reason=WHY),
        AssignRoles(person_id="asel", roles=("auditor", "administrator"), reason=WHY),
        AssignRoles(person_id="meder", roles=("reader",), reason=WHY),
        AssignRoles(person_id="nur", roles=("reader",), permissions=("people.ban",), reason=WHY),
        ToggleActive(person_id="meder", is_active=False, reason=WHY),
        SendPasswordReset(person_id="aida", reason=WHY),
    ],
    ids=["granted", "to oneself", "taken", "beside roles", "switched off", "signed out"],
)
def test_nobody_grants_or_takes_what_they_do_not_hold(given: GivenEvents, assign: Command) -> None:
    given(CLERK).when(assign, by="asel").then_rejected("beyond_you")


def test_who_becomes_an_administrator_is_counted_as_one(given: GivenEvents) -> None:
    promote = AssignRoles(person_id="ana", roles=("administrator",), reason=WHY)
    given(appointed).when(promote, by="aida").then(
        assigned("ana", "administrator"), AdministratorAppointed(tenant_id=MAIN, person_id="ana")
    )


@pytest.mark.parametrize("command", [DEMOTE, SWITCH_OFF, BAN_CHIEF], ids=["roles", "off", "ban"])
def test_the_last_administrator_stays_one(given: GivenEvents, command: Command) -> None:
    by = "aida" if command is DEMOTE else SYSTEM
    given(appointed).when(command, by=by).then_rejected("last_administrator")


@pytest.mark.parametrize(
    ("command", "event"),
    [
        (DEMOTE, assigned("aida", "reader")),
        (SWITCH_OFF, AccountDeactivated(person_id="aida", reason=WHY)),
        (BAN_CHIEF, banned("aida", by=SYSTEM)),
    ],
    ids=["roles", "off", "ban"],
)
def test_one_of_two_administrators_may_go(
    given: GivenEvents, command: Command, event: Event
) -> None:
    given(appointed, SECOND).when(command, by=SYSTEM).then(event, DISMISSED)


@pytest.mark.parametrize(
    ("before", "command", "event"),
    [
        (
            AccountDeactivated(person_id="aida"),
            ToggleActive(person_id="aida", is_active=True, reason=WHY),
            AccountActivated(person_id="aida", reason=WHY),
        ),
        (banned("aida"), UnbanPerson(person_id="aida"), PersonUnbanned(person_id="aida")),
    ],
    ids=["on again", "ban lifted"],
)
def test_an_administrator_who_comes_back_is_one_again(
    given: GivenEvents, before: Event, command: Command, event: Event
) -> None:
    given(SECOND, before).when(command, by=SYSTEM).then(
        event, AdministratorAppointed(tenant_id=MAIN, person_id="aida")
    )


def test_an_account_is_switched_off(given: GivenEvents) -> None:
    given().when(OFF, by="aida").then(AccountDeactivated(person_id="ana", reason=WHY))


def test_switching_off_twice_is_harmless(given: GivenEvents) -> None:
    given(AccountDeactivated(person_id="ana")).when(OFF, by="aida").then_nothing()


@pytest.mark.parametrize("command", [SWITCH_OFF, SendPasswordReset(person_id="aida", reason=WHY)])
def test_nobody_does_to_themselves_what_makes_no_sense(
    given: GivenEvents, command: Command
) -> None:
    given(SECOND).when(command, by="aida").then_rejected("own_account")


def test_a_reset_says_who_asked_and_why(given: GivenEvents) -> None:
    given(email_added()).when(RESET, by="aida").then(
        PasswordResetRequested(person_id="ana", request_id=NEW, requested_by="aida", reason=WHY)
    )


def test_without_an_address_there_is_no_reset(given: GivenEvents) -> None:
    given().when(RESET, by="aida").then_rejected("email_missing")


def test_a_ban_is_lifted_at_its_end(given: GivenEvents) -> None:
    end = EndBan(person_id="ana", end=BAN_END)
    given(banned(until=BAN_END)).when(end, by=SYSTEM).then(PersonUnbanned(person_id="ana"))


@pytest.mark.parametrize(
    "since", [banned(), PersonUnbanned(person_id="ana")], ids=["changed", "lifted"]
)
def test_a_ban_is_not_lifted_at_an_end_that_it_has_no_more(
    given: GivenEvents, since: Event
) -> None:
    end = EndBan(person_id="ana", end=BAN_END)
    given(banned(until=BAN_END), since).when(end, by=SYSTEM).then_nothing()


def test_two_administrators_who_dismiss_each_other_leave_one(database: Database) -> None:
    settings = Settings(dsn=database.app, master_key=MASTER_KEY)

    async def race() -> tuple[list[object], frozenset[str]]:
        async with (
            open_pool(settings) as pool,
            open_bus(settings, pool) as here,
            open_bus(settings, pool) as there,
        ):
            pair = uuid4().hex, uuid4().hex
            for number, person in enumerate(pair):
                make = CreateAccount(
                    person_id=person, username=f"chief-{number}", roles=("administrator",)
                )
                await here.handle(make, Envelope(actor=SYSTEM))
            for bus in (here, there):
                assert await bus.state(Members, MAIN, MAIN)
            outcomes = await asyncio.gather(
                *(
                    bus.handle(
                        AssignRoles(person_id=whom, roles=("reader",), reason=WHY),
                        Envelope(actor=who),
                    )
                    for bus, who, whom in ((here, *pair), (there, *reversed(pair)))
                ),
                return_exceptions=True,
            )
            members = await here.state(Members, MAIN, MAIN)
            assert members is not None
            return list(outcomes), members.administrators

    outcomes, administrators = asyncio.run(race())
    assert len(administrators) == 1
    assert sum(isinstance(one, Exception) for one in outcomes) == 1
    assert not any(
        isinstance(one, Rejected) and one.code != "last_administrator" for one in outcomes
    )
