"""The command line: what it does, and how it refuses."""

import logging
import re
import sys
from collections.abc import Callable, Iterator
from getpass import getuser
from io import StringIO
from pathlib import Path

import psycopg
import pytest
from msgspec import Struct, json

from commands.kernel import COMMANDS
from projections.catalogue import Catalogue
from projections.kernel import MODELS
from projections.moderation import Moderation
from runtime.cli import cli, main
from runtime.embedded import EmbeddedPostgres
from runtime.migrate import migrate
from runtime.settings import SettingInvalid, Settings, environment_of, read_settings, variable
from tests.database import MASTER_KEY, Database
from tests.processes import PROJECT, open_folder
from tests.whole_site import bare_environment, imprimatur

PASSWORD = "a password of the tests"
BAN = "people.ban_malicious_uploader"
SERIES = ("--kind", "manga", "--status", "ongoing", "--rating", "safe", "--language", "en")


class Ended(Struct, frozen=True):
    """How a command ended, and what it said."""

    status: object
    out: str
    err: str

    def refused(self) -> str:
        """The one line by which it refused."""
        assert (self.status, self.out, self.err.count("\n")) == (1, "", 1), self
        return self.err.removeprefix("imprimatur: ").rstrip()

    def done(self) -> str:
        """What it said when it did what was asked."""
        assert (self.status, self.err) == (0, ""), self
        return self.out.rstrip()


Run = Callable[..., Ended]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process, with these settings alone."""

    def run(*arguments: str, stdin: str = "", **settings: str) -> Ended:
        with monkeypatch.context() as patch:
            for name in set(map(variable, Settings.__struct_fields__)):
                patch.delenv(name, raising=False)
            for name, value in settings.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["imprimatur", *arguments])
            patch.setattr(sys, "stdin", StringIO(stdin))
            with pytest.raises(SystemExit) as ended:
                main()
        said = capsys.readouterr()
        return Ended(ended.value.code or 0, said.out, said.err)

    return run


@pytest.fixture
def on_site(run: Run, database: Database) -> Run:
    """Runs a command on a site's database, where three people have an account."""

    def on_site(*arguments: str, stdin: str = "") -> Ended:
        settings = {
            variable("dsn"): database.app,
            variable("admin_dsn"): database.owner,
            variable("master_key"): MASTER_KEY,
        }
        return run(*arguments, stdin=stdin, **settings)

    for name, role in (("ulan", "uploader"), ("meder", "moderator"), ("nur", "reader")):
        add_user(on_site, name, role).done()
    return on_site


def add_user(run: Run, name: str, role: str, password: str = PASSWORD) -> Ended:
    return run("user", "add", name, "--role", role, "--password-stdin", stdin=f"{password}\n")


def test_an_account_is_made_with_the_password_from_standard_input(on_site: Run, database: Database):
    person = add_user(on_site, "aida", "administrator").done()
    with psycopg.connect(database.app) as connection:
        found = connection.execute(
            "SELECT e.body, c.hash FROM log.events e JOIN people.credentials c ON c.person_id = %s"
            " WHERE e.stream = %s",
            (person, f"person-{person}"),
        ).fetchone()
    assert found is not None
    assert json.decode(found[0])["roles"] == ["administrator"]
    assert PASSWORD not in found[1]


def test_an_account_that_cannot_be_made_is_refused_in_a_line(on_site: Run, database: Database):
    for name, password, complaint in (
        ("aida", "too short", "password: The length must be at least 10."),
        ("Not A Name", PASSWORD, "username: Lower-case letters, digits, `.`, `_` and `-`."),
    ):
        ended = add_user(on_site, name, "reader", password)
        assert (ended.status, ended.out) == (2, "")
        assert complaint in " ".join(ended.err.split())
    assert add_user(on_site, "ulan", "reader").refused().endswith("(username_taken)")
    with psycopg.connect(database.app) as connection:
        left = connection.execute("SELECT count(*) FROM people.credentials").fetchone()
    assert left == (3,), "a password of nobody is kept"


def test_a_command_is_issued_as_an_account(on_site: Run, database: Database):
    create = ("do", "create-series", "--as", "ulan", "--title", "One", *SERIES)
    made = json.decode(on_site(*create, "--categories", "A", "--categories", "B").done())
    revise = ("do", "revise-series", "--as", "ulan", "--series-id", made["id"], "--title", "Two")
    revised = json.decode(on_site(*revise).done())
    assert revised["position"] > made["position"]
    with psycopg.connect(database.app) as connection:
        bodies = connection.execute(
            "SELECT body, causation_id FROM log.events WHERE stream = %s ORDER BY version",
            (f"series-{made['id']}",),
        ).fetchall()
    first, second = (json.decode(body) for (body, _) in bodies)
    assert {cause for (_, cause) in bodies} == {f"operator:{getuser()}"}
    assert (first["title"], first["categories"]) == ("One", ["A", "B"])
    assert second == {"series_id": made["id"], "title": "Two"}


def test_the_same_idempotency_key_gets_the_same_answer(on_site: Run):
    command = ("do", "create-series", "--as", "ulan", "--title", "One", *SERIES)
    first = on_site(*command, "--idempotency-key", "once").done()
    assert on_site(*command, "--idempotency-key", "once").done() == first
    assert on_site(*command, "--idempotency-key", "twice").done() != first


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("approve-chapter", "--as", "meder", "--chapter-id", "none"), "(chapter_not_found)"),
        (
            ("approve-chapter", "--as", "nur", "--chapter-id", "none"),
            "(permission_denied, permission: catalogue.approve)",
        ),
        (("approve-chapter", "--as", "nobody", "--chapter-id", "none"), "(person_not_found)"),
    ],
)
def test_a_refused_command_says_why_in_a_line(on_site: Run, arguments: tuple[str, ...], code: str):
    assert on_site("do", *arguments).refused().endswith(code)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("create-series", "--title", "", *SERIES), "--title: The length must be at least 1."),
        (
            ("create-series", "--title", "One", "--aliases", "a", "--aliases", "", *SERIES),
            "--aliases: The length must be at least 1.",
        ),
        (("create-series", "--title", "One", *SERIES, "--kind", "novel"), "'--kind': 'novel' is"),
        (
            ("ban-person", "--person-id", "p", "--reason", "No.", "--until", "5"),
            "--until: This must be a moment",
        ),
        (("revise-series", "--series-id", "s"), "Say at least one thing to change."),
        (
            ("publish-series", "--series-id", "s", "--idempotency-key", "a b"),
            "--idempotency-key: This must match",
        ),
    ],
)
def test_a_flag_that_says_something_wrong_is_named(
    on_site: Run, arguments: tuple[str, ...], complaint: str
):
    ended = on_site("do", *arguments, "--as", "ulan")
    assert (ended.status, ended.out) == (2, "")
    assert complaint in " ".join(ended.err.split())


def test_help_shows_what_there_is_to_choose_from(run: Run):
    for verb in ("create-series", "revise-series"):
        shown = run("do", verb, "--help").done()
        assert "--status [canceled|completed|hiatus|ongoing]" in shown


def test_every_command_with_a_route_is_a_verb(run: Run):
    verbs = {spec.verb for spec in COMMANDS.values() if spec.method is not None}
    listed = re.findall(r"^  ([a-z][a-z-]*)  ", run("do", "--help").done(), re.MULTILINE)
    assert set(listed) == verbs


def test_help_lists_every_command():
    ended = imprimatur("--help")
    assert (ended.returncode, ended.stderr) == (0, "")
    listed = re.findall(r"^  ([a-z][a-z-]*)  ", ended.stdout, re.MULTILINE)
    assert set(listed) == cli.commands.keys()


def test_status_shows_every_read_model(on_site: Run):
    shown = on_site("projections", "status").done()
    assert all(f" {model.schema()} " in shown for model in MODELS.values())


def test_what_was_set_aside_is_shown_and_marked_for_a_retry(on_site: Run, database: Database):
    with psycopg.connect(database.app, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO projections.dead_letters (model, version, position, stream, error)"
            " VALUES ('catalogue', %s, 1, 'series-s1', 'broken')",
            (Catalogue.version,),
        )
        assert re.search(rf"{Catalogue.schema()} +│ 0 +│ 9 +│ 1 ", status(on_site))
        for name in (Catalogue.name, Catalogue.schema()):
            connection.execute("UPDATE projections.dead_letters SET retry = false")
            assert on_site("projections", "retry", name).done() == "1"
            marked = connection.execute("SELECT retry FROM projections.dead_letters").fetchall()
            assert marked == [(True,)]
        assert on_site("projections", "retry", "moderation").done() == "0"
        unknown = on_site("projections", "retry", "catalogue_9").refused()
        assert unknown == "there is no read model called catalogue_9"


def status(run: Run) -> str:
    return run("projections", "status").done()


def test_what_a_policy_set_aside_is_shown_and_marked_for_a_retry(on_site: Run, database: Database):
    with psycopg.connect(database.app, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO projections.policies VALUES (%s, 2), ('people.greet', 3)", (BAN,)
        )
        connection.execute(
            "INSERT INTO projections.policy_dead_letters (policy, position, stream, error)"
            " VALUES (%s, 1, 'person-p1', 'broken')",
            (BAN,),
        )
        shown = on_site("policies", "status").done()
        assert re.search(rf"{BAN} +│ 2 +│ 7 +│ 1 ", shown)
        assert re.search(r"people\.greet +│ 3 +│ retired +│ 0 ", shown)
        for names in ((), (BAN,)):
            connection.execute("UPDATE projections.policy_dead_letters SET retry = false")
            assert on_site("policies", "retry", *names).done() == "1"
            marked = connection.execute("SELECT retry FROM projections.policy_dead_letters")
            assert marked.fetchall() == [(True,)]
        assert on_site("policies", "retry", "people.greet").done() == "0"
        unknown = on_site("policies", "retry", "people.wave").refused()
        assert unknown == "there is no policy called people.wave"


def test_a_job_that_was_given_up_is_shown_and_queued_again(on_site: Run, database: Database):
    with psycopg.connect(database.app, autocommit=True) as connection:
        connection.execute("SET search_path TO jobs")
        connection.execute(
            "INSERT INTO jobs.procrastinate_jobs (id, queue_name, task_name, status) VALUES"
            " (7, 'default', 'people.Greet', 'failed'), (8, 'default', 'people.Wave', 'failed'),"
            " (9, 'default', 'people.Wave', 'todo')"
        )
        connection.execute("INSERT INTO jobs.errors VALUES (7, 'the [/post] is closed')")
        shown = on_site("jobs", "status").done()
        assert re.search(r"people\.Wave +│ todo +│ 1 ", shown)
        assert re.search(r"people\.Wave +│ failed +│ 1 ", shown)
        assert re.search(r" 7 +│ people\.Greet +│ the \[/post\] is closed ", shown)
        for number in ("9", "99"):
            assert on_site("jobs", "retry", number).refused() == f"no job {number} was given up"
        assert on_site("jobs", "retry", "7").done() == "1"
        waiting = "SELECT id FROM jobs.procrastinate_jobs WHERE status = 'todo' ORDER BY id"
        assert connection.execute(waiting).fetchall() == [(7,), (9,)]
        assert on_site("jobs", "retry").done() == "1"
        assert connection.execute(waiting).fetchall() == [(7,), (8,), (9,)]


def test_migrating_again_changes_nothing(on_site: Run, database: Database):
    on_site("migrate").done()
    assert status(on_site) == status(on_site)


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder / "site"


def test_a_command_finds_the_embedded_site_of_a_folder(run: Run, folder: Path):
    with EmbeddedPostgres(folder) as postgres:
        migrate(postgres.dsn("owner"))
        assert run("dsn", "--data", str(folder)).done() == postgres.dsn("app")
        assert run("dsn", "--admin", "--data", str(folder)).done() == postgres.dsn("owner")
        account = ("user", "add", "aida", "--role", "administrator", "--password-stdin")
        run(*account, "--data", str(folder), stdin=PASSWORD).done()
        series = ("create-series", "--title", "One", *SERIES)
        run("do", *series, "--as", "aida", "--data", str(folder)).done()
        run("migrate", "--data", str(folder)).done()
        assert Moderation.schema() in run("projections", "status", "--data", str(folder)).done()
    for command in (("dsn",), ("migrate",), ("projections", "status")):
        assert "is not running" in run(*command, "--data", str(folder)).refused()


def test_a_folder_where_no_site_ever_was_is_named(run: Run, folder: Path):
    refusal = run("dsn", "--data", str(folder)).refused()
    assert refusal == f"no site with an embedded PostgreSQL was ever started in {folder}"


@pytest.mark.parametrize(
    ("settings", "refusal"),
    [
        ({"IMPRIMATUR_FOO": "1"}, "nothing reads IMPRIMATUR_FOO"),
        ({"IMPRIMATUR_FOO_FILE": "/dev/null"}, "nothing reads IMPRIMATUR_FOO_FILE"),
        ({"IMPRIMATUR_PORT": "http"}, "IMPRIMATUR_PORT is not a port: http"),
        ({"IMPRIMATUR_SECRET": "short"}, "IMPRIMATUR_SECRET needs 32 bytes or more"),
        (
            {"IMPRIMATUR_SMTP_URL": "smtp://user:hidden/word@host"},
            "IMPRIMATUR_SMTP_URL has no usable port; a password's :/@ are %3A%2F%40",
        ),
        (
            {"IMPRIMATUR_SMTP_URL": "imap://host"},
            "IMPRIMATUR_SMTP_URL begins with neither smtp:// nor smtps://",
        ),
        (
            {"IMPRIMATUR_SMTP_URL": "smtp://user@host"},
            "IMPRIMATUR_SMTP_URL needs a user and a password, or neither",
        ),
        (
            {"IMPRIMATUR_SMTP_URL": "smtp://host", "IMPRIMATUR_MAIL_DIR": "mail"},
            "set IMPRIMATUR_SMTP_URL or IMPRIMATUR_MAIL_DIR, not both",
        ),
        (
            {"IMPRIMATUR_MAIL_FROM": "a@example.org, b@example.org"},
            "IMPRIMATUR_MAIL_FROM is not like Name <somebody@example.org>",
        ),
        (
            {"IMPRIMATUR_MAIL_FROM": "a@пример.org"},
            "IMPRIMATUR_MAIL_FROM needs an address in ASCII; write its domain as xn--",
        ),
        (
            {"IMPRIMATUR_PUBLIC_URL": "manga.example.org"},
            "IMPRIMATUR_PUBLIC_URL is not like https://example.org",
        ),
        ({"IMPRIMATUR_LOG_LEVEL": "loud"}, "IMPRIMATUR_LOG_LEVEL is not a level: loud"),
        ({}, "set IMPRIMATUR_DSN; README.md says what it is for"),
    ],
)
def test_a_wrong_setting_is_named_in_a_line(run: Run, settings: dict[str, str], refusal: str):
    assert run("projector", **settings).refused() == refusal


@pytest.mark.parametrize("part", ["api", "projector", "worker"])
def test_a_process_that_cannot_run_leaves_logging_alone(run: Run, part: str):
    before = list(logging.root.handlers)
    run(part).refused()
    assert logging.root.handlers == before


def test_a_setting_can_stand_in_a_file(tmp_path: Path):
    file = tmp_path / "dsn"
    file.write_text("postgresql://somebody@somewhere/something\n")
    settings = read_settings({"IMPRIMATUR_DSN_FILE": str(file), "IMPRIMATUR_PORT": "81"})
    assert settings == Settings(dsn="postgresql://somebody@somewhere/something", port=81)
    with pytest.raises(SettingInvalid, match="IMPRIMATUR_DSN_FILE can't be read"):
        read_settings({"IMPRIMATUR_DSN_FILE": str(tmp_path / "nothing")})


def test_settings_survive_the_environment_of_a_child():
    settings = Settings(dsn="postgresql://x", secret="s" * 32, port=81, log_level="warning")
    assert read_settings({**bare_environment(), **environment_of(settings)}) == settings


def test_the_readme_names_every_setting_and_no_other():
    _, _, section = (PROJECT / "README.md").read_text().partition("# Settings\n")
    named = re.findall(r"^\| `(\w+)`", section.partition("\n#")[0], re.MULTILINE)
    assert sorted(named) == sorted(map(variable, Settings.__struct_fields__))
