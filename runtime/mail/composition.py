"""Writes a letter: its headers, its text, and the same as HTML."""

import re
import textwrap
from collections.abc import Mapping
from email import message_from_string
from email.header import Header
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

from babel import Locale
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from msgspec import Struct

from runtime.mail.transport import Envelope
from runtime.mail.wordings import Letter, Wording

LINE_LENGTH = 72

# ASCII passes every mail server as it stands. And headers stay as they are written here: folded
# by this policy, some names lose their quotes and become addresses, or even headers, of their own.
_POLICY = SMTP.clone(cte_type="7bit", refold_source="none")

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9 -]{0,59}")

_LAYOUT = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
).get_template("layout.html")


class Content(Struct, frozen=True):
    """What stands in a letter: its paragraphs, and between them what its link says."""

    language: str
    subject: str
    before: list[str]
    button: str
    fallback: str
    link: str
    after: list[str]
    footer: str

    @property
    def direction(self) -> str:
        """How the language is written: ltr or rtl."""
        return Locale.parse(self.language).text_direction


def content(
    letter: Letter,
    wording: Wording,
    *,
    language: str,
    name: str,
    site: str,
    link: str,
    about: Mapping[str, str],
    message: str = "",
) -> Content:
    """A letter to somebody of this name, with what a person has to say in it."""
    known = {**about, "name": name, "site": site}

    def filled(*texts: str) -> list[str]:
        return [text.format_map(known) for text in texts]

    (subject, footer) = filled(letter.subject, wording.footer)
    return Content(
        language=language,
        subject=subject,
        before=list(filter(None, [*filled(wording.greeting, *letter.text), _quoted(message)])),
        button=letter.button,
        fallback=wording.fallback,
        link=link,
        after=list(filter(None, filled(*letter.after))),
        footer=footer,
    )


def _quoted(message: str) -> str:
    return f"“{message}”" if message else ""


def compose(envelope: Envelope, content: Content) -> bytes:
    """The message as it goes to a mail server."""
    sender, recipient = envelope.sender, envelope.recipient
    headers = [
        f"Subject: {_encoded(content.subject, 'Subject')}",
        f"From: {_mailbox(sender, 'From')}",
        f"To: {_mailbox(recipient, 'To')}",
        "",
    ]
    message = message_from_string(
        "\n".join(headers),
        _class=EmailMessage,
        policy=_POLICY.clone(utf8=not recipient.addr_spec.isascii()),
    )
    message["Date"] = envelope.date
    message["Message-ID"] = f"<{envelope.id}@{sender.domain}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(_text(content))
    message.add_alternative(_LAYOUT.render(content=content), subtype="html")
    message["Content-Language"] = content.language  # set before, it would be the first part's
    return message.as_bytes()


def _mailbox(address: Address, header: str) -> str:
    if not address.display_name:
        return f"<{address.addr_spec}>"
    return f"{_encoded(address.display_name, header)}\n <{address.addr_spec}>"


def _encoded(text: str, header: str) -> str:
    """A text in a header, encoded unless it is so plain that no reader takes it for more."""
    return text if _PLAIN.fullmatch(text) else Header(text, "utf-8", header_name=header).encode()


def _text(content: Content) -> str:
    link = [content.link] if content.link else []
    paragraphs = [*map(_wrapped, content.before), *link, *map(_wrapped, content.after)]
    return "\n\n".join([*paragraphs, f"-- \n{_wrapped(content.footer)}"]) + "\n"


def _wrapped(paragraph: str) -> str:
    return textwrap.fill(paragraph, LINE_LENGTH, break_long_words=False, break_on_hyphens=False)
