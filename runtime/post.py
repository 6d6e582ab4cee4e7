"""Letters to people: who gets them, in which language, and what they open."""

import asyncio
import os
import re
from pathlib import Path
from typing import Protocol

from msgspec import json

from api.identity import TENANT
from api.onetime import OneTimeTokens
from commands.bus import Bus
from commands.kernel import Origin
from commands.people import SendLetter
from runtime.settings import Settings

PAGES = {"confirm_email": "confirm-email", "password_reset": "password-reset"}
"""The page of the site that takes up the token of a letter, which no server's log gets to see."""


class Letters(Protocol):
    """Writes letters and sends them; one key, however often it comes, is one letter."""

    async def send(
        self, *, to: str, name: str, language: str, letter: str, link: str = "", key: str
    ) -> None: ...


class Post:
    """Carries out SendLetter."""

    def __init__(
        self, bus: Bus, tokens: OneTimeTokens, letters: Letters, settings: Settings
    ) -> None:
        self._bus = bus
        self._tokens = tokens
        self._letters = letters
        self._settings = settings

    async def send(self, job: SendLetter, origin: Origin) -> None:
        """Send a letter to the person's address; nobody has to have one."""
        person = await self._bus.person(job.person_id, TENANT)
        if not person.email:
            return
        await self._letters.send(
            to=person.email,
            name=person.name or person.username,
            language=person.language,
            letter=job.letter,
            link=await self._link(job),
            key=origin.key,
        )

    async def _link(self, job: SendLetter) -> str:
        if job.letter == "password_changed":
            return ""
        url = self._settings.need("public_url").rstrip("/")
        token = await self._tokens.make(job.letter, job.person_id, TENANT)
        return f"{url}/{PAGES[job.letter]}#token={token}"


class Outbox:
    """Puts letters into a folder."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def send(
        self, *, to: str, name: str, language: str, letter: str, link: str = "", key: str
    ) -> None:
        said = {"to": to, "name": name, "language": language, "letter": letter, "link": link}
        folder = Path(self._settings.need("mail_dir"))
        await asyncio.to_thread(_write, folder, re.sub(r"\W+", "-", key), json.encode(said))


def _write(folder: Path, name: str, content: bytes) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    unfinished = folder / f"{name}.{os.getpid()}"
    unfinished.write_bytes(content)
    unfinished.rename(folder / f"{name}.json")
