"""The letters that a site sends to people; what they say stands beside this, by language."""

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from api.messages import language_of
from runtime.mail.addresses import (
    AddressInvalid,
    mail_server,
    plain_name,
    public_url,
    recipient,
    sender,
)
from runtime.mail.composition import compose, content
from runtime.mail.outbox import ID_DIGITS, FolderTransport
from runtime.mail.smtp import SmtpTransport
from runtime.mail.transport import Envelope, LetterUndeliverable, Transport
from runtime.mail.wordings import wording
from runtime.settings import SettingMissing, Settings, variable

NOTHING: Mapping[str, str] = {}


class LetterUnknown(Exception):
    """No letter has this name."""


class LinkUnfit(Exception):
    """A letter's link is missing, is one too many, or leads away from the site."""


class Letters:
    """Writes letters and hands them over, as the settings say."""

    def __init__(self, settings: Settings, clock: Callable[[], datetime]) -> None:
        """Settings are asked for with the first letter: a worker may have none to send."""
        self._settings = settings
        self._clock = clock

    async def send(
        self,
        *,
        to: str,
        name: str,
        language: str,
        letter: str,
        link: str = "",
        about: Mapping[str, str] = NOTHING,
        organisation: str = "",
        message: str = "",
        key: str,
    ) -> None:
        """Send a letter; sent again under its key it is the same message.

        `link` is an address of the site, or a path of it; `about` is what the letter tells beside
        what it always says, and `message` a person's own words. Raises MailUnavailable,
        LetterUndeliverable, SettingMissing, LetterUnknown or LinkUnfit.
        """
        transport = self._transport()
        site = public_url(self._settings.need("public_url"))
        language = language_of(language.replace("_", "-"))
        words = wording(language)
        if letter not in words.letters:
            raise LetterUnknown(letter)
        said = words.letters[letter]
        if bool(said.button) != bool(link):
            raise LinkUnfit(f"{letter} {'needs a' if said.button else 'takes no'} link")
        try:
            whom = recipient(to, name)
        except AddressInvalid as error:
            raise LetterUndeliverable(f"the address {error}") from error
        envelope = Envelope(
            id=hashlib.sha256(key.encode()).hexdigest()[:ID_DIGITS],
            sender=sender(self._settings.need("mail_from")),
            recipient=whom,
            date=self._clock(),
        )
        host = urlsplit(site).netloc
        written = content(
            said,
            words,
            language=language,
            name=whom.display_name or whom.addr_spec,
            site=f"{plain_name(organisation)} ({host})" if organisation else host,
            link=_within(site, link) if link else "",
            about=about,
            message=message,
        )
        await transport.deliver(envelope, compose(envelope, written))

    def _transport(self) -> Transport:
        if self._settings.smtp_url:
            return SmtpTransport(mail_server(self._settings.smtp_url))
        if self._settings.mail_dir:
            return FolderTransport(Path(self._settings.mail_dir))
        raise SettingMissing(
            f"set {variable('smtp_url')} or {variable('mail_dir')} to send letters; "
            "README.md says what they are for"
        )


def _within(site: str, link: str) -> str:
    """The whole address of a link, which a letter must not lead away from the site."""
    absolute = link.startswith(("http://", "https://"))
    whole = link if absolute else f"{site}/{link.lstrip('/')}"
    if not whole.startswith(f"{site}/") or not whole.isprintable() or " " in whole:
        raise LinkUnfit("the link leads away from the site")
    return whole
