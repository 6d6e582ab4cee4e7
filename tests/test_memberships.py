"""The rules of invitations, of addresses that change, and of leaving."""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from commands.kernel import SYSTEM, Command
from commands.memberships import (
    AcceptInvitation,
    InviteMember,
    LeaveOrganisation,
    RenewInvitation,
    WithdrawInvitation,
    may_still_invite,
)
from commands.people import ConfirmEmail, RequestEmail, RequestEmailLetter
from domain.kernel import Event
from domain.memberships import (
    Invitation,
    InvitationAccepted,
    InvitationRenewed,
    InvitationSent,
    InvitationWithdrawn,
)
from domain.people import (
    AccountCreated,
    AccountLeft,
    Ban,
    EmailAdded,
    EmailChanged,
    EmailClaimed,
    EmailConfirmed,
    EmailLetterRequested,
    EmailReleased,
    EmailRequested,
    Person,
    ProfileRevised,
    UsernameClaimed,
    UsernameReleased,
)
from domain.tenancy import (
    MAIN,
    AdministratorAppointed,
    AdministratorDismissed,
    MemberJoined,
    MemberLeft,
    Tenant,
)
from tests import histories
from tests.histories import email_added, email_requested, invited
from tests.scenario import AT, NEW, GivenEvents

INVITE = InviteMember(email="dina@example.org", roles=("uploader",), message="Come in.")
ACCEPT = AcceptInvitation(invitation_id="v1", username="dina", name="Dina", language="ky")
RENEW = RenewInvitation(invitation_id="v1")
WITHDRAW = WithdrawInvitation(invitation_id="v1", reason="A mistake.")
ASK = RequestEmail(person_id="ana", email="new@example.org")
LEAVE = LeaveOrganisation(person_id="ana", reason="Enough.")
LONG_AGO = AT - timedelta(days=7, seconds=1)


# invitations


def test_who_makes_accounts_invites(given: GivenEvents) -> None:
    given().when(INVITE, by="aida").then(
        InvitationSent(
            invitation_id=NEW,
            email="dina@example.org",
            roles=("uploader",),
            language="en",
            message="Come in.",
            sent_by="aida",
            sent_at=AT,
        )
    )


def test_who_makes_no_accounts_invites_nobody(given: GivenEvents) -> None:
    given().when(INVITE, by="meder").then_rejected("permission_denied")


def test_nobody_is_invited_as_what_there_is_not(given: GivenEvents) -> None:
    given().when(replace(INVITE, roles=("king",)), by="aida").then_rejected("role_unknown")


def test_a_member_is_not_invited(given: GivenEvents) -> None:
    claimed = EmailClaimed(email="dina@example.org", person_id="somebody")
    given(claimed).when(INVITE, by="aida").then_rejected("email_taken")


def test_an_invitation_is_sent_again(given: GivenEvents) -> None:
    given(invited).when(RENEW, by="aida").then(
        InvitationRenewed(invitation_id="v1", sent_by="aida", sent_at=AT)
    )


def test_it_is_not_sent_twice_in_a_minute(given: GivenEvents) -> None:
    given(replace(invited, sent_at=AT)).when(RENEW, by="aida").then_nothing()


def test_an_invitation_is_withdrawn(given: GivenEvents) -> None:
    given(invited).when(WITHDRAW, by="aida").then(
        InvitationWithdrawn(invitation_id="v1", reason="A mistake.")
    )


@pytest.mark.parametrize("command", [RENEW, WITHDRAW])
def test_what_was_accepted_is_neither_sent_again_nor_withdrawn(
    given: GivenEvents, command: Command
) -> None:
    given(invited, histories.invitation_accepted).when(command, by="aida").then_rejected(
        "invitation_closed"
    )


def test_somebody_new_comes_in_with_the_roles_and_the_address_of_the_invitation(
    given: GivenEvents,
) -> None:
    given(invited).when(ACCEPT, by=SYSTEM).then(
        UsernameClaimed(username="dina", person_id=NEW),
        AccountCreated(person_id=NEW, username="dina", roles=("uploader",)),
        ProfileRevised(person_id=NEW, name="Dina", language="ky"),
        EmailClaimed(email="dina@example.org", person_id=NEW),
        EmailAdded(person_id=NEW, email="dina@example.org", confirmed=True),
        InvitationAccepted(invitation_id="v1", person_id=NEW),
        MemberJoined(tenant_id=MAIN, person_id=NEW),
    )


def test_an_address_that_is_not_known_to_be_theirs_does_not_come_along(given: GivenEvents) -> None:
    given(invited).when(replace(ACCEPT, addressed=False), by=SYSTEM).then(
        UsernameClaimed(username="dina", person_id=NEW),
        AccountCreated(person_id=NEW, username="dina", roles=("uploader",)),
        ProfileRevised(person_id=NEW, name="Dina", language="ky"),
        InvitationAccepted(invitation_id="v1", person_id=NEW),
        MemberJoined(tenant_id=MAIN, person_id=NEW),
    )


@pytest.mark.parametrize(
    ("before", "code"),
    [
        ((invited, histories.withdrawn), "link_invalid"),
        ((invited, histories.invitation_accepted), "link_invalid"),
        ((replace(invited, sent_at=LONG_AGO),), "link_invalid"),
        ((), "invitation_not_found"),
        ((invited, UsernameClaimed(username="dina", person_id="x")), "username_taken"),
        ((invited, EmailClaimed(email="dina@example.org", person_id="x")), "email_taken"),
        ((invited, AccountCreated(person_id=NEW, username="x", roles=())), "member_already"),
        (
            (
                invited,
                AccountCreated(person_id=NEW, username="x", roles=()),
                histories.banned(NEW),
                AccountLeft(person_id=NEW),
            ),
            "banned",
        ),
    ],
)
def test_who_is_not_let_in(given: GivenEvents, before: tuple[Event, ...], code: str) -> None:
    given(*before).when(ACCEPT, by=SYSTEM).then_rejected(code)


def test_who_left_comes_back(given: GivenEvents) -> None:
    before = (AccountCreated(person_id=NEW, username="x", roles=()), AccountLeft(person_id=NEW))
    events, refusal = given(invited, *before).when(ACCEPT, by=SYSTEM).outcome
    assert not refusal
    assert MemberJoined(tenant_id=MAIN, person_id=NEW) in events


@pytest.mark.parametrize(
    ("sender", "may"),
    [
        (Person(username="aida", roles=("administrator",)), True),
        (Person(username="aida", roles=("moderator",)), False),
        (
            Person(username="aida", roles=("reader",), permissions=frozenset({"people.create"})),
            False,
        ),
        (Person(username="aida", roles=("administrator",), active=False), False),
        (Person(username="aida", roles=("administrator",), ban=Ban("spam", None)), False),
        (Person(roles=("administrator",)), False),
    ],
)
def test_an_invitation_is_worth_what_its_sender_may_do(sender: Person, may: bool) -> None:
    invitation = Invitation(roles=("uploader",), sent_by="aida")
    assert may_still_invite(sender, invitation, Tenant(), AT) == may
    assert may_still_invite(Person(), replace(invitation, sent_by=SYSTEM), Tenant(), AT)


# addresses


def test_another_address_is_asked_for_and_the_old_one_stays(given: GivenEvents) -> None:
    given(email_added(confirmed=True)).when(ASK, by=SYSTEM).then(
        EmailRequested(person_id="ana", email="new@example.org", asked_at=AT)
    )


def test_what_was_asked_for_a_moment_ago_is_on_its_way(given: GivenEvents) -> None:
    asked = EmailRequested(person_id="ana", email="new@example.org", asked_at=AT)
    given(asked).when(ASK, by=SYSTEM).then_nothing()


def test_so_is_a_letter_that_was_asked_for_a_moment_ago(given: GivenEvents) -> None:
    asked = EmailRequested(person_id="ana", email="new@example.org", asked_at=AT)
    given(asked).when(RequestEmailLetter(), by="ana").then_nothing()


def test_the_address_that_one_has_is_not_asked_for(given: GivenEvents) -> None:
    own = RequestEmail(person_id="ana", email="ana@example.org")
    given(email_added(confirmed=True)).when(own, by=SYSTEM).then_nothing()


def test_an_address_of_an_account_that_had_none(given: GivenEvents) -> None:
    given(email_requested).when(ConfirmEmail(person_id="ana", emails=1), by=SYSTEM).then(
        EmailClaimed(email="new@example.org", person_id="ana"),
        EmailChanged(person_id="ana", email="new@example.org"),
    )


def test_a_new_address_is_claimed_and_the_old_one_is_free(given: GivenEvents) -> None:
    before = (email_added(), email_requested)
    given(*before).when(ConfirmEmail(person_id="ana", emails=2), by=SYSTEM).then(
        EmailClaimed(email="new@example.org", person_id="ana"),
        EmailChanged(person_id="ana", email="new@example.org", former="ana@example.org"),
        EmailReleased(email="ana@example.org", person_id="ana"),
    )


def test_the_letter_to_one_address_does_not_confirm_another(given: GivenEvents) -> None:
    before = (email_added(), email_requested)
    confirm = ConfirmEmail(person_id="ana", emails=1)
    given(*before).when(confirm, by=SYSTEM).then_rejected("link_invalid")


def test_an_address_that_somebody_claimed_meanwhile_is_theirs(given: GivenEvents) -> None:
    claimed = EmailClaimed(email="new@example.org", person_id="ben")
    confirm = ConfirmEmail(person_id="ana", emails=1)
    given(email_requested, claimed).when(confirm, by=SYSTEM).then_rejected("email_taken")


def test_an_address_that_was_released_is_anybodys(given: GivenEvents) -> None:
    before = (
        EmailClaimed(email="new@example.org", person_id="ben"),
        EmailReleased(email="new@example.org", person_id="ben"),
    )
    confirm = ConfirmEmail(person_id="ana", emails=1)
    given(email_requested, *before).when(confirm, by=SYSTEM).then(
        EmailClaimed(email="new@example.org", person_id="ana"),
        EmailChanged(person_id="ana", email="new@example.org"),
    )


def test_the_address_of_a_registration_is_confirmed(given: GivenEvents) -> None:
    confirm = ConfirmEmail(person_id="ana", emails=1)
    given(email_added()).when(confirm, by=SYSTEM).then(EmailConfirmed(person_id="ana"))


@pytest.mark.parametrize("before", [email_added(), email_requested])
def test_a_letter_is_sent_again_while_there_is_something_to_confirm(
    given: GivenEvents, before: Event
) -> None:
    again = EmailLetterRequested(person_id="ana", asked_at=AT)
    given(before).when(RequestEmailLetter(), by="ana").then(again)


@pytest.mark.parametrize("before", [(), (email_added(confirmed=True),)])
def test_where_nothing_is_to_be_confirmed_no_letter_is_sent(
    given: GivenEvents, before: tuple[Event, ...]
) -> None:
    given(*before).when(RequestEmailLetter(), by="ana").then_nothing()


# leaving


def test_who_leaves_leaves_nothing_taken(given: GivenEvents) -> None:
    before = (email_added(), EmailClaimed(email="ana@example.org", person_id="ana"))
    given(*before).when(LEAVE, by=SYSTEM).then(
        UsernameReleased(username="ana", person_id="ana"),
        EmailReleased(email="ana@example.org", person_id="ana"),
        AccountLeft(person_id="ana", reason="Enough."),
        MemberLeft(tenant_id=MAIN, person_id="ana"),
    )


def test_who_left_may_do_nothing(given: GivenEvents) -> None:
    given(AccountLeft(person_id="aida")).when(INVITE, by="aida").then_rejected("unknown_account")


def test_the_last_administrator_stays(given: GivenEvents) -> None:
    appointed = AdministratorAppointed(tenant_id=MAIN, person_id="ana")
    given(appointed).when(LEAVE, by=SYSTEM).then_rejected("last_administrator")


def test_an_administrator_beside_another_leaves(given: GivenEvents) -> None:
    two = [AdministratorAppointed(tenant_id=MAIN, person_id=one) for one in ("ana", "aida")]
    given(*two).when(LEAVE, by=SYSTEM).then(
        UsernameReleased(username="ana", person_id="ana"),
        AccountLeft(person_id="ana", reason="Enough."),
        MemberLeft(tenant_id=MAIN, person_id="ana"),
        AdministratorDismissed(tenant_id=MAIN, person_id="ana"),
    )
