"""Every code that the product can answer has a message in every language."""

import ast
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from api import errors
from api.messages import LANGUAGES, MAX_HEADER, catalogue, language_of, message
from api.problems import COMPLAINTS
from domain.kernel import category
from runtime.registry import COMMANDS

ROOT = Path(__file__).parent.parent
FOLDERS = ("domain", "commands", "projections", "ingest", "api", "runtime")

SAID_WITH = {"require": 1, "Rejected": 0, "Refusal": 1, "invalid": 1}
"""Which argument of a call is a code."""

NOT_FOUND = ("NotFound", "Missing")
"""What is called with a noun whose code is `<noun>_not_found`."""

SCRIPTS = {"en": "LATIN", "ky": "CYRILLIC", "ar": "ARABIC", "so": "LATIN"}


def codes_in(source: str) -> set[str]:
    """The codes that a module's source names where it refuses something."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return {code for call in calls for code in _codes_of(call)}


def _codes_of(call: ast.Call) -> Iterator[str]:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    if isinstance(call.func, ast.Name):
        name = call.func.id
    if name in SAID_WITH:
        yield from _texts([*call.args[SAID_WITH[name] :][:1], *_keyword(call, "code")])
    elif name in NOT_FOUND:
        nouns = _texts([*call.args[:1], *_keyword(call, "noun")])
        yield from (f"{noun}_not_found" for noun in nouns)


def _keyword(call: ast.Call, name: str) -> list[ast.expr]:
    return [keyword.value for keyword in call.keywords if keyword.arg == name]


def _texts(expressions: list[ast.expr]) -> Iterator[str]:
    """The texts among these; both of `a if condition else b`."""
    for expression in expressions:
        if isinstance(expression, ast.Constant):
            yield str(expression.value)
        elif isinstance(expression, ast.IfExp):
            yield from _texts([expression.body, expression.orelse])


def answerable() -> set[str]:
    """Every code that an answer may carry."""
    sources = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    named = {code for path in sources for code in codes_in(path.read_text("utf-8"))}
    absent = {
        f"{category(state)}_not_found"
        for spec in COMMANDS.values()
        for name, state in spec.reads.items()
        if not state.claim and name != spec.new_id
    }
    complaints = {code for _, code in COMPLAINTS}
    return named | absent | complaints | set(vars(errors)["_HTTP_CODES"].values())


def test_english_has_a_message_for_every_code_and_no_other() -> None:
    assert set(catalogue("en")) == answerable()


def test_codes_are_found_however_they_are_raised() -> None:
    source = """
def decide(self):
    require(self.a, "a", status=self.status)
    require(condition=self.b, code="b")
    raise Rejected("c" if self.c else "d")
    raise errors.Refusal(409, "e", details={"f": ["g"]})
    raise NotFound("h")
    raise Missing(noun="i")
    raise Rejected(kept.code)
    raise invalid("field", "j", "k")
"""
    assert codes_in(source) == {"a", "b", "c", "d", "e", "h_not_found", "i_not_found", "j"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_says_all_that_english_says(language: str) -> None:
    assert list(catalogue(language)) == sorted(catalogue("en"))
    for code, text in catalogue(language).items():
        assert text.endswith("."), code
        assert len(text) > 5, code
        assert text == " ".join(text.split()), code


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_says_what_each_message_is_about(language: str) -> None:
    for code, text in catalogue("en").items():
        assert catalogue(language)[code].count("{}") == text.count("{}") <= 1, code


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_is_written_in_its_own_script(language: str) -> None:
    for code, text in catalogue(language).items():
        letters = [char for char in text if char.isalpha()]
        assert all(unicodedata.name(char).startswith(SCRIPTS[language]) for char in letters), code


def test_no_message_is_left_in_another_language() -> None:
    for code in catalogue("en"):
        assert len({catalogue(language)[code] for language in LANGUAGES}) == len(LANGUAGES), code


def test_every_file_is_a_language_of_the_site() -> None:
    files = (ROOT / "api" / "messages").glob("*.toml")
    assert {file.stem for file in files} == set(LANGUAGES)


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("*", "en"),
        ("ky", "ky"),
        ("ky-KG", "ky"),
        ("KY-kg", "ky"),
        ("AR", "ar"),
        ("ky-Cyrl-KG", "ky"),
        ("ar;q=0.3, so;q=0.9", "so"),
        ("ar;q=0.3,so;q=0.9,*;q=0.1", "so"),
        ("de, fr;q=0.9, ky;q=0.1", "ky"),
        ("ky ; q=0.2 , ar; q=0.8", "ar"),
        ("ar;Q=0.1, so;Q=0.2", "so"),
        ("ky;q=0.5, ar;q=0.5", "ky"),
        ("so;q=0, ar;q=0.001", "ar"),
        ("ky;q=0.000", "en"),
        ("ky;q=nan, ar;q=0.1", "ar"),
        ("ky;q=inf, ar;q=-1, so;q=1e0", "en"),
        ("ky;q=2, ar;q=1.0", "ar"),
        ("ky;q=", "en"),
        ("ky;level=1", "en"),
        ("de-DE", "en"),
        ("kyrgyz", "en"),
        ("../../so", "en"),
        (",,;;==,-,ky", "ky"),
        ("\x00\xff;q=\xb2", "en"),
        ("so" + "," * MAX_HEADER, "so"),
    ],
)
def test_the_best_language_is_chosen(header: str, language: str) -> None:
    assert language_of(header) == language
    assert message("banned", header) == catalogue(language)["banned"]


def test_of_a_huge_header_only_the_beginning_counts() -> None:
    assert language_of("ar," + "de;q=0.1," * 100_000) == "ar"
    assert language_of("de;q=0.1," * 100_000 + "ar") == "en"
    assert language_of("a" * 1_000_000) == "en"
    assert language_of("," * 1_000_000) == "en"


def test_a_code_without_a_message_is_its_own() -> None:
    assert message("of_a_later_version", "ky") == "of_a_later_version"
