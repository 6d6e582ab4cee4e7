"""`kill -9` of each part of a site under load: every answer was true, nothing is lost or left."""

import asyncio
from collections import Counter
from typing import Any

import httpx
import psycopg
from msgspec import json

from domain.catalogue import (
    Chapter,
    ChapterProcessed,
    ChapterRefused,
    ChapterUploaded,
    PagesRecorded,
)
from domain.kernel import RECORDED_COLUMNS, Recorded, fold, recorded
from domain.people import PersonBanned
from domain.tenancy import MAIN
from ingest.blobs import DirectoryStore
from ingest.keys import page_key, tenant_key
from projections.catalogue.rows import image_name, thumbnail_name
from runtime.accounts import add_account
from runtime.datafolder import DataFolder
from runtime.embedded import EmbeddedPostgres, read_dsn
from runtime.onesite import running_settings
from runtime.settings import Settings
from tests.load import Load
from tests.processes import open_folder, until
from tests.rebuilding import assert_equal_to_a_rebuild
from tests.whole_site import WholeSite, whole_site

PASSWORD = "a password of the tests"

PARTS = ("api", "projector", "worker", "postgres", "everything")

PEOPLE: dict[str, str] = {
    "ulan": "uploader",
    "meder": "moderator",
    "worker-attacker": "uploader",
    "everything-attacker": "uploader",
}

REPORTS = ("catalogue.RecordPages", "catalogue.RefuseChapter")

Command = dict[str, Any]


def sign_everybody_in(site: WholeSite) -> dict[str, str]:
    """Make the accounts, and sign them in."""
    settings = running_settings(site.data, Settings())
    tokens: dict[str, str] = {}
    for name, role in PEOPLE.items():
        asyncio.run(add_account(settings, name, PASSWORD, (role,)))
        said = {"username": name, "password": PASSWORD}
        response = httpx.post(f"{site.url}/api/v1/auth/login", json=said)
        tokens[name] = response.json()["access_token"]
    return tokens


def await_progress(load: Load, answers: int = 40, decided: int = 2) -> None:
    """Wait until commands are answered, and chapters come all the way."""
    goal = len(load.answers) + answers, len(load.decided) + decided
    until(
        lambda: (
            bool(load.problems) or (len(load.answers) >= goal[0] and len(load.decided) >= goal[1])
        )
    )


def is_quiet(dsn: str) -> bool:
    """Whether all that follows from the log was done."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM jobs.procrastinate_jobs),"
            " (SELECT min(position) FROM projections.policies),"
            " (SELECT min(position) FROM projections.checkpoints),"
            " (SELECT max(position) FROM log.events)"
        ).fetchone()
    return row is not None and row[0] == 0 and row[1] == row[2] == row[3]


def tell(site: WholeSite) -> Load:
    """Work on a site while one part of it after the other is killed."""
    load = Load(site.url, sign_everybody_in(site))
    load.start()
    try:
        for part in PARTS:
            await_progress(load)
            if f"{part}-attacker" in PEOPLE:
                load.let_attack(f"{part}-attacker")
            if part == "everything":
                site.kill_whole()
            else:
                site.kill(part)
        await_progress(load)
    finally:
        load.end()
    dsn = read_dsn(site.data, "app")
    until(lambda: is_quiet(dsn))
    return load


class Record:
    """What is found in a site's folder after its people have gone home."""

    def __init__(self, connection: psycopg.Connection[Any], blobs: DirectoryStore) -> None:
        rows = connection.execute(
            f"SELECT {RECORDED_COLUMNS} FROM log.events ORDER BY position"
        ).fetchall()
        self.events = [recorded(row) for row in rows]
        cursor = connection.execute(
            "SELECT command_id, name, outcome, first_position, last_position FROM log.commands"
        )
        names = [column.name for column in cursor.description or ()]
        self.commands: list[Command] = [dict(zip(names, row, strict=True)) for row in cursor]
        self.by_id = {command["command_id"]: command for command in self.commands}
        self.held = connection.execute("SELECT key, held FROM ingest.blob_references").fetchall()
        self.known_blobs = [key for (key,) in connection.execute("SELECT key FROM ingest.blobs")]
        self.blobs = set(blobs.keys())
        self.dead_letters = connection.execute(
            "SELECT model, position, error FROM projections.dead_letters"
        ).fetchall()

    def of(self, *kinds: type[Any]) -> list[Recorded]:
        """The events of some types."""
        return [one for one in self.events if isinstance(one.event, kinds)]

    def chapters(self) -> dict[str, list[Recorded]]:
        """The history of every chapter, by its id."""
        found: dict[str, list[Recorded]] = {}
        for one in self.of(*Chapter.folds):
            found.setdefault(one.stream.removeprefix("chapter-"), []).append(one)
        return found


def test_nothing_is_lost_doubled_or_left_behind_whatever_is_killed():
    with open_folder() as folder:
        with whole_site(folder) as site:
            load = tell(site)
            assert site.stop() == 0, site.said
        with EmbeddedPostgres(site.data) as postgres:
            dsn = postgres.dsn("owner")
            assert_equal_to_a_rebuild(dsn, DataFolder(site.data).secret("master"))
            with psycopg.connect(dsn) as connection:
                record = Record(connection, DirectoryStore(site.data / "blobs"))
        assert load.problems == []
        assert record.dead_letters == []
        assert_every_answer_is_on_record(load, record)
        assert_nothing_else_is_on_record(load, record)
        assert_every_chapter_was_examined_once(load, record)
        assert_every_attacker_was_banned_once(record)
        assert_the_blobs_are_those_that_are_needed(load, record)
        assert list((site.data / "scratch").iterdir()) == []


def assert_every_answer_is_on_record(load: Load, record: Record) -> None:
    for key, answer in load.answers.items():
        command = record.by_id[key]
        kept = json.decode(command["outcome"])
        assert (answer.status == 422) == ("rejected" in kept)
        if answer.status != 422:
            assert (answer.id, answer.position) == (kept.get("id", ""), command["last_position"])


def assert_nothing_else_is_on_record(load: Load, record: Record) -> None:
    """Every event belongs to one command, and every command to somebody who was answered."""
    assert [one.position for one in record.events] == list(range(1, len(record.events) + 1))
    moments = [one.recorded_at for one in record.events]
    assert moments == sorted(moments)
    spans = [
        (position, command["command_id"])
        for command in record.commands
        for position in range(command["first_position"], command["last_position"] + 1)
    ]
    assert sorted(spans) == [(one.position, one.command_id) for one in record.events]
    by_others = ("people.CreateAccount", "people.StartSession")
    asked = {c["command_id"] for c in record.commands if c["name"] not in by_others}
    others = asked - load.answers.keys()
    assert all(one.startswith(("job:", "policy:")) for one in others), others


def assert_every_chapter_was_examined_once(load: Load, record: Record) -> None:
    """Deleted while it waited or not: an archive was asked about, and reported on, once."""
    uploaded = Counter(one.stream for one in record.of(ChapterUploaded))
    assert uploaded == Counter(f"chapter-{chapter}" for chapter in load.uploads)
    reported = Counter(one.stream for one in record.of(ChapterProcessed, ChapterRefused))
    assert reported == uploaded
    reports = [one for one in record.commands if one["name"] in REPORTS]
    assert len(reports) == len(uploaded)


def assert_every_attacker_was_banned_once(record: Record) -> None:
    refusals = record.of(ChapterRefused)
    assert len(refusals) == 2
    expected = [f"policy:people.ban_malicious_uploader:{one.position}:0" for one in refusals]
    assert sorted(one.command_id for one in record.of(PersonBanned)) == sorted(expected)


def assert_the_blobs_are_those_that_are_needed(load: Load, record: Record) -> None:
    """Pages while a chapter waits or is approved, its archive while it waits."""
    archives: set[str] = set()
    known: set[str] = set()
    pages: set[str] = set()
    for history in record.chapters().values():
        chapter = fold(Chapter(), [one.event for one in history])
        archive = tenant_key(MAIN, chapter.archive)
        known.add(archive)
        if chapter.deleted or chapter.status not in ("pending", "approved"):
            continue
        if chapter.status == "pending":
            archives.add(archive)
        for one in history:
            if isinstance(one.event, PagesRecorded):
                for page in one.event.pages:
                    pages |= {
                        page_key(MAIN, one) for one in (image_name(page), thumbnail_name(page))
                    }
    assert record.blobs >= pages | archives
    # An archive is stored before its chapter is recorded; a kill in between leaves it behind.
    strays = record.blobs - pages - archives
    assert len(strays) <= load.cut_off
    assert strays.isdisjoint(known)
    assert {key for key, _ in record.held} == set(record.known_blobs) == pages
    assert all(held for _, held in record.held)
