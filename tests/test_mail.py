"""Letters: what arrives at a mail server, and what becomes of those that don't arrive."""

import traceback
from html import escape
from pathlib import Path

import pytest

from api.messages import LANGUAGES
from runtime.mail import smtp
from runtime.mail.transport import LetterUndeliverable, MailRefused, MailUnavailable
from runtime.mail.wordings import wording
from tests.mail import (
    PASSWORD,
    USER,
    Certificate,
    MailServer,
    make_certificate,
    names_of,
    silent,
    stripping,
)
from tests.sending import ABOUT, AIDA, LINK, NOBODY, NOW, send, settings_for

OUTSIDE = ("src=", "url(", "@import", "<link", "<script", "<img", "<iframe")
"""What HTML would be loaded with from elsewhere."""
WRONG = "another-password"


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
