"""What whoever once knew a password, or reads a mailbox left behind, can't do with it."""

import pytest

from api.limits import DEFAULTS
from tests.processes import until
from tests.site import PASSWORD, Person, Site, good, refused

ANOTHER = "quite another password of the tests"


@pytest.fixture
def person(site: Site) -> Person:
    """Somebody with a confirmed address of their own."""
    person = site.newcomer("reader")
    take_up(site, person, own(person))
    return person


def own(person: Person) -> str:
    return f"{person.username}@example.org"


def ask_for(person: Person, email: str) -> None:
    good(person.client.post("/me/email", json={"email": email, "password": PASSWORD}))


def take_up(site: Site, person: Person, email: str) -> None:
    ask_for(person, email)
    token = site.letter(email, "confirm_email")
    good(site.anonymous.post("/auth/email/confirm", json={"token": token}))


def reset_letter(site: Site, email: str) -> str:
    good(site.anonymous.post("/auth/password-reset", json={"email": email}))
    return site.letter(email, "password_reset")


def test_a_reset_leaves_no_other_address_waiting(site: Site, person: Person) -> None:
    theirs = f"thief-of-{person.username}@example.org"
    ask_for(person, theirs)
    letter = site.letter(theirs, "confirm_email")
    reset = {"token": reset_letter(site, own(person)), "password": ANOTHER}
    good(site.anonymous.post("/auth/password-reset/confirm", json=reset))
    answer = site.anonymous.post("/auth/email/confirm", json={"token": letter})
    refused(answer, 422, "link_invalid")


@pytest.mark.parametrize("change", ["password", "address"])
def test_a_reset_link_does_not_outlast_what_it_was_for(
    site: Site, person: Person, change: str
) -> None:
    letter = reset_letter(site, own(person))
    if change == "password":
        body = {"current_password": PASSWORD, "password": ANOTHER}
        good(person.client.post("/auth/password", json=body))
    else:
        take_up(site, person, f"new-{own(person)}")
    reset = {"token": letter, "password": "what a thief would set"}
    answer = site.anonymous.post("/auth/password-reset/confirm", json=reset)
    refused(answer, 422, "link_invalid")


def test_wrong_passwords_wait_however_an_address_is_spelt(site: Site, person: Person) -> None:
    beside, email = site.api_beside(rate_limits=DEFAULTS), own(person)
    spelt = [email[:at] + email[at:].upper() for at in range(12)]
    answers = [
        beside.post("/auth/login", json={"username": one, "password": "wrong"}).status_code
        for one in spelt
    ]
    assert answers[-1] == 429, answers


def test_wrong_passwords_wait_also_where_somebody_is_signed_in(site: Site, person: Person) -> None:
    beside = site.api_beside(rate_limits=DEFAULTS)
    headers = {"Authorization": person.client.headers["Authorization"]}
    body = {"current_password": "wrong", "password": ANOTHER}

    def is_held() -> bool:
        return beside.post("/auth/password", json=body, headers=headers).status_code == 429

    until(is_held)


def test_an_address_that_was_left_is_nobodys(site: Site, person: Person) -> None:
    take_up(site, person, f"new-{own(person)}")
    body = {"username": own(person), "password": PASSWORD}
    refused(site.anonymous.post("/auth/login", json=body), 401, "invalid_credentials")


def test_no_name_ends_in_a_line_feed(site: Site) -> None:
    administrator = site.client("administrator")
    for path, body in (
        ("/tenant", {"name": "One\n"}),
        ("/tenant", {"primary_colour": "#102030\n"}),
    ):
        refused(administrator.patch(path, json=body), 400, "validation_failed")
    account = {"username": "somebody\n", "email": "a@example.org", "password": PASSWORD}
    refused(site.anonymous.post("/auth/register", json=account), 400, "validation_failed")
