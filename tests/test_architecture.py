"""The arrows between the folders, and what every module of them must look like."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

ARROWS = {
    "domain": set[str](),
    "commands": {"domain"},
    "projections": {"domain"},
    "ingest": {"commands", "domain"},
    "api": {"commands", "projections", "ingest", "domain"},
    "runtime": {"api", "commands", "projections", "ingest", "domain"},
}
"""What each folder may import of the others."""

ONLY_IN_INGEST = {"PIL", "boto3", "botocore", "s3transfer"}
MAX_LINES = 400


def sources() -> list[Path]:
    """Every module of the product, by its path from the root."""
    found = [path for folder in ARROWS for path in (ROOT / folder).rglob("*.py")]
    return sorted(path.relative_to(ROOT) for path in found)


def imports_of(source: str) -> set[str]:
    """The dotted names that a module imports, inside functions as well."""
    return set(_imported(ast.parse(source)))


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (f"{module}.{alias.name}" for alias in node.names)


def complaints(path: Path, source: str) -> list[str]:
    """The imports of a module that point the wrong way."""
    return sorted(name for name in imports_of(source) if not _may_import(path, name))


def _may_import(path: Path, name: str) -> bool:
    folder = path.parts[0]
    first, _, rest = name.partition(".")
    if not first or first == "tests":  # a relative import hides what it points at
        return False
    if folder == "domain":
        return _domain_may_import(Path(*path.parts[1:]).parts[0].removesuffix(".py"), first, rest)
    if first in ARROWS:
        return first == folder or first in ARROWS[folder]
    if first in ONLY_IN_INGEST:
        return folder == "ingest"
    return first != "importlib" or folder == "runtime"


def _domain_may_import(context: str, first: str, rest: str) -> bool:
    if first == "domain":
        return rest.split(".")[0] in ("kernel", "personal", context)
    return first == "msgspec" or (first in sys.stdlib_module_names and first != "importlib")


@pytest.mark.parametrize("path", sources(), ids=str)
def test_arrows_point_down_only(path: Path) -> None:
    assert complaints(path, (ROOT / path).read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("path", "statement"),
    [
        ("domain/catalogue.py", "import psycopg"),
        ("domain/catalogue.py", "from domain.people import Person"),
        ("domain/catalogue.py", "from domain import people"),
        ("domain/catalogue.py", "from commands.kernel import Command"),
        ("domain/catalogue/series.py", "from domain.people import Person"),
        ("domain/catalogue.py", "from importlib import import_module"),
        ("commands/bus.py", "from projections.kernel import API"),
        ("commands/bus.py", "from ingest import blobs"),
        ("commands/bus.py", "import api.errors"),
        ("commands/bus.py", "from .kernel import Command"),
        ("projections/audit.py", "from commands.kernel import SYSTEM"),
        ("projections/audit.py", "from importlib import import_module"),
        ("ingest/chapters.py", "from projections.kernel import API"),
        ("ingest/chapters.py", "import runtime.settings as settings"),
        ("api/app.py", "from runtime.wiring import open_site"),
        ("api/app.py", "from PIL import Image"),
        ("api/app.py", "import botocore.config"),
        ("runtime/wiring.py", "import boto3"),
        ("runtime/wiring.py", "from tests.scenario import given"),
    ],
)
def test_a_wrong_arrow_is_seen_inside_a_function_too(path: str, statement: str) -> None:
    assert complaints(Path(path), statement)
    assert complaints(Path(path), f"def later():\n    if True:\n        {statement}\n")


def test_a_context_may_become_a_package() -> None:
    statement = "from domain.catalogue.series import Series\nfrom domain.kernel import Event"
    assert complaints(Path("domain/catalogue/chapter.py"), statement) == []


@pytest.mark.parametrize("path", sources(), ids=str)
def test_no_module_grows_too_long(path: Path) -> None:
    assert len((ROOT / path).read_text("utf-8").splitlines()) <= MAX_LINES


def test_every_package_says_what_it_is_for() -> None:
    packages = {path.parent for path in sources()}
    assert packages >= {Path(folder) for folder in ARROWS}
    for package in packages:
        module = ast.parse((ROOT / package / "__init__.py").read_text("utf-8"))
        assert ast.get_docstring(module), package
