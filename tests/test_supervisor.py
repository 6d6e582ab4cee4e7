"""The supervisor and its lifelines: order, restarts, and nobody left behind."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.lifeline import Lifeline, StopStep, spawn
from runtime.supervisor import Child, ChildProcess
from tests.processes import is_alive, open_folder, running, until

CHILD = """
import os, signal, sys, time
folder, name, ignore = sys.argv[1:]
def end(*_):
    with open(folder + "/ended", "a") as file:
        file.write(name + " ")
    if not ignore:
        os._exit(0)
signal.signal(signal.SIGTERM, end)
with open(folder + "/" + name, "a") as file:
    file.write(str(os.getpid()) + " " + os.environ["GREETING"] + "\\n")
while True:
    signal.pause()
"""

SUPERVISOR = """
import json, logging, sys
from runtime import supervisor
from runtime.lifeline import StopStep
from runtime.supervisor import Child, Supervisor
logging.basicConfig(format="%(message)s")
children, settings = json.loads(sys.argv[1])
for name, value in settings.items():
    setattr(supervisor, name, [StopStep(*s) for s in value] if name == "STEPS" else value)
sys.exit(Supervisor([Child(*c) for c in children]).run_until_signal())
"""

FORK = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], *sys.argv[2:]])
child.wait()
"""


ID = """
from runtime.lifeline import Account, spawn, wait_for
argv = ["/bin/sh", "-c", "id -u; id -g; id -G"]
lifeline = spawn(argv, env={}, steps=(), account=Account(65_534, 65_534))
wait_for(lambda: not lifeline.running(), 60.0)
lifeline.cut()
"""

DYING: list[object] = ["dying", [sys.executable, "-c", ""], {}]


@pytest.fixture
def base() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


def child(base: Path, name: str, ignore: str = "") -> list[object]:
    argv = [sys.executable, "-c", CHILD, str(base), name, ignore]
    return [name, argv, {"GREETING": f"hello-{name}"}]


def order(*children: list[object], **settings: object) -> str:
    return json.dumps([children, settings])


def pids(base: Path, name: str) -> list[int]:
    file = base / name
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [int(line.split()[0]) for line in lines if line.endswith("\n")]


def one_pid(base: Path, name: str) -> int:
    until(lambda: len(pids(base, name)) > 0)
    return pids(base, name)[-1]


def watcher(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_sigterm_ends_the_children_in_reverse_order(base: Path):
    names = ("first", "second", "third")
    with running(SUPERVISOR, order(*(child(base, n) for n in names))) as supervisor:
        started = [one_pid(base, n) for n in names]
        supervisor.terminate()
        out, err = supervisor.communicate()
    assert (supervisor.returncode, out, err) == (0, "", "")
    assert (base / "ended").read_text() == "third second first "
    assert not any(map(is_alive, started))
    assert (base / "first").read_text().endswith(" hello-first\n")


def test_ctrl_c_ends_everything_once_and_quietly(base: Path):
    with running(SUPERVISOR, order(child(base, "only"))) as supervisor:
        pid = one_pid(base, "only")
        assert os.getsid(watcher(pid)) != os.getsid(supervisor.pid)
        os.killpg(supervisor.pid, signal.SIGINT)
        os.killpg(supervisor.pid, signal.SIGINT)
        out, err = supervisor.communicate()
    assert (supervisor.returncode, out, err) == (130, "", "")
    assert (base / "ended").read_text() == "only "
    assert not is_alive(pid)


def test_a_child_that_dies_is_started_again(base: Path):
    with running(SUPERVISOR, order(child(base, "a"), child(base, "b"))) as supervisor:
        first, other = one_pid(base, "a"), one_pid(base, "b")
        os.kill(first, signal.SIGKILL)
        until(lambda: len(pids(base, "a")) == 2)
        assert pids(base, "b") == [other]
        supervisor.terminate()
        _, err = supervisor.communicate()
    assert err == "a ended; next start in 0.5 s\n"
    assert not any(map(is_alive, [*pids(base, "a"), other]))


def test_the_pause_before_a_restart_grows_to_its_bound(base: Path):
    quick = order(DYING, FIRST_DELAY=0.01, LONGEST_DELAY=0.04)
    with running(SUPERVISOR, quick) as supervisor:
        assert supervisor.stderr is not None
        said = [supervisor.stderr.readline().split()[-2] for _ in range(5)]
        supervisor.terminate()
        supervisor.communicate()
    assert said == ["0.01", "0.02", "0.04", "0.04", "0.04"]


def test_a_child_that_ran_long_starts_over_with_the_first_pause(base: Path):
    with running(SUPERVISOR, order(DYING, FIRST_DELAY=0.01, SETTLED=0.0)) as supervisor:
        assert supervisor.stderr is not None
        said = [supervisor.stderr.readline().split()[-2] for _ in range(4)]
        supervisor.terminate()
        supervisor.communicate()
    assert said == ["0.01"] * 4


def test_a_child_deaf_to_sigterm_is_killed(base: Path):
    deaf = order(child(base, "deaf", "ignore"), STEPS=[[signal.SIGTERM, 0.1]])
    with running(SUPERVISOR, deaf) as supervisor:
        pid = one_pid(base, "deaf")
        supervisor.terminate()
        supervisor.communicate()
    assert supervisor.returncode == 0
    assert (base / "ended").read_text() == "deaf "
    assert not is_alive(pid)


def test_the_children_end_when_the_supervisor_is_killed(base: Path):
    with running(SUPERVISOR, order(child(base, "a"), child(base, "b"))) as supervisor:
        started = [one_pid(base, "a"), one_pid(base, "b")]
        supervisor.kill()
        until(lambda: not any(map(is_alive, started)))
    assert sorted((base / "ended").read_text().split()) == ["a", "b"]


def start(base: Path, *argv: str, steps: tuple[StopStep, ...] = ()) -> Lifeline:
    return spawn(argv, env={**os.environ, "GREETING": "hi"}, steps=steps)


def test_what_a_child_left_behind_ends_with_it(base: Path):
    lifeline = start(base, sys.executable, "-c", FORK, CHILD, str(base), "grandchild", "ignore")
    pid = one_pid(base, "grandchild")
    assert lifeline.cut() == 128 + signal.SIGKILL
    assert not is_alive(pid)


def test_a_child_ends_even_when_its_watcher_is_killed(base: Path):
    steps = (StopStep(signal.SIGTERM, 10.0),)
    lifeline = start(base, sys.executable, "-c", CHILD, str(base), "child", "", steps=steps)
    pid = one_pid(base, "child")
    os.kill(watcher(pid), signal.SIGKILL)
    until(lambda: not is_alive(pid))
    lifeline.cut()
    assert (base / "ended").read_text() == "child "


def test_the_exit_status_is_the_childs(base: Path):
    lifeline = start(base, sys.executable, "-c", "raise SystemExit(7)")
    until(lambda: not lifeline.running())
    assert lifeline.cut() == 7


def test_a_program_that_is_not_there_is_named(base: Path):
    with (base / "output").open("wb") as output:
        lifeline = spawn(["/no/such"], env={}, steps=(), output=output)
    until(lambda: not lifeline.running())
    assert lifeline.cut() == 1
    assert (base / "output").read_text().startswith("/no/such can't be started: ")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a child as another user")
def test_a_child_that_runs_as_another_user_keeps_none_of_our_groups():
    with running(ID, prefix=("setpriv", "--groups=4,24")) as parent:
        out, err = parent.communicate()
    assert (out.split(), err) == (["65534", "65534", "65534"], "")


def test_arguments_and_environment_of_a_child_stay_off_the_watchers_command_line(base: Path):
    lifeline = start(base, sys.executable, "-c", CHILD, str(base), "child", "")
    pid = one_pid(base, "child")
    shown = Path(f"/proc/{watcher(pid)}/cmdline").read_bytes()
    assert b"GREETING" not in shown
    assert str(base).encode() not in shown
    lifeline.cut()


def test_starting_what_runs_and_stopping_what_does_not_changes_nothing(base: Path):
    argv = (sys.executable, "-c", CHILD, str(base), "child", "")
    process = ChildProcess(Child("child", argv, {"GREETING": "hi"}))
    process.stop()
    process.start()
    pid = one_pid(base, "child")
    process.start()
    assert process.running()
    process.stop()
    process.stop()
    assert not process.running()
    assert pids(base, "child") == [pid]
    assert not is_alive(pid)
