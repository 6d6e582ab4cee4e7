"""Processes that a measurement needs beside its own; all of them end with it."""

import ctypes
import signal
import socket
import sys
from collections.abc import Callable, Generator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import ParamSpec, TypeVar

from msgspec.structs import replace

from runtime.lifeline import PR_SET_PDEATHSIG, wait_for
from runtime.settings import Settings, environment_of
from runtime.supervisor import Child, ChildProcess

START_SECONDS = 30.0


class NotStarted(Exception):
    """A server ended, or did not listen in time; it says why on standard error."""


P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def apart() -> Generator[ProcessPoolExecutor]:
    """A process to call functions in, fresh and kept."""
    with ProcessPoolExecutor(1, get_context("spawn"), end_with_parent) as pool:
        yield pool


def in_process(pool: ProcessPoolExecutor, function: Callable[P, T]) -> Callable[P, T]:
    """A function as another process runs it."""

    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        return pool.submit(function, *args, **kwargs).result()

    return call


@contextmanager
def serving(part: str, settings: Settings) -> Generator[int]:
    """A part of `tests.benchmarks.serve` at a port of its own."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    with _running(replace(settings, port=port), "tests.benchmarks.serve", part) as server:
        wait_for(lambda: _accepts(port) or not server.running(), START_SECONDS)
        if not _accepts(port):
            raise NotStarted(part)
        yield port


@contextmanager
def projecting(settings: Settings) -> Generator[None]:
    """The projector, as a site runs it."""
    with _running(settings, "runtime.cli", "projector"):
        yield


@contextmanager
def _running(settings: Settings, module: str, argument: str) -> Generator[ChildProcess]:
    environment = environment_of(settings)
    child = ChildProcess(Child(argument, (sys.executable, "-m", module, argument), environment))
    child.start()
    try:
        yield child
    finally:
        child.stop()


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def end_with_parent() -> None:
    """Have the kernel end this process when the one that started it is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
