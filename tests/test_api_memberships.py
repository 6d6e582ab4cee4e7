"""Several organisations from outside: who is invited, who belongs to which, and nothing beyond."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import httpx
import psycopg
import pytest

from commands.memberships import InviteMember
from commands.people import CreateAccount
from tests.organisations import Organisation, await_lock, bearer, letters_to
from tests.processes import until
from tests.site import PASSWORD, Person, Site, good, refused

ANOTHER = "another password of the tests"

_NUMBERS = count(1)


@pytest.fixture(scope="module")
def school(site: Site) -> Organisation:
    """An organisation beside the main one."""
    return Organisation(site)


def address() -> str:
    """An address that nobody has."""
    return f"somebody-{next(_NUMBERS)}@example.org"


def somebody() -> str:
    """A user name that nobody has."""
    return f"somebody-{next(_NUMBERS)}"


def confirmed(site: Site) -> tuple[str, str, httpx.Client]:
    """Somebody of the main organisation with an address of their own, by name and address."""
    username, email = somebody(), address()
    said = {"username": username, "email": email, "password": PASSWORD, "name": "Ayan"}
    good(site.anonymous.post("/auth/register", json=said))
    token = site.letter(email, "confirm_email")
    good(site.anonymous.post("/auth/email/confirm", json={"token": token}))
    return username, email, sign_in(site, username)


def log_in(site: Site, username: str, password: str = PASSWORD, **how: Any) -> httpx.Response:
    said = {"username": username, "password": password, **how}
    client = site.another()
    return client.post("/auth/login", json=said)


def sign_in(site: Site, username: str) -> httpx.Client:
    return site.another(bearer(good(log_in(site, username)).json()))


def join(client: httpx.Client, token: str, **said: Any) -> httpx.Response:
    return client.post("/auth/invitations/accept", json={"token": token, **said})


def member_of_both(site: Site, school: Organisation, *roles: str) -> Person:
    """Somebody of the main organisation who was let into another one, under the same name."""
    person = site.newcomer("reader")
    good(join(person.client, school.invited(address(), *roles)))
    return person


def me(client: httpx.Client) -> dict[str, Any]:
    return good(client.get("/auth/me")).json()


def ends_of(site: Site, person_id: str) -> set[tuple[str, str]]:
    """The tenants in which sessions of a person ended, and why."""
    with psycopg.connect(site.settings.dsn) as connection:
        rows = connection.execute(
            "SELECT tenant, body::json ->> 'reason' FROM log.events"
            " WHERE type = 'people.SessionEnded' AND body::json ->> 'person_id' = %s",
            (person_id,),
        )
        return set(rows.fetchall())


# invitations


def test_somebody_new_comes_in_by_an_invitation(site: Site, school: Organisation) -> None:
    email, username = address(), somebody()
    token = school.invited(email.upper(), "uploader", language="so", message="Soo dhowow {name}!")
    (letter,) = letters_to(site, email)
    assert "“Soo dhowow {name}!”" in " ".join(letter.split())
    assert f"{school.name} (127.0.0.1" in " ".join(letter.split())
    answer = good(school.accept(token, username, name="Asha", language="so"))
    assert answer.status_code == 201
    account = me(school.sign_in(username))
    assert (account["id"], account["roles"]) == (answer.json()["id"], ["uploader"])
    assert (account["email"], account["email_confirmed"]) == (email, True)
    assert (account["name"], account["language"]) == ("Asha", "so")
    refused(school.accept(token, somebody()), 422, "link_invalid")
    refused(log_in(site, username), 401, "invalid_credentials")
    headers = {"X-Min-Position": answer.headers["X-Position"]}
    path = "/admin/invitations?status=accepted"
    found = good(school.head.get(path, headers=headers)).json()["results"]
    (item,) = [one for one in found if one["email"] == email]
    assert (item["accepted_by"], item["roles"]) == (account["id"], ["uploader"])
    assert site.letters(email, "confirm_email") == []


def test_what_is_wrong_with_an_answer_costs_nobody_the_invitation(school: Organisation) -> None:
    token, username = school.invited(address()), somebody()
    client = school.client()
    for said in ({"username": username}, {"password": PASSWORD}):
        refused(join(client, token, **said), 400, "validation_failed")
    refused(school.accept(token, "head"), 422, "username_taken")
    refused(school.accept(token, username, password="password123"), 422, "password_common")
    refused(school.accept(token, username, roles=["administrator"]), 400, "validation_failed")
    good(school.accept(token, username))


def test_of_racing_answers_one_wins(school: Organisation) -> None:
    token = school.invited(address())
    names = [somebody() for _ in range(5)]
    with ThreadPoolExecutor(5) as threads:
        asked = [threads.submit(school.accept, token, name) for name in names]
    answers = [one.result() for one in asked]
    assert sorted(one.status_code for one in answers) == [201, *[422] * 4]
    made = [name for name in names if school.log_in(name).is_success]
    assert len(made) == 1


def test_an_invitation_is_withdrawn(school: Organisation) -> None:
    email = address()
    token, id_ = school.invited(email), ""
    (item,) = [
        one
        for one in good(school.head.get("/admin/invitations?status=pending")).json()["results"]
        if one["email"] == email
    ]
    id_ = item["id"]
    reason = {"reason": "A mistake."}
    answer = good(school.head.request("DELETE", f"/admin/invitations/{id_}", json=reason))
    refused(school.accept(token, somebody()), 422, "link_invalid")
    refused(school.head.post(f"/admin/invitations/{id_}/letter"), 422, "invitation_closed")
    headers = {"X-Min-Position": answer.headers["X-Position"]}
    page = good(school.head.get("/admin/invitations?status=withdrawn", headers=headers)).json()
    assert [one["reason"] for one in page["results"] if one["id"] == id_] == ["A mistake."]


def test_an_invitation_is_sent_again_and_both_letters_are_good(
    site: Site, school: Organisation
) -> None:
    email, head = address(), me(school.head)["id"]
    invite = InviteMember(email=email, roles=("reader",))
    (id_,) = school.do(invite, by=head, at=datetime.now(UTC) - timedelta(hours=1))
    first = site.letter(email, "invitation")
    good(school.head.post(f"/admin/invitations/{id_}/letter"))
    until(lambda: len(site.letters(email, "invitation")) == 2)
    good(school.head.post(f"/admin/invitations/{id_}/letter"))  # within a minute: on its way
    good(school.accept(first, somebody()))
    assert len(site.letters(email, "invitation")) == 2


def test_an_invitation_is_good_for_a_week(site: Site, school: Organisation) -> None:
    email, head = address(), me(school.head)["id"]
    invite = InviteMember(email=email, roles=("reader",))
    school.do(invite, by=head, at=datetime.now(UTC) - timedelta(days=8))
    token = site.letter(email, "invitation")
    refused(school.accept(token, somebody()), 422, "link_invalid")


def test_nobody_invites_beyond_what_they_hold(school: Organisation) -> None:
    good(
        school.head.put(
            "/admin/roles/host", json={"permissions": ["people.create"], "reason": "Hosts."}
        )
    )
    host, reader = somebody(), somebody()
    school.add(host, "host")
    school.add(reader, "reader")
    said = {"email": address(), "roles": ["administrator"]}
    refused(school.sign_in(host).post("/admin/invitations", json=said), 422, "beyond_you")
    good(school.sign_in(host).post("/admin/invitations", json=said | {"roles": ["reader"]}))
    answer = school.sign_in(reader).post("/admin/invitations", json=said)
    refused(answer, 403, "permission_denied")
    refused(school.sign_in(reader).get("/admin/invitations"), 403, "permission_denied")


def test_an_invitation_is_worth_no_more_than_its_sender(site: Site, school: Organisation) -> None:
    username, email = somebody(), address()
    sender = school.add(username, "administrator")
    said = {"email": email, "roles": ["administrator"]}
    good(school.sign_in(username).post("/admin/invitations", json=said))
    token = site.letter(email, "invitation")
    good(school.head.post(f"/people/{sender}/ban", json={"reason": "Sold invitations."}))
    refused(school.accept(token, somebody()), 422, "link_invalid")


def test_who_may_come_in_is_the_organisations_to_say(site: Site) -> None:
    school = Organisation(site)
    token, other = school.invited(address()), school.invited(address())
    good(school.head.patch("/tenant", json={"registration": "invited"}))
    said = {"username": somebody(), "email": address(), "password": PASSWORD}
    client = school.client()
    refused(client.post("/auth/register", json=said), 403, "registration_closed")
    good(school.accept(token, somebody()))
    good(school.head.patch("/tenant", json={"registration": "closed"}))
    refused(school.accept(other, somebody()), 403, "registration_closed")
    body = {"email": address(), "roles": ["reader"]}
    refused(school.head.post("/admin/invitations", json=body), 403, "registration_closed")


def test_a_plan_lets_in_no_more_members_than_it_allows(site: Site) -> None:
    school = Organisation(site, "basic")
    token = school.invited(address())
    school.do(*(CreateAccount(username=f"pupil-{n}", roles=("reader",)) for n in range(24)))
    refused(school.accept(token, somebody()), 422, "plan_members_reached")


# belonging to several


def test_who_is_signed_in_elsewhere_joins_as_the_same_person(
    site: Site, school: Organisation
) -> None:
    username, email, client = confirmed(site)
    answer = good(join(client, school.invited(email, "uploader")))
    person_id = me(client)["id"]
    assert answer.json()["id"] == person_id
    there = me(school.sign_in(username))
    assert (there["id"], there["roles"], there["name"]) == (person_id, ["uploader"], "Ayan")
    assert (there["email"], there["email_confirmed"]) == (email, True)
    headers = {"X-Min-Position": answer.headers["X-Position"]}
    main = good(site.anonymous.get("/tenant")).json()["name"]
    assert good(client.get("/auth/tenants", headers=headers)).json() == {
        "count": 2,
        "next": None,
        "previous": None,
        "results": [
            {"id": "main", "name": main, "roles": ["reader"], "current": True},
            {"id": school.id, "name": school.name, "roles": ["uploader"], "current": False},
        ],
    }
    again = school.invited(address())
    refused(join(client, again), 422, "member_already")


def test_nobody_is_given_an_address_that_they_did_not_confirm_themselves(
    site: Site, school: Organisation
) -> None:
    """Else whoever invites could replace the password by which one is signed in elsewhere."""
    username, _, client = confirmed(site)
    planted = address()
    good(join(client, school.invited(planted)))
    assert me(school.sign_in(username))["email"] == ""
    anybody = school.client()
    good(anybody.post("/auth/password-reset", json={"email": planted}))
    good(anybody.post("/auth/password-reset", json={"email": "head@example.org"}))
    unconfirmed, email = somebody(), address()
    said = {"username": unconfirmed, "email": email, "password": PASSWORD}
    good(site.anonymous.post("/auth/register", json=said))
    good(join(sign_in(site, unconfirmed), school.invited(email)))
    assert me(school.sign_in(unconfirmed))["email"] == ""
    assert site.letters(planted, "password_reset") == []


def test_another_user_name_is_chosen_where_ones_own_is_taken(
    site: Site, school: Organisation
) -> None:
    person, name = site.newcomer("reader"), somebody()
    school.add(person.username, "reader")
    token = school.invited(address())
    refused(join(person.client, token), 422, "username_taken")
    refused(join(person.client, token, password=PASSWORD), 400, "validation_failed")
    good(join(person.client, token, username=name))
    assert me(school.sign_in(name))["id"] == person.id


def test_whose_session_is_over_joins_nothing(site: Site, school: Organisation) -> None:
    person, token = site.newcomer("reader"), school.invited(address())
    good(person.client.post("/auth/logout"))
    refused(join(person.client, token), 401, "not_signed_in")


def test_tokens_are_exchanged_for_those_of_another_organisation(
    site: Site, school: Organisation
) -> None:
    person = member_of_both(site, school, "uploader")
    pair = good(person.client.post("/auth/switch", json={"tenant": school.id})).json()
    assert pair.keys() == {"access_token", "refresh_token", "token_type", "expires_in"}
    refused(person.client.get("/auth/me"), 401, "not_signed_in")
    client = site.another(bearer(pair))
    assert me(client)["roles"] == ["uploader"]
    again = client.post("/auth/refresh", json={"refresh_token": pair["refresh_token"]})
    back = good(client.post("/auth/switch", json={"tenant": "main"})).json()
    good(again)
    client = site.another(bearer(back))
    assert me(client)["roles"] == ["reader"]
    assert (school.id, "signed_out") in ends_of(site, person.id)


def test_a_browser_gets_a_new_cookie_for_another_organisation(
    site: Site, school: Organisation
) -> None:
    person = member_of_both(site, school, "uploader")
    window = site.another()
    said = {"username": person.username, "password": PASSWORD, "session": True}
    first = good(window.post("/auth/login", json=said)).json()["csrf_token"]
    before = window.cookies["session"]
    body = {"tenant": school.id}
    refused(window.post("/auth/switch", json=body), 403, "csrf_token_wrong")
    answer = good(window.post("/auth/switch", json=body, headers={"X-CSRF-Token": first}))
    assert answer.json().keys() == {"csrf_token", "expires_in"}
    assert answer.json()["csrf_token"] != first
    assert window.cookies["session"] != before
    assert me(window)["roles"] == ["uploader"]
    stale = site.another({"Cookie": f"session={before}"})
    refused(stale.get("/auth/me"), 401, "not_signed_in")


def test_a_session_does_not_last_longer_by_going_elsewhere(
    site: Site, school: Organisation
) -> None:
    person = member_of_both(site, school)
    statement = "UPDATE people.sessions SET expires_at = clock_timestamp() + interval '1 minute'"
    with psycopg.connect(site.settings.dsn) as connection:
        connection.execute(statement + " WHERE person_id = %s", (person.id,))
    good(person.client.post("/auth/switch", json={"tenant": school.id}))
    with psycopg.connect(site.settings.dsn) as connection:
        (longer,) = connection.execute(
            "SELECT max(expires_at) > clock_timestamp() + interval '1 minute'"
            " FROM people.sessions WHERE person_id = %s",
            (person.id,),
        ).fetchone() or (None,)
    assert longer is False


def test_nobody_goes_where_they_do_not_belong(site: Site, school: Organisation) -> None:
    person = site.newcomer("administrator")

    def switch(tenant: str) -> httpx.Response:
        return person.client.post("/auth/switch", json={"tenant": tenant})

    refused(switch(school.id), 403, "not_a_member")
    refused(switch("no-such-school"), 404, "tenant_not_found")
    refused(switch("../main"), 400, "validation_failed")
    refused(site.anonymous.post("/auth/switch", json={"tenant": "main"}), 401, "not_signed_in")
    good(join(person.client, school.invited(address())))
    good(school.head.post(f"/people/{person.id}/ban", json={"reason": "Noise."}))
    refused(switch(school.id), 403, "banned")
    assert me(person.client)["roles"] == ["administrator"]


def test_who_is_banned_here_still_belongs_elsewhere(site: Site, school: Organisation) -> None:
    person = member_of_both(site, school)
    site.ask("moderator", "POST", f"/people/{person.id}/ban", reason="Spam.")
    refused(person.client.get("/auth/tenants"), 403, "banned")
    pair = good(person.client.post("/auth/switch", json={"tenant": school.id})).json()
    client = site.another(bearer(pair))
    me(client)
    refused(client.post("/auth/switch", json={"tenant": "main"}), 403, "banned")


def test_whatever_belongs_to_one_organisation_opens_nothing_in_another(
    site: Site, school: Organisation
) -> None:
    username, email, client = confirmed(site)
    elsewhere, here = {"X-Tenant": school.id}, {"X-Tenant": "main"}
    pair = good(log_in(site, username)).json()
    cookie = log_in(site, username, session=True).cookies["session"]
    good(client.post("/auth/password-reset", json={"email": email}))
    reset = {"token": site.letter(email, "password_reset"), "password": ANOTHER}
    anybody = site.another()
    for credentials in (bearer(pair), {"Cookie": f"session={cookie}"}):
        answer = anybody.get("/auth/me", headers=credentials | elsewhere)
        refused(answer, 403, "signed_in_elsewhere")
    said = {"username": username, "password": PASSWORD}
    answer = anybody.post("/auth/login", json=said, headers=elsewhere)
    refused(answer, 401, "invalid_credentials")
    path = "/auth/password-reset/confirm"
    refused(anybody.post(path, json=reset, headers=elsewhere), 422, "link_invalid")
    token = {"refresh_token": pair["refresh_token"]}
    answer = anybody.post("/auth/refresh", json=token, headers=elsewhere)
    refused(answer, 403, "signed_in_elsewhere")
    good(anybody.post("/auth/refresh", json=token, headers=here))
    good(anybody.post(path, json=reset, headers=here))
    token = school.invited(address())
    said = {"username": somebody(), "password": PASSWORD}
    refused(join(site.anonymous, token, **said), 422, "link_invalid")
    good(school.accept(token, somebody()))


# one password everywhere


def test_a_replaced_password_ends_the_sessions_of_all_organisations(
    site: Site, school: Organisation
) -> None:
    person = member_of_both(site, school)
    there = school.sign_in(person.username)
    said = {"current_password": PASSWORD, "password": ANOTHER}
    good(there.post("/auth/password", json=said))
    me(there)
    refused(person.client.get("/auth/me"), 401, "not_signed_in")
    refused(log_in(site, person.username), 401, "invalid_credentials")
    here = site.another(bearer(good(log_in(site, person.username, ANOTHER)).json()))
    said = {"current_password": ANOTHER, "password": PASSWORD}
    good(here.post("/auth/password", json=said))
    refused(there.get("/auth/me"), 401, "not_signed_in")
    assert ends_of(site, person.id) == {
        ("main", "password_changed"),
        (school.id, "password_changed"),
    }


def test_signing_out_everywhere_is_in_all_organisations(site: Site, school: Organisation) -> None:
    person = member_of_both(site, school)
    there = school.sign_in(person.username)
    good(person.client.post("/auth/logout-all"))
    refused(there.get("/auth/me"), 401, "not_signed_in")
    assert ends_of(site, person.id) == {("main", "signed_out"), (school.id, "signed_out")}


def test_nobody_signs_in_by_a_password_that_is_being_replaced_elsewhere(
    site: Site, school: Organisation
) -> None:
    """The password is found right, and is another when the session is to be opened."""
    person = member_of_both(site, school)
    with psycopg.connect(site.settings.dsn) as connection, ThreadPoolExecutor(1) as threads:
        connection.execute(
            "UPDATE people.credentials SET changed_at = clock_timestamp() WHERE person_id = %s",
            (person.id,),
        )
        signing_in = threads.submit(school.log_in, person.username)
        await_lock(site, "transactionid")
        connection.commit()
        refused(signing_in.result(), 401, "invalid_credentials")
    good(school.log_in(person.username))


def test_a_sign_in_that_was_under_way_does_not_outlast_the_password(
    site: Site, school: Organisation
) -> None:
    """Its session is there, and nothing of it in the log yet, when the password is replaced."""
    person = member_of_both(site, school)
    opened = "SELECT count(*) FROM people.sessions WHERE person_id = %s AND tenant = %s"
    ended = f"{opened} AND revoked_at IS NOT NULL"

    def number(statement: str) -> int:
        with psycopg.connect(site.settings.dsn) as connection:
            row = connection.execute(statement.encode(), (person.id, school.id)).fetchone()
        return row[0] if row else 0

    said = {"current_password": PASSWORD, "password": ANOTHER}
    with psycopg.connect(site.settings.dsn) as connection, ThreadPoolExecutor(2) as threads:
        connection.execute("SELECT pg_advisory_xact_lock(1229803600)")
        signing_in = threads.submit(school.log_in, person.username)
        until(lambda: number(opened) == 1)
        changing = threads.submit(person.client.post, "/auth/password", json=said)
        until(lambda: number(ended) == 1)
        connection.commit()
        good(changing.result())
        answer = signing_in.result()
    if answer.is_success:
        client = school.client(**bearer(answer.json()))
        refused(client.get("/auth/me"), 401, "not_signed_in")
    else:
        refused(answer, 401, "invalid_credentials")
    assert (school.id, "password_changed") in ends_of(site, person.id)


def test_of_simultaneous_changes_each_that_succeeded_is_in_the_log(site: Site) -> None:
    person = site.newcomer("reader")

    def change(number: int) -> httpx.Response:
        said = {"current_password": PASSWORD, "password": f"{ANOTHER} {number}"}
        return person.client.post("/auth/password", json=said)

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(change, range(4)))
    changed = [one for one in site.trail(f"person-{person.id}") if "PasswordChanged" in one["type"]]
    assert sorted(one.status_code for one in answers) == [204, *[422] * 3]
    assert len(changed) == 1
    (winner,) = [number for number, one in enumerate(answers) if one.is_success]
    good(log_in(site, person.username, f"{ANOTHER} {winner}"))


def test_nobody_goes_elsewhere_by_a_session_that_is_being_ended(
    site: Site, school: Organisation
) -> None:
    person = member_of_both(site, school)
    with psycopg.connect(site.settings.dsn) as connection, ThreadPoolExecutor(1) as threads:
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (person.id,))
        body = {"tenant": school.id}
        going = threads.submit(person.client.post, "/auth/switch", json=body)
        await_lock(site, "advisory")
        connection.execute(
            "UPDATE people.sessions SET revoked_at = clock_timestamp() WHERE person_id = %s",
            (person.id,),
        )
        connection.commit()
        refused(going.result(), 401, "not_signed_in")


def test_a_session_that_somebody_is_going_to_is_ended_with_the_others(
    site: Site, school: Organisation
) -> None:
    person = member_of_both(site, school)
    with psycopg.connect(site.settings.dsn) as connection, ThreadPoolExecutor(1) as threads:
        connection.execute(
            "SELECT pg_advisory_xact_lock_shared(hashtextextended(%s, 0))", (person.id,)
        )
        connection.execute(
            "INSERT INTO people.sessions (id, person_id, tenant, kind, expires_at)"
            " VALUES (%s, %s, %s, 'token', clock_timestamp() + interval '1 day')",
            (f"following-{person.id}", person.id, school.id),
        )
        leaving = threads.submit(person.client.post, "/auth/logout-all")
        await_lock(site, "advisory")
        connection.commit()
        good(leaving.result())
        (left,) = connection.execute(
            "SELECT count(*) FROM people.sessions WHERE person_id = %s AND revoked_at IS NULL",
            (person.id,),
        ).fetchone() or (None,)
    assert left == 0


# leaving


def leave(client: httpx.Client, **said: Any) -> httpx.Response:
    return client.request("DELETE", "/me", json={"password": PASSWORD, **said})


def test_who_leaves_is_gone_from_here_alone(site: Site, school: Organisation) -> None:
    person = member_of_both(site, school)
    there, also = school.sign_in(person.username), school.sign_in(person.username)
    refused(leave(there, password="a wrong password"), 422, "current_password_wrong")
    good(leave(there, reason="Moving on."))
    for client in (there, also):
        refused(client.get("/auth/me"), 401, "not_signed_in")
    refused(school.log_in(person.username), 401, "invalid_credentials")
    me(person.client)
    answer = person.client.post("/auth/switch", json={"tenant": school.id})
    refused(answer, 403, "not_a_member")

    def tenants() -> list[str]:
        page = good(person.client.get("/auth/tenants")).json()
        return [one["id"] for one in page["results"]]

    until(lambda: tenants() == ["main"])
    good(school.accept(school.invited(address()), person.username))
    good(join(person.client, school.invited(address()), username=somebody()))
    good(person.client.post("/auth/switch", json={"tenant": school.id}))


def test_a_seat_is_free_for_another_when_somebody_leaves(site: Site) -> None:
    school = Organisation(site, "basic")
    school.do(*(CreateAccount(username=f"pupil-{n}", roles=("reader",)) for n in range(23)))
    school.add("last", "reader")
    token = school.invited(address())
    refused(school.accept(token, somebody()), 422, "plan_members_reached")
    good(leave(school.sign_in("last")))
    good(school.accept(token, somebody()))


def test_the_last_administrator_stays(site: Site) -> None:
    school = Organisation(site)
    refused(leave(school.head), 422, "last_administrator")
    me(school.head)
