"""Letters handed in at a mail server."""

import ssl

from aiosmtplib import (
    SMTP,
    SMTPDataError,
    SMTPException,
    SMTPNotSupported,
    SMTPRecipientsRefused,
    SMTPResponseException,
)

from runtime.mail.addresses import MailServer
from runtime.mail.transport import Envelope, LetterUndeliverable, MailRefused, MailUnavailable

ANSWER_SECONDS = 15.0
"""How long the server may take for each of its answers."""

PERMANENT = 500
"""The first of the codes by which a server refuses for good."""


class SmtpTransport:
    """Hands each letter in by a connection of its own."""

    def __init__(self, server: MailServer) -> None:
        self._server = server

    async def deliver(self, envelope: Envelope, message: bytes) -> None:
        """Hand the letter in; raises MailUnavailable or LetterUndeliverable."""
        sender, recipient = envelope.sender.addr_spec, envelope.recipient.addr_spec
        options = [] if recipient.isascii() else ["SMTPUTF8"]
        try:
            async with self._client(envelope.sender.domain) as client:
                await client.sendmail(sender, [recipient], message, mail_options=options)
        except (SMTPException, OSError) as error:
            # What the server said may name the recipient, which is for no log.
            failure = _failure(error)
            told = str(failure).replace(recipient, "the recipient")
            raise type(failure)(told) from None

    def _client(self, local_hostname: str) -> SMTP:
        server = self._server
        return SMTP(
            hostname=server.host,
            port=server.port,
            username=server.username,
            password=server.password,
            use_tls=server.tls,
            start_tls=server.starttls,
            local_hostname=local_hostname,  # it would be looked up, which may take long
            timeout=ANSWER_SECONDS,
        )


def _failure(error: SMTPException | OSError) -> MailUnavailable | LetterUndeliverable:
    """What a failure means for the letter."""
    match error:
        case SMTPRecipientsRefused(recipients=[refused]) | (SMTPDataError() as refused):
            kind = LetterUndeliverable if refused.code >= PERMANENT else MailUnavailable
            return kind(_said(refused))
        case SMTPNotSupported():
            return LetterUndeliverable("the mail server takes no such address")
        case SMTPResponseException():
            kind = MailRefused if error.code >= PERMANENT else MailUnavailable
            return kind(_said(error))
        case _ if type(error) is SMTPException or _is_about_trust(error):
            return MailRefused(str(error))
        case _:
            return MailUnavailable(str(error) or type(error).__name__)


def _is_about_trust(error: Exception) -> bool:
    return isinstance(error, ssl.SSLError) or isinstance(error.__cause__, ssl.SSLError)


def _said(error: SMTPResponseException) -> str:
    return f"the mail server said: {error.code} {error.message}"
