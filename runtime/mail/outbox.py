"""Letters kept in a folder, one file each, for a site that has no mail server."""

import asyncio
import fcntl
import re
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Literal

from msgspec import Struct

from runtime.datafolder import write_whole
from runtime.mail.transport import Envelope, MailUnavailable

ID_DIGITS = 20

_FILE = re.compile(rf"\d{{8}}T\d{{12}}-[0-9a-f]{{{ID_DIGITS}}}\.eml")
_TIME = "%Y%m%dT%H%M%S%f"


class OutboxMissing(Exception):
    """No letters are kept in the folder."""


class LetterMissing(Exception):
    """The folder keeps no such letter."""


class KeptLetter(Struct, frozen=True):
    """A letter in the folder."""

    id: str
    time: datetime
    to: str
    subject: str
    text: str
    html: str


class FolderTransport:
    """Keeps letters in a folder that any number of processes may share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def deliver(self, envelope: Envelope, message: bytes) -> None:
        """Keep the letter, in place of an earlier one with the same id."""
        try:
            await asyncio.to_thread(self._keep, envelope, message.decode())
        except OSError as error:
            raise MailUnavailable(f"the letter cannot be kept: {error}") from error

    def _keep(self, envelope: Envelope, message: str) -> None:
        time = envelope.date.astimezone(UTC)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._locked():
            new = self._folder / f"{time.strftime(_TIME)}-{envelope.id}.eml"
            (file,) = [one for one in _files(self._folder) if _id_of(one) == envelope.id] or [new]
            write_whole(file, message)

    @contextmanager
    def _locked(self) -> Generator[None]:
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class Outbox:
    """The letters in a folder, for those who look at them."""

    def __init__(self, folder: Path) -> None:
        """Raises OutboxMissing."""
        if not folder.is_dir():
            raise OutboxMissing(f"no letters are kept in {folder}")
        self._folder = folder

    def last(self, count: int) -> list[KeptLetter]:
        """The last letters, from old to new."""
        return [_read(file) for file in _files(self._folder)[-count:]]

    def letter(self, letter_id: str) -> KeptLetter:
        """One letter; raises LetterMissing."""
        for file in _files(self._folder):
            if _id_of(file) == letter_id:
                return _read(file)
        raise LetterMissing(f"{self._folder} keeps no letter {letter_id}")


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if _FILE.fullmatch(file.name))


def _id_of(file: Path) -> str:
    return file.stem.rpartition("-")[2]


def _read(file: Path) -> KeptLetter:
    message = message_from_bytes(file.read_bytes(), _class=EmailMessage, policy=policy.default)
    written = datetime.strptime(file.stem.partition("-")[0], _TIME)
    return KeptLetter(
        id=_id_of(file),
        time=written.replace(tzinfo=UTC),
        to=message["To"].addresses[0].addr_spec,
        subject=str(message["Subject"]),
        text=_part(message, "plain"),
        html=_part(message, "html"),
    )


def _part(message: EmailMessage, subtype: Literal["plain", "html"]) -> str:
    part = message.get_body((subtype,))
    return "" if part is None else part.get_content().replace("\r\n", "\n")
