"""Addresses of people and of mail servers, as settings and accounts spell them."""

import re
import unicodedata
from email.headerregistry import Address
from email.policy import SMTP
from ipaddress import ip_address
from urllib.parse import unquote, urlsplit

from msgspec import Struct

PORTS = {"smtp": 587, "smtps": 465}
"""The schemes of a mail server's address, and the ports that they imply."""

NAME_LENGTH = 80

_ADDRESS = re.compile(r'([^\s@"(),:;<>\[\\\]]{1,64})@([^\s@"(),:;<>\[\\\]]{1,253})')

_BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class AddressInvalid(ValueError):
    """Nothing can be reached at the address."""


class MailServer(Struct, frozen=True):
    """Where mail is handed in."""

    host: str
    port: int
    username: str | None
    password: str | None
    tls: bool
    """Whether the connection begins encrypted."""

    @property
    def starttls(self) -> bool:
        """Whether the connection has to become encrypted before anything is said."""
        return not self.tls and not _is_loopback(self.host)


def mail_server(url: str) -> MailServer:
    """The server of an address such as smtp://user:password@host:587; raises AddressInvalid."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # which may name a part of the password
        raise AddressInvalid("has no usable port; a password's :/@ are %3A%2F%40") from None
    if parts.scheme not in PORTS:
        raise AddressInvalid("begins with neither smtp:// nor smtps://")
    if not parts.hostname or parts.path.strip("/") or parts.query or parts.fragment:
        raise AddressInvalid("is not like smtp://user:password@host:587")
    if (parts.username is None) != (parts.password is None):
        raise AddressInvalid("needs a user and a password, or neither")
    return MailServer(
        host=parts.hostname,
        port=port or PORTS[parts.scheme],
        username=None if parts.username is None else unquote(parts.username),
        password=None if parts.password is None else unquote(parts.password),
        tls=parts.scheme == "smtps",
    )


def recipient(address: str, name: str) -> Address:
    """Whom a letter is for; raises AddressInvalid."""
    found = _ADDRESS.fullmatch(address)
    if found is None or not address.isprintable():
        raise AddressInvalid("is not like somebody@example.org")
    return Address(display_name=plain_name(name), username=found[1], domain=found[2])


def sender(mailbox: str) -> Address:
    """Whom letters are from, such as Name <somebody@example.org>; raises AddressInvalid."""
    # Parsed by the same rules as those of the header that it becomes.
    if not mailbox.isprintable():
        raise AddressInvalid("is not like Name <somebody@example.org>")
    header = SMTP.header_factory("From", mailbox)
    if header.defects or len(header.addresses) != 1:
        raise AddressInvalid("is not like Name <somebody@example.org>")
    (parsed,) = header.addresses
    address = recipient(parsed.addr_spec, parsed.display_name)
    if not address.addr_spec.isascii():
        raise AddressInvalid("needs an address in ASCII; write its domain as xn--")
    return address


def public_url(url: str) -> str:
    """The address of the site for people's browsers, without a slash at its end.

    Raises AddressInvalid.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError as error:
        raise AddressInvalid("is not like https://example.org") from error
    if not usable or parts.username is not None or parts.query or parts.fragment:
        raise AddressInvalid("is not like https://example.org")
    return url.rstrip("/")


def plain_name(name: str) -> str:
    """A name in one line, with nothing in it that moves or hides what stands around it."""
    kept = "".join(" " if _is_control(character) else character for character in name)
    return " ".join(kept.split())[:NAME_LENGTH].rstrip()


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs") or character in _BIDI_CONTROLS


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
