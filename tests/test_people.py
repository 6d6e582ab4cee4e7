"""The rules of accounts and bans."""

from datetime import timedelta

from commands.kernel import SYSTEM
from commands.people import BanPerson, CreateAccount, UnbanPerson
from domain.people import AccountCreated, PersonBanned, PersonUnbanned, UsernameClaimed
from tests.histories import banned
from tests.scenario import AT, NEW, GivenEvents

CREATE = CreateAccount(username="dina", roles=("uploader", "uploader"))
BAN = BanPerson(person_id="ana", reason="spam")
TOMORROW = AT + timedelta(days=1)
YESTERDAY = AT - timedelta(days=1)


def test_an_account_claims_its_name(given: GivenEvents) -> None:
    given().when(CREATE, by=SYSTEM).then(
        UsernameClaimed(username="dina", person_id=NEW),
        AccountCreated(person_id=NEW, username="dina", roles=("uploader",)),
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
    given().when(until, by="meder").then(
        PersonBanned(person_id="ana", reason="spam", until=TOMORROW)
    )


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
