"""Sessions from outside: two browsers' worth of cookies, tokens, and what ends them."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.cookies import Morsel, SimpleCookie
from typing import Any

import httpx
import jwt
import psycopg
import pytest

from tests.processes import until
from tests.site import PASSWORD, SECRET, Person, Site, archive, good, new_series, refused

NEWER_SECRET = "a newer secret of thirty-two bytes at least"

SignIn = Callable[[str], httpx.Client]


@pytest.fixture
def browser(site: Site) -> Iterator[SignIn]:
    """Opens browsers that are signed in and send what the site's own scripts would."""
    opened: list[httpx.Client] = []

    def sign_in(username: str) -> httpx.Client:
        client = httpx.Client(base_url=site.anonymous.base_url, timeout=60)
        opened.append(client)
        answer = good(log_in(client, username, session=True)).json()
        client.headers["X-CSRF-Token"] = answer["csrf_token"]
        return client

    yield sign_in
    for client in opened:
        client.close()


def log_in(client: httpx.Client, username: str, **how: Any) -> httpx.Response:
    body = {"username": username, "password": PASSWORD, **how}
    return client.post("/auth/login", json=body)


def tokens(client: httpx.Client, username: str) -> dict[str, Any]:
    """What an API client gets for a user name and a password."""
    return good(log_in(client, username)).json()


def bearer(pair: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {pair['access_token']}"}


def refresh(client: httpx.Client, pair: dict[str, Any]) -> httpx.Response:
    return client.post("/auth/refresh", json={"refresh_token": pair["refresh_token"]})


def is_in(client: httpx.Client, pair: dict[str, Any]) -> bool:
    """Whether an access token is taken; anything but yes and no is an error."""
    answer = client.get("/auth/me", headers=bearer(pair))
    assert answer.status_code in (200, 401), answer.text
    return answer.is_success


def session_of(pair: dict[str, Any]) -> str:
    """The session that an access token names."""
    return jwt.decode(pair["access_token"], options={"verify_signature": False})["sid"]


def cookies_in(answer: httpx.Response) -> dict[str, "Morsel[str]"]:
    """The cookies that an answer sets, with their attributes."""
    cookies = SimpleCookie()
    for line in answer.headers.get_list("set-cookie"):
        cookies.load(line)
    return dict(cookies)


def change(site: Site, statement: str, *values: str) -> None:
    """Turn back the clock of some sessions."""
    with psycopg.connect(site.settings.dsn) as connection:
        changed = connection.execute(statement.encode(), values)
        assert changed.rowcount > 0


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


# browsers


def test_the_cookie_is_kept_from_scripts_and_other_sites(site: Site) -> None:
    answer = good(log_in(site.anonymous, "reader", session=True))
    site.anonymous.cookies.clear()
    assert answer.json().keys() == {"csrf_token", "expires_in"}
    cookies = cookies_in(answer)
    assert cookies.keys() == {"session", "csrf"}
    for cookie in cookies.values():
        assert (cookie["samesite"].lower(), cookie["path"], cookie["domain"]) == ("lax", "/", "")
        assert int(cookie["max-age"]) == answer.json()["expires_in"]
    assert cookies["session"]["httponly"]
    assert not cookies["csrf"]["httponly"]
    assert cookies["csrf"].value == answer.json()["csrf_token"]


def test_with_https_the_cookies_are_secure_and_the_hosts_own(site: Site) -> None:
    for secure in (
        site.api_beside(public_url="https://site.example"),
        site.api_beside(public_url=""),
    ):
        cookies = cookies_in(good(log_in(secure, "reader", session=True)))
        assert cookies.keys() == {"__Host-session", "__Host-csrf"}
        assert all(cookie["secure"] for cookie in cookies.values())
        value = cookies["__Host-session"].value
        good(secure.get("/auth/me", headers={"Cookie": f"__Host-session={value}"}))
        answer = secure.get("/auth/me", headers={"Cookie": f"session={value}"})
        refused(answer, 401, "not_signed_in")


def test_a_session_that_was_planted_before_the_sign_in_is_not_taken_over(
    site: Site, browser: SignIn
) -> None:
    attacker = browser("other")
    for planted in ("chosen-by-an-attacker", attacker.cookies["session"]):
        victim = httpx.Client(base_url=site.anonymous.base_url, cookies={"session": planted})
        with victim:
            answer = good(log_in(victim, "reader", session=True))
            given = cookies_in(answer)["session"].value
            assert given != planted
            header = {"Cookie": f"session={given}"}
            assert (
                good(site.anonymous.get("/auth/me", headers=header)).json()["username"] == "reader"
            )
            seen = site.anonymous.get("/auth/me", headers={"Cookie": f"session={planted}"})
            assert seen.status_code == 401 or seen.json()["username"] == "other"
    again = browser("other")
    assert again.cookies["session"] != attacker.cookies["session"]


CHANGES = [
    ("POST", "/series"),
    ("PATCH", "/series/any"),
    ("PUT", "/series/any/chapters"),
    ("DELETE", "/series/any/publication"),
    ("POST", "/people"),
    ("POST", "/auth/logout"),
    ("POST", "/auth/logout-all"),
    ("DELETE", "/auth/sessions/any"),
]


@pytest.mark.parametrize(("method", "path"), CHANGES)
def test_a_change_by_cookie_needs_the_token_against_forged_requests(
    site: Site, browser: SignIn, method: str, path: str
) -> None:
    person = site.newcomer("administrator")
    window, other = browser(person.username), browser(person.username)
    right = window.headers.pop("X-CSRF-Token")
    wrong = ["", "nonsense", right[:-1], right.upper() + "é", other.headers["X-CSRF-Token"]]
    refused(window.request(method, path, json={}), 403, "csrf_token_wrong")
    for token in wrong:
        headers = {b"X-CSRF-Token": token.encode()}
        answer = window.request(method, path, json={}, headers=headers)
        refused(answer, 403, "csrf_token_wrong")
    good(window.get("/auth/me"))
    answer = window.request(method, path, json={}, headers={"X-CSRF-Token": right})
    assert answer.status_code != 403


def test_a_forged_upload_is_refused_before_any_of_it_is_read(site: Site, browser: SignIn) -> None:
    window, series = browser("uploader"), site.series()
    path, files = f"/series/{series}/chapters", {"archive": archive()}
    token = window.headers.pop("X-CSRF-Token")
    headers = {
        "Cookie": f"session={window.cookies['session']}",
        "Content-Type": "multipart/form-data; boundary=x",
        "Transfer-Encoding": "chunked",
    }
    with site.begin("anonymous", "POST", path, **headers) as request:
        status, body = request.answer()
    assert (status, body["error"]["code"]) == (403, "csrf_token_wrong")
    broken = {"Content-Type": "multipart/form-data; boundary=x"}
    refused(window.post(path, content=b"no form", headers=broken), 403, "csrf_token_wrong")
    hidden = {"number": "1", "_csrf_token": token}
    refused(window.post(path, data=hidden, files=files), 403, "csrf_token_wrong")
    assert site.archives(series) == []
    good(window.post(path, data={"number": "1"}, files=files, headers={"X-CSRF-Token": token}))


def test_another_site_cannot_sign_a_browser_in(site: Site) -> None:
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = site.anonymous.post(
            "/auth/login",
            content=b'{"username": "reader", "password": "' + PASSWORD.encode() + b'"}',
            headers={"Content-Type": content_type},
        )
        refused(answer, 415, "unsupported_media_type")


def test_who_sends_a_token_needs_no_other(site: Site, browser: SignIn) -> None:
    window = browser("reader")
    del window.headers["X-CSRF-Token"]
    authorization = site.client("uploader").headers["Authorization"]
    good(window.post("/series", json=new_series(), headers={"Authorization": authorization}))
    answer = window.get("/auth/me", headers={"Authorization": authorization})
    assert answer.json()["username"] == "uploader"
    refused(window.get("/auth/me", headers={"Authorization": "Bearer x"}), 401, "not_signed_in")


def test_every_endpoint_takes_both_ways_of_signing_in(site: Site, browser: SignIn) -> None:
    person = site.newcomer("administrator")
    window = browser(person.username)
    document = good(site.anonymous.get("/schema/openapi.json")).json()
    ending = ("/auth/logout", "/auth/logout-all")
    asked = 0
    for address, item in document["paths"].items():
        path = address.removeprefix("/api/v1").replace("{", "").replace("}", "")
        for method in item.keys() & {"get", "post", "put", "patch", "delete"}:
            if "security" not in item[method] or path in ending:
                continue
            asked += 1
            ways: list[dict[str, list[str]]] = item[method]["security"]
            assert {"bearer": []} in ways
            assert {"cookie": []} in ways
            by_token = person.client.request(method, path)
            by_cookie = window.request(method, path)
            assert by_cookie.status_code == by_token.status_code != 401, path
    assert asked > 20


def test_a_cookie_that_opens_nothing_is_nobody(site: Site) -> None:
    header = {"Cookie": "session=long-gone"}
    good(site.anonymous.get("/series", headers=header))
    good(site.anonymous.get("/health", headers=header))
    refused(site.anonymous.get("/auth/me", headers=header), 401, "not_signed_in")
    answer = site.anonymous.post("/series", json=new_series(), headers=header)
    refused(answer, 401, "not_signed_in")
    good(log_in(site.anonymous, "reader"))


def test_what_is_kept_for_anybody_is_not_what_a_browser_that_is_signed_in_gets(
    site: Site, browser: SignIn
) -> None:
    window = browser("uploader")
    series = site.series(published=False)
    path = f"/series?search={series}"
    site.get("anonymous", path)
    anybody = good(site.anonymous.get(path))
    own = good(window.get(path))
    assert anybody.headers["Cache-Control"] == "no-cache"
    assert own.headers["Cache-Control"] == "private, no-cache"
    assert "cookie" in own.headers["Vary"].lower()
    assert (
        good(site.anonymous.get(path, headers={"Cookie": "theme=dark"})).headers["Cache-Control"]
        == "no-cache"
    )


def test_signing_out_takes_the_cookies(browser: SignIn) -> None:
    window = browser("reader")
    answer = good(window.post("/auth/logout"))
    assert {cookie["max-age"] for cookie in cookies_in(answer).values()} == {"0"}
    assert not window.cookies


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
