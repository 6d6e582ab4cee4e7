"""People at work on a site while parts of it are killed, and what each of them was answered."""

import itertools
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import BoundedSemaphore, Event, Thread
from typing import Any
from uuid import uuid4

import httpx
from msgspec import Struct

from ingest import samples
from tests.drawings import picture

PAUSE_SECONDS = 0.1
"""Between two attempts to get an answer."""

CHAPTERS_AT_ONCE = 8
"""Chapters on their way from an uploader to a decision."""

NOT_NOW = {503, 504}


class Answer(Struct, frozen=True):
    """What a command was answered."""

    status: int
    id: str
    position: int


def archives() -> list[bytes]:
    """Small chapters, drawn once; neighbours share a page."""
    return [
        samples.pack_archive([("1.jpg", picture(number)), ("2.jpg", picture(number + 1))])
        for number in range(1, 7)
    ]


class Load:
    """Everybody who works on the site."""

    def __init__(self, url: str, tokens: dict[str, str]) -> None:
        self.answers: dict[str, Answer] = {}
        """Every answer by its idempotency key."""
        self.uploads: list[str] = []
        self.decided: list[str] = []
        self.cut_off = 0
        """Attempts that ended without an answer."""
        self.problems: list[str] = []
        self._url = url
        self._tokens = tokens
        self._archives = archives()
        self._ending = Event()
        self._in_flight = BoundedSemaphore(CHAPTERS_AT_ONCE)
        self._hostile: SimpleQueue[str] = SimpleQueue()
        self._threads = [
            Thread(target=self._watched, args=(work,))
            for work in (
                self._write_series,
                self._write_series,
                self._upload,
                self._attack,
                self._moderate,
                self._read,
            )
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Let everybody get the answer that they wait for, then stop."""
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def let_attack(self, name: str) -> None:
        """Have somebody hand in a hostile archive."""
        self._hostile.put(name)

    def _watched(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as problem:
            self.problems.append(repr(problem))
            raise

    def _client(self, name: str = "") -> httpx.Client:
        headers = {"Authorization": f"Bearer {self._tokens[name]}"} if name else {}
        return httpx.Client(base_url=f"{self._url}/api/v1", timeout=30, headers=headers)

    def _ask(self, client: httpx.Client, method: str, path: str, **content: Any) -> Answer:
        """Ask under a key, again and again under the same one, until there is an answer."""
        key = uuid4().hex
        while True:
            try:
                response = client.request(method, path, headers={"Idempotency-Key": key}, **content)
            except httpx.TransportError:
                self.cut_off += 1
                response = None
            if response is not None and response.status_code not in NOT_NOW:
                break
            self._ending.wait(PAUSE_SECONDS)
        if response.is_success:
            said = response.json()
            self.answers[key] = Answer(response.status_code, said.get("id", ""), said["position"])
        elif response.status_code == 422:
            self.answers[key] = Answer(422, "", 0)
        else:
            self.problems.append(f"{method} {path}: {response.status_code} {response.text}")
        return self.answers[key]

    def _new_series(self, client: httpx.Client, title: str) -> str:
        return self._ask(
            client,
            "POST",
            "/series",
            json={
                "title": title,
                "kind": "manga",
                "status": "ongoing",
                "rating": "safe",
                "language": "en",
            },
        ).id

    def _write_series(self) -> None:
        with self._client("ulan") as client, self._client("meder") as moderator:
            for number in itertools.count():
                series = self._new_series(client, f"Series {number}")  # the other writer's, too
                for field in ("description", "title"):
                    said = {field: f"{field} {number}"}
                    self._ask(client, "PATCH", f"/series/{series}", json=said)
                self._ask(moderator, "POST", f"/series/{series}/publication")
                if self._ending.is_set():
                    return

    def _upload(self) -> None:
        with self._client("ulan") as client:
            series = self._new_series(client, "A series with chapters")
            for number, archive in enumerate(itertools.cycle(self._archives)):
                while not self._in_flight.acquire(timeout=PAUSE_SECONDS):
                    if self._ending.is_set():
                        return
                self._hand_in(client, series, number, archive)

    def _hand_in(self, client: httpx.Client, series: str, number: int, archive: bytes) -> None:
        chapter = self._ask(
            client,
            "POST",
            f"/series/{series}/chapters",
            data={"number": str(number)},
            files={"archive": ("chapter.zip", archive, "application/zip")},
        )
        self.uploads.append(chapter.id)

    def _attack(self) -> None:
        with self._client("ulan") as uploader:
            series = self._new_series(uploader, "A series under attack")
        with self._client("meder") as moderator:
            self._ask(moderator, "POST", f"/series/{series}/publication")
        while not self._ending.is_set():
            try:
                name = self._hostile.get(timeout=PAUSE_SECONDS)
            except Empty:
                continue
            with self._client(name) as client:
                self._hand_in(client, series, 1, samples.overlapping())

    def _moderate(self) -> None:
        """Approve, reject, delete while it waits, delete what was approved, and so on."""
        known: set[str] = set()
        with self._client("meder") as client:
            while not self._ending.is_set():
                for chapter in self._waiting(client):
                    if chapter not in known:
                        known.add(chapter)
                        self._decide(client, chapter, len(known) % 4)
                        self._in_flight.release()
                        self.decided.append(chapter)
                self._ending.wait(PAUSE_SECONDS)

    def _waiting(self, client: httpx.Client) -> list[str]:
        response = self._get(client, "/moderation/queue?page_size=100")
        return [one["id"] for one in response.json()["results"]] if response else []

    def _decide(self, client: httpx.Client, chapter: str, way: int) -> None:
        path = f"/chapters/{chapter}"
        if way == 0:
            self._ask(client, "POST", f"{path}/rejection", json={"reason": "blurred"})
        if way in (1, 2):
            self._ask(client, "POST", f"{path}/approval")
        if way in (2, 3):
            self._ask(client, "DELETE", path, json={"reason": "stolen"})

    def _read(self) -> None:
        with self._client() as client:
            while not self._ending.is_set():
                found = self._get(client, "/series?ordering=-created_at")
                for series in found.json()["results"][:2] if found else ():
                    self._get(client, f"/series/{series['slug']}")

    def _get(self, client: httpx.Client, path: str) -> httpx.Response | None:
        """An answer to a reader; none while the site cannot give one."""
        try:
            response = client.get(path)
        except httpx.TransportError:
            self._ending.wait(PAUSE_SECONDS)
            return None
        if response.status_code in NOT_NOW:
            self._ending.wait(PAUSE_SECONDS)
            return None
        if not response.is_success:
            self.problems.append(f"GET {path}: {response.status_code} {response.text}")
        return response
