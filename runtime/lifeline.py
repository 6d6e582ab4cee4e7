"""Child processes that end with their parent, however the parent ends.

Between parent and child stands a small watcher: this file, run as a program. It reads a pipe that
only the parent holds open. When the parent closes the pipe, or dies, the watcher ends the child.
So an ordinary stop and the parent's `kill -9` take the same way.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple, Self, cast

PR_SET_PDEATHSIG = 1

WATCHER_GRACE = 10.0
"""Seconds that a watcher may take, beyond its steps, to end a child and itself."""


class StopStep(NamedTuple):
    """A signal that asks a child to end, and the seconds it has before the next step."""

    signal: int
    grace: float


class Account(NamedTuple):
    """The user and the group that a child runs as."""

    uid: int
    gid: int


class Signals:
    """Signals as events to wait for, in place of handlers that interrupt; main thread only."""

    def __init__(self, *numbers: signal.Signals) -> None:
        self._numbers = numbers

    def __enter__(self) -> Self:
        self._receiving, self._sending = os.pipe()
        os.set_blocking(self._receiving, False)
        os.set_blocking(self._sending, False)
        self._wakeup_before = signal.set_wakeup_fd(self._sending, warn_on_full_buffer=False)
        # A handler, and not SIG_IGN: a child would inherit SIG_IGN through exec.
        self._before = {n: signal.signal(n, lambda _number, _frame: None) for n in self._numbers}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._receiving)
        os.close(self._sending)

    def wait(self, timeout: float | None, pipe: int | None = None) -> tuple[set[int], bool]:
        """The signals that came within `timeout`, and whether `pipe` became readable."""
        watched = [self._receiving] if pipe is None else [self._receiving, pipe]
        readable, _, _ = select.select(watched, [], [], timeout)
        received = os.read(self._receiving, 512) if self._receiving in readable else b""
        return set(received), pipe in readable


class Lifeline:
    """A running child, seen from its parent."""

    def __init__(self, watcher: subprocess.Popen[bytes], pipe: IO[bytes], patience: float) -> None:
        self._watcher = watcher
        self._pipe = pipe
        self._patience = patience

    def running(self) -> bool:
        """Whether the child has not ended yet."""
        return self._watcher.poll() is None

    def cut(self) -> int:
        """End the child, if it still runs, and return its exit status: 128 + N after signal N."""
        self._pipe.close()
        return self._watcher.wait(self._patience)


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    steps: Sequence[StopStep],
    cwd: Path | None = None,
    account: Account | None = None,
    output: IO[bytes] | None = None,
) -> Lifeline:
    """Start a child that is taken through `steps`, then killed, when its lifeline is cut."""
    watcher = subprocess.Popen(
        [sys.executable, "-I", __file__, Path(argv[0]).name],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        cwd=cwd,
        # Ctrl-C in a terminal is for the parent alone, which ends its children in order.
        start_new_session=True,
    )
    pipe = cast("IO[bytes]", watcher.stdin)  # as Popen promises for PIPE
    lifeline = Lifeline(watcher, pipe, sum(s.grace for s in steps) + WATCHER_GRACE)
    # Not as arguments: those are open to everyone, and an environment holds passwords.
    order = json.dumps([list(argv), dict(env), list(steps), account])
    try:
        pipe.write(order.encode() + b"\n")
        pipe.flush()
    except BaseException:
        lifeline.cut()
        raise
    return lifeline


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether the condition comes true in time; for what nobody announces: locks, ports, files."""
    deadline = time.monotonic() + seconds
    while not (fulfilled := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return fulfilled


def _read_order(pipe: int) -> tuple[list[str], dict[str, str], list[StopStep], Account | None]:
    line = b""
    while not line.endswith(b"\n"):
        chunk = os.read(pipe, 65_536)
        if not chunk:
            sys.exit("the parent ended before it said what to run")
        line += chunk
    argv, env, steps, account = json.loads(line)
    return argv, env, [StopStep(*step) for step in steps], account and Account(*account)


def _end_with_watcher(number: int) -> Callable[[], None] | None:
    """What a child does before exec so that not even the watcher's own death leaves it behind."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    watcher = os.getpid()

    def bind() -> None:
        prctl(PR_SET_PDEATHSIG, number)
        if os.getppid() != watcher:
            os._exit(1)

    return bind


def _end(child: subprocess.Popen[bytes], steps: Sequence[StopStep], signals: Signals) -> None:
    for step in steps:
        child.send_signal(step.signal)
        deadline = time.monotonic() + step.grace
        while child.poll() is None and (left := deadline - time.monotonic()) > 0:
            signals.wait(left)
    child.kill()
    child.wait()


def _watch(pipe: int) -> int:
    argv, env, steps, account = _read_order(pipe)
    to_end = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    with Signals(signal.SIGCHLD, *to_end) as signals:
        try:
            child = subprocess.Popen(
                argv,
                env=env,
                stdin=subprocess.DEVNULL,
                process_group=0,
                user=account and account.uid,
                group=account and account.gid,
                extra_groups=account and (),
                preexec_fn=_end_with_watcher(steps[-1].signal if steps else signal.SIGKILL),
            )
        except OSError as error:
            sys.exit(f"{argv[0]} can't be started: {error}")
        while child.poll() is None:
            received, cut = signals.wait(None, pipe)
            if cut or received & to_end:
                _end(child, steps, signals)
    with contextlib.suppress(ProcessLookupError):
        # What the child itself started and left behind would hold its ports and its locks.
        os.killpg(child.pid, signal.SIGKILL)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


if __name__ == "__main__":
    sys.exit(_watch(0))
