"""The rules of accounts and bans."""

from datetime import timedelta

from commands.kernel import SYSTEM
from commands.people import ConfirmEmail, CreateAccount, Register, ReplacePassword, ReviseProfile
from commands.people.bans import BanPerson, UnbanPerson
from commands.people.sessions import EndSession, StartSession
from domain.people import (
    AccountCreated,
    EmailAdded,
    EmailClaimed,
    EmailConfirmed,
    PasswordChanged,
    PasswordReset,
    PersonBanned,
    PersonUnbanned,
    ProfileRevised,
    SessionEnded,
    SessionStarted,
    UsernameClaimed,
)
from domain.tenancy import MAIN, MemberJoined
from tests.histories import banned
from tests.scenario import AT, NEW, GivenEvents

CREATE = CreateAccount(username="dina", roles=("uploader", "uploader"))
BAN = BanPerson(person_id="ana", reason="spam")
REGISTER = Register(username="dina", email="dina@example.org", name="Dina", language="ky")
START = StartSession(person_id="ana", kind="token", address="::1")
END = EndSession(session_id="s1", person_id="ana", reason="revoked")
STARTED = SessionStarted(session_id="s1", person_id="ana", kind="token")
ENDED = SessionEnded(session_id="s1", person_id="ana", reason="revoked")
TOMORROW = AT + timedelta(days=1)
YESTERDAY = AT - timedelta(days=1)


def test_an_account_claims_its_name(given: GivenEvents) -> None:
    given().when(CREATE, by=SYSTEM).then(
        UsernameClaimed(username="dina", person_id=NEW),
        AccountCreated(person_id=NEW, username="dina", roles=("uploader",)),
        MemberJoined(tenant_id=MAIN, person_id=NEW),
    )


def test_a_name_is_taken_once(given: GivenEvents) -> None:
    claimed = UsernameClaimed(username="dina", person_id="somebody")
    given(claimed).when(CREATE, by=SYSTEM).then_rejected("username_taken")


def test_only_administrators_make_accounts(given: GivenEvents) -> None:
    given().when(CREATE, by="meder").then_rejected("permission_denied")


def test_a_moderator_bans(given: GivenEvents) -> None:
    given().when(BAN, by="meder").then(banned("ana"))


def test_a_ban_may_end(given: GivenEvents) -> None:
    until = BanPerson(person_id="ana", reason="spam", until=TOMORROW)
    given().when(until, by="meder").then(banned("ana", until=TOMORROW))


def test_a_ban_does_not_end_before_it_begins(given: GivenEvents) -> None:
    past = BanPerson(person_id="ana", reason="spam", until=YESTERDAY)
    given().when(past, by="meder").then_rejected("until_in_the_past")


def test_banning_twice_is_harmless(given: GivenEvents) -> None:
    given(banned("ana")).when(BAN, by="meder").then_nothing()


def test_a_ban_is_made_longer(given: GivenEvents) -> None:
    short = PersonBanned(person_id="ana", reason="spam", until=TOMORROW)
    given(short).when(BAN, by="meder").then(banned("ana"))


def test_nobody_bans_themselves(given: GivenEvents) -> None:
    own = BanPerson(person_id="meder", reason="tired")
    given().when(own, by="meder").then_rejected("own_ban")


def test_a_moderator_does_not_ban_an_administrator(given: GivenEvents) -> None:
    coup = BanPerson(person_id="aida", reason="coup")
    given().when(coup, by="meder").then_rejected("administrator_protected")


def test_an_uploader_bans_nobody(given: GivenEvents) -> None:
    given().when(BAN, by="ben").then_rejected("permission_denied")


def test_somebody_unknown_is_not_banned(given: GivenEvents) -> None:
    given().when(BanPerson(person_id="x", reason="?"), by="meder").then_rejected("person_not_found")


def test_a_ban_is_lifted(given: GivenEvents) -> None:
    lift = UnbanPerson(person_id="ana", reason="a mistake")
    given(banned("ana")).when(lift, by="meder").then(
        PersonUnbanned(person_id="ana", reason="a mistake")
    )


def test_lifting_no_ban_is_harmless(given: GivenEvents) -> None:
    given().when(UnbanPerson(person_id="ana"), by="meder").then_nothing()


def test_a_ban_that_is_over_binds_nobody(given: GivenEvents) -> None:
    over = PersonBanned(person_id="meder", reason="spam", until=YESTERDAY)
    given(over).when(BAN, by="meder").then(banned("ana"))


def test_who_registers_claims_a_name_and_an_address(given: GivenEvents) -> None:
    given().when(REGISTER, by=SYSTEM).then(
        UsernameClaimed(username="dina", person_id=NEW),
        EmailClaimed(email="dina@example.org", person_id=NEW),
        AccountCreated(person_id=NEW, username="dina", roles=("reader",)),
        ProfileRevised(person_id=NEW, name="Dina", language="ky"),
        EmailAdded(person_id=NEW, email="dina@example.org"),
        MemberJoined(tenant_id=MAIN, person_id=NEW),
    )


def test_an_address_is_taken_once(given: GivenEvents) -> None:
    claimed = EmailClaimed(email="dina@example.org", person_id="somebody")
    given(claimed).when(REGISTER, by=SYSTEM).then_rejected("email_taken")


def test_nobody_registers_somebody_elses_name(given: GivenEvents) -> None:
    claimed = UsernameClaimed(username="dina", person_id="somebody")
    given(claimed).when(REGISTER, by=SYSTEM).then_rejected("username_taken")


def test_confirming_twice_is_harmless(given: GivenEvents) -> None:
    confirm = ConfirmEmail(person_id="ana", emails=0)
    given(EmailConfirmed(person_id="ana")).when(confirm, by=SYSTEM).then_nothing()


def test_a_session_starts(given: GivenEvents) -> None:
    given().when(START, by=SYSTEM).then(
        SessionStarted(session_id=NEW, person_id="ana", kind="token", address="::1")
    )


def test_a_session_that_ended_on_its_way_does_not_start(given: GivenEvents) -> None:
    ended = SessionEnded(session_id=NEW, person_id="ana", reason="password_changed")
    given(ended).when(START, by=SYSTEM).then_rejected("invalid_credentials")


def test_a_session_may_end_before_it_has_begun(given: GivenEvents) -> None:
    given().when(END, by=SYSTEM).then(ENDED)


def test_each_replacement_of_a_password_is_noted_once(given: GivenEvents) -> None:
    changed = ReplacePassword(person_id="ana", replaced_at=AT, forgotten=False)
    noted = PasswordChanged(person_id="ana", replaced_at=AT)
    given(noted).when(changed, by=SYSTEM).then_nothing()


def test_of_two_replacements_the_earlier_may_be_noted_later(given: GivenEvents) -> None:
    reset = ReplacePassword(person_id="ana", replaced_at=YESTERDAY, forgotten=True)
    noted = PasswordChanged(person_id="ana", replaced_at=AT)
    given(noted).when(reset, by=SYSTEM).then(PasswordReset(person_id="ana", replaced_at=YESTERDAY))


def test_a_session_of_who_is_banned_does_not_start(given: GivenEvents) -> None:
    given(banned("ana")).when(START, by=SYSTEM).then_rejected("banned")


def test_a_session_ends(given: GivenEvents) -> None:
    given(STARTED).when(END, by=SYSTEM).then(ENDED)


def test_a_session_ends_once(given: GivenEvents) -> None:
    given(STARTED, ENDED).when(END, by=SYSTEM).then_nothing()


def test_what_a_sign_in_leads_to_is_not_asked_by_people(given: GivenEvents) -> None:
    replaced = ReplacePassword(person_id="ana", replaced_at=AT, forgotten=False)
    given().when(replaced, by="aida").then_rejected("permission_denied")


def test_a_profile_is_ones_own(given: GivenEvents) -> None:
    revise = ReviseProfile(name="Ana", language="so", time_zone="Asia/Bishkek")
    given().when(revise, by="ana").then(
        ProfileRevised(person_id="ana", name="Ana", language="so", time_zone="Asia/Bishkek")
    )


def test_what_is_so_already_is_not_revised(given: GivenEvents) -> None:
    given().when(ReviseProfile(language="en"), by="ana").then_nothing()


def test_a_time_zone_is_one(given: GivenEvents) -> None:
    given().when(ReviseProfile(time_zone="Mars/Olympus"), by="ana").then_rejected(
        "time_zone_unknown"
    )
