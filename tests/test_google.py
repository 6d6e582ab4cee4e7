"""Signing in with Google: a real provider in its place, and browsers made of cookie jars."""

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.cookies import SimpleCookie
from itertools import count
from threading import Barrier
from time import time
from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote, urlencode, urlsplit

import httpx
import psycopg
import pytest
from cryptography.fernet import MultiFernet
from joserfc.jwk import OctKey
from msgspec.structs import replace

from api.attempts import LASTS_SECONDS, Attempts
from api.openid import ANSWER_SECONDS
from tests.database import Server
from tests.mail import silent
from tests.provider import CLIENT_ID, CLIENT_SECRET, Provider, User, new_key, provider
from tests.site import PASSWORD, SECRET, Site, free_port, good, refused, running_site

ANOTHER = "another password of the tests"
RACERS = 6

_NUMBERS = count(1)


@pytest.fixture(scope="module")
def google() -> Iterator[Provider]:
    """The provider that stands for Google."""
    with provider() as one:
        yield one


@pytest.fixture(scope="module")
def linked(
    postgres: Server, google: Provider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A site that Google knows."""
    settings = {
        "google_client_id": CLIENT_ID,
        "google_client_secret": CLIENT_SECRET,
        "google_issuer": google.issuer,
    }
    folder = tmp_path_factory.mktemp("linked")
    with postgres.database() as database, running_site(database, folder, **settings) as site:
        google.client.redirect_uri = f"{site.url}/api/v1/auth/google/callback"
        yield site


@pytest.fixture(autouse=True)
def honest(google: Provider) -> Iterator[None]:
    """The provider tells the truth again after each test."""
    yield
    google.lies, google.signs_with, google.algorithm = {}, None, "RS256"
    google.unsigned = False
    google.broken, google.denies, google.waiting = set(), False, None


class Browser:
    """A cookie jar, and somebody at the provider."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=60)

    def begin(self, **asked: Any) -> httpx.Response:
        return self.http.get("/api/v1/auth/google", params=asked)

    def consent(self, begun: httpx.Response) -> str:
        """Where the provider sends the browser back to."""
        assert begun.status_code == 302, begun.text
        answer = httpx.get(begun.headers["Location"])
        assert answer.status_code == 302, answer.text
        back = urlsplit(answer.headers["Location"])
        return f"{back.path}?{back.query}"

    def come_back(self, to: str) -> httpx.Response:
        return self.http.get(to)

    def sign_in(self, **asked: Any) -> httpx.Response:
        return self.come_back(self.consent(self.begin(**asked)))

    def me(self) -> dict[str, Any]:
        return good(self.http.get("/api/v1/auth/me")).json()

    def identities(self) -> list[dict[str, Any]]:
        return good(self.http.get("/api/v1/auth/identities")).json()["results"]

    def change(self, method: str, path: str) -> httpx.Response:
        """What a script of the site asks."""
        token = {"X-CSRF-Token": self.http.cookies["csrf"]}
        return self.http.request(method, f"/api/v1{path}", headers=token)


Open = Callable[[], Browser]


@pytest.fixture
def browser(linked: Site) -> Generator[Open]:
    """Opens browsers that nobody has used yet."""
    opened: list[Browser] = []

    def new() -> Browser:
        opened.append(Browser(linked.url))
        return opened[-1]

    yield new
    for one in opened:
        one.http.close()


@pytest.fixture
def user(google: Provider) -> User:
    """Somebody whom nobody here knows, and who sits before the provider."""
    number = next(_NUMBERS)
    google.user = User(f"sub-{number}", f"Somebody.{number}@example.org", name="Айгүл\n Асанова")
    return google.user


def is_in(answer: httpx.Response) -> bool:
    """Whether somebody was signed in; anything but yes and a refusal is an error."""
    assert answer.status_code in (303, 400, 401, 403, 409, 422, 503), answer.text
    assert ("session" in cookies_of(answer)) == (answer.status_code == 303)
    return answer.status_code == 303


def cookies_of(answer: httpx.Response) -> SimpleCookie:
    cookies = SimpleCookie()
    for line in answer.headers.get_list("set-cookie"):
        cookies.load(line)
    return cookies


def register(site: Site, email: str, *, confirmed: bool = True) -> str:
    """The user name of an account with a password."""
    username = f"keeper-{next(_NUMBERS)}"
    said = {"username": username, "email": email, "password": PASSWORD}
    good(site.anonymous.post("/auth/register", json=said))
    if confirmed:
        confirm(site, email)
    return username


def confirm(site: Site, email: str) -> None:
    token = site.letter(email.lower(), "confirm_email")
    good(site.anonymous.post("/auth/email/confirm", json={"token": token}))


def log_in(site: Site, username: str, password: str = PASSWORD) -> httpx.Response:
    said = {"username": username, "password": password}
    return site.anonymous.post("/auth/login", json=said)


def made(site: Site, event: str) -> int:
    """How many events of a kind there are."""
    return len(site.events(type=f"people.{event}"))


# the way there and back


def test_a_newcomer_signs_in_and_arrives_where_they_wanted_to_go(linked: Site, user: User) -> None:
    with httpx.Client(follow_redirects=True, timeout=60) as raw:
        asked = {"return_to": "/api/v1/auth/me"}
        answer = good(raw.get(f"{linked.url}/api/v1/auth/google", params=asked))
        assert str(answer.url) == f"{linked.url}/api/v1/auth/me"
        assert [one.status_code for one in answer.history] == [302, 302, 303]
        assert "attempt" not in raw.cookies
    me = answer.json()
    assert (me["email"], me["email_confirmed"]) == (user.email.lower(), True)
    assert (me["name"], me["roles"]) == ("Айгүл Асанова", ["reader"])
    assert me["username"] == user.email.lower().partition("@")[0]


def test_google_is_asked_as_openid_connect_says(
    browser: Open, google: Provider, user: User
) -> None:
    first, second = (browser().begin() for _ in range(2))
    url = urlsplit(first.headers["Location"])
    assert f"{url.scheme}://{url.netloc}{url.path}" == f"{google.issuer}/authorize"
    asked = dict(parse_qsl(url.query))
    other = dict(parse_qsl(urlsplit(second.headers["Location"]).query))
    assert asked["redirect_uri"] == google.client.redirect_uri
    assert (asked["response_type"], asked["client_id"]) == ("code", CLIENT_ID)
    assert asked["code_challenge_method"] == "S256"
    assert set(asked["scope"].split()) == {"openid", "email", "profile"}
    for drawn in ("state", "nonce", "code_challenge"):
        assert len(asked[drawn]) >= 43
        assert asked[drawn] != other[drawn]
    assert CLIENT_SECRET not in first.headers["Location"]
    assert first.headers["Cache-Control"] == "no-store"


def test_a_code_is_bound_to_who_began(browser: Open, google: Provider, user: User) -> None:
    """The provider refuses a verifier that is not the challenge's, which shows that it is sent."""
    one = browser()
    back = one.consent(one.begin())
    (code,) = parse_qs(urlsplit(back).query)["code"]
    wrong = urlsafe_b64encode(hashlib.sha256(b"another").digest()).rstrip(b"=").decode()
    google.codes[code] = replace(google.codes[code], code_challenge=wrong)
    refused(one.come_back(back), 403, "provider_refused")


def test_what_the_browser_keeps_no_script_and_no_other_site_can_read(
    linked: Site, browser: Open
) -> None:
    kept = cookies_of(browser().begin())["attempt"]
    assert (kept["httponly"], kept["samesite"], kept["path"]) == (True, "lax", "/")
    assert int(kept["max-age"]) == LASTS_SECONDS
    secure = linked.api_beside(public_url="https://reader.example")
    kept = cookies_of(secure.get("/auth/google"))["__Host-attempt"]
    assert (kept["secure"], kept["httponly"], kept["domain"]) == (True, True, "")


def test_an_api_client_gets_tokens(linked: Site, browser: Open, user: User) -> None:
    answer = good(browser().sign_in(session="false"))
    assert answer.headers["Cache-Control"] == "no-store"
    assert "session" not in cookies_of(answer)
    pair = answer.json()
    signed = {"Authorization": f"Bearer {pair['access_token']}"}
    me = good(linked.anonymous.get("/auth/me", headers=signed)).json()
    assert me["email"] == user.email.lower()
    said = {"refresh_token": pair["refresh_token"]}
    good(linked.anonymous.post("/auth/refresh", json=said))


def test_an_account_is_known_by_its_subject_even_when_its_address_changed(
    browser: Open, google: Provider, user: User
) -> None:
    first, second = browser(), browser()
    assert is_in(first.sign_in())
    google.user = User(user.sub, f"moved-{user.email}", email_verified=False)
    assert is_in(second.sign_in())
    assert second.me()["id"] == first.me()["id"]
    assert second.me()["email"] == user.email.lower()


def test_user_names_are_made_free_of_clashes(linked: Site, browser: Open, google: Provider) -> None:
    number = next(_NUMBERS)
    names: list[str] = []
    for host in ("a.example", "b.example", "c.example"):
        google.user = User(f"{host}-{number}", f"+Same++{number}+@{host}")
        one = browser()
        assert is_in(one.sign_in())
        names.append(one.me()["username"])
    assert len(set(names)) == 3
    assert all(name.startswith(f"same-{number}") for name in names)


def test_an_address_without_a_usable_letter_makes_a_name_too(
    browser: Open, google: Provider
) -> None:
    google.user = User(f"odd-{next(_NUMBERS)}", "+++@example.org")
    one = browser()
    assert is_in(one.sign_in())
    assert one.me()["username"].startswith("reader")


# what is not believed


@pytest.mark.parametrize(
    "lie",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"aud": "another-client"},
        {"aud": ["another-client"]},
        {"aud": "another-client", "azp": CLIENT_ID},
        {"aud": [CLIENT_ID, "another-client"], "azp": "another-client"},
        {"aud": None},
        {"iss": "https://accounts.example"},
        {"iss": None},
        {"exp": int(time()) - 3_600},
        {"exp": None},
        {"exp": "tomorrow"},
        {"iat": int(time()) + 3_600},
        {"sub": None},
        {"sub": ""},
        {"sub": 1},
        {"sub": "two words"},
        {"sub": "x" * 121},
        {"at_hash": "another"},
    ],
    ids=lambda lie: "-".join(lie),
)
def test_a_token_of_somebody_or_something_else_opens_nothing(
    linked: Site, browser: Open, google: Provider, user: User, lie: dict[str, Any]
) -> None:
    before = made(linked, "AccountCreated")
    google.lies = lie
    answer = browser().sign_in()
    refused(answer, 403, "provider_untrusted")
    assert not is_in(answer)
    assert made(linked, "AccountCreated") == before


def test_a_token_that_another_key_signed_opens_nothing(
    browser: Open, google: Provider, user: User
) -> None:
    google.signs_with = new_key()
    refused(browser().sign_in(), 403, "provider_untrusted")


def test_a_token_that_nothing_signed_opens_nothing(
    browser: Open, google: Provider, user: User
) -> None:
    google.unsigned = True
    refused(browser().sign_in(), 403, "provider_untrusted")


def test_a_token_signed_by_what_everybody_knows_opens_nothing(
    browser: Open, google: Provider, user: User
) -> None:
    """The public key is no secret; as one it would sign whatever anybody likes."""
    google.algorithm = "HS256"
    for known in (google.keys[-1].as_pem(private=False), CLIENT_SECRET.encode()):
        google.signs_with = OctKey.import_key(known.hex())
        refused(browser().sign_in(), 403, "provider_untrusted")


def test_clocks_may_differ_a_little(browser: Open, google: Provider, user: User) -> None:
    google.lies = {"exp": int(time()) - 20, "iat": int(time()) + 20}
    assert is_in(browser().sign_in())


def test_another_issuer_in_the_answer_is_refused(browser: Open, user: User) -> None:
    one = browser()
    back = one.consent(one.begin())
    answer = one.come_back(f"{back}&iss=https%3A%2F%2Faccounts.example")
    refused(answer, 403, "provider_untrusted")
    assert not is_in(answer)


# who began


def test_what_was_used_opens_nothing_again(browser: Open, user: User) -> None:
    one = browser()
    begun = one.begin()
    kept = one.http.cookies["attempt"]
    back = one.consent(begun)
    assert is_in(one.come_back(back))
    refused(one.come_back(back), 403, "sign_in_not_begun")
    again = one.http.get(back, headers={"Cookie": f"attempt={kept}"})
    refused(again, 403, "provider_refused")
    assert not is_in(again)


def test_a_browser_is_not_signed_in_by_what_another_began(browser: Open, user: User) -> None:
    attacker, victim, bystander = browser(), browser(), browser()
    back = attacker.consent(attacker.begin())
    victim.begin()
    for one in (victim, bystander):
        answer = one.come_back(back)
        refused(answer, 403, "sign_in_not_begun")
        assert not is_in(answer)
    assert is_in(attacker.come_back(back))


def test_only_what_was_sealed_here_not_long_ago_counts(
    linked: Site, browser: Open, user: User
) -> None:
    one = browser()
    back = one.consent(one.begin())
    sealed = one.http.cookies["attempt"]
    opened = Attempts(SECRET).opened(sealed)
    assert opened is not None
    ours: MultiFernet = vars(Attempts(SECRET))["_fernet"]
    plain = ours.decrypt(sealed)
    old = ours.encrypt_at_time(plain, int(time()) - LASTS_SECONDS - 5).decode()
    others = Attempts("another secret of thirty-two bytes at least").sealed(opened)
    for kept in (old, others, sealed[:-4] + "AAA=", "", "nonsense", "é"):
        answer = linked.anonymous.get(
            f"{linked.url}{back}", headers={b"Cookie": b"attempt=" + kept.encode()}
        )
        refused(answer, 403, "sign_in_not_begun")
    assert is_in(one.come_back(back))


EVIL = [
    "https://evil.example",
    "https:evil.example",
    "HTTPS://evil.example",
    "javascript:alert(1)",
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "\\evil.example",
    "\\\\evil.example",
    "/%2Fevil.example",
    "/%2fevil.example",
    "/%5Cevil.example",
    "%2F%2Fevil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "\t//evil.example",
    " //evil.example",
    "/a\r\nSet-Cookie: session=1",
    "/%0d%0aSet-Cookie:%20session=1",
    "/a\x00b",
    "/é",
    "evil.example",
    ".evil.example",
    "@evil.example",
    "",
    "/" + "a" * 1_000,
]


@pytest.mark.parametrize("evil", EVIL)
def test_nobody_is_sent_elsewhere(browser: Open, evil: str) -> None:
    query = urlencode({"return_to": evil}, quote_via=quote)
    answer = browser().http.get(f"/api/v1/auth/google?{query}")
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["code"] in ("validation_failed", "malformed")
    assert "attempt" not in cookies_of(answer)


@pytest.mark.parametrize(
    "path", ["/", "/a/b?c=d&e=%2Ff#g", "/~x/%D1%8F", "/a//b", "/?to=https://x"]
)
def test_one_is_sent_to_any_path_of_this_site(browser: Open, user: User, path: str) -> None:
    answer = browser().sign_in(return_to=path)
    assert is_in(answer)
    assert answer.headers["Location"] == path


def test_what_the_provider_refuses_is_said(browser: Open, google: Provider, user: User) -> None:
    google.denies = True
    answer = browser().sign_in()
    error = refused(answer, 403, "provider_refused")
    assert error["details"] == {"error": "access_denied"}
    assert not is_in(answer)


@pytest.mark.parametrize("wrong", ["", "state=", "state=x&state=x", "state=x&code=%00"])
def test_what_is_no_answer_is_malformed(browser: Open, wrong: str) -> None:
    answer = browser().come_back(f"/api/v1/auth/google/callback?{wrong}")
    assert answer.status_code in (400, 403), answer.text


# whose account


def test_a_confirmed_address_is_linked(linked: Site, browser: Open, user: User) -> None:
    username = register(linked, user.email)
    one = browser()
    assert is_in(one.sign_in())
    assert one.me()["username"] == username
    (identity,) = one.identities()
    assert identity["email"] == user.email.lower()
    (linking,) = [
        event
        for event in linked.trail(f"person-{one.me()['id']}")
        if event["type"] == "people.IdentityLinked"
    ]
    assert linking["data"]["identity_id"] == identity["id"]
    good(log_in(linked, username))


def test_an_address_that_was_not_confirmed_is_not_linked(
    linked: Site, browser: Open, user: User
) -> None:
    """Somebody may have registered it before its owner came, and waits for them with a password."""
    username = register(linked, user.email, confirmed=False)
    answer = browser().sign_in()
    refused(answer, 422, "email_unconfirmed")
    assert not is_in(answer)
    confirm(linked, user.email)
    one = browser()
    assert is_in(one.sign_in())
    assert one.me()["username"] == username


@pytest.mark.parametrize("verified", [False, None, "true", 1])
def test_an_address_that_the_provider_has_not_verified_opens_nothing(
    linked: Site, browser: Open, google: Provider, user: User, verified: Any
) -> None:
    register(linked, user.email)
    google.user = User(user.sub, user.email, email_verified=verified)
    answer = browser().sign_in()
    assert answer.json()["error"]["code"] in ("provider_email_unverified", "provider_untrusted")
    assert not is_in(answer)


@pytest.mark.parametrize("email", ["", "nobody", "a@b", "é@example.org", "a@example.org\nBcc: b"])
def test_an_address_that_is_none_here_makes_no_account(
    browser: Open, google: Provider, email: str
) -> None:
    google.user = User(f"none-{next(_NUMBERS)}", email)
    refused(browser().sign_in(), 403, "provider_email_unverified")


def test_another_account_with_the_same_address_is_not_linked(
    browser: Open, google: Provider, user: User
) -> None:
    """The address may have been given to somebody else since."""
    assert is_in(browser().sign_in())
    google.user = User(f"{user.sub}-later", user.email)
    answer = browser().sign_in()
    refused(answer, 422, "identity_differs")
    assert not is_in(answer)


def test_of_racing_first_sign_ins_one_makes_the_account(
    linked: Site, browser: Open, google: Provider, user: User
) -> None:
    ids = race([browser() for _ in range(RACERS)], google)
    assert len(ids) == 1
    trail = [event["type"] for event in linked.trail(f"person-{ids.pop()}")]
    assert trail.count("people.IdentityLinked") == trail.count("people.AccountCreated") == 1


def test_of_racing_first_sign_ins_one_links(
    linked: Site, browser: Open, google: Provider, user: User
) -> None:
    register(linked, user.email)
    ids = race([browser() for _ in range(RACERS)], google)
    assert len(ids) == 1
    trail = [event["type"] for event in linked.trail(f"person-{ids.pop()}")]
    assert trail.count("people.IdentityLinked") == 1


def race(browsers: list[Browser], google: Provider) -> set[str]:
    """Whose accounts browsers are signed in to that all come back at once."""
    back = [one.consent(one.begin()) for one in browsers]
    google.waiting = Barrier(len(browsers))
    with ThreadPoolExecutor(len(browsers)) as threads:
        answers = list(threads.map(Browser.come_back, browsers, back))
    assert all(is_in(answer) for answer in answers)
    return {one.me()["id"] for one in browsers}


def test_where_registration_is_closed_nobody_becomes_known(
    linked: Site, browser: Open, google: Provider, user: User
) -> None:
    closed = Browser(str(linked.api_beside(registration="closed").base_url.copy_with(path="/")))
    refused(closed.sign_in(), 403, "registration_closed")
    register(linked, user.email)
    assert is_in(closed.sign_in())
    closed.http.close()


def test_who_is_banned_is_not_signed_in(linked: Site, browser: Open, user: User) -> None:
    one = browser()
    assert is_in(one.sign_in())
    linked.ask("moderator", "POST", f"/people/{one.me()['id']}/ban", reason="Spam.")
    answer = browser().sign_in()
    refused(answer, 403, "banned")
    assert not is_in(answer)


def test_who_is_banned_is_not_linked(linked: Site, browser: Open, user: User) -> None:
    username = register(linked, user.email)
    token = good(log_in(linked, username)).json()["access_token"]
    signed = {"Authorization": f"Bearer {token}"}
    person = good(linked.anonymous.get("/auth/me", headers=signed)).json()["id"]
    linked.ask("moderator", "POST", f"/people/{person}/ban", reason="Spam.")
    refused(browser().sign_in(), 403, "banned")
    assert "people.IdentityLinked" not in [e["type"] for e in linked.trail(f"person-{person}")]


# unlinking


def test_a_link_is_undone_and_everywhere_else_one_is_signed_out(
    linked: Site, browser: Open, user: User
) -> None:
    username = register(linked, user.email)
    here, there = browser(), browser()
    assert is_in(here.sign_in())
    assert is_in(there.sign_in())
    (identity,) = here.identities()
    assert good(here.change("DELETE", f"/auth/identities/{identity['id']}")).status_code == 204
    assert here.identities() == []
    refused(there.http.get("/api/v1/auth/me"), 401, "not_signed_in")
    refused(here.change("DELETE", f"/auth/identities/{identity['id']}"), 404, "identity_not_found")
    good(log_in(linked, username))
    assert is_in(there.sign_in())
    assert there.identities()[0]["id"] != identity["id"]


def test_the_last_way_to_sign_in_is_not_taken(linked: Site, browser: Open, user: User) -> None:
    one = browser()
    assert is_in(one.sign_in())
    me, (identity,) = one.me(), one.identities()
    refused(one.change("DELETE", f"/auth/identities/{identity['id']}"), 422, "last_sign_in")
    refused(log_in(linked, me["username"], ""), 401, "invalid_credentials")
    good(linked.anonymous.post("/auth/password-reset", json={"email": me["email"]}))
    said = {"token": linked.letter(me["email"], "password_reset"), "password": ANOTHER}
    good(linked.anonymous.post("/auth/password-reset/confirm", json=said))
    assert is_in(one.sign_in())
    good(one.change("DELETE", f"/auth/identities/{identity['id']}"))
    good(log_in(linked, me["username"], ANOTHER))


def test_nobody_unlinks_or_sees_what_is_somebody_elses(
    linked: Site, browser: Open, google: Provider, user: User
) -> None:
    one, other = browser(), browser()
    assert is_in(one.sign_in())
    google.user = User(f"{user.sub}-other", f"other-{user.email}")
    assert is_in(other.sign_in())
    (identity,) = one.identities()
    assert identity not in other.identities()
    answer = other.change("DELETE", f"/auth/identities/{identity['id']}")
    refused(answer, 404, "identity_not_found")
    refused(linked.anonymous.get("/auth/identities"), 401, "not_signed_in")
    forged = one.http.delete(f"/api/v1/auth/identities/{identity['id']}")
    refused(forged, 403, "csrf_token_wrong")


# the provider


def test_its_description_and_keys_are_asked_for_once(
    linked: Site, google: Provider, user: User
) -> None:
    one = Browser(str(linked.api_beside().base_url.copy_with(path="/")))
    before = len(google.asked)
    for _ in range(3):
        assert is_in(one.sign_in())
    asked = google.asked[before:]
    assert asked.count("/.well-known/openid-configuration") == asked.count("/jwks") == 1
    assert asked.count("/token") == 3
    one.http.close()


def test_a_new_key_is_taken_while_the_site_runs(
    browser: Open, google: Provider, user: User
) -> None:
    assert is_in(browser().sign_in())
    old = google.keys[-1]
    google.rotate()
    assert is_in(browser().sign_in())
    google.signs_with = old
    refused(browser().sign_in(), 403, "provider_untrusted")


@pytest.mark.parametrize("path", ["/token", "/jwks", "/.well-known/openid-configuration"])
def test_while_the_provider_is_down_the_answer_is_503(
    linked: Site, google: Provider, user: User, path: str
) -> None:
    google.broken = {path}
    one = Browser(str(linked.api_beside().base_url.copy_with(path="/")))
    answer = one.begin()
    if answer.status_code == 302:
        answer = one.come_back(one.consent(answer))
    refused(answer, 503, "unavailable")
    assert answer.headers["Retry-After"]
    google.broken = set()
    assert is_in(one.sign_in())
    one.http.close()


def test_a_provider_that_never_answers_is_not_waited_for_one_after_the_other(
    linked: Site,
) -> None:
    with silent() as port:
        waiting = linked.api_beside(google_issuer=f"http://127.0.0.1:{port}")
        with ThreadPoolExecutor(RACERS) as threads:
            asked = [
                threads.submit(waiting.get, "/auth/google", timeout=ANSWER_SECONDS * 4)
                for _ in range(RACERS)
            ]
        for one in asked:
            refused(one.result(), 503, "unavailable")


def test_where_there_is_no_provider_the_answer_is_503(linked: Site) -> None:
    nowhere = linked.api_beside(google_issuer=f"http://127.0.0.1:{free_port()}")
    refused(nowhere.get("/auth/google"), 503, "unavailable")
    good(nowhere.get("/health"))


def test_a_provider_that_is_another_than_it_says_is_not_asked(
    linked: Site, google: Provider
) -> None:
    other = linked.api_beside(google_issuer=google.issuer.replace("127.0.0.1", "localhost"))
    refused(other.get("/auth/google"), 503, "unavailable")


def test_it_is_off_unless_it_is_set_up(site: Site) -> None:
    refused(site.anonymous.get("/auth/google"), 404, "not_found")
    refused(site.anonymous.get("/auth/google/callback?state=x&code=y"), 404, "not_found")


def test_both_ways_count_as_signing_in(linked: Site) -> None:
    limited = linked.api_beside(rate_limits="sign-in=2/hour")
    assert limited.get("/auth/google").status_code == 302
    refused(limited.get("/auth/google/callback?state=x"), 403, "sign_in_not_begun")
    refused(limited.get("/auth/google"), 429, "too_many_requests")
    good(limited.get("/series"))


def test_no_secret_of_the_provider_is_kept_or_said(
    linked: Site, google: Provider, user: User, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    one = Browser(str(linked.api_beside(log_level="debug").base_url.copy_with(path="/")))
    secrets = [CLIENT_SECRET]
    for lie in ({}, {"nonce": "another"}, {"error": "server_error"}):
        google.lies = lie
        google.broken = {"/token"} if "error" in lie else set()
        begun = one.begin()
        opened = Attempts(SECRET).opened(one.http.cookies["attempt"])
        assert opened is not None
        attempt = opened.attempt
        secrets += [attempt.state, attempt.nonce, attempt.verifier]
        assert is_in(one.come_back(one.consent(begun))) == (not lie)
    one.http.close()
    with psycopg.connect(linked.settings.dsn) as connection:
        rows: list[Any] = []
        for table in ("log.events", "log.commands", "people.sessions", "people.session_secrets"):
            rows += connection.execute(f"SELECT t::text FROM {table} t".encode()).fetchall()
        for table in ("procrastinate_jobs", "procrastinate_events"):
            rows += connection.execute(f"SELECT t::text FROM jobs.{table} t".encode()).fetchall()
    kept = "\n".join(row[0] for row in rows)
    said = "".join(capfd.readouterr())
    assert "Google's word was not taken" in said
    assert "nobody can sign in with Google" in said
    for secret in (*secrets, *google.issued, user.email, user.email.lower(), user.sub, "Айгүл"):
        assert secret not in kept
        assert secret not in said
