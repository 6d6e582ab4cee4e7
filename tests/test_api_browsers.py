"""Browsers' sessions: their cookies, and what keeps other sites from using them."""

import httpx
import pytest

from tests.signing import SignIn, cookies_in, log_in
from tests.site import PASSWORD, Site, archive, good, new_series, refused


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
