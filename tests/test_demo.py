"""The demonstration: one command that tells the whole story, and says whether it held."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from msgspec import json

from ingest.blobs import DirectoryStore
from runtime.demo.story import ADMINISTRATOR, CAST
from runtime.embedded import EmbeddedPostgres
from tests.processes import open_folder
from tests.whole_site import at_work_in, free_port, imprimatur, whole_site

STEPS = (
    "the administrator makes accounts",
    "the uploader creates two series",
    "the moderator publishes them",
    "7 archives are uploaded and processed",
    "a hostile archive gets its uploader banned",
    "the moderator decides",
    "the uploader reads why",
    "a reader finds a series and opens a chapter",
    "the auditor reads one chapter's trail",
)

TRAIL = ("ChapterUploaded", "PagesRecorded", "ChapterProcessed", "ChapterRejected")


def tell(folder: Path, status: int = 0) -> dict[str, Any]:
    """Tell the story in a folder; its summary."""
    ended = imprimatur(
        "demo", "--once", "--json", "--data", str(folder), "--port", str(free_port())
    )
    assert ended.returncode == status, ended.stderr
    assert at_work_in(folder) == []
    return json.decode(ended.stdout)


def record(folder: Path) -> tuple[Any, ...] | None:
    """How much is on record in a folder, less who signed in."""
    with EmbeddedPostgres(folder) as postgres, psycopg.connect(postgres.dsn("app")) as connection:
        return connection.execute(
            "SELECT (SELECT count(*) FROM log.events WHERE type NOT LIKE 'people.Session%'),"
            " (SELECT count(*) FROM log.commands WHERE name NOT LIKE 'people.%Session'),"
            " (SELECT count(*) FROM people.credentials), (SELECT count(*) FROM ingest.blobs)"
        ).fetchone()


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder / "demo"


def test_the_story_holds_every_time_it_is_told_and_says_so_when_it_does_not(folder: Path):
    first = tell(folder)
    assert first["failure"] == ""
    assert tuple(step["name"] for step in first["steps"]) == STEPS
    assert tuple(event["type"].partition(".")[2] for event in first["trail"]) == TRAIL
    assert {one["username"] for one in first["accounts"]} == {ADMINISTRATOR, *CAST}
    told = {step["name"]: step["detail"] for step in first["steps"]}
    assert told["the moderator publishes them"] == "2 waiting"
    assert told["the moderator decides"].startswith("7 waiting, ")
    before = record(folder)

    second = tell(folder)
    assert second["failure"] == ""
    assert second["trail"] == first["trail"]
    assert second["accounts"] == first["accounts"]
    assert record(folder) == before, "the second time something was recorded anew"

    store = DirectoryStore(folder / "blobs")
    for page in list(store.keys("main/pages/")):
        store.delete(page)
    third = tell(folder, status=1)
    assert third["failure"].startswith("404 for GET /api/v1/chapters/")
    assert tuple(step["name"] for step in third["steps"]) == STEPS[:7]


def test_a_story_told_once_names_no_address_of_a_site_that_has_ended(folder: Path):
    ended = imprimatur("demo", "--once", "--data", str(folder), "--port", str(free_port()))
    assert ended.returncode == 0, ended.stderr
    assert "http://" not in ended.stdout
    assert "The site has ended." in ended.stdout


def test_a_port_that_is_taken_is_named_in_a_line(folder: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = imprimatur("demo", "--once", "--data", str(folder), "--port", port)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"imprimatur: port {port} is taken; choose another with --port\n"
    assert at_work_in(folder) == []


def test_a_second_site_in_the_same_folder_is_refused_in_a_line_and_the_first_goes_on(folder: Path):
    with whole_site(folder.parent) as site:
        ended = imprimatur("up", "--data", str(site.data), "--port", str(free_port()))
        assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (1, "", 1)
        assert f"{site.data} is in use by another process (pid {site.pid})" in ended.stderr
        assert all(map(site.pid_of, ("postgres", "api", "projector", "worker")))
        assert site.is_ready()
        assert site.stop() == 0
