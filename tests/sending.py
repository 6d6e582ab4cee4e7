"""Sending letters to a mail server, as a worker does."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from threading import Thread

import uvloop

from runtime.mail.letters import Letters
from runtime.settings import Settings
from tests.mail import (
    LOGIN,
    THIS_MACHINE,
)

HEADERS = [
    "Auto-Submitted",
    "Content-Language",
    "Content-Type",
    "Date",
    "From",
    "MIME-Version",
    "Message-ID",
    "Subject",
    "To",
]
NOBODY = 1
"""A port that nothing listens on."""

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
SITE = "https://manga.example.org"
LINK = f"{SITE}/confirm?token=a-token_of.the~tests&x=1"
AIDA = "aida@example.org"
ABOUT = {"reason": "Spam & <b>more</b> {name}.", "until": "noon", "answer": "Sorry."}


@cache
def event_loop() -> asyncio.AbstractEventLoop:
    """A loop as a worker's, which goes on while connections are being closed."""
    loop = uvloop.new_event_loop()
    Thread(target=loop.run_forever, daemon=True).start()
    return loop


def settings_for(
    port: int, *, login: str = f"{LOGIN}@", scheme: str = "smtp", host: str = THIS_MACHINE
) -> Settings:
    return Settings(
        smtp_url=f"{scheme}://{login}{host}:{port}",
        mail_from='"Манга, кириллица" <no-reply@example.org>',
        public_url=SITE,
    )


def send(
    settings: Settings,
    *,
    to: str = AIDA,
    name: str = "Aida",
    language: str = "en",
    letter: str = "confirm_email",
    link: str = LINK,
    about: Mapping[str, str] = ABOUT,
    key: str = "job-1",
) -> None:
    letters = Letters(settings, lambda: NOW)
    sending = letters.send(
        to=to, name=name, language=language, letter=letter, link=link, about=about, key=key
    )
    asyncio.run_coroutine_threadsafe(sending, event_loop()).result(60)
