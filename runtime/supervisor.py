"""The processes of a site in one place: started in order, kept running, ended in reverse order."""

import logging
import os
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Protocol

from msgspec import Struct, field
from msgspec.structs import replace

from runtime.lifeline import Lifeline, Signals, StopStep, spawn

FIRST_DELAY = 0.5
"""Seconds before a process that died is started again; doubled each time it dies at once."""

LONGEST_DELAY = 30.0

SETTLED = 60.0
"""A process that ran for so many seconds starts over with FIRST_DELAY."""

STEPS = (StopStep(signal.SIGTERM, 10.0),)

logger = logging.getLogger(__name__)


class Service(Protocol):
    """What a supervisor keeps running."""

    @property
    def name(self) -> str: ...
    def start(self) -> None: ...
    def running(self) -> bool: ...
    def stop(self) -> None: ...


class Child(Struct, frozen=True):
    """A program to run; `env` is added to the supervisor's own environment."""

    name: str
    argv: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict[str, str])


class ChildProcess:
    """A child program as a service."""

    def __init__(self, child: Child) -> None:
        self.name = child.name
        self._child = child
        self._lifeline: Lifeline | None = None

    def start(self) -> None:
        """Run the program, unless it runs."""
        if not self.running():
            self.stop()
            env = {**os.environ, **self._child.env}
            self._lifeline = spawn(self._child.argv, env=env, steps=STEPS)

    def give(self, env: dict[str, str]) -> None:
        """Set the environment for the next start; a program that runs with another is ended."""
        if env != self._child.env:
            self.stop()
            self._child = replace(self._child, env=env)

    def running(self) -> bool:
        """Whether the program was started and hasn't ended."""
        return self._lifeline is not None and self._lifeline.running()

    def stop(self) -> None:
        """End the program: SIGTERM, then SIGKILL."""
        if self._lifeline is not None:
            self._lifeline.cut()
            self._lifeline = None


class _Attempt(Struct):
    """How it goes with one service."""

    service: Service
    delay: float
    started: float = 0.0
    due: float | None = None


class Supervisor:
    """Keeps services running, a dead one after a delay that grows to LONGEST_DELAY."""

    def __init__(self, children: Sequence[Child | Service]) -> None:
        self._attempts = [
            _Attempt(ChildProcess(c) if isinstance(c, Child) else c, FIRST_DELAY) for c in children
        ]

    def start(self) -> None:
        """Start every service, in order."""
        for attempt in self._attempts:
            self._start(attempt)

    def run_until_signal(self) -> int:
        """Keep everything running until SIGINT or SIGTERM, then stop it; returns an exit status."""
        to_end = {signal.SIGINT, signal.SIGTERM}
        with Signals(signal.SIGCHLD, *to_end) as signals:
            try:
                self.start()
                while not (received := self._signals_before_next_start(signals)) & to_end:
                    self._start_the_dead()
            finally:
                self.stop()
        return 0 if signal.SIGTERM in received else 128 + signal.SIGINT

    def stop(self) -> None:
        """Stop every service, the last one first."""
        with ExitStack() as stack:
            for attempt in self._attempts:
                stack.callback(attempt.service.stop)

    def _start(self, attempt: _Attempt) -> None:
        attempt.due = None
        attempt.started = time.monotonic()
        attempt.service.start()

    def _start_the_dead(self) -> None:
        now = time.monotonic()
        for attempt in self._attempts:
            if attempt.due is not None:
                if attempt.due <= now:
                    self._start(attempt)
            elif not attempt.service.running():
                self._put_off(attempt, now)

    def _put_off(self, attempt: _Attempt, now: float) -> None:
        if now - attempt.started >= SETTLED:
            attempt.delay = FIRST_DELAY
        attempt.due = now + attempt.delay
        logger.warning("%s ended; next start in %g s", attempt.service.name, attempt.delay)
        attempt.delay = min(attempt.delay * 2, LONGEST_DELAY)

    def _signals_before_next_start(self, signals: Signals) -> set[int]:
        due = [a.due for a in self._attempts if a.due is not None]
        received, _ = signals.wait(max(0.0, min(due) - time.monotonic()) if due else None)
        return received
