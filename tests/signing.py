"""Signing in over HTTP: with tokens, and as a browser does."""

from collections.abc import Callable
from http.cookies import Morsel, SimpleCookie
from typing import Any

import httpx
import jwt
import psycopg

from tests.site import PASSWORD, Site, good

SignIn = Callable[[str], httpx.Client]


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
