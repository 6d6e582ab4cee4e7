"""The folder that holds everything of one site: its lock, its secrets, its embedded services."""

import contextlib
import fcntl
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from runtime.lifeline import Account, wait_for

SECRET_BYTES = 32

LOCK_SECONDS = 1.0
"""A process killed while it was starting another leaves its lock to that one for a moment."""

SECRET_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


class DataFolderInUse(Exception):
    """Another process works in this data folder."""


class DataFolderUnreachable(Exception):
    """The account that a service runs as can't pass through a folder on the way."""


class DataFolderUnusable(Exception):
    """The folder can't be made or written to."""


class FolderLock:
    """An exclusive lock on a data folder; the operating system ends it with its process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Let another process have the folder."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


class DataFolder:
    """A site's folder; nothing is created before it is needed."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().resolve()

    def create(self) -> None:
        """Create the folder and its missing parents; existing parents stay as they are."""
        try:
            self._create()
        except OSError as error:
            raise self._unusable(error) from error

    def _create(self) -> None:
        missing = [f for f in (self.path, *self.path.parents) if not f.exists()]
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            folder.chmod(_folder_mode())
        if not missing and not any(self.path.iterdir()):
            self.path.chmod(_folder_mode())

    def _unusable(self, error: OSError) -> DataFolderUnusable:
        return DataFolderUnusable(
            f"{self.path} can't be used ({error.strerror}): choose another folder with --data DIR"
        )

    def lock(self, name: str = "site") -> FolderLock:
        """Take the folder, or one part of it, for this process alone."""
        self.create()
        try:
            descriptor = os.open(self.path / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._unusable(error) from error
        if not wait_for(lambda: _try_lock(descriptor), LOCK_SECONDS):
            holder = os.read(descriptor, 20).decode() or "unknown"
            os.close(descriptor)
            raise DataFolderInUse(
                f"{self.path} is in use by another process (pid {holder}): "
                "stop that one, or choose another folder with --data DIR"
            )
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        return FolderLock(descriptor)

    def secret(self, name: str) -> str:
        """The random secret of this name, created when first asked for."""
        if not SECRET_NAME.fullmatch(name):
            raise ValueError(f"not a name for a secret: {name!r}")
        self.create()
        folder = self.path / "secrets"
        folder.mkdir(mode=0o700, exist_ok=True)
        file = folder / name
        if not file.exists():
            _create_once(file, secrets.token_urlsafe(SECRET_BYTES))
        return file.read_text()


def default_data_folder(name: str) -> Path:
    """Where the site of this name is kept when no folder was chosen."""
    if os.geteuid() == 0:
        return Path("/var/lib/imprimatur") / name
    # The specification of XDG_DATA_HOME says to ignore a relative path.
    home = Path(os.environ.get("XDG_DATA_HOME", ""))
    return (home if home.is_absolute() else Path.home() / ".local/share") / "imprimatur" / name


def first_closed(paths: Iterable[Path], account: Account) -> Path | None:
    """The first of these existing paths that the account can't enter or execute."""
    for path in paths:
        status = path.stat()
        if status.st_uid == account.uid:
            needed = stat.S_IXUSR
        elif status.st_gid == account.gid:
            needed = stat.S_IXGRP
        else:
            needed = stat.S_IXOTH
        if not status.st_mode & needed:
            return path
    return None


def require_reachable(path: Path, account: Account) -> None:
    """Refuse a folder that the account can't enter; what doesn't exist yet is not in the way."""
    existing = [f for f in (*reversed(path.parents), path) if f.exists()]
    closed = first_closed(existing, account)
    if closed is not None:
        raise DataFolderUnreachable(
            f"{path} can't be used: started by root, PostgreSQL runs as the user 'nobody', who "
            f"can't pass through {closed} ({stat.filemode(closed.stat().st_mode)}). Choose another "
            "folder with --data DIR, such as /var/lib/imprimatur/NAME, or run as an ordinary user."
        )


def write_whole(file: Path, text: str) -> None:
    """Write a file so that a crash leaves either its old content or all of the new."""
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=file.parent, prefix=".", delete=False
    ) as draft:
        draft.write(text)
        draft.flush()
        os.fsync(draft.fileno())
    Path(draft.name).replace(file)
    sync_folder(file.parent)


def sync_folder(folder: Path) -> None:
    """Make names that were just created in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _folder_mode() -> int:
    # As root, services that run as another user pass through; only root lists what is inside.
    return 0o711 if os.geteuid() == 0 else 0o700


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _create_once(file: Path, text: str) -> None:
    with tempfile.NamedTemporaryFile("w", dir=file.parent, prefix=".") as draft:
        draft.write(text)
        draft.flush()
        os.fsync(draft.fileno())
        with contextlib.suppress(FileExistsError):  # another process was first: its secret counts
            os.link(draft.name, file)
    sync_folder(file.parent)
