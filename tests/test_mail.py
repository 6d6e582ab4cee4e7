"""Letters: what arrives at a mail server, and what becomes of those that don't arrive."""

import asyncio
import re
import traceback
import unicodedata
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from html import escape
from pathlib import Path
from threading import Thread

import hypothesis
import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from api.messages import LANGUAGES
from runtime.mail import smtp
from runtime.mail.addresses import plain_name, recipient, sender
from runtime.mail.composition import compose, content
from runtime.mail.letters import Letters, LetterUnknown, LinkUnfit
from runtime.mail.transport import Envelope, LetterUndeliverable, MailRefused, MailUnavailable
from runtime.mail.wordings import FOLDER, Wording, wording
from runtime.settings import SettingMissing, Settings
from tests.mail import (
    LOGIN,
    PASSWORD,
    THIS_MACHINE,
    USER,
    Certificate,
    MailServer,
    make_certificate,
    names_of,
    parsed,
    silent,
    stripping,
)

PLACEHOLDER = re.compile(r"{\w*}")
SCRIPTS = {"en": "LATIN", "ky": "CYRILLIC", "ar": "ARABIC", "so": "LATIN"}

OUTSIDE = ("src=", "url(", "@import", "<link", "<script", "<img", "<iframe")
"""What HTML would be loaded with from elsewhere."""

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

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
SITE = "https://manga.example.org"
LINK = f"{SITE}/confirm?token=a-token_of.the~tests&x=1"
AIDA = "aida@example.org"
WRONG = "another-password"
ABOUT = {"reason": "Spam & <b>more</b> {name}.", "until": "noon", "answer": "Sorry."}
NOBODY = 1
"""A port that nothing listens on."""


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Certificate:
    """The certificate of this machine, which is trusted."""
    certificate = make_certificate(tmp_path / "trusted.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.file))
    return certificate


@pytest.fixture
def server(certificate: Certificate) -> Iterator[MailServer]:
    """A mail server that demands encryption and a password."""
    with MailServer(starttls=certificate) as server:
        yield server


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


def test_a_letter_arrives_once_by_a_connection_that_is_encrypted(server: MailServer):
    send(settings_for(server.port), name="Аида Сыдыкова")
    (letter,) = server.received
    assert (letter.sender, letter.recipients) == ("no-reply@example.org", [AIDA])
    assert letter.encrypted
    assert server.logins == [(USER.encode(), PASSWORD.encode())]
    message = letter.message
    assert names_of(letter.content, "From") == [("Манга, кириллица", "no-reply@example.org")]
    assert names_of(letter.content, "To") == [("Аида Сыдыкова", AIDA)]
    assert message["Subject"] == "Confirm your e-mail address at manga.example.org"
    assert message["Date"].datetime == NOW
    assert message["Message-ID"].endswith("@example.org>")
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Content-Language"] == "en"
    assert message.get_content_type() == "multipart/alternative"
    plain, html = message.iter_parts()
    assert (plain.get_content_type(), html.get_content_type()) == ("text/plain", "text/html")
    assert plain.get_content().startswith("Hello Аида Сыдыкова,\r\n\r\nThis e-mail address")
    assert f"\r\n\r\n{LINK}\r\n\r\n" in plain.get_content()
    assert f'<a href="{LINK.replace("&", "&amp;")}"' in html.get_content()


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_letter_arrives_whole_in_every_language(server: MailServer, language: str):
    words = wording(language)
    for letter, said in words.letters.items():
        link = LINK if said.button else ""
        send(settings_for(server.port), language=language, letter=letter, link=link)
        received = server.received.pop()
        assert received.content.isascii()
        assert all(len(line) <= 998 for line in received.content.split(b"\r\n"))
        message = received.message
        assert message["Subject"] == said.subject.format(site="manga.example.org")
        plain, html = (str(part.get_content()) for part in message.iter_parts())
        paragraphs = [words.greeting, *said.text, *said.after, words.footer]
        known = {**ABOUT, "name": "Aida", "site": "manga.example.org"}
        for paragraph in [one.format_map(known) for one in paragraphs]:
            assert paragraph in " ".join(plain.split())
            assert f"{escape(paragraph)}</p>" in html
        assert (LINK in plain, said.button in html and "<a " in html) == (bool(link),) * 2
        direction = "rtl" if language == "ar" else "ltr"
        assert f'<html lang="{language}" dir="{direction}"' in html
        assert f'<div lang="{language}" dir="{direction}"' in html
        assert "color-scheme: light dark" in html
        assert not any(outside in html for outside in OUTSIDE)


def test_a_letter_sent_again_is_the_same_message(server: MailServer):
    for key in ("job-1", "job-1", "job-2"):
        send(settings_for(server.port), key=key)
    first, again, other = (received.message["Message-ID"] for received in server.received)
    assert first == again != other


def test_a_recipient_who_is_refused_is_never_tried_again(server: MailServer):
    server.will_say("RCPT", f"550 5.1.1 <{AIDA}>: no such user")
    with pytest.raises(LetterUndeliverable, match=r"550 5\.1\.1 <the recipient>") as raised:
        send(settings_for(server.port))
    assert AIDA not in "".join(traceback.format_exception(raised.value))
    assert server.received == []


@pytest.mark.parametrize(
    ("command", "answer"),
    [("RCPT", "450 4.2.1 come back later"), ("DATA", "451 4.3.0 come back later")],
)
def test_a_letter_that_is_put_off_is_the_same_when_it_is_taken(
    server: MailServer, command: str, answer: str
):
    server.will_say(command, answer)
    with pytest.raises(MailUnavailable, match=answer):
        send(settings_for(server.port))
    assert server.received == []
    send(settings_for(server.port))
    assert [letter.recipients for letter in server.received] == [[AIDA]]


def test_a_letter_whose_content_is_refused_is_never_tried_again(server: MailServer):
    server.will_say("DATA", "554 5.7.1 we call this spam")
    with pytest.raises(LetterUndeliverable, match="554"):
        send(settings_for(server.port))


def test_a_server_that_hangs_up_before_it_has_taken_a_letter_may_be_tried_again(
    server: MailServer,
):
    server.will_hang_up()
    with pytest.raises(MailUnavailable):
        send(settings_for(server.port))
    assert server.received == []
    send(settings_for(server.port))
    assert len(server.received) == 1


def test_a_wrong_password_is_the_operators_to_mend(server: MailServer):
    with pytest.raises(MailRefused, match="535") as raised:
        send(settings_for(server.port, login=f"post%40example.org:{WRONG}@"))
    assert WRONG not in "".join(traceback.format_exception(raised.value))
    assert server.received == []


def test_without_a_password_a_server_that_demands_one_takes_nothing(server: MailServer):
    with pytest.raises(MailRefused, match="530"):
        send(settings_for(server.port, login=""))


def test_nothing_is_said_where_the_offer_of_encryption_was_stripped(certificate: Certificate):
    with MailServer(starttls=certificate, careless=True) as server:
        with stripping(server.port) as port, pytest.raises(MailRefused, match="STARTTLS"):
            send(settings_for(port))
        assert (server.received, server.logins) == ([], [])
        send(settings_for(server.port))
        assert [letter.encrypted for letter in server.received] == [True]


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_nothing_is_said_to_a_server_with_somebody_elses_certificate(
    certificate: Certificate, tmp_path: Path, scheme: str
):
    other = make_certificate(tmp_path / "other.pem")
    by_scheme = {"smtp": (other, None), "smtps": (None, other)}
    starttls, tls = by_scheme[scheme]
    with (
        MailServer(starttls=starttls, tls=tls, careless=True) as server,
        pytest.raises(MailRefused, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        send(settings_for(server.port, scheme=scheme))
    assert (server.received, server.logins) == ([], [])


def test_a_connection_can_be_encrypted_from_its_beginning(certificate: Certificate):
    with MailServer(tls=certificate, careless=True) as server:
        send(settings_for(server.port, scheme="smtps"))
        assert [letter.encrypted for letter in server.received] == [True]
        assert server.logins == [(USER.encode(), PASSWORD.encode())]


def test_on_loopback_a_connection_need_not_be_encrypted():
    with MailServer(careless=True) as server:
        for host in ("127.0.0.1", "localhost"):
            send(settings_for(server.port, login="", host=host))
        assert [letter.encrypted for letter in server.received] == [False, False]


def test_where_no_server_listens_or_one_never_answers_it_may_be_tried_again(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(smtp, "ANSWER_SECONDS", 0.2)
    with silent() as port:
        for scheme in ("smtp", "smtps"):
            with pytest.raises(MailUnavailable, match=r"[Tt]imed out|handshake"):
                send(settings_for(port, scheme=scheme))
    with pytest.raises(MailUnavailable, match="Error connecting"):
        send(settings_for(port))


@pytest.mark.parametrize(
    "address",
    [
        "",
        "aida",
        "@example.org",
        "aida@",
        "aida@example.org, other@example.org",
        "aida@example.org\r\nBcc: other@example.org",
        "aida@example.org\nRCPT TO:<other@example.org>",
        "Aida <aida@example.org>",
        "<aida@example.org> SIZE=1",
        "a@b@example.org",
        "a\u2028b@example.org",
        f"{'a' * 65}@example.org",
    ],
)
def test_a_bad_address_gets_no_letter(address: str):
    with pytest.raises(LetterUndeliverable):
        send(settings_for(NOBODY), to=address)


def test_an_address_that_is_not_ascii_needs_a_server_that_takes_it(certificate: Certificate):
    with MailServer(starttls=certificate) as server:
        send(settings_for(server.port), to="айда@пример.org", name="Айда")
        (letter,) = server.received
        assert letter.recipients == ["айда@пример.org"]
        assert "<айда@пример.org>".encode() in letter.content
    with (
        MailServer(starttls=certificate, utf8=False) as server,
        pytest.raises(LetterUndeliverable, match="takes no such address"),
    ):
        send(settings_for(server.port), to="айда@пример.org")


NAMES = {
    "Aida": "Aida",
    "Aida\r\nBcc: other@example.org": "Aida Bcc: other@example.org",
    "Aida\u2028Subject: other\x00\x1b[31m\x85": "Aida Subject: other [31m",
    'Doe, "Aida" <other@example.org>, x': 'Doe, "Aida" <other@example.org>, x',
    "Сыдыкова, Аида; (other@example.org)": "Сыдыкова, Аида; (other@example.org)",
    "=?utf-8?q?a=0D=0ABcc:_other=40example.org?=": "=?utf-8?q?a=0D=0ABcc:_other=40example.org?=",
    "other@example.org, " * 10: ("other@example.org, " * 10)[:80].rstrip(),
    "عائشة " * 30: ("عائشة " * 30)[:80].rstrip(),
    "A" * 1_000: "A" * 80,
    "\u202eadiA\u2066": "adiA",
    "\ud800Aida": "Aida",
    "{site} {0.__class__}": "{site} {0.__class__}",
}
"""What people call themselves, and what they are called in letters."""


def is_addressed(content: bytes, name: str, address: str = AIDA) -> None:
    """Check that a letter has its headers and no others, and one recipient in them."""
    assert sorted(parsed(content).keys()) == HEADERS
    assert names_of(content, "To") == [(name, address)]
    (only,) = parsed(content)["To"].addresses
    assert only.addr_spec == address


def test_a_name_adds_nothing_to_the_headers(server: MailServer):
    for name, shown in NAMES.items():
        send(settings_for(server.port), name=name)
        letter = server.received.pop()
        assert letter.recipients == [AIDA]
        assert letter.content.isascii()
        is_addressed(letter.content, shown)
        plain, _ = letter.message.iter_parts()
        assert f"Hello {shown}," in " ".join(plain.get_content().split())


@given(st.text(max_size=100), st.integers(1, 60))
@hypothesis.settings(deadline=None, max_examples=50)
def test_no_name_whatever_adds_to_the_headers(name: str, length: int):
    whom = recipient(f"{'a' * length}@{'b' * 3 * length}.org", name)
    envelope = Envelope(id="1", sender=sender("a@example.org"), recipient=whom, date=NOW)
    words = wording("ar")
    said = words.letters["confirm_email"]
    letter = content(said, words, language="ar", name=name, site="example.org", link=LINK, about={})
    is_addressed(compose(envelope, letter), plain_name(name), whom.addr_spec)


def html_of(server: MailServer) -> str:
    _, html = server.received[-1].message.iter_parts()
    return html.get_content()


def test_a_name_is_text_in_html(server: MailServer):
    send(settings_for(server.port), name="<script>alert('1')</script>&amp;\"")
    assert "<script" not in html_of(server)
    escaped = "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;amp;&#34;"
    assert f"<p>Hello {escaped},</p>" in html_of(server)


def test_somebody_without_a_name_is_called_by_their_address(server: MailServer):
    send(settings_for(server.port), name=" \n ")
    assert f"<p>Hello {AIDA},</p>" in html_of(server)
    assert names_of(server.received[0].content, "To") == [("", AIDA)]


LANGUAGE_FOR = {
    "ky": "ky",
    "AR": "ar",
    "ky-KG": "ky",
    "ar_EG": "ar",
    "so-Latn-SO": "so",
    "de": "en",
    "": "en",
    "../so": "en",
    "kyrgyz": "en",
}


def test_a_language_falls_back_to_its_base_and_then_to_english(server: MailServer):
    for language, chosen in LANGUAGE_FOR.items():
        send(settings_for(server.port), language=language)
        assert server.received.pop().message["Content-Language"] == chosen


def test_a_link_may_be_a_path_of_the_site(server: MailServer):
    for link in ("/confirm?token=1", "confirm?token=1", "//example.com/", "javascript:alert(1)"):
        send(settings_for(server.port), link=link)
        assert f'<a href="{SITE}/{link.lstrip("/")}"' in html_of(server)
    send(replace(settings_for(server.port), public_url=f"{SITE}/"), link=f"{SITE}/confirm")
    assert f'<a href="{SITE}/confirm"' in html_of(server)


@pytest.mark.parametrize(
    ("letter", "link"),
    [
        ("confirm_email", ""),
        ("password_changed", LINK),
        ("confirm_email", "https://other.example.org/confirm"),
        ("confirm_email", f"{SITE}.other.example.org/confirm"),
        ("confirm_email", f"{SITE}@other.example.org/confirm"),
        ("confirm_email", "http://manga.example.org/confirm"),
        ("confirm_email", f"{LINK}\nhttps://other.example.org"),
        ("confirm_email", f"{LINK} https://other.example.org"),
    ],
)
def test_a_link_that_does_not_fit_is_refused(letter: str, link: str):
    with pytest.raises(LinkUnfit):
        send(settings_for(NOBODY), letter=letter, link=link)


def test_a_letter_that_nobody_wrote_is_named():
    with pytest.raises(LetterUnknown, match="love"):
        send(settings_for(NOBODY), letter="love")


def test_who_has_no_way_to_send_a_letter_is_told_what_to_set():
    with pytest.raises(SettingMissing, match="set IMPRIMATUR_SMTP_URL or IMPRIMATUR_MAIL_DIR"):
        send(Settings())
    with pytest.raises(SettingMissing, match="set IMPRIMATUR_PUBLIC_URL"):
        send(Settings(smtp_url="smtp://localhost"))
    with pytest.raises(SettingMissing, match="set IMPRIMATUR_MAIL_FROM"):
        send(Settings(smtp_url="smtp://localhost", public_url=SITE))


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_has_all_letters_whole(language: str):
    english, words = wording("en"), wording(language)
    assert list(words.letters) == sorted(english.letters)
    for one, other in zip(said_in(english), said_in(words), strict=True):
        assert set(PLACEHOLDER.findall(one)) == set(PLACEHOLDER.findall(other)), other
        assert bool(one) == bool(other), other
        assert other == " ".join(other.split())
        letters = [char for char in PLACEHOLDER.sub("", other) if char.isalpha()]
        assert all(unicodedata.name(char).startswith(SCRIPTS[language]) for char in letters), other
        assert language == "en" or not letters or one != other


def said_in(words: Wording) -> Iterator[str]:
    """Every text of a language, in the order of English's; paragraphs as one."""
    yield from (words.greeting, words.fallback, words.footer)
    for name in wording("en").letters:
        letter = words.letters[name]
        yield from (letter.subject, " ".join(letter.text), letter.button, " ".join(letter.after))


def test_every_file_is_a_language_of_the_site():
    assert {file.stem for file in FOLDER.glob("*.toml")} == set(LANGUAGES)
