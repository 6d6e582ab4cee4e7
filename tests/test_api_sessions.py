"""Sessions from outside: tokens, and what ends a session at once."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jwt
import psycopg
import pytest

from tests.processes import until
from tests.signing import SignIn, bearer, change, is_in, log_in, refresh, session_of, tokens
from tests.site import SECRET, Person, Site, good, new_series, refused

NEWER_SECRET = "a newer secret of thirty-two bytes at least"


# tokens


def test_a_refresh_token_is_exchanged_for_the_next_pair(site: Site) -> None:
    person = site.newcomer("reader")
    first = tokens(site.anonymous, person.username)
    second = good(refresh(site.anonymous, first)).json()
    third = good(refresh(site.anonymous, second)).json()
    assert len({one["refresh_token"] for one in (first, second, third)}) == 3
    assert session_of(first) == session_of(second) == session_of(third)
    assert all(is_in(site.anonymous, one) for one in (first, second, third))


def test_a_refresh_token_used_twice_ends_the_whole_family(site: Site) -> None:
    person = site.newcomer("reader")
    stolen = tokens(site.anonymous, person.username)
    elsewhere = tokens(site.anonymous, person.username)
    owners = good(refresh(site.anonymous, stolen)).json()
    refused(refresh(site.anonymous, stolen), 401, "not_signed_in")
    assert not is_in(site.anonymous, stolen)
    assert not is_in(site.anonymous, owners)
    refused(refresh(site.anonymous, owners), 401, "not_signed_in")
    assert is_in(site.anonymous, elsewhere)
    *_, ended = site.trail(f"session-{session_of(stolen)}")
    assert (ended["type"], ended["data"]["reason"]) == ("people.SessionEnded", "token_reused")


def test_of_racing_refreshes_one_wins_and_the_family_ends(site: Site) -> None:
    pair = tokens(site.anonymous, site.newcomer("reader").username)
    with ThreadPoolExecutor(6) as threads:
        asked = [threads.submit(refresh, site.anonymous, pair) for _ in range(6)]
    answers = [one.result() for one in asked]
    won = [answer.json() for answer in answers if answer.is_success]
    assert len(won) == 1
    assert not is_in(site.anonymous, won[0])
    refused(refresh(site.anonymous, won[0]), 401, "not_signed_in")


@pytest.mark.parametrize("token", ["", "nonsense", "é", "a" * 200])
def test_what_is_no_refresh_token_is_refused(site: Site, token: str) -> None:
    refused(refresh(site.anonymous, {"refresh_token": token}), 401, "not_signed_in")


def test_a_cookie_is_no_refresh_token_and_a_refresh_token_no_cookie(
    site: Site, browser: SignIn
) -> None:
    reader = browser("reader")
    answer = refresh(site.anonymous, {"refresh_token": reader.cookies["session"]})
    refused(answer, 401, "not_signed_in")
    good(reader.get("/auth/me"))
    token = tokens(site.anonymous, "reader")["refresh_token"]
    answer = site.anonymous.get("/auth/me", headers={"Cookie": f"session={token}"})
    refused(answer, 401, "not_signed_in")


def test_signing_out_is_at_once(site: Site) -> None:
    person = site.newcomer("reader")
    pair = tokens(site.anonymous, person.username)
    later = good(refresh(site.anonymous, pair)).json()
    assert good(site.anonymous.post("/auth/logout", headers=bearer(later))).status_code == 204
    for one in (pair, later):
        assert not is_in(site.anonymous, one)
        refused(refresh(site.anonymous, one), 401, "not_signed_in")
    good(person.client.get("/auth/me"))
    *_, ended = site.trail(f"session-{session_of(pair)}")
    assert ended["data"]["reason"] == "signed_out"


def test_signing_out_everywhere_ends_all_of_ones_own_sessions(site: Site, browser: SignIn) -> None:
    person, other = site.newcomer("reader"), site.newcomer("reader")
    pair, window = tokens(site.anonymous, person.username), browser(person.username)
    good(window.get("/auth/me"))
    good(window.post("/auth/logout-all"))
    refused(person.client.get("/auth/me"), 401, "not_signed_in")
    refused(window.get("/auth/me"), 401, "not_signed_in")
    refused(refresh(site.anonymous, pair), 401, "not_signed_in")
    good(other.client.get("/auth/me"))
    good(log_in(site.anonymous, person.username))


def test_another_process_knows_of_it_too(site: Site, browser: SignIn) -> None:
    person, second = site.newcomer("reader"), site.api_beside()
    pair, window = tokens(site.anonymous, person.username), browser(person.username)
    cookie = {"Cookie": f"session={window.cookies['session']}"}
    assert is_in(second, pair)
    good(second.get("/auth/me", headers=cookie))
    good(window.post("/auth/logout-all"))
    until(lambda: not is_in(second, pair))
    until(lambda: second.get("/auth/me", headers=cookie).status_code == 401)


def test_it_is_known_even_where_no_notification_came(site: Site) -> None:
    pair = tokens(site.anonymous, site.newcomer("reader").username)
    assert is_in(site.anonymous, pair)
    statement = "UPDATE people.sessions SET revoked_at = clock_timestamp() WHERE id = %s"
    change(site, statement, session_of(pair))
    until(lambda: not is_in(site.anonymous, pair))


def test_a_ban_is_stronger_than_any_session(site: Site, browser: SignIn) -> None:
    person = site.newcomer("reader")
    pair, window = tokens(site.anonymous, person.username), browser(person.username)
    good(window.get("/series"))
    site.ask("moderator", "POST", f"/people/{person.id}/ban", reason="Spam.")
    for answer in (
        site.anonymous.get("/series", headers=bearer(pair)),
        window.get("/series"),
        window.get("/auth/sessions"),
        window.post("/series", json=new_series()),
        refresh(site.anonymous, pair),
        log_in(site.anonymous, person.username, session=True),
    ):
        refused(answer, 403, "banned")
        assert "set-cookie" not in answer.headers


def test_a_session_of_tokens_ends_when_it_is_not_used(site: Site) -> None:
    pair = tokens(site.anonymous, site.newcomer("reader").username)
    statement = "UPDATE people.sessions SET seen_at = seen_at - interval '15 days' WHERE id = %s"
    change(site, statement, session_of(pair))
    refused(refresh(site.anonymous, pair), 401, "not_signed_in")


def test_a_session_of_tokens_ends_at_last(site: Site) -> None:
    pair = tokens(site.anonymous, site.newcomer("reader").username)
    statement = "UPDATE people.sessions SET expires_at = clock_timestamp() WHERE id = %s"
    change(site, statement, session_of(pair))
    refused(refresh(site.anonymous, pair), 401, "not_signed_in")


@pytest.mark.parametrize("column", ["seen_at", "expires_at"])
def test_a_browsers_session_ends_when_it_is_not_used_and_at_last(
    site: Site, browser: SignIn, column: str
) -> None:
    person = site.newcomer("reader")
    window = browser(person.username)
    change(
        site,
        f"UPDATE people.sessions SET {column} = {column} - interval '91 days' WHERE person_id = %s",
        person.id,
    )
    refused(window.get("/auth/me"), 401, "not_signed_in")


def test_an_access_token_does_not_outlive_its_session(site: Site) -> None:
    pair = tokens(site.api_beside(session_seconds=60), "reader")
    claims = jwt.decode(pair["access_token"], options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] <= 60


def test_keys_rotate_without_signing_anybody_out(site: Site) -> None:
    rotating = site.api_beside(secret=f"{NEWER_SECRET}, {SECRET}")
    rotated = site.api_beside(secret=NEWER_SECRET)
    older, newer = tokens(site.anonymous, "reader"), tokens(rotating, "reader")
    assert is_in(rotating, older)
    assert is_in(rotating, newer)
    assert is_in(rotated, newer)
    assert not is_in(rotated, older)
    assert not is_in(site.anonymous, newer)
    assert is_in(rotated, good(refresh(rotated, older)).json())


# where one is signed in


def test_people_see_where_they_are_signed_in(site: Site, browser: SignIn) -> None:
    person = site.newcomer("reader")
    window = browser(person.username)
    tokens(site.anonymous, person.username)
    page = good(window.get("/auth/sessions")).json()
    assert (page["count"], page["next"], page["previous"]) == (3, None, None)
    assert [one["kind"] for one in page["results"]] == ["token", "cookie", "token"]
    assert [one["current"] for one in page["results"]] == [False, True, False]
    for one in page["results"]:
        assert one["address"] == "127.0.0.1"
        assert one["user_agent"].startswith("python-httpx/")
        assert one["created_at"] <= one["seen_at"] < one["expires_at"]


def test_people_end_their_own_sessions_and_nobody_elses(site: Site, browser: SignIn) -> None:
    person, other = site.newcomer("reader"), site.newcomer("reader")
    window, pair = browser(person.username), tokens(site.anonymous, person.username)
    path = f"/auth/sessions/{session_of(pair)}"
    refused(other.client.delete(path), 404, "session_not_found")
    assert is_in(site.anonymous, pair)
    good(window.delete(path))
    assert not is_in(site.anonymous, pair)
    refused(window.delete(path), 404, "session_not_found")
    assert good(window.get("/auth/sessions")).json()["count"] == 2
    *_, ended = site.trail(f"session-{session_of(pair)}")
    assert ended["data"]["reason"] == "revoked"


def test_of_a_sign_in_the_log_tells_auditors_alone_from_where(site: Site) -> None:
    person = site.newcomer("reader")
    (started,) = site.events(type="people.SessionStarted", stream=stream_of(person))
    assert started["data"]["address"] == "127.0.0.1"
    with psycopg.connect(site.settings.dsn) as connection:
        (body,) = connection.execute(
            "SELECT body FROM log.events WHERE position = %s", (started["position"],)
        ).fetchone() or ("",)
    assert "127.0.0.1" not in body
    assert "httpx" not in body


def stream_of(person: Person) -> str:
    """The stream of the session that a person's client is signed in by."""
    token = person.client.headers["Authorization"].partition(" ")[2]
    return f"session-{session_of({'access_token': token})}"


def test_no_secret_of_a_session_is_kept_as_it_is(site: Site, browser: SignIn) -> None:
    pair, window = tokens(site.anonymous, "reader"), browser("reader")
    secrets = [pair["access_token"], pair["refresh_token"], *window.cookies.values()]
    with psycopg.connect(site.settings.dsn) as connection:
        rows: list[Any] = []
        for table in ("log.events", "log.commands", "people.sessions", "people.session_secrets"):
            rows += connection.execute(f"SELECT t::text FROM {table} t".encode()).fetchall()
    kept = "\n".join(row[0] for row in rows)
    assert not any(secret in kept for secret in secrets)
