"""The rules of accounts at other providers by which people sign in."""

from commands.kernel import SYSTEM
from commands.people.identities import LinkIdentity, RegisterByIdentity, UnlinkIdentity
from commands.people.letters import SendLetter, ask_to_confirm
from commands.people.sessions import StartSession
from domain.kernel import Event
from domain.people import (
    AccountCreated,
    EmailAdded,
    EmailClaimed,
    IdentityClaimed,
    IdentityLinked,
    IdentityReleased,
    IdentityUnlinked,
    PasswordReset,
    ProfileRevised,
    SessionStarted,
    UsernameClaimed,
)
from domain.tenancy import MAIN, MemberJoined
from tests.histories import banned
from tests.scenario import NEW, GivenEvents

ISSUER = "https://accounts.example"
IDENTITY = f"{ISSUER}#1"
EMAIL = "ana@example.org"

CONFIRMED = EmailAdded(person_id="ana", email=EMAIL, confirmed=True)
UNCONFIRMED = EmailAdded(person_id="ana", email=EMAIL)
CLAIMED = IdentityClaimed(identity=IDENTITY, person_id="ana")
LINK = LinkIdentity(person_id="ana", issuer=ISSUER, subject="1", email=EMAIL)
UNLINK = UnlinkIdentity(person_id="ana", identity_id="i1", identity=IDENTITY)
UNLINKED = (
    IdentityUnlinked(person_id="ana", identity_id="i1"),
    IdentityReleased(identity=IDENTITY, person_id="ana"),
)
REGISTER = RegisterByIdentity(
    identity_id="i1",
    issuer=ISSUER,
    subject="1",
    username="dina",
    email="dina@example.org",
    name="Dina",
    language="ky",
)


def linked(identity_id: str = "i1", **said: str) -> IdentityLinked:
    about = {"person_id": "ana", "issuer": ISSUER, "subject": "1", "email": EMAIL}
    return IdentityLinked(identity_id=identity_id, **about | said)


def without_password(*events: Event) -> tuple[Event, ...]:
    """Somebody who never had a password."""
    made = AccountCreated(person_id="eve", username="eve", roles=("reader",), with_password=False)
    return (made, *events)


def test_an_identity_is_linked_by_a_confirmed_address(given: GivenEvents) -> None:
    given(CONFIRMED).when(LINK, by=SYSTEM).then(CLAIMED, linked(NEW))


def test_linking_twice_is_harmless(given: GivenEvents) -> None:
    given(CONFIRMED, CLAIMED, linked()).when(LINK, by=SYSTEM).then_nothing()


def test_an_unconfirmed_address_links_nothing(given: GivenEvents) -> None:
    given(UNCONFIRMED).when(LINK, by=SYSTEM).then_rejected("email_unconfirmed")


def test_an_address_that_is_not_the_accounts_any_more_links_nothing(given: GivenEvents) -> None:
    later = EmailAdded(person_id="ana", email="ana@example.com", confirmed=True)
    given(CONFIRMED, later).when(LINK, by=SYSTEM).then_rejected("email_unconfirmed")


def test_an_identity_opens_one_account(given: GivenEvents) -> None:
    taken = IdentityClaimed(identity=IDENTITY, person_id="ben")
    given(CONFIRMED, taken).when(LINK, by=SYSTEM).then_rejected("identity_taken")


def test_who_has_an_account_gets_no_second_one(given: GivenEvents) -> None:
    given(CLAIMED).when(REGISTER, by=SYSTEM).then_rejected("identity_taken")


def test_an_account_is_opened_by_one_identity_of_a_provider(given: GivenEvents) -> None:
    other = linked(subject="2")
    given(CONFIRMED, other).when(LINK, by=SYSTEM).then_rejected("identity_differs")


def test_who_is_banned_links_nothing(given: GivenEvents) -> None:
    given(CONFIRMED, banned("ana")).when(LINK, by=SYSTEM).then_rejected("banned")


def test_nobody_links_by_themselves(given: GivenEvents) -> None:
    given(CONFIRMED).when(LINK, by="aida").then_rejected("permission_denied")


def test_who_comes_from_a_provider_gets_an_account_without_a_password(given: GivenEvents) -> None:
    given().when(REGISTER, by=SYSTEM).then(
        UsernameClaimed(username="dina", person_id=NEW),
        EmailClaimed(email="dina@example.org", person_id=NEW),
        AccountCreated(person_id=NEW, username="dina", roles=("reader",), with_password=False),
        ProfileRevised(person_id=NEW, name="Dina", language="ky"),
        EmailAdded(person_id=NEW, email="dina@example.org", confirmed=True),
        IdentityClaimed(identity=IDENTITY, person_id=NEW),
        linked(person_id=NEW, email="dina@example.org"),
        MemberJoined(tenant_id=MAIN, person_id=NEW),
    )


def test_a_taken_address_makes_no_account(given: GivenEvents) -> None:
    address = EmailClaimed(email="dina@example.org", person_id="ana")
    given(address).when(REGISTER, by=SYSTEM).then_rejected("email_taken")


def test_a_taken_name_makes_no_account(given: GivenEvents) -> None:
    name = UsernameClaimed(username="dina", person_id="ana")
    given(name).when(REGISTER, by=SYSTEM).then_rejected("username_taken")


def test_an_identity_is_unlinked_where_there_is_a_password(given: GivenEvents) -> None:
    given(CLAIMED, linked()).when(UNLINK, by=SYSTEM).then(*UNLINKED)


def test_unlinking_twice_is_harmless(given: GivenEvents) -> None:
    given(CLAIMED, linked(), *UNLINKED).when(UNLINK, by=SYSTEM).then_nothing()


def test_what_was_unlinked_can_be_linked_again(given: GivenEvents) -> None:
    past = (CONFIRMED, CLAIMED, linked(), *UNLINKED)
    given(*past).when(LINK, by=SYSTEM).then(CLAIMED, linked(NEW))


def test_the_last_way_to_sign_in_stays(given: GivenEvents) -> None:
    history = without_password(linked(person_id="eve"))
    last = UnlinkIdentity(person_id="eve", identity_id="i1", identity=IDENTITY)
    given(*history).when(last, by=SYSTEM).then_rejected("last_sign_in")


def test_it_may_go_once_there_is_a_password(given: GivenEvents) -> None:
    history = without_password(linked(person_id="eve"), PasswordReset(person_id="eve"))
    one = UnlinkIdentity(person_id="eve", identity_id="i1", identity=IDENTITY)
    given(*history).when(one, by=SYSTEM).then(
        IdentityUnlinked(person_id="eve", identity_id="i1"),
        IdentityReleased(identity=IDENTITY, person_id="eve"),
    )


def test_a_session_says_which_identity_opened_it(given: GivenEvents) -> None:
    start = StartSession(person_id="ana", kind="cookie", identity_id="i1")
    given(linked()).when(start, by=SYSTEM).then(
        SessionStarted(session_id=NEW, person_id="ana", kind="cookie", identity_id="i1")
    )


def test_what_was_unlinked_starts_no_session(given: GivenEvents) -> None:
    start = StartSession(person_id="ana", kind="cookie", identity_id="i1")
    given(linked(), *UNLINKED).when(start, by=SYSTEM).then_rejected("identity_not_found")


def test_nobody_is_asked_to_confirm_what_is_confirmed() -> None:
    assert list(ask_to_confirm.react(CONFIRMED)) == []
    asking = SendLetter(person_id="ana", letter="confirm_email")
    assert list(ask_to_confirm.react(UNCONFIRMED)) == [asking]
