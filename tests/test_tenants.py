"""Organisations at the command line: opened, listed, exported, closed."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from msgspec import json

from runtime.settings import environment_of
from tests.processes import until
from tests.site import PASSWORD, Organisation, Site, archive, good, new_series, refused
from tests.whole_site import imprimatur

Run = Callable[..., str]


@pytest.fixture(scope="module")
def school(site: Site) -> Organisation:
    return site.organisation()


@pytest.fixture
def run(site: Site) -> Run:
    """Runs a command beside the running site; what it said, or by which line it refused."""

    def run(*arguments: str, stdin: str = "") -> str:
        ended = imprimatur(*arguments, stdin=stdin, **environment_of(site.settings))
        assert "Traceback" not in ended.stderr
        return ended.stdout.strip() if ended.returncode == 0 else ended.stderr.strip()

    return run


def in_hand(school: Organisation) -> str:
    """A chapter of an organisation that waits for a decision; its page's address."""
    uploader = school.client("uploader")
    series = good(uploader.post("/series", json=new_series())).json()["id"]
    files = {"archive": ("chapter.zip", archive(), "application/zip")}
    address = f"/series/{series}/chapters"
    good(uploader.post(address, data={"number": "1"}, files=files))

    def examined() -> bool:
        uploads = good(uploader.get("/me/uploads")).json()["results"]
        return [one["status"] for one in uploads if one["series"]["id"] == series] == ["pending"]

    until(examined)
    return series


def test_an_organisation_is_opened_once_and_listed(site: Site, run: Run) -> None:
    assert run("tenant", "add", "faculty", "--name", "The Faculty", "--plan", "pro") == "faculty"
    assert run("tenant", "add", "faculty", "--name", "The Faculty") == "faculty"
    assert "(tenant_exists)" in run("tenant", "add", "faculty", "--name", "Another One")
    table = run("tenant", "list")
    (line,) = [line for line in table.splitlines() if "faculty" in line]
    assert {"The", "Faculty", "pro"} <= set(line.split())
    until(lambda: site.anonymous.get("/tenant", headers={"X-Tenant": "faculty"}).is_success)


@pytest.mark.parametrize("slug", ["", "A School", "school-", "a.b", "*", "x" * 33, "школа"])
def test_a_subdomain_that_can_be_none_is_refused(run: Run, slug: str) -> None:
    assert run("tenant", "add", slug, "--name", "A School").startswith("Usage: ")


def test_an_account_is_made_in_an_organisation(site: Site, run: Run, school: Organisation) -> None:
    add = ("user", "add", "dina", "--role", "administrator", "--password-stdin", "--tenant")
    run(*add, school.id, stdin=f"{PASSWORD}\n")
    body = {"username": "dina", "password": PASSWORD}
    good(school.anonymous.post("/auth/login", json=body))
    refused(site.anonymous.post("/auth/login", json=body), 401, "invalid_credentials")
    assert "(tenant_not_found)" in run(*add, "no-such-school", stdin=f"{PASSWORD}\n")


def test_a_command_is_issued_in_an_organisation(run: Run, school: Organisation) -> None:
    series = in_hand(school)
    ask = ("do", "publish-series", "--series-id", series, "--as", f"moderator-of-{school.id}")
    assert "(person_not_found)" in run(*ask)
    assert json.decode(run(*ask, "--tenant", school.id))["position"] > 0


def test_a_plan_has_no_more_members_than_it_allows(
    site: Site,
) -> None:
    small = site.organisation(plan="basic")
    administrator = small.client("administrator")

    def join(number: int) -> int:
        account = {"username": f"member-{number}", "password": PASSWORD, "roles": ["reader"]}
        return administrator.post("/people", json=account).status_code

    here = len(small.people)
    assert [join(number) for number in range(here, 26)] == [201] * (25 - here) + [422]
    account = {"username": "one-more", "email": "more@example.org", "password": PASSWORD}
    answer = small.anonymous.post("/auth/register", json=account)
    assert refused(answer, 422, "plan_members_reached")["details"] == {"limit": 25}


def test_an_export_has_every_event_and_every_file_and_nothing_of_others(
    site: Site, run: Run, school: Organisation, tmp_path: Path
) -> None:
    in_hand(school)
    site.pending(site.series())
    target = tmp_path / "school.zip"
    count = int(run("tenant", "export", school.id, "--output", str(target)))
    with zipfile.ZipFile(target) as exported:
        assert exported.testzip() is None
        lines = exported.read("events.jsonl").splitlines()
        files = {name for name in exported.namelist() if name.startswith("blobs/")}
    events = [json.decode(line) for line in lines]
    assert len(events) == count
    assert {event["tenant"] for event in events} == {school.id}
    names = [e["data"]["username"] for e in events if e["type"] == "people.AccountCreated"]
    assert f"reader-of-{school.id}" in names, "personal texts are readable"
    stored = {key.removeprefix(f"{school.id}/") for key in site.store.keys(f"{school.id}/")}
    assert files == {f"blobs/{key}" for key in stored} != set()
    assert list(tmp_path.iterdir()) == [target]


def test_an_organisation_that_was_closed_is_gone_with_its_files_and_not_its_record(
    site: Site, run: Run, tmp_path: Path
) -> None:
    closing = site.organisation()
    in_hand(closing)
    reader = closing.client("reader")
    good(reader.get("/auth/me"))
    delete = ("tenant", "delete", closing.id, "--reason", "The school has closed.")
    assert "Aborted" in run(*delete)
    good(reader.get("/auth/me"))
    run(*delete, "--yes")
    until(lambda: closing.anonymous.get("/tenant").status_code == 404)
    refused(reader.get("/auth/me"), 404, "tenant_not_found")
    refused(closing.client("uploader").post("/series", json=new_series()), 404, "tenant_not_found")
    token = {"Authorization": reader.headers["Authorization"]}
    refused(site.anonymous.get("/auth/me", headers=token), 401, "not_signed_in")
    until(lambda: not list(site.store.keys(f"{closing.id}/")))
    with psycopg.connect(site.settings.dsn) as connection:
        left = connection.execute(
            "SELECT (SELECT count(*) FROM people.sessions WHERE tenant = %(tenant)s),"
            " (SELECT count(*) FROM ingest.blobs WHERE starts_with(key, %(tenant)s || '/'))",
            {"tenant": closing.id},
        ).fetchone()
    assert left == (0, 0)
    assert "(tenant_exists)" in run("tenant", "add", closing.id, "--name", "Another School")
    target = tmp_path / "after.zip"
    assert int(run("tenant", "export", closing.id, "--output", str(target))) > 0
    assert "(tenant_not_closable)" in run("tenant", "delete", "main", "--reason", "No.", "--yes")
