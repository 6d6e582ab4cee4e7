"""The three processes of a site, each run until it is told to end."""

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import psycopg
import uvloop
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.embed import Server
from procrastinate.exceptions import ConnectorException

from api.app import build_app
from commands.log import LogUnavailable
from commands.vault import KeyRing
from projections.projector import Projector
from runtime.logging import configure_logging
from runtime.registry import MODELS
from runtime.settings import Settings
from runtime.wiring import open_site
from runtime.worker import JobsStopped, run_worker

BACKLOG = 1_024

logger = logging.getLogger(__name__)


def run_api(settings: Settings) -> None:
    """Serve HTTP."""
    for name in ("dsn", "secret", "master_key", "scratch_dir"):
        settings.need(name)
    settings.need_strong_secrets()
    configure_logging(settings.log_level)
    app = build_app(lambda: open_site(settings), settings.doors())
    server = Server(
        app,
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGI,
        backlog=BACKLOG,
        http=HTTPModes.http1,  # where it may be HTTP/2, a silent connection stays for ever
        http1_settings=HTTP1Settings(header_read_timeout=settings.slow_seconds * 1_000),
        websockets=False,
        log_level=LogLevels.error,  # below that, it calls itself experimental
    )
    _run(lambda ending: _serve(server, ending))


def run_projector(settings: Settings) -> None:
    """Fold the log into read models."""
    dsn, keys = settings.need("dsn"), KeyRing(settings.need("master_key"))
    configure_logging(settings.log_level)
    projector = Projector(dsn, keys, list(MODELS.values()))
    projector.start()
    try:
        _run(_wait)
    finally:
        projector.stop()


def run_worker_process(settings: Settings) -> None:
    """Run policies and jobs; with an exit status of 1 when the database was lost."""
    for name in ("dsn", "scratch_dir"):
        settings.need(name)
    configure_logging(settings.log_level)
    lost = False
    try:
        _run(lambda ending: _work(settings, ending))
    except* (psycopg.OperationalError, ConnectorException, JobsStopped, LogUnavailable) as errors:
        logger.warning("the worker lost the database and ends: %r", errors.exceptions)
        lost = True
    sys.exit(lost)


async def _wait(ending: asyncio.Event) -> None:
    await ending.wait()


async def _serve(server: Server, ending: asyncio.Event) -> None:
    serving = asyncio.create_task(server.serve())
    waiting = asyncio.create_task(ending.wait())
    await asyncio.wait((serving, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    server.stop()
    await serving


async def _work(settings: Settings, ending: asyncio.Event) -> None:
    working = asyncio.create_task(run_worker(settings))
    waiting = asyncio.create_task(ending.wait())
    await asyncio.wait((working, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    working.cancel()
    with suppress(asyncio.CancelledError):
        await working


def _run(work: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run work that ends when its event is set, which a signal does."""

    async def with_signals() -> None:
        ending = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, ending.set)
        await work(ending)

    uvloop.run(with_signals())
