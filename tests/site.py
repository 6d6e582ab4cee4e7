"""A running site for tests: the real processes on free ports, met only over HTTP."""

import asyncio
import re
import select
import socket
import sys
from collections import deque
from collections.abc import Generator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import parseaddr
from http.client import HTTPResponse
from itertools import count
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import httpx
from msgspec import Struct, json
from msgspec.structs import replace

from api.sessions import Session
from api.tokens import Tokens
from domain.tenancy import MAIN, ROLES, Plan
from ingest import samples
from ingest.keys import tenant_key
from runtime.accounts import add_account
from runtime.mail.wordings import wording
from runtime.onesite import PARTS
from runtime.settings import Settings, environment_of
from runtime.supervisor import Child, Supervisor
from runtime.tenants import open_tenant
from runtime.wiring import open_store
from tests.database import MASTER_KEY, Database
from tests.processes import until

API = "/api/v1"
PASSWORD = "a password of the tests"
SECRET = "a secret of thirty-two bytes at least"
DOMAIN = "site.test"

CAST: dict[str, str] = {
    "reader": "reader",
    "uploader": "uploader",
    "other": "uploader",
    "moderator": "moderator",
    "auditor": "auditor",
    "administrator": "administrator",
}
"""Who is at every site: a name and its role."""

REPORTED = ("catalogue.ChapterProcessed", "catalogue.ChapterRefused")
"""What a worker reports about an archive."""

PAGE = (480, 400)

MOST_BESIDE = 2
"""Api processes that run beside a site's own."""


class Person(Struct, frozen=True):
    """An account, and a client that is signed in as it."""

    id: str
    username: str
    client: httpx.Client


class Organisation(Struct, frozen=True):
    """One of several organisations on a site, and somebody of each role."""

    id: str
    anonymous: httpx.Client
    people: dict[str, Person] = {}

    def client(self, role: str) -> httpx.Client:
        return self.people[role].client


class Request:
    """A request that is sent by hand, piece by piece."""

    def __init__(self, settings: Settings, method: str, path: str, headers: dict[str, str]) -> None:
        self._socket = socket.create_connection((settings.host, settings.port), timeout=60)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.send(f"{method} {path} HTTP/1.1\r\nHost: {settings.host}\r\n{lines}\r\n".encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, some: bytes) -> None:
        self._socket.sendall(some)

    def send_chunk(self, some: bytes) -> None:
        """A piece of a body whose length is not known before it ends."""
        self.send(b"%x\r\n%b\r\n" % (len(some), some))

    def is_answered(self) -> bool:
        """Whether there is an answer already."""
        return bool(select.select([self._socket], [], [], 0)[0])

    def answer(self) -> tuple[int, Any]:
        """The status of the answer, and its body."""
        response = HTTPResponse(self._socket)
        response.begin()
        return response.status, json.decode(response.read())

    def close(self) -> None:
        self._socket.close()


class Site:
    """A running site, and the people at it."""

    def __init__(self, settings: Settings, stack: ExitStack) -> None:
        self.settings = settings
        self.url = f"http://{settings.host}:{settings.port}"
        self.store = open_store(settings)
        self.position = 0
        self._stack = stack
        self._numbers = count(1)
        self._people: dict[str, Person] = {}
        self._beside = deque[Supervisor]()
        self.anonymous = self._client()

    def __getitem__(self, name: str) -> Person:
        """Somebody of the CAST, or a newcomer by user name."""
        return self._people[name]

    def another(self, headers: dict[str, str] | None = None) -> httpx.Client:
        """A client with headers of its own, and nothing else."""
        client = self._client()
        client.headers.update(headers or {})
        return client

    def client(self, name: str) -> httpx.Client:
        """The client of somebody who is here, or of nobody in particular: `anonymous`."""
        return self.anonymous if name == "anonymous" else self._people[name].client

    def newcomer(self, *roles: str) -> Person:
        """Somebody who was never here before."""
        username = f"{roles[0]}-{next(self._numbers)}"
        self._people[username] = self._make_account(username, roles)
        return self._people[username]

    @property
    def now(self) -> dict[str, str]:
        """The header that shows a reader all that was written before."""
        return {"X-Min-Position": str(self.position)}

    def get(self, by: str, path: str, **parameters: Any) -> Any:
        """What somebody reads, no older than all that was written before."""
        return good(self.client(by).get(path, params=parameters, headers=self.now)).json()

    def ask(self, by: str, method: str, path: str, **body: Any) -> Any:
        """What somebody is answered to a command."""
        return good(self.client(by).request(method, path, json=body or None)).json()

    def series(self, by: str = "uploader", *, published: bool = True, **fields: Any) -> str:
        """A new series' id."""
        series = self.ask(by, "POST", "/series", **new_series(**fields))["id"]
        if published:
            self.ask("moderator", "POST", f"/series/{series}/publication")
        return series

    def upload(self, series: str, by: str = "uploader", **fields: str) -> str:
        """The id of a chapter just handed in."""
        return good(
            self.client(by).post(
                f"/series/{series}/chapters",
                data={"number": "1", **fields},
                files={"archive": ("chapter.zip", archive(), "application/zip")},
            )
        ).json()["id"]

    def pending(self, series: str, by: str = "uploader", **fields: str) -> str:
        """The id of a chapter that waits for a moderator."""
        chapter = self.upload(series, by, **fields)
        self.await_report(chapter)
        return chapter

    def approved(self, series: str, **fields: str) -> str:
        """The id of a chapter that a moderator approved."""
        chapter = self.pending(series, **fields)
        self.ask("moderator", "POST", f"/chapters/{chapter}/approval")
        return chapter

    def await_report(self, chapter: str) -> None:
        """Wait until a worker has reported on a chapter's archive."""
        until(lambda: self.trail(f"chapter-{chapter}")[-1]["type"] in REPORTED)
        self.position = max(self.position, self.trail(f"chapter-{chapter}")[-1]["position"])

    def trail(self, stream: str) -> list[dict[str, Any]]:
        """The events of a stream, as auditors see them."""
        return self.get("auditor", f"/audit/streams/{stream}")["results"]

    def events(self, **filters: Any) -> list[dict[str, Any]]:
        """All the events of the log that pass some filters."""
        page = self.get("auditor", "/audit/events", limit=1000, **filters)
        events = page["results"]
        while page["next"]:
            page = good(self.client("auditor").get(self.url + page["next"])).json()
            events += page["results"]
        return events

    def organisation(self, name: str = "A School", plan: Plan = "pro") -> "Organisation":
        """Another organisation on this site, with somebody of each role of its own."""
        tenant = f"school-{next(self._numbers)}"
        asyncio.run(open_tenant(self.settings, tenant, name, plan))
        opened = Organisation(tenant, self._client(tenant=tenant))
        until(lambda: opened.anonymous.get("/tenant").is_success)
        for role in ROLES:
            username = f"{role}-of-{tenant}"
            asyncio.run(add_account(self.settings, username, PASSWORD, (role,), tenant))
            opened.people[role] = self._sign_in(username, tenant)
        return opened

    def outbox(self) -> list[EmailMessage]:
        """All letters that were sent, the first one first."""
        kept = sorted(Path(self.settings.mail_dir).glob("*.eml"))
        return [message_from_bytes(one.read_bytes(), policy=policy.default) for one in kept]

    def letters(self, to: str, letter: str) -> list[str]:
        """What the letters of a kind to an address open."""
        opened: list[str] = []
        for one in self.outbox():
            if addressee(one) == to and kind_of(one) == letter:
                text = one.get_body(("plain",))
                assert text is not None
                found = re.search(r"#token=(\S+)", text.get_content())
                opened.append(found.group(1) if found else "")
        return opened

    def letter(self, to: str, letter: str, number: int = 1) -> str:
        """What one of a number of letters of a kind to an address opens."""
        until(lambda: len(self.letters(to, letter)) >= number)
        return self.letters(to, letter)[0]

    def invitation(self, *roles: str) -> str:
        """The id of an invitation for somebody who was never here."""
        said = {
            "email": f"invited-{next(self._numbers)}@example.org",
            "roles": roles or ("reader",),
        }
        return self.ask("administrator", "POST", "/admin/invitations", **said)["id"]

    def arriving(self) -> list[Path]:
        """The files that archives are received in."""
        return list(self.settings.scratch().glob("upload-*"))

    def archives(self, series: str) -> list[str]:
        """The keys of a series' archives in the blob store."""
        slug = self.get("moderator", f"/series/{series}")["slug"]
        return list(self.store.keys(tenant_key(MAIN, f"series/{slug}/")))

    def begin(self, by: str, method: str, path: str, **headers: str) -> Request:
        """A request whose body is still to be sent."""
        return self._stack.enter_context(
            Request(self.settings, method, API + path, dict(self.client(by).headers) | headers)
        )

    def api_beside(self, **settings: Any) -> httpx.Client:
        """A client of another api process of this site, which may have settings of its own."""
        port = free_port()
        environment = environment_of(replace(self.settings, port=port, **settings))
        command = (sys.executable, "-m", "runtime.cli", "api")
        supervisor = Supervisor([Child("api", command, environment)])
        while len(self._beside) >= MOST_BESIDE:  # or their connections would be too many
            self._beside.popleft().stop()
        self._beside.append(supervisor)
        self._stack.callback(supervisor.stop)
        supervisor.start()
        client = self._client(f"http://{self.settings.host}:{port}")
        until(lambda: _is_ready(client))
        return client

    def start(self) -> None:
        """Run the processes, and make the people's accounts."""
        environment = environment_of(self.settings)
        command = (sys.executable, "-m", "runtime.cli")
        supervisor = Supervisor([Child(part, (*command, part), environment) for part in PARTS])
        self._stack.callback(supervisor.stop)
        supervisor.start()
        until(lambda: _is_ready(self.anonymous))
        role: str = "administrator"
        asyncio.run(add_account(self.settings, role, PASSWORD, (role,)))
        self._people[role] = self._sign_in(role)
        for name in CAST.keys() - {role}:
            self._people[name] = self._make_account(name, (CAST[name],))

    def _make_account(self, username: str, roles: tuple[str, ...]) -> Person:
        account = {"username": username, "password": PASSWORD, "roles": roles}
        self.ask("administrator", "POST", "/people", **account)
        return self._sign_in(username)

    def _sign_in(self, username: str, tenant: str = "") -> Person:
        credentials = {"username": username, "password": PASSWORD}
        client = self._client(tenant=tenant)
        token = good(client.post("/auth/login", json=credentials)).json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        return Person(good(client.get("/auth/me")).json()["id"], username, client)

    def _client(self, url: str = "", tenant: str = "") -> httpx.Client:
        client = httpx.Client(
            base_url=(url or self.url) + API,
            timeout=60,
            headers={"X-Tenant": tenant} if tenant else {},
            event_hooks={"response": [self._note_position]},
        )
        return self._stack.enter_context(client)

    def _note_position(self, response: httpx.Response) -> None:
        self.position = max(self.position, int(response.headers.get("X-Position", "0")))


def access_token(person_id: str, now: datetime, secret: str = SECRET, **session: str) -> str:
    """A token with the site's own signature, of a session that nobody ended."""
    said = {"id": "made-up", "tenant": "main"} | session
    opened = Session(person_id=person_id, expires_at=now + timedelta(days=1), **said)
    return Tokens(secret).access(opened, now, 600)


@contextmanager
def running_site(database: Database, folder: Path, **settings: Any) -> Generator[Site]:
    """A site on a migrated database; its blobs are in a folder unless settings say otherwise."""
    scratch, blobs = folder / "scratch", folder / "blobs"
    port = free_port()
    scratch.mkdir()
    blobs.mkdir()
    complete = replace(
        Settings(
            dsn=database.app,
            master_key=MASTER_KEY,
            secret=SECRET,
            port=port,
            public_url=f"http://127.0.0.1:{port}",
            access_seconds=7_200,
            registration="open",
            domain=DOMAIN,
            mail_dir=str(folder / "mail"),
            mail_from="Imprimatur <imprimatur@localhost>",
            blob_dir=str(blobs),
            scratch_dir=str(scratch),
            rate_limits="off",  # one address does here what thousands would
            log_level="warning",
        ),
        **settings,
    )
    with ExitStack() as stack:
        site = Site(complete, stack)
        site.start()
        yield site


def _is_ready(client: httpx.Client) -> bool:
    with suppress(httpx.TransportError):
        return client.get("/health").is_success
    return False


def addressee(letter: EmailMessage) -> str:
    """The address that a letter goes to."""
    _, address = parseaddr(str(letter["To"]))
    return address


def kind_of(letter: EmailMessage) -> str:
    """Which of the site's letters this is, told by its subject in its language."""
    words = wording(str(letter["Content-Language"])).letters
    (kind,) = [
        name
        for name, one in words.items()
        if re.fullmatch(re.escape(one.subject).replace(r"\{site\}", ".+"), str(letter["Subject"]))
    ]
    return kind


def free_port() -> int:
    """A port that nothing listens on."""
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def good(response: httpx.Response) -> httpx.Response:
    """A response that is a success."""
    assert response.is_success, f"{response.request.url}: {response.status_code} {response.text}"
    return response


def refused(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The error of a response, in its envelope."""
    assert response.status_code == status, f"{response.request.url}: {response.text[:500]}"
    body = response.json()
    assert body.keys() == {"error", "timestamp", "request_id"}
    assert body["request_id"] == response.headers["X-Request-ID"]
    assert body["error"]["code"] == code
    return body["error"]


def new_series(**fields: Any) -> dict[str, Any]:
    """What is said about a new series."""
    said = {"title": f"Series {uuid4().hex}", "kind": "manga", "status": "ongoing"}
    return {**said, "rating": "safe", "language": "en", **fields}


def archive(*names: str) -> bytes:
    """An honest archive whose pages nobody has seen before."""
    return samples.pack_archive(
        (name, samples.page(uuid4().hex, PAGE)) for name in names or ("001.jpg", "002.jpg")
    )
