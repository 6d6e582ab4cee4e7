"""A real SMTP server on loopback, and what can stand in the way to it."""

import contextlib
import gc
import ssl
import warnings
from collections import defaultdict
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.utils import getaddresses
from ipaddress import ip_address
from pathlib import Path
from socket import SHUT_RDWR, create_connection, create_server, socket
from threading import Thread
from typing import Any, Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from msgspec import Struct

from tests.site import free_port

USER = "post@example.org"
PASSWORD = "a p@ss/word: of the tests"
LOGIN = "post%40example.org:a%20p%40ss%2Fword%3A%20of%20the%20tests"

THIS_MACHINE = "0.0.0.0"  # noqa: S104 connects to loopback, and is no loopback address
"""A host on which STARTTLS is required."""


class Received(Struct, frozen=True):
    """A letter as it arrived."""

    sender: str
    recipients: list[str]
    content: bytes
    encrypted: bool

    @property
    def message(self) -> EmailMessage:
        return parsed(self.content)


class Certificate(Struct, frozen=True):
    """A certificate of this machine's addresses, and its key, in one file."""

    file: Path

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file)
        return context


def make_certificate(file: Path) -> Certificate:
    """A certificate that those trust who are told to trust its file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    addresses = [x509.IPAddress(ip_address(host)) for host in ("127.0.0.1", THIS_MACHINE)]
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(addresses), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(private + made.public_bytes(Encoding.PEM))
    return Certificate(file)


class MailServer:
    """An SMTP server that keeps what it takes, and says what it is told to say."""

    def __init__(
        self,
        *,
        starttls: Certificate | None = None,
        tls: Certificate | None = None,
        careless: bool = False,
        utf8: bool = True,
    ) -> None:
        """A careless server lets anybody in, and takes passwords that are not encrypted."""
        self.received: list[Received] = []
        self.logins: list[tuple[bytes, bytes]] = []
        self.port = free_port()
        self._answers: dict[str, list[str]] = defaultdict(list)
        self._hang_up = False
        self._controller = Controller(
            self,
            hostname="127.0.0.1",
            port=self.port,
            ssl_context=tls and tls.context(),
            tls_context=starttls and starttls.context(),
            require_starttls=not careless,
            auth_require_tls=not careless,
            auth_required=not careless,
            authenticator=self._authenticate,
            enable_SMTPUTF8=utf8,
        )

    def __enter__(self) -> Self:
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        # It leaves connections that are still being closed to the garbage collector.
        with warnings.catch_warnings(action="ignore", category=ResourceWarning):
            self._controller.stop()
            del self._controller
            gc.collect()

    def will_say(self, command: str, *answers: str) -> None:
        """Answer the next of these commands by this instead of carrying them out."""
        self._answers[command] += answers

    def will_hang_up(self) -> None:
        """Cut the next connection when a letter was said, and is not yet taken."""
        self._hang_up = True

    async def handle_RCPT(  # noqa: N802 the names are aiosmtpd's
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        if self._answers["RCPT"]:
            return self._answers["RCPT"].pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        if self._hang_up:
            self._hang_up = False
            server.transport.abort()
            return "421 gone"
        if self._answers["DATA"]:
            return self._answers["DATA"].pop(0)
        self.received.append(
            Received(
                sender=envelope.mail_from,
                recipients=envelope.rcpt_tos,
                content=envelope.original_content,
                encrypted=server.transport.get_extra_info("sslcontext") is not None,
            )
        )
        return "250 OK"

    def _authenticate(
        self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, login: LoginPassword
    ) -> AuthResult:
        self.logins.append((login.login, login.password))
        right = (login.login, login.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=right, handled=False)


@contextlib.contextmanager
def stripping(port: int) -> Generator[int]:
    """The port of somebody in the middle, who takes the offer of STARTTLS out of what is said."""
    listener = create_server(("127.0.0.1", 0))
    threads: list[Thread] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = create_connection(("127.0.0.1", port))
                for pair in ((client, server), (server, client)):
                    threads.append(Thread(target=_pass_on, args=pair))
                    threads[-1].start()

    threads.append(Thread(target=serve))
    threads[-1].start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(SHUT_RDWR)
        listener.close()
        for thread in threads:
            thread.join()


def _pass_on(source: socket, sink: socket) -> None:
    with contextlib.suppress(OSError), source:
        while some := source.recv(65_536):
            sink.sendall(some.replace(b"250-STARTTLS\r\n", b""))
        sink.shutdown(SHUT_RDWR)


@contextlib.contextmanager
def silent() -> Generator[int]:
    """The port of a server that takes connections and never says a word."""
    with create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def parsed(content: bytes) -> EmailMessage:
    """A letter as a mail program takes it apart."""
    return message_from_bytes(content, _class=EmailMessage, policy=policy.default)


def names_of(content: bytes, header: str) -> list[tuple[str, str]]:
    """The names and addresses in a header, as a mail program shows them."""
    # The parser above puts spaces between the encoded words of a name.
    raw = message_from_bytes(content, policy=policy.compat32).get_all(header, [])
    return [(str(make_header(decode_header(name))), to) for name, to in getaddresses(raw)]
