"""The data folder: its modes, its lock, its secrets."""

import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runtime import datafolder
from runtime.datafolder import (
    DataFolder,
    DataFolderInUse,
    DataFolderUnreachable,
    default_data_folder,
    require_reachable,
    write_whole,
)
from runtime.lifeline import Account
from tests.processes import open_folder, running, until

HOLD = """
import signal, sys
from pathlib import Path
from runtime.datafolder import DataFolder
lock = DataFolder(Path(sys.argv[1])).lock()
print("held", flush=True)
signal.pause()
"""

STRANGER = Account(54_321, 54_321)


@pytest.fixture
def base() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_folder_is_closed_to_lookers_whatever_the_umask(base: Path):
    before = os.umask(0)
    try:
        DataFolder(base / "a/site").create()
    finally:
        os.umask(before)
    assert mode(base / "a/site") == (0o711 if os.geteuid() == 0 else 0o700)
    assert mode(base) == 0o755


def test_an_empty_folder_is_made_ours_and_a_full_one_keeps_its_mode(base: Path):
    empty, full = base / "empty", base / "full"
    for folder in (empty, full):
        folder.mkdir()
        folder.chmod(0o750)
    (full / "something").touch()
    DataFolder(empty).create()
    DataFolder(full).create()
    assert mode(empty) == (0o711 if os.geteuid() == 0 else 0o700)
    assert mode(full) == 0o750


def test_a_locked_folder_is_refused_naming_the_holder_until_the_holder_dies(base: Path):
    with running(HOLD, str(base / "site")) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(DataFolderInUse, match=rf"pid {holder.pid}\)"):
            DataFolder(base / "site").lock()
        holder.kill()
        holder.wait()
        DataFolder(base / "site").lock().release()


def test_a_released_lock_can_be_taken_again_and_parts_are_apart(base: Path):
    folder = DataFolder(base / "site")
    with folder.lock(), folder.lock("part"), pytest.raises(DataFolderInUse):
        folder.lock()
    folder.lock().release()


def test_a_secret_is_random_kept_and_readable_by_its_owner_only(base: Path):
    secret = DataFolder(base / "site").secret("session")
    assert len(secret) >= 43
    assert DataFolder(base / "site").secret("session") == secret
    assert DataFolder(base / "site").secret("other") != secret
    assert mode(base / "site/secrets") == 0o700
    assert mode(base / "site/secrets/session") == 0o600
    assert {f.name for f in (base / "site/secrets").iterdir()} == {"session", "other"}


def test_whoever_asks_first_for_a_secret_all_get_the_same(base: Path):
    folder = DataFolder(base / "site")
    for name in map(str, range(50)):
        with ThreadPoolExecutor(8) as pool:
            assert len(set(pool.map(folder.secret, [name] * 8))) == 1


@pytest.mark.parametrize("name", ["", "../lock", "a/b", ".hidden", "Name"])
def test_a_secret_can_not_lie_elsewhere(base: Path, name: str):
    with pytest.raises(ValueError, match="not a name"):
        DataFolder(base / "site").secret(name)


def test_the_closed_parent_is_named_and_kept_as_it_is(base: Path):
    closed = base / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(DataFolderUnreachable, match=rf"{closed} \(drwx------\).*--data DIR"):
        require_reachable(closed / "a/site", STRANGER)
    assert mode(closed) == 0o700
    assert not list(closed.iterdir())


def test_the_bits_that_count_are_those_of_the_account(base: Path):
    closed = base / "closed"
    closed.mkdir()
    owner = Account(closed.stat().st_uid, STRANGER.gid)
    member = Account(STRANGER.uid, closed.stat().st_gid)
    for bits, welcome in ((0o100, owner), (0o010, member), (0o001, STRANGER)):
        closed.chmod(bits)
        for account in (owner, member, STRANGER):
            if account == welcome:
                require_reachable(closed / "site", account)
            else:
                with pytest.raises(DataFolderUnreachable):
                    require_reachable(closed / "site", account)
    closed.chmod(0o700)


def test_a_file_is_written_whole_and_leaves_no_draft(base: Path):
    write_whole(base / "port", "1")
    write_whole(base / "port", "2")
    assert (base / "port").read_text() == "2"
    assert [f.name for f in base.iterdir()] == ["port"]


def test_the_default_folder_is_the_systems_for_root_and_the_users_own_otherwise(
    monkeypatch: pytest.MonkeyPatch,
):
    def euid(uid: int) -> None:
        monkeypatch.setattr(datafolder.os, "geteuid", lambda: uid)

    monkeypatch.setenv("HOME", "/home/ana")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    euid(0)
    assert default_data_folder("blog") == Path("/var/lib/imprimatur/blog")
    euid(1000)
    assert default_data_folder("blog") == Path("/home/ana/.local/share/imprimatur/blog")
    monkeypatch.setenv("XDG_DATA_HOME", "not/absolute")
    assert default_data_folder("blog") == Path("/home/ana/.local/share/imprimatur/blog")
    monkeypatch.setenv("XDG_DATA_HOME", "/data/ana")
    assert default_data_folder("blog") == Path("/data/ana/imprimatur/blog")


def test_the_lock_file_names_the_one_who_has_it(base: Path):
    with DataFolder(base / "site").lock():
        until(lambda: (base / "site/site.lock").read_text() == str(os.getpid()))
