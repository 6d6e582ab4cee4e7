"""Guards of signing in that only show when they are gone: each of these fails without one."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import httpx
import psycopg
import pytest
from argon2 import PasswordHasher
from httpx import ASGITransport, AsyncClient
from msgspec.structs import replace

from api.app import build_app
from api.passwords import HASHER, Passwords
from runtime.settings import Settings
from runtime.wiring import open_site
from tests.database import MASTER_KEY, Database
from tests.processes import until
from tests.site import PASSWORD, SECRET, Site, good, refused

SECONDS = 4
"""How long something lasts that is to be seen lasting, and then to be over."""

LOOKED_UP_AGAIN = 30.0
"""Before that many seconds are over, nothing is asked of the database that is remembered."""


def log_in(client: httpx.Client, username: str, **how: Any) -> httpx.Response:
    return client.post("/auth/login", json={"username": username, "password": PASSWORD, **how})


def is_in(client: httpx.Client, headers: dict[str, str]) -> bool:
    """Whether somebody is signed in; anything but yes and no is an error."""
    answer = client.get("/auth/me", headers=headers)
    assert answer.status_code in (200, 401), answer.text
    return answer.is_success


def bearer(client: httpx.Client, username: str) -> dict[str, str]:
    token = good(log_in(client, username)).json()["access_token"]
    return {"Authorization": f"Bearer {token}"}


def cookie(client: httpx.Client, username: str) -> dict[str, str]:
    good(log_in(client, username, session=True))
    value = client.cookies["session"]
    client.cookies.clear()
    return {"Cookie": f"session={value}"}


# what is remembered ends as well


def test_an_access_token_that_is_remembered_ends_in_time(site: Site) -> None:
    brief = site.api_beside(access_seconds=SECONDS)
    headers = bearer(brief, "reader")
    assert is_in(brief, headers)
    until(lambda: not is_in(brief, headers), LOOKED_UP_AGAIN)


def test_a_cookie_that_is_remembered_ends_in_time(site: Site) -> None:
    brief = site.api_beside(session_seconds=SECONDS)
    headers = cookie(brief, "reader")
    assert is_in(brief, headers)
    until(lambda: not is_in(brief, headers), LOOKED_UP_AGAIN)


def test_a_cookie_that_is_remembered_ends_when_it_is_not_used(site: Site) -> None:
    brief, person = site.api_beside(session_idle_seconds=SECONDS), site.newcomer("reader")
    headers = cookie(brief, person.username)
    assert is_in(brief, headers)
    with psycopg.connect(site.settings.dsn) as connection:
        connection.execute(
            "UPDATE people.sessions SET seen_at = seen_at - interval '1 hour' WHERE person_id = %s",
            (person.id,),
        )
    until(lambda: not is_in(brief, headers), LOOKED_UP_AGAIN)


def test_a_session_that_is_used_does_not_end_by_being_idle(site: Site) -> None:
    brief, person = site.api_beside(session_idle_seconds=SECONDS), site.newcomer("reader")
    headers = cookie(brief, person.username)
    with psycopg.connect(site.settings.dsn, autocommit=True) as connection:

        def last_seen() -> Any:
            statement = "SELECT max(seen_at) FROM people.sessions WHERE person_id = %s"
            return connection.execute(statement, (person.id,)).fetchone()

        before = last_seen()
        until(lambda: is_in(brief, headers) and last_seen() != before)


@pytest.mark.parametrize("way", ["/auth/logout", "/auth/logout-all"])
def test_other_processes_are_told_at_once(site: Site, way: str) -> None:
    """They would find it out a second later by themselves, which this does not wait for."""
    person = site.newcomer("reader")
    with psycopg.connect(site.settings.dsn, autocommit=True) as connection:
        connection.execute("LISTEN imprimatur_sessions")
        (session,) = connection.execute(
            "SELECT id FROM people.sessions WHERE person_id = %s", (person.id,)
        ).fetchone() or ("",)
        good(person.client.post(way))
        told = [one.payload for one in connection.notifies(timeout=10, stop_after=1)]
    assert told == [session]


# nobody learns who has an account


class CountingHasher(PasswordHasher):
    """argon2 as it is, and how often it was asked for what."""

    def __init__(self) -> None:
        super().__init__(HASHER.time_cost, HASHER.memory_cost, HASHER.parallelism, type=HASHER.type)
        self.asked: list[tuple[str, str]] = []

    def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
        self.asked.append(("hash", ""))
        return super().hash(password, salt=salt)

    def verify(self, hash: str | bytes, password: str | bytes) -> Any:  # noqa: A002 its name
        parameters = str(hash).rpartition("$")[0].rpartition("$")[0]
        self.asked.append(("verify", parameters))
        return super().verify(hash, password)


Ask = Callable[[AsyncClient], Awaitable[httpx.Response]]


@pytest.fixture
def work_of(database: Database, tmp_path: Path) -> Callable[..., list[Any]]:
    """What argon2 is asked for while each of some requests is answered."""
    settings = Settings(
        dsn=database.app,
        master_key=MASTER_KEY,
        secret=SECRET,
        blob_dir=str(tmp_path),
        scratch_dir=str(tmp_path),
        public_url="http://127.0.0.1",
        registration="open",
        rate_limits="off",
    )
    return lambda *asks: asyncio.run(counted(settings, asks))


async def counted(settings: Settings, asks: tuple[Ask, ...]) -> list[Any]:
    async with open_site(settings) as site:
        hasher = CountingHasher()
        passwords = Passwords(site.pool, hasher)
        app = build_app(lambda: nullcontext(replace(site, passwords=passwords)))
        transport = ASGITransport(cast("Any", app))
        url = "http://site/api/v1"
        found: list[Any] = []
        async with app.lifespan(), AsyncClient(transport=transport, base_url=url) as client:
            for ask in asks:
                hasher.asked.clear()
                answer = await ask(client)
                found.append((answer.status_code, list(hasher.asked)))
        passwords.close()
        return found


def posting(path: str, **said: Any) -> Ask:
    return lambda client: client.post(path, json=said)


def registering(username: str, email: str) -> Ask:
    return posting("/auth/register", username=username, email=email, password=PASSWORD)


def test_a_name_that_nobody_has_takes_the_same_work(
    work_of: Callable[..., list[Any]],
) -> None:
    wrong = "a wrong password"
    _, *worked = work_of(
        registering("aida", "aida@example.org"),
        posting("/auth/login", username="aida", password=wrong),
        posting("/auth/login", username="nobody", password=wrong),
        posting("/auth/login", username="aida@example.org", password=wrong),
        posting("/auth/login", username="nobody@example.org", password=wrong),
        posting("/auth/login", username="no name at all", password=wrong),
    )
    (known, *unknown) = worked
    assert known[0] == 401
    assert [kind for kind, _ in known[1]] == ["verify"]
    assert all(one == known for one in unknown)


def test_an_address_that_somebody_has_takes_the_same_work(
    work_of: Callable[..., list[Any]],
) -> None:
    free, taken = work_of(
        registering("aida", "aida@example.org"), registering("dina", "aida@example.org")
    )
    assert free == taken == (202, [("hash", "")])


def test_a_reset_is_no_work_for_anybody(work_of: Callable[..., list[Any]]) -> None:
    _, known, unknown = work_of(
        registering("aida", "aida@example.org"),
        posting("/auth/password-reset", email="aida@example.org"),
        posting("/auth/password-reset", email="nobody@example.org"),
    )
    assert known == unknown == (202, [])


def test_no_second_factor_is_asked_for_before_the_password_is_right(
    work_of: Callable[..., list[Any]],
) -> None:
    """Otherwise anybody would learn who has one; and a code alone would be tried for nothing."""
    _, with_code, without = work_of(
        registering("aida", "aida@example.org"),
        posting("/auth/login", username="aida", password="a wrong password", code="000000"),
        posting("/auth/login", username="aida", password="a wrong password"),
    )
    assert with_code == without


# nobody sets more than they are asked for

MORE = [
    {"roles": ["administrator"]},
    {"permissions": ["people.ban"]},
    {"person_id": "somebody"},
    {"tenant": "another"},
    {"scopes": ["people.ban"]},
    {"passwords": 0},
    {"second_factor": "chosen"},
    {"kind": "cookie"},
]

BODIES: dict[str, dict[str, Any]] = {
    "/auth/login": {"username": "reader", "password": PASSWORD},
    "/auth/refresh": {"refresh_token": "any"},
    "/auth/register": {"username": "any", "email": "any@example.org", "password": PASSWORD},
    "/auth/email/confirm": {"token": "any"},
    "/auth/password": {"current_password": PASSWORD, "password": PASSWORD},
    "/auth/password-reset": {"email": "any@example.org"},
    "/auth/password-reset/confirm": {"token": "any", "password": PASSWORD},
    "/auth/second-factor": {"password": PASSWORD},
    "/auth/second-factor/confirm": {"code": "000000"},
    "/auth/second-factor/recovery-codes": {"password": PASSWORD},
}


@pytest.mark.parametrize("path", BODIES)
def test_nobody_sets_more_than_they_are_asked_for(site: Site, path: str) -> None:
    client = site.newcomer("reader").client
    for more in MORE:
        answer = client.post(path, json=BODIES[path] | more)
        assert refused(answer, 400, "validation_failed")["field_errors"].keys() == more.keys()


def test_no_profile_sets_more_than_it_is_asked_for(site: Site) -> None:
    person = site.newcomer("reader")
    before = good(person.client.get("/auth/me")).json()
    for more in [*MORE, {"email_confirmed": True}, {"username": "another"}, {"id": "another"}]:
        answer = person.client.patch("/me", json={"name": "Aida"} | more)
        refused(answer, 400, "validation_failed")
    assert good(person.client.get("/auth/me")).json() == before
