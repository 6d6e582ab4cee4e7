"""What guards every request: limits, proxies, other origins, protective headers, slow clients."""

import re
import select
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Self

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.limits import BOTH
from api.middleware import PIECE_BYTES
from tests.database import Server
from tests.site import PASSWORD, Site, archive, good, new_series, refused, running_site

PROXY, FARTHER_PROXY, STRANGER = "127.0.0.2", "127.0.0.5", "127.0.0.1"
ORIGIN = "https://reader.example"
SLOW_SECONDS = 2


@pytest.fixture(scope="module")
def guarded(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with every guard up."""
    with (
        postgres.database() as database,
        running_site(
            database,
            tmp_path_factory.mktemp("guarded"),
            rate_limits="reads=30000/day, uploads=3/hour",
            trusted_proxies=f"{PROXY}, {FARTHER_PROXY}/32",
            cors_origins=f"{ORIGIN}, http://127.0.0.1:3000",
            slow_seconds=SLOW_SECONDS,
        ) as site,
    ):
        yield site


@pytest.fixture
def behind(guarded: Site) -> Iterator[httpx.Client]:
    """What reaches the site through a trusted proxy."""
    with client_from(guarded, PROXY) as client:
        yield client


def client_from(site: Site, address: str) -> httpx.Client:
    """A client that has this address of the machine."""
    transport = httpx.HTTPTransport(local_address=address)
    return httpx.Client(base_url=f"{site.url}/api/v1", transport=transport, timeout=60)


def remaining(answer: httpx.Response) -> int:
    return int(answer.headers["RateLimit-Remaining"])


def log_in(client: httpx.Client, username: str, password: str, **headers: str) -> httpx.Response:
    credentials = {"username": username, "password": password}
    return client.post("/auth/login", json=credentials, headers=headers)


def test_every_answer_says_what_is_left(guarded: Site) -> None:
    person = guarded.newcomer("reader").client
    for path in ("/series", "/auth/me", "/series/none", "/me/uploads", "/series?page=0"):
        first, second = person.get(path), person.get(path)
        assert (remaining(first) - remaining(second)) == 1, path
        assert first.headers["RateLimit-Limit"] == "30000"
        assert first.headers["RateLimit-Policy"] == "30000;w=86400"
        assert 0 < int(first.headers["RateLimit-Reset"]) <= 86_400


def test_who_acts_by_a_token_is_counted_as_its_person(guarded: Site) -> None:
    person = guarded.newcomer("reader").client
    until = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    said: dict[str, object] = {"name": "CI", "scopes": [], "expires_at": until}
    token = good(person.post("/auth/tokens", json=said)).json()["token"]
    by_token = {"Authorization": f"Bearer {token}"}
    good(guarded.anonymous.get("/series", headers=by_token))  # from here on it is known whose it is
    before = remaining(person.get("/series"))
    assert before - remaining(guarded.anonymous.get("/series", headers=by_token)) == 1
    unknown = {"Authorization": f"Bearer {token[:-1]}"}
    assert remaining(guarded.anonymous.get("/series", headers=unknown)) != before - 2


def test_answers_from_memory_count_as_well(guarded: Site) -> None:
    answers = [guarded.anonymous.get("/series?search=memory") for _ in range(5)]
    left = [remaining(answer) for answer in answers]
    assert all(before > after for before, after in pairwise(left))


def test_whoever_asks_too_often_is_told_when_to_ask_again(guarded: Site) -> None:
    series = guarded.series()
    person = guarded.newcomer("uploader").client

    def upload() -> httpx.Response:
        files = {"archive": ("chapter.zip", archive(), "application/zip")}
        return person.post(f"/series/{series}/chapters", data={"number": "1"}, files=files)

    statuses = [upload().status_code for _ in range(3)]
    assert 429 not in statuses
    counted = count_of(guarded, "429")
    answer = upload()
    message = refused(answer, 429, "too_many_requests")["message"]
    assert message == "Too many requests; please wait a moment."
    assert remaining(answer) == 0
    assert 0 < int(answer.headers["Retry-After"]) <= 3_600
    assert answer.headers["Retry-After"] == answer.headers["RateLimit-Reset"]
    assert count_of(guarded, "429") == counted + 1
    good(person.get("/series"))  # another kind of request
    body = {"Content-Type": "application/zip"}
    other = guarded.newcomer("uploader").client
    answer = other.put(f"/series/{series}/chapters?number=1", content=b"PK", headers=body)
    assert answer.status_code != 429


def count_of(site: Site, status: str) -> float:
    """How many answers with a status the figures tell of."""
    families = text_string_to_metric_families(httpx.get(f"{site.url}/metrics").text)
    samples = [one for family in families for one in family.samples]
    return sum(
        one.value
        for one in samples
        if one.name == "imprimatur_requests_total" and one.labels["status_code"] == status
    )


def test_failed_sign_ins_wait_and_the_right_password_has_to_as_well(
    guarded: Site, behind: httpx.Client
) -> None:
    name = guarded.newcomer("reader").username
    at_home, elsewhere = {"X-Forwarded-For": "192.0.2.1"}, {"X-Forwarded-For": "192.0.2.2"}
    for _ in range(BOTH.free + 1):
        refused(log_in(behind, name, "a wrong one", **elsewhere), 401, "invalid_credentials")
    for password in ("a wrong one", PASSWORD):
        answer = log_in(behind, name, password, **elsewhere)
        refused(answer, 429, "too_many_requests")
        assert int(answer.headers["Retry-After"]) == 1
    good(log_in(behind, name, PASSWORD, **at_home))  # is not locked out by others
    refused(log_in(behind, "nobody", "a wrong one", **elsewhere), 401, "invalid_credentials")


def test_a_right_password_forgives_the_wrong_ones(guarded: Site, behind: httpx.Client) -> None:
    name, address = guarded.newcomer("reader").username, {"X-Forwarded-For": "192.0.2.3"}
    for _ in range(3):
        for _ in range(BOTH.free):
            refused(log_in(behind, name, "wrong", **address), 401, "invalid_credentials")
        good(log_in(behind, name, PASSWORD, **address))


@pytest.mark.parametrize(
    ("forwarded", "same"),
    [
        (["203.0.113.1"], True),
        (["198.51.100.7, 203.0.113.1"], True),  # what a client says of itself
        (["198.51.100.7", "203.0.113.1"], True),
        (["198.51.100.7", f"203.0.113.1, {FARTHER_PROXY}"], True),
        (["nonsense, 203.0.113.1"], True),
        (["203.0.113.1:4711"], True),
        (["::ffff:203.0.113.1"], True),
        (["203.0.113.1, 198.51.100.7"], False),
        (["203.0.113.1, nonsense"], False),
        ([""], False),
    ],
)
def test_the_right_most_address_that_is_no_proxy_is_the_clients(
    behind: httpx.Client, forwarded: list[str], same: bool
) -> None:
    before = remaining(behind.get("/series", headers={"X-Forwarded-For": "203.0.113.1"}))
    headers = [("X-Forwarded-For", one) for one in forwarded]
    behind.get("/series", headers=headers)
    after = remaining(behind.get("/series", headers={"X-Forwarded-For": "203.0.113.1"}))
    assert before - after == (2 if same else 1)


def test_addresses_of_one_ipv6_network_are_one_client(behind: httpx.Client) -> None:
    def left(address: str) -> int:
        return remaining(behind.get("/series", headers={"X-Forwarded-For": address}))

    assert left("2001:db8::1") - left("2001:db8::ffff:1") == 1
    assert left("[2001:db8:0:1::1]:4711") == left("2001:db8:0:2::1")


def test_what_a_stranger_says_of_itself_is_not_believed(guarded: Site) -> None:
    with client_from(guarded, "127.0.0.7") as client:
        forwarded = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}
        first, second = client.get("/series"), client.get("/series", headers=forwarded)
        assert remaining(first) - remaining(second) == 1
        assert "Strict-Transport-Security" not in second.headers


def test_where_no_proxy_is_trusted_none_is_believed(site: Site) -> None:
    answer = site.anonymous.get("/series", headers={"X-Forwarded-Proto": "https"})
    assert "Strict-Transport-Security" not in answer.headers


def test_a_trusted_proxy_says_how_the_request_came(behind: httpx.Client) -> None:
    for path in ("/series", "/nothing"):
        for proto, expected in (("https", "max-age=31536000"), ("http", None), ("gopher", None)):
            answer = behind.get(path, headers={"X-Forwarded-Proto": proto})
            assert answer.headers.get("Strict-Transport-Security") == expected


PROTECTIVE = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


def test_every_answer_is_protected(guarded: Site) -> None:
    anonymous = guarded.anonymous
    chapter = guarded.pending(guarded.series())
    image = guarded.get("moderator", f"/chapters/{chapter}")["pages"][0]["url"]
    hot = anonymous.get("/series")
    unchanged = {"If-None-Match": hot.headers["ETag"]}
    answers = {
        "read": hot,
        "read from memory": anonymous.get("/series"),
        "unchanged": anonymous.get("/series", headers=unchanged),
        "image": httpx.get(guarded.url + image),
        "health": anonymous.get("/health"),
        "metrics": httpx.get(f"{guarded.url}/metrics"),
        "created": guarded.client("uploader").post("/series", json=new_series()),
        "head": anonymous.head("/series"),
        "invalid": anonymous.get("/series?page=0"),
        "not signed in": anonymous.get("/auth/me"),
        "not found": anonymous.get("/nothing"),
        "no such method": anonymous.put("/series"),
        "too large": anonymous.post("/auth/login", content=b"x" * 2_000_000),
        "document": anonymous.get("/schema/openapi.json"),
        "asset": anonymous.get("/schema/assets/swagger-ui.css"),
    }
    assert answers["unchanged"].status_code == 304
    for name, answer in answers.items():
        for header, value in PROTECTIVE.items():
            assert answer.headers.get_list(header) == [value], (name, header)
        assert answer.headers.get_list("Strict-Transport-Security") == [], name


BROWSER = shutil.which("chromium") or ""


@pytest.mark.skipif(not BROWSER, reason="needs Debian's chromium")
def test_a_browser_shows_the_documentation(guarded: Site, tmp_path: Path) -> None:
    shown = browse(f"{guarded.url}/api/v1/schema", tmp_path)
    assert "Content Security Policy" not in shown.stderr, shown.stderr
    assert 'id="operations-people-login"' in shown.stdout


def browse(url: str, profile: Path) -> subprocess.CompletedProcess[str]:
    """What a browser shows of a page, and what it complains about."""
    return subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={profile}",
            "--enable-logging=stderr",
            "--virtual-time-budget=20000",
            "--dump-dom",
            url,
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


@pytest.mark.parametrize("path", ["/schema", "/schema/oauth2-redirect.html"])
def test_a_page_runs_what_it_holds_and_nothing_else(guarded: Site, path: str) -> None:
    answer = good(guarded.anonymous.get(path))
    (policy,) = answer.headers.get_list("Content-Security-Policy")
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split(";")}
    assert rules["default-src"] == rules["frame-ancestors"] == ["'none'"]
    for kind, tag in (("script-src", "script"), ("style-src", "style")):
        assert not {"'unsafe-inline'", "'unsafe-eval'", "*", "data:"} & set(rules[kind])
        held = re.findall(rf"<{tag}[^>]*>(.+?)</{tag}>", answer.text, re.DOTALL)
        inline = [one for one in held if not one.startswith("<")]
        assert len(rules[kind]) == 1 + len(inline), kind


def preflight(site: Site, origin: str) -> httpx.Response:
    asked = {"Origin": origin, "Access-Control-Request-Method": "PATCH"}
    asked["Access-Control-Request-Headers"] = "authorization, idempotency-key"
    return site.anonymous.options("/series/any", headers=asked)


def test_pages_of_named_origins_may_use_the_api(guarded: Site) -> None:
    answer = good(preflight(guarded, ORIGIN))
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    assert "PATCH" in answer.headers["Access-Control-Allow-Methods"]
    assert "idempotency-key" in answer.headers["Access-Control-Allow-Headers"]
    for path in ("/series", "/series", "/nothing", "/auth/me"):
        read = guarded.anonymous.get(path, headers={"Origin": ORIGIN})
        assert read.headers["Access-Control-Allow-Origin"] == ORIGIN
        exposed = read.headers["Access-Control-Expose-Headers"].lower().split(", ")
        assert {"x-position", "etag", "ratelimit-limit", "retry-after"} <= set(exposed)
        varying = read.headers["Vary"].lower()
        assert "origin" in varying, path
        assert "authorization" in varying, path


@pytest.mark.parametrize(
    "origin",
    ["https://reader.example.evil", "http://reader.example", "https://evil", "null", "*"],
)
def test_pages_of_other_origins_may_not(guarded: Site, origin: str) -> None:
    assert preflight(guarded, origin).status_code == 400
    read = guarded.anonymous.get("/series", headers={"Origin": origin})
    assert "Access-Control-Allow-Origin" not in read.headers
    assert "origin" in read.headers["Vary"].lower()


def test_without_the_setting_no_other_origin_may(site: Site) -> None:
    for answer in (preflight(site, ORIGIN), site.anonymous.get("/series", headers={"Origin": "*"})):
        assert not [name for name in answer.headers if name.startswith("access-control")]


class Raw:
    """A connection that sends what it is told to, and no more."""

    def __init__(self, site: Site) -> None:
        self._socket = socket.create_connection((site.settings.host, site.settings.port))
        self._socket.settimeout(60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, some: bytes) -> None:
        self._socket.sendall(some)

    def drip(self, some: bytes) -> None:
        """Send a byte now and then until nobody listens."""
        for byte in some:
            try:
                self._socket.send(bytes([byte]))
            except OSError:
                return
            if self.pause():
                return

    def pause(self) -> bool:
        """Wait a little; whether something came meanwhile."""
        return bool(select.select([self._socket], [], [], SLOW_SECONDS / 5)[0])

    def received(self) -> bytes:
        """All that comes until the other side ends the connection."""
        found = b""
        with suppress(ConnectionResetError):
            while some := self._socket.recv(65_536):
                found += some
        return found


@pytest.mark.parametrize(
    "head", [b"", b"GET /api/v1/series HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 99]
)
def test_a_head_that_does_not_come_to_its_end_is_not_waited_for(guarded: Site, head: bytes) -> None:
    with Raw(guarded) as raw:
        raw.drip(head)
        assert raw.received() == b""


@pytest.mark.parametrize("framing", ["Content-Length: 500", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("route", ["POST /auth/login", "PUT /series/any/chapters?number=1"])
def test_a_body_that_comes_too_slowly_is_refused(guarded: Site, framing: str, route: str) -> None:
    method, path = route.replace("any", guarded.series()).split()
    token = guarded.newcomer("uploader").client.headers["Authorization"]
    kind = "application/json" if "login" in path else "application/zip"
    head = (
        f"{method} /api/v1{path} HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n"
        f"Content-Type: {kind}\r\n{framing}\r\n\r\n"
    )
    with Raw(guarded) as raw:
        raw.send(head.encode())
        raw.drip(b"1\r\n \r\n" * 100 if "chunked" in framing else b" " * 499)
        answer = raw.received()
    assert answer.startswith(b"HTTP/1.1 408"), answer
    assert b"too_slow" in answer


def test_a_large_body_may_take_its_time(guarded: Site) -> None:
    with Raw(guarded) as raw:
        pieces = 3 * SLOW_SECONDS
        head = "POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        raw.send(f"{head}Content-Length: {pieces * PIECE_BYTES}\r\n\r\n".encode())
        for _ in range(pieces):
            raw.send(b" " * PIECE_BYTES)
            raw.pause()
        assert raw.received().startswith(b"HTTP/1.1 415")
