"""What letters say: to whom, in which language, and nothing that a name could add."""

import re
import unicodedata
from collections.abc import Iterator

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from api.messages import LANGUAGES
from runtime.mail.addresses import plain_name, recipient, sender
from runtime.mail.composition import compose, content
from runtime.mail.letters import LetterUnknown, LinkUnfit
from runtime.mail.transport import Envelope
from runtime.mail.wordings import FOLDER, Wording, wording
from runtime.settings import SettingMissing, Settings
from tests.mail import (
    MailServer,
    names_of,
    parsed,
)
from tests.sending import AIDA, HEADERS, LINK, NOBODY, NOW, SITE, send, settings_for

PLACEHOLDER = re.compile(r"{\w*}")
SCRIPTS = {"en": "LATIN", "ky": "CYRILLIC", "ar": "ARABIC", "so": "LATIN"}


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
