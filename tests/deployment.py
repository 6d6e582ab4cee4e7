"""The deployment's files, read as Docker and nginx read them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import yaml
from msgspec import Struct

from runtime.settings import Settings, read_settings

ROOT = Path(__file__).parent.parent
Service = dict[str, Any]

_VARIABLE = re.compile(r"\$\{(\w+)(?::([?-])([^}]*))?\}")
HEALTH_URL = re.compile(r"http://127\.0\.0\.1:(\d+)(/[\w/]+)")
_TOKEN = re.compile(r"""#[^\n]*|([{};])|"([^"]*)"|'([^']*)'|([^\s{};"']+)""")


def text_of(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def filled(value: Any) -> Any:
    """A value of compose.yaml with a placeholder of its own for each variable it requires."""

    def fill(found: re.Match[str]) -> str:
        name, kind, rest = found.groups()
        assert kind, f"{name} may be missing without a word"
        assert rest, f"{name} has neither a message nor a default"
        return f"{name.lower()}-{'x' * 32}" if kind == "?" else rest

    match value:
        case dict():
            return {k: filled(v) for k, v in cast("dict[str, Any]", value).items()}
        case list():
            return [filled(one) for one in cast("list[Any]", value)]
        case str():
            return _VARIABLE.sub(fill, value)
        case _:
            return value


COMPOSE: dict[str, Any] = yaml.safe_load(text_of("compose.yaml"))
SERVICES: dict[str, Service] = filled(COMPOSE["services"])


def settings_of(name: str) -> Settings:
    return read_settings({k: str(v) for k, v in SERVICES[name]["environment"].items()})


def health_words(name: str) -> list[str]:
    kind, *words = SERVICES[name]["healthcheck"]["test"]
    assert kind == "CMD"
    return words


def is_one_shot(name: str) -> bool:
    awaited = "service_completed_successfully"
    waiting = [service.get("depends_on", {}).get(name) for service in SERVICES.values()]
    return SERVICES[name]["restart"] == "no" and {"condition": awaited} in waiting


def dockerfile() -> list[list[str]]:
    """The instructions of the Dockerfile as words."""
    lines = [line for line in text_of("Dockerfile").splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [shlex.split(line) for line in joined.splitlines() if line.strip()]


def copied() -> list[str]:
    """What the Dockerfile copies from the project."""
    copies = [words[1:-1] for words in dockerfile() if words[0] == "COPY"]
    return [source for words in copies if "--from" not in words[0] for source in words]


class Directive(Struct, frozen=True):
    """A directive of nginx.conf, with those of its block."""

    name: str
    values: tuple[str, ...] = ()
    block: tuple["Directive", ...] = ()

    def all(self, name: str) -> list["Directive"]:
        return [one for one in self.block if one.name == name]

    def value(self, name: str) -> str:
        (only,) = self.all(name)
        return only.values[0]

    def location(self, path: str) -> "Directive":
        """The location nginx chooses: an exact one, the first expression, the longest prefix."""
        locations = {one.values: one for one in self.all("location")}
        if exact := locations.get(("=", path)):
            return exact
        for values, location in locations.items():
            if values[0] == "~" and re.search(values[1], path):
                return location
        prefixes = [values for values in locations if len(values) == 1]
        return locations[max((one for one in prefixes if path.startswith(one[0])), key=str)]


def _tokens(text: str) -> Iterator[str]:
    for found in _TOKEN.finditer(text):
        mark, double, single, bare = found.groups()
        if mark or bare:
            yield mark or bare
        elif not found[0].startswith("#"):
            yield f'"{double or single or ""}'


def _block(tokens: Iterator[str]) -> Iterator[Directive]:
    words: list[str] = []
    for token in tokens:
        if token == "}":
            return
        if token in "{;":
            block = tuple(_block(tokens)) if token == "{" else ()
            yield Directive(words[0], tuple(words[1:]), block)
            words = []
        else:
            words.append(token.removeprefix('"'))


(HTTP,) = Directive("", block=tuple(_block(_tokens(text_of("deploy/nginx.conf"))))).all("http")
PUBLIC, INTERNAL = HTTP.all("server")


def size(text: str) -> int:
    assert text.endswith("m")
    return int(text[:-1]) * 1024**2
