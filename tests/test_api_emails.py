"""Addresses from outside: another one, which is taken up once its letter is answered."""

from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import httpx
import psycopg
import pytest

from tests.processes import until
from tests.site import PASSWORD, Person, Site, good, refused

_NUMBERS = count(1)


@pytest.fixture
def person(site: Site) -> Person:
    """Somebody whose account an administrator made, and who has no address."""
    return site.newcomer("reader")


def address() -> str:
    """An address that nobody has."""
    return f"address-{next(_NUMBERS)}@example.org"


def ask(person: Person, email: str, password: str = PASSWORD) -> httpx.Response:
    return person.client.post("/me/email", json={"email": email, "password": password})


def confirm(site: Site, token: str) -> httpx.Response:
    return site.anonymous.post("/auth/email/confirm", json={"token": token})


def has(person: Person) -> tuple[str, bool]:
    """The address of an account, and whether it is confirmed."""
    me = good(person.client.get("/auth/me")).json()
    return me["email"], me["email_confirmed"]


def take_up(site: Site, person: Person) -> str:
    """An address that an account has from now on."""
    email = address()
    good(ask(person, email))
    good(confirm(site, site.letter(email, "confirm_email")))
    return email


def log_in(site: Site, name: str) -> httpx.Response:
    said = {"username": name, "password": PASSWORD}
    return site.anonymous.post("/auth/login", json=said)


def test_an_account_without_an_address_gets_one(site: Site, person: Person) -> None:
    email = address()
    assert good(ask(person, email.upper())).status_code == 202
    assert has(person) == ("", False)
    refused(log_in(site, email), 401, "invalid_credentials")
    good(confirm(site, site.letter(email, "confirm_email")))
    assert has(person) == (email, True)
    good(log_in(site, email))


def test_the_old_address_stays_until_the_new_one_is_confirmed(site: Site, person: Person) -> None:
    old, new = take_up(site, person), address()
    good(ask(person, new))
    token = site.letter(new, "confirm_email")
    assert has(person) == (old, True)
    good(log_in(site, old))
    good(confirm(site, token))
    assert has(person) == (new, True)
    good(log_in(site, new))
    refused(log_in(site, old), 401, "invalid_credentials")
    site.letter(old, "email_changed")
    assert site.letters(new, "email_changed") == []
    refused(confirm(site, token), 422, "link_invalid")
    said: dict[str, Any] = {"username": f"heir-{next(_NUMBERS)}", "password": PASSWORD}
    good(site.anonymous.post("/auth/register", json=said | {"email": old}))
    good(log_in(site, old))


def test_an_address_is_changed_by_who_knows_the_password(site: Site, person: Person) -> None:
    email = address()
    refused(ask(person, email, "a wrong password"), 422, "current_password_wrong")
    body = {"email": email, "password": PASSWORD}
    refused(site.anonymous.post("/me/email", json=body), 401, "not_signed_in")
    refused(ask(person, "no address"), 400, "validation_failed")
    assert site.letters(email, "confirm_email") == []


def test_the_answer_does_not_tell_whether_an_address_is_taken(site: Site, person: Person) -> None:
    other = site.newcomer("reader")
    taken = take_up(site, other)
    answers = [ask(person, taken), ask(site.newcomer("reader"), address())]
    assert len({(one.status_code, one.content) for one in answers}) == 1
    assert answers[0].status_code == 202
    until(lambda: len(site.letters(taken, "confirm_email")) == 2)
    refused(confirm(site, site.letters(taken, "confirm_email")[-1]), 422, "email_taken")
    assert has(other) == (taken, True)
    assert has(person) == ("", False)


def test_of_racing_claims_one_wins(site: Site) -> None:
    email = address()
    racers = [site.newcomer("reader") for _ in range(4)]
    for racer in racers:
        good(ask(racer, email))
    until(lambda: len(site.letters(email, "confirm_email")) == len(racers))
    with ThreadPoolExecutor(len(racers)) as threads:
        letters = site.letters(email, "confirm_email")
        asked = [threads.submit(confirm, site, token) for token in letters]
    answers = [one.result() for one in asked]
    assert sorted(one.status_code for one in answers) == [204, *[422] * 3]
    assert sorted(has(racer)[0] for racer in racers) == ["", "", "", email]


def test_the_letter_to_one_address_does_not_confirm_another(site: Site, person: Person) -> None:
    first, second = address(), address()
    good(ask(person, first))
    older = site.letter(first, "confirm_email")
    good(ask(person, second))
    newer = site.letter(second, "confirm_email")
    refused(confirm(site, older), 422, "link_invalid")
    assert has(person) == ("", False)
    good(ask(person, first))
    until(lambda: len(site.letters(first, "confirm_email")) == 2)
    refused(confirm(site, newer), 422, "link_invalid")


def test_a_letter_is_sent_again(site: Site) -> None:
    email, username = address(), f"forgetful-{next(_NUMBERS)}"
    said = {"username": username, "email": email, "password": PASSWORD}
    good(site.anonymous.post("/auth/register", json=said))
    site.letter(email, "confirm_email")
    header = {"Authorization": f"Bearer {good(log_in(site, username)).json()['access_token']}"}
    good(site.anonymous.post("/me/email/letter", headers=header))
    until(lambda: len(site.letters(email, "confirm_email")) == 2)
    good(confirm(site, site.letters(email, "confirm_email")[0]))
    refused(confirm(site, site.letters(email, "confirm_email")[1]), 422, "link_invalid")


def test_no_address_is_in_an_event_or_a_job(site: Site, person: Person) -> None:
    old = take_up(site, person)
    new = take_up(site, person)
    site.letter(old, "email_changed")
    with psycopg.connect(site.settings.dsn) as connection:
        rows: list[Any] = []
        for table in ("log.events", "log.commands", "people.one_time_tokens"):
            rows += connection.execute(f"SELECT t::text FROM {table} t".encode()).fetchall()
        for table in ("procrastinate_jobs", "procrastinate_events"):
            rows += connection.execute(f"SELECT t::text FROM jobs.{table} t".encode()).fetchall()
    kept = "\n".join(row[0] for row in rows)
    assert old not in kept
    assert new not in kept
