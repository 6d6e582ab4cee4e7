"""What carries letters: the contract of every transport."""

from datetime import datetime
from email.headerregistry import Address
from typing import Protocol

from msgspec import Struct


class MailUnavailable(Exception):
    """The letter could not be handed over now; it may be later."""


class MailRefused(MailUnavailable):
    """The mail server does not accept us, or cannot be trusted; an operator can mend that."""


class LetterUndeliverable(Exception):
    """The letter can never reach this recipient."""


class Envelope(Struct, frozen=True):
    """What stands on a letter."""

    id: str
    sender: Address
    recipient: Address
    date: datetime


class Transport(Protocol):
    """Takes letters, each of them for one recipient."""

    async def deliver(self, envelope: Envelope, message: bytes) -> None:
        """Take the letter; raises MailUnavailable or LetterUndeliverable."""
        ...
