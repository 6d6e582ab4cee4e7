"""Letters kept in a folder, and the command that shows them."""

import asyncio
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from msgspec import json

from runtime.datafolder import DataFolder
from runtime.mail.letters import Letters
from runtime.mail.outbox import KeptLetter, LetterMissing, Outbox, OutboxMissing
from runtime.mail.transport import MailUnavailable
from runtime.onesite import site_settings
from runtime.settings import Settings, environment_of, read_settings
from tests.processes import running
from tests.whole_site import imprimatur

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
LINK = "http://127.0.0.1:8000/confirm?token=1"

KEEP = """
import asyncio, sys, time
from datetime import UTC, datetime
from pathlib import Path
from runtime.mail import outbox
from runtime.mail.letters import Letters
from runtime.settings import Settings

folder, me, other, base = sys.argv[1:]
write_whole = outbox.write_whole

def write_when_both_do(file, text):
    Path(base, me).touch()
    deadline = time.monotonic() + 1
    while not Path(base, other).exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    write_whole(file, text)

outbox.write_whole = write_when_both_do
letters = Letters(
    Settings(mail_dir=folder, mail_from="a@example.org", public_url="http://x"),
    lambda: datetime.now(UTC),
)
print("ready", flush=True)
while not Path(base, "go").exists():
    time.sleep(0.01)
asyncio.run(
    letters.send(
        to="aida@example.org", name="Aida", language="en", letter="confirm_email",
        link="/" + me, key="job-1",
    )
)
"""
"""Keeps a letter, and waits a moment for the other process to be about to do the same."""


class Kept:
    """An embedded site's folder, and the letters in it."""

    def __init__(self, data: Path) -> None:
        self.data = data
        folder = DataFolder(data)
        folder.create()
        self.settings = site_settings(folder, Settings())
        self.folder = data / "mail"
        self._seconds = count()

    def send(self, *, to: str = "aida@example.org", link: str = LINK, key: str = "job-1") -> None:
        letters = Letters(self.settings, lambda: NOW + timedelta(seconds=next(self._seconds)))
        asyncio.run(
            letters.send(
                to=to, name="Аида", language="ar", letter="confirm_email", link=link, key=key
            )
        )

    def letters(self, last: int = 100) -> list[KeptLetter]:
        return Outbox(self.folder).last(last)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "site")


def test_an_embedded_site_keeps_its_letters_in_its_folder(kept: Kept):
    kept.send()
    (letter,) = kept.letters()
    assert (letter.to, letter.time.date()) == ("aida@example.org", NOW.date())
    assert letter.subject == "تأكيد بريدك الإلكتروني في 127.0.0.1:8000"
    assert letter.text.startswith("مرحبًا Аида،")
    assert f"\n{LINK}\n" in letter.text
    assert 'dir="rtl"' in letter.html
    (file,) = kept.folder.glob("*.eml")
    assert file.stat().st_mode & 0o077 == 0
    assert read_settings(environment_of(kept.settings)) == kept.settings


def test_letters_are_kept_in_the_order_of_time(kept: Kept):
    for number in range(4):
        kept.send(to=f"person-{number}@example.org", key=f"job-{9 - number}")
    assert [letter.to[7] for letter in kept.letters()] == ["0", "1", "2", "3"]
    assert [letter.to[7] for letter in kept.letters(last=2)] == ["2", "3"]


def test_a_letter_kept_again_takes_the_place_of_the_first(kept: Kept):
    kept.send(key="job-1")
    kept.send(key="job-2")
    kept.send(key="job-1", link="/confirm?token=2")
    first, second = kept.letters()
    assert "/confirm?token=2\n" in first.text
    assert "/confirm?token=1\n" in second.text
    assert len([file for file in kept.folder.iterdir() if file.name != "lock"]) == 2


def test_processes_that_keep_the_same_letter_at_once_keep_it_once(kept: Kept, tmp_path: Path):
    with ExitStack() as stack:
        processes = [
            stack.enter_context(running(KEEP, str(kept.folder), *names, str(tmp_path)))
            for names in (("one", "two"), ("two", "one"))
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        (tmp_path / "go").touch()
        for process in processes:
            _, said = process.communicate(timeout=60)
            assert (process.returncode, said) == (0, "")
    (letter,) = kept.letters()
    assert letter.html.endswith("</html>\n")


def test_a_folder_that_cannot_be_written_may_be_tried_again(kept: Kept):
    kept.folder.rmdir()
    kept.folder.write_text("in the way")
    with pytest.raises(MailUnavailable, match="cannot be kept"):
        kept.send()


def test_what_is_not_there_is_named(kept: Kept, tmp_path: Path):
    with pytest.raises(OutboxMissing, match="nowhere"):
        Outbox(tmp_path / "nowhere")
    with pytest.raises(LetterMissing, match="keeps no letter x"):
        Outbox(kept.folder).letter("x")


def test_the_command_lists_letters_and_shows_one(kept: Kept):
    for number in range(3):
        kept.send(to=f"person-{number}@example.org", key=f"job-{number}")
    (kept.folder / "other.eml").write_text("no letter of ours")
    letters = kept.letters()
    data = ("--data", str(kept.data))
    listed = said("mail", *data)
    assert all(letter.id in listed for letter in letters)
    assert "2026-01-31 12:00:02" in " ".join(listed.split())
    listed = said("mail", *data, "--last", "1")
    assert [letter.id in listed for letter in letters] == [False, False, True]
    assert json.decode(said("mail", *data, "--json"), type=list[KeptLetter]) == letters
    shown = said("mail", *data, letters[1].id)
    assert shown.startswith(f"To: person-1@example.org\nSubject: {letters[1].subject}\n")
    assert letters[1].text.strip() in shown
    one = json.decode(said("mail", *data, letters[1].id, "--json"), type=KeptLetter)
    assert one == letters[1]


def said(*arguments: str) -> str:
    """What a command says, on a terminal wide enough."""
    ended = imprimatur(*arguments, COLUMNS="160")
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def test_the_command_finds_the_folder_that_is_set_and_says_what_is_missing(kept: Kept):
    kept.send()
    (letter,) = kept.letters()
    ended = imprimatur("mail", "--json", IMPRIMATUR_MAIL_DIR=str(kept.folder))
    assert json.decode(ended.stdout, type=list[KeptLetter]) == [letter]
    ended = imprimatur("mail", "--data", str(kept.data / "nowhere"))
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert "no letters are kept in" in ended.stderr
    ended = imprimatur("mail", "--data", str(kept.data), "x")
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert "keeps no letter x" in ended.stderr


def test_an_embedded_site_with_a_mail_server_keeps_nothing(tmp_path: Path):
    folder = DataFolder(tmp_path / "site")
    folder.create()
    settings = site_settings(folder, Settings(smtp_url="smtp://localhost"))
    assert (settings.mail_dir, settings.mail_from, settings.public_url) == ("", "", "")
