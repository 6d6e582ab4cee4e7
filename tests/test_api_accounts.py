"""Accounts that people make by themselves, and the letters that they answer."""

from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import httpx
import psycopg
import pytest

from tests.processes import until
from tests.site import PASSWORD, Site, addressee, good, refused

ANOTHER = "another password of the tests"

_NUMBERS = count(1)


class Newcomer:
    """Somebody who registers."""

    def __init__(self, site: Site) -> None:
        self.username = f"newcomer-{next(_NUMBERS)}"
        self.email = f"{self.username}@example.org"
        self.site = site

    def register(self, **fields: Any) -> httpx.Response:
        said = {"username": self.username, "email": self.email, "password": PASSWORD}
        return self.site.anonymous.post("/auth/register", json=said | fields)

    def log_in(self, name: str = "", password: str = PASSWORD) -> httpx.Response:
        said = {"username": name or self.username, "password": password}
        return self.site.anonymous.post("/auth/login", json=said)

    def me(self) -> dict[str, Any]:
        return good(self.site.anonymous.get("/auth/me", headers=self.signed_in())).json()

    def signed_in(self, password: str = PASSWORD) -> dict[str, str]:
        token = good(self.log_in(password=password)).json()["access_token"]
        return {"Authorization": f"Bearer {token}"}

    def ask_for_reset(self, email: str = "") -> httpx.Response:
        said = {"email": email or self.email}
        return self.site.anonymous.post("/auth/password-reset", json=said)

    def reset(self, token: str, password: str = ANOTHER) -> httpx.Response:
        said = {"token": token, "password": password}
        return self.site.anonymous.post("/auth/password-reset/confirm", json=said)


@pytest.fixture
def newcomer(site: Site) -> Newcomer:
    """Somebody who has registered."""
    somebody = Newcomer(site)
    good(somebody.register(name="Айгүл", language="ky"))
    return somebody


def said_of(answer: httpx.Response) -> tuple[int, bytes, dict[str, str]]:
    """All that an answer tells, less what names it."""
    told = {k: v for k, v in answer.headers.items() if k not in ("date", "x-request-id")}
    return answer.status_code, answer.content, told


# registering


def test_who_registers_is_a_reader_and_signs_in_by_name_or_address(newcomer: Newcomer) -> None:
    for name in (newcomer.username, newcomer.email, newcomer.email.upper()):
        good(newcomer.log_in(name))
    me = newcomer.me()
    assert (me["roles"], me["permissions"]) == (["reader"], [])
    assert (me["email"], me["email_confirmed"]) == (newcomer.email, False)
    assert (me["name"], me["language"], me["time_zone"]) == ("Айгүл", "ky", "UTC")


def test_an_address_is_confirmed_by_its_letter_once(site: Site, newcomer: Newcomer) -> None:
    token = site.letter(newcomer.email, "confirm_email")
    good(site.anonymous.post("/auth/email/confirm", json={"token": token}))
    assert newcomer.me()["email_confirmed"]
    again = site.anonymous.post("/auth/email/confirm", json={"token": token})
    refused(again, 422, "link_invalid")


@pytest.mark.parametrize(
    "wrong",
    [
        {"roles": ["administrator"]},
        {"person_id": "chosen"},
        {"email_confirmed": True},
        {"permissions": ["people.ban"]},
        {"email": "no address"},
        {"email": "a@b"},
        {"email": "a@b.org\r\nBcc: c@d.org"},
        {"name": "two\nlines"},
        {"language": "de"},
        {"password": "short"},
    ],
)
def test_nobody_gives_themselves_more_than_they_are_asked(
    site: Site, wrong: dict[str, Any]
) -> None:
    somebody = Newcomer(site)
    refused(somebody.register(**wrong), 400, "validation_failed")
    refused(somebody.log_in(), 401, "invalid_credentials")


def test_a_taken_address_is_told_to_its_owner_alone(site: Site, newcomer: Newcomer) -> None:
    second, free = Newcomer(site), Newcomer(site)
    taken = second.register(email=newcomer.email.title())
    assert said_of(taken) == said_of(free.register())
    refused(second.log_in(), 401, "invalid_credentials")
    site.letter(newcomer.email, "password_reset")
    good(newcomer.log_in(newcomer.email))


def test_of_racing_registrations_of_one_address_one_wins(site: Site) -> None:
    racers = [Newcomer(site) for _ in range(6)]
    email = racers[0].email
    with ThreadPoolExecutor(len(racers)) as threads:
        asked = [threads.submit(racer.register, email=email) for racer in racers]
    assert [one.result().status_code for one in asked] == [202] * len(racers)
    made = [racer for racer in racers if racer.log_in().is_success]
    assert len(made) == 1
    assert made[0].me()["email"] == email
    good(made[0].log_in(email))


def test_of_racing_registrations_of_one_name_one_wins(site: Site) -> None:
    racers = [Newcomer(site) for _ in range(6)]
    name = racers[0].username
    with ThreadPoolExecutor(len(racers)) as threads:
        asked = [threads.submit(racer.register, username=name) for racer in racers]
    assert sorted(one.result().status_code for one in asked) == [202, *[422] * 5]
    assert sum(racer.log_in(racer.email).is_success for racer in racers) == 1


def test_where_registration_is_closed_nobody_registers(site: Site) -> None:
    closed, somebody = site.api_beside(registration="closed"), Newcomer(site)
    said = {"username": somebody.username, "email": somebody.email, "password": PASSWORD}
    refused(closed.post("/auth/register", json=said), 403, "registration_closed")
    refused(somebody.log_in(), 401, "invalid_credentials")


# passwords


def test_a_changed_password_signs_out_everywhere_else(site: Site, newcomer: Newcomer) -> None:
    here, there = newcomer.signed_in(), newcomer.signed_in()
    refresh = good(newcomer.log_in()).json()["refresh_token"]
    said = {"current_password": PASSWORD, "password": ANOTHER}
    good(site.anonymous.post("/auth/password", json=said, headers=here))
    good(site.anonymous.get("/auth/me", headers=here))
    refused(site.anonymous.get("/auth/me", headers=there), 401, "not_signed_in")
    answer = site.anonymous.post("/auth/refresh", json={"refresh_token": refresh})
    refused(answer, 401, "not_signed_in")
    refused(newcomer.log_in(), 401, "invalid_credentials")
    good(newcomer.log_in(password=ANOTHER))
    site.letter(newcomer.email, "password_changed")


def test_a_password_is_changed_by_who_knows_the_current_one(site: Site, newcomer: Newcomer) -> None:
    said = {"current_password": "a wrong password", "password": ANOTHER}
    refused(site.anonymous.post("/auth/password", json=said), 401, "not_signed_in")
    answer = site.anonymous.post("/auth/password", json=said, headers=newcomer.signed_in())
    refused(answer, 422, "current_password_wrong")
    good(newcomer.log_in())


def test_a_forgotten_password_is_replaced_once(site: Site, newcomer: Newcomer) -> None:
    before = newcomer.signed_in()
    good(newcomer.ask_for_reset(newcomer.email.upper()))
    token = site.letter(newcomer.email, "password_reset")
    good(newcomer.reset(token))
    refused(site.anonymous.get("/auth/me", headers=before), 401, "not_signed_in")
    refused(newcomer.log_in(), 401, "invalid_credentials")
    good(newcomer.log_in(password=ANOTHER))
    refused(newcomer.reset(token, PASSWORD), 422, "link_invalid")
    good(newcomer.log_in(password=ANOTHER))
    site.letter(newcomer.email, "password_changed")


def test_of_racing_uses_of_one_link_one_wins(site: Site, newcomer: Newcomer) -> None:
    good(newcomer.ask_for_reset())
    token = site.letter(newcomer.email, "password_reset")
    with ThreadPoolExecutor(6) as threads:
        asked = [threads.submit(newcomer.reset, token) for _ in range(6)]
    assert sorted(one.result().status_code for one in asked) == [204, *[422] * 5]


def test_the_links_of_older_letters_are_void_after_one_was_used(
    site: Site, newcomer: Newcomer
) -> None:
    good(newcomer.ask_for_reset())
    older = site.letter(newcomer.email, "password_reset")
    good(newcomer.ask_for_reset())
    site.letter(newcomer.email, "password_reset", 2)
    both = site.letters(newcomer.email, "password_reset")
    good(newcomer.reset(next(one for one in both if one != older)))
    refused(newcomer.reset(older), 422, "link_invalid")


def test_a_link_expires(site: Site, newcomer: Newcomer) -> None:
    good(newcomer.ask_for_reset())
    token = site.letter(newcomer.email, "password_reset")
    with psycopg.connect(site.settings.dsn) as connection:
        connection.execute(
            "UPDATE people.one_time_tokens SET expires_at = clock_timestamp()"
            " WHERE person_id = %s AND purpose = 'password_reset'",
            (newcomer.me()["id"],),
        )
    refused(newcomer.reset(token), 422, "link_invalid")
    good(newcomer.log_in())


def test_a_link_is_good_for_what_it_was_sent_for(site: Site, newcomer: Newcomer) -> None:
    confirming = site.letter(newcomer.email, "confirm_email")
    for token in (confirming, "nonsense", "", "é"):
        refused(newcomer.reset(token), 422, "link_invalid")
    good(newcomer.log_in())


def test_a_reset_answers_alike_whether_or_not_there_is_an_account(
    site: Site, newcomer: Newcomer
) -> None:
    nobody = Newcomer(site)
    assert said_of(newcomer.ask_for_reset()) == said_of(nobody.ask_for_reset())
    site.letter(newcomer.email, "password_reset")
    assert site.letters(nobody.email, "password_reset") == []


def test_a_reset_is_answered_before_anybody_looks_for_an_account(
    site: Site, newcomer: Newcomer
) -> None:
    """While nothing can be appended to the log, whatever waited for that would not be answered."""
    with psycopg.connect(site.settings.dsn) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(1229803600)")
        good(newcomer.ask_for_reset())
        assert site.letters(newcomer.email, "password_reset") == []
    site.letter(newcomer.email, "password_reset")


def test_no_secret_of_a_letter_is_in_an_event_or_a_job(site: Site, newcomer: Newcomer) -> None:
    good(newcomer.ask_for_reset())
    tokens = [
        site.letter(newcomer.email, "confirm_email"),
        site.letter(newcomer.email, "password_reset"),
    ]
    with psycopg.connect(site.settings.dsn) as connection:
        rows: list[Any] = []
        for table in ("log.events", "log.commands", "people.one_time_tokens"):
            rows += connection.execute(f"SELECT t::text FROM {table} t".encode()).fetchall()
        for table in ("procrastinate_jobs", "procrastinate_events"):
            rows += connection.execute(f"SELECT t::text FROM jobs.{table} t".encode()).fetchall()
    kept = "\n".join(row[0] for row in rows)
    for secret in (*tokens, newcomer.email, "Айгүл", PASSWORD):
        assert secret not in kept


# one's own profile


def test_people_change_their_own_profile(site: Site, newcomer: Newcomer) -> None:
    signed_in = newcomer.signed_in()
    said = {"name": "Aigul", "language": "ar", "time_zone": "Asia/Bishkek"}
    good(site.anonymous.patch("/me", json=said, headers=signed_in))
    assert newcomer.me().items() >= said.items()
    good(site.anonymous.patch("/me", json={"name": ""}, headers=signed_in))
    assert newcomer.me().items() >= (said | {"name": ""}).items()


@pytest.mark.parametrize("wrong", [{"username": "x"}, {"roles": ["moderator"]}, {"email": "a@b.c"}])
def test_no_other_field_is_changed_by_it(
    site: Site, newcomer: Newcomer, wrong: dict[str, Any]
) -> None:
    answer = site.anonymous.patch("/me", json=wrong, headers=newcomer.signed_in())
    refused(answer, 400, "validation_failed")


def test_a_letter_speaks_the_persons_language(site: Site, newcomer: Newcomer) -> None:
    until(lambda: bool(site.letters(newcomer.email, "confirm_email")))
    (letter,) = [one for one in site.outbox() if addressee(one) == newcomer.email]
    assert "Айгүл" in str(letter["To"])
    assert letter["Content-Language"] == "ky"
    text = letter.get_body(("plain",))
    assert text is not None
    assert f"{site.url}/confirm-email#token=" in text.get_content()
