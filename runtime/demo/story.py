"""The story: from an uploader's disk to a reader's screen, every decision on record."""

import time
from collections.abc import Callable
from typing import Any

from msgspec import Struct, field

from ingest import samples
from runtime.demo.client import Person, StepFailed, checked

ADMINISTRATOR = "aida"
CAST = {
    "ulan": "uploader",
    "bek": "uploader",
    "meder": "moderator",
    "asel": "auditor",
    "nur": "reader",
}

PATIENCE_SECONDS = 45.0
POLL_SECONDS = 0.1
"""The API announces nothing yet, so whoever waits for a worker's doing asks again."""

REASON = "Pages 3 to 5 are missing; please upload the whole chapter."

Progress = Callable[[int, int], None]
"""Told how many archives are done, and of how many."""


class Step(Struct, frozen=True):
    """One step of the story, and what came of it."""

    name: str
    detail: str


class Summary(Struct):
    """What happened, and how to go on from there."""

    url: str
    accounts: list[dict[str, str]]
    steps: list[Step] = field(default_factory=list[Step])
    names: dict[str, str] = field(default_factory=dict[str, str])
    trail: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    failure: str = ""

    @property
    def held(self) -> bool:
        return not self.failure


class Upload(Struct, frozen=True):
    """A chapter of the story, and how its uploader packed it."""

    style: str
    series: str
    number: str
    archive: bytes


def uploads() -> list[Upload]:
    """What the uploader has on disk: the ways people name pages."""
    plain = [f"{n}.jpeg" for n in range(11)]
    natural = [f"page {n}.jpg" for n in range(1, 12)]
    numbered = [f"Vol.1 Ch.3/Vol.1 Ch.3 - {n:03}.png" for n in range(1, 6)]
    spread = ["!001.jpg", "002.jpg", "003.jpg", "004-005.jpg", "006.jpg"]
    junk = [
        ("__MACOSX/._p000.jpg", b"resource fork"),
        (".DS_Store", b"finder"),
        ("ComicInfo.xml", b"<ComicInfo/>"),
    ]
    gaps = ["p001.jpg", "p002.jpg", "p006.jpg", "p007.jpg"]
    return [
        Upload("0.jpeg to 10.jpeg", "manga", "1", samples.chapter(plain, "One")),
        Upload("page 2 before page 10", "manga", "2", samples.chapter(natural, "Two")),
        Upload("a wrapper folder", "manga", "3", samples.chapter(numbered, "Three")),
        Upload("credits and a spread", "manga", "4", samples.chapter(spread, "Four")),
        Upload(
            "__MACOSX and ComicInfo.xml",
            "manga",
            "5",
            samples.chapter([f"p{n:03}.jpg" for n in range(6)], "Five", junk),
        ),
        Upload("pages are missing", "manga", "6", samples.chapter(gaps, "Six")),
        Upload("one strip of 800 x 15000", "webtoon", "1", samples.webtoon("The long way")),
    ]


class Story:
    """Tells the story to a site, and keeps what each step showed."""

    def __init__(self, summary: Summary, passwords: dict[str, str], progress: Progress) -> None:
        self._summary = summary
        self._passwords = passwords
        self._progress = progress
        self._series: dict[str, str] = {}
        self._chapters: list[str] = []

    def tell(self) -> None:
        """Every step in order; raises StepFailed at the first that does not hold."""
        self._make_accounts()
        with self._person("ulan") as uploader, self._person("meder") as moderator:
            self._create_series(uploader)
            self._publish(moderator, uploader.position)
            self._upload(uploader)
            self._attack(moderator)
            self._moderate(moderator)
            self._see_decisions(uploader, moderator.position)
            self._read(moderator.position)
        self._audit()

    def _person(self, username: str) -> Person:
        return Person(self._summary.url, username).sign_in(self._passwords[username])

    def _note(self, name: str, detail: str) -> None:
        self._summary.steps.append(Step(name, detail))

    def _make_accounts(self) -> None:
        with self._person(ADMINISTRATOR) as administrator:
            for username, role in CAST.items():
                account = administrator.ask(
                    "POST",
                    "/people",
                    key=f"demo-account-{username}",
                    username=username,
                    password=self._passwords[username],
                    roles=[role],
                )
                self._summary.names[account["id"]] = username
        self._note("the administrator makes accounts", ", ".join(CAST))

    def _create_series(self, uploader: Person) -> None:
        for kind, title in (("manga", "The Lamplighter"), ("webtoon", "The Long Way Down")):
            self._series[kind] = uploader.ask(
                "POST",
                "/series",
                key=f"demo-series-{kind}",
                title=title,
                kind=kind,
                status="ongoing",
                rating="safe",
                language="en",
                description="Drawn for this demonstration.",
                creators=["Ulan"],
                categories=["Adventure"],
            )["id"]
        self._note("the uploader creates two series", ", ".join(self._series.values()))

    def _publish(self, moderator: Person, position: int) -> None:
        waiting = moderator.read("/moderation/series", at=position)["results"]
        for series in self._series.values():
            moderator.ask("POST", f"/series/{series}/publication")
        self._note("the moderator publishes them", f"{len(waiting)} waiting")

    def _upload(self, uploader: Person) -> None:
        chapters = uploads()
        for upload in chapters:
            chapter = uploader.upload(
                self._series[upload.series],
                f"demo-chapter-{upload.series}-{upload.number}",
                upload.archive,
                number=upload.number,
            )
            self._chapters.append(chapter)
        statuses = self._await_processing(uploader, len(chapters))
        _hold("refused" not in statuses.values(), f"an honest archive was refused: {statuses}")
        styles = ", ".join(upload.style for upload in chapters)
        self._note(f"{len(chapters)} archives are uploaded and processed", styles)

    def _await_processing(self, uploader: Person, expected: int) -> dict[str, str]:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            found = uploader.read("/me/uploads", page_size="100")["results"]
            statuses = {one["id"]: one["status"] for one in found if one["id"] in self._chapters}
            done = sum(status != "processing" for status in statuses.values())
            self._progress(done, expected)
            if done == expected:
                return statuses
            time.sleep(POLL_SECONDS)
        raise StepFailed(f"not processed within {PATIENCE_SECONDS:g} s")

    def _attack(self, moderator: Person) -> None:
        """A hostile archive: its uploader is banned without anybody lifting a hand."""
        credentials = {"username": "bek", "password": self._passwords["bek"]}
        with Person(self._summary.url, "bek") as attacker:
            response = attacker.attempt("/auth/login", credentials)
            if response.status_code != 403:  # else: banned when the story was told before
                attacker.sign_in(self._passwords["bek"])
                attacker.upload(
                    self._series["manga"], "demo-hostile", samples.overlapping(), number="7"
                )
            deadline = time.monotonic() + PATIENCE_SECONDS
            while response.status_code != 403 and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)
                response = attacker.attempt("/auth/login", credentials)
        _hold(response.status_code == 403, "the hostile uploader was not banned")
        reason = response.json()["error"]["details"]["reason"]
        self._note("a hostile archive gets its uploader banned", reason)

    def _moderate(self, moderator: Person) -> None:
        queue = moderator.read("/moderation/queue", page_size="100")
        waiting = [one["id"] for one in queue["results"]]
        *good, webtoon = self._chapters
        flawed = good.pop()
        for chapter in (*good, webtoon):
            moderator.ask("POST", f"/chapters/{chapter}/approval", note="Reads well.")
        moderator.ask("POST", f"/chapters/{flawed}/rejection", reason=REASON)
        self._note(
            "the moderator decides", f"{len(waiting)} waiting, {len(good) + 1} approved, 1 rejected"
        )

    def _see_decisions(self, uploader: Person, position: int) -> None:
        rejected = uploader.read("/me/uploads", at=position, status="rejected")["results"]
        _hold(any(one["reason"] == REASON for one in rejected), "the reason was not shown")
        self._note("the uploader reads why", REASON)

    def _read(self, position: int) -> None:
        """A reader who never signed in."""
        with Person(self._summary.url) as reader:
            listed = reader.read("/series", at=position)
            found = reader.read("/series", search="lamp")["results"]
            _hold(listed["count"] >= len(self._series) and found, "series are not listed")
            detail = reader.read(f"/series/{found[0]['slug']}")
            chapters = [one for volume in detail["volumes"] for one in volume["chapters"]]
            chapter = reader.read(f"/chapters/{chapters[0]['id']}")
            image = checked(reader.fetch(chapter["pages"][0]["url"]))
            _hold(image.headers["content-type"] == "image/jpeg", "a page is not an image")
            hidden = reader.fetch(f"/api/v1/chapters/{self._chapters[-2]}")
            _hold(hidden.status_code == 404, "a rejected chapter is visible")
        pages = f"{len(chapter['pages'])} pages, first {len(image.content):,} bytes"
        self._note("a reader finds a series and opens a chapter", pages)

    def _audit(self) -> None:
        with self._person("asel") as auditor:
            trail = auditor.read(f"/audit/streams/chapter-{self._chapters[-2]}")["results"]
        _hold(trail[-1]["data"].get("reason") == REASON, "the trail does not end in the reason")
        self._summary.trail = trail
        self._note("the auditor reads one chapter's trail", f"{len(trail)} events")


def _hold(condition: object, otherwise: str) -> None:
    if not condition:
        raise StepFailed(otherwise)
