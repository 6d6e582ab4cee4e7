"""The worker: runs the policies, and the jobs that they ask for."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from msgspec import convert, to_builtins
from procrastinate import App, JobContext, PsycopgConnector, RetryStrategy
from procrastinate.jobs import Job as QueuedJob
from procrastinate.jobs import Status
from procrastinate.worker import Worker
from psycopg import AsyncConnection, Connection
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool

from api.apitokens import sweep_api_tokens
from api.onetime import OneTimeTokens, sweep_tokens
from api.revocations import Revocations
from api.secondfactors import sweep_factors
from api.security import sweep_incidents
from api.sessions import Sessions, sweep_sessions
from commands.catalogue import DiscardArchive, ProcessArchive, ReleasePages
from commands.connections import EVERY_TENANT, TenantPool
from commands.kernel import Job, Origin
from commands.memberships import SendInvitation
from commands.people.administration import EndSessions
from commands.people.bans import LiftBan
from commands.people.letters import SendLetter
from commands.pictures import SettlePicture
from commands.tenancy import DiscardTenant
from ingest.blobs import BlobStoreUnavailable
from ingest.chapters import ChapterIngest
from ingest.images import DecoderPool
from ingest.pictures import Pictures
from ingest.references import BlobReferences
from ingest.scratch import sweep
from ingest.storage import add_up
from runtime.disposal import Disposal
from runtime.mail.letters import Letters
from runtime.post import Post
from runtime.reactions import DeferJobs, Deferred, Reactions
from runtime.registry import JOBS, POLICIES
from runtime.settings import Settings
from runtime.standing import Standing
from runtime.tenants import tenant_ids
from runtime.wiring import clock, lifetimes_of, open_bus, open_pool, open_store

CONCURRENCY = 2
"""Jobs run at the same time, so that one inflates while the other's pages are being stored."""

HEARTBEAT_SECONDS = 1.0
STALLED_SECONDS = 5.0
"""Without a heartbeat for this long, a worker's jobs are given to another."""

SWEEP_SECONDS = 6 * 3_600

RETRY = RetryStrategy(max_attempts=8, exponential_wait=2)

logger = logging.getLogger(__name__)

Handler = Callable[[Any, Origin], Awaitable[None]]


class JobsStopped(Exception):
    """The runner of jobs ended by itself, as it does when it loses the database."""


class WorkerDied(Exception):
    """The worker that had a job in hand was heard of no more."""


async def run_worker(settings: Settings) -> None:
    """Work until cancelled, or until a connection to the database is lost.

    A job whose end could not be noted down counts as being worked on for as long as its worker
    lives; so a worker that lost the database ends, and the next one takes up what it had in hand.
    """
    dsn = make_conninfo(settings.need("dsn"), options="-c search_path=jobs")
    connector = PsycopgConnector(conninfo=dsn, min_size=1, max_size=CONCURRENCY + 4)
    app = App(connector=connector)
    async with contextlib.AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool(settings))
        bus = await stack.enter_async_context(open_bus(settings, pool))
        connections = stack.enter_context(
            ConnectionPool[Connection[TupleRow]](
                settings.need("dsn"), min_size=1, max_size=CONCURRENCY + 1, open=True
            )
        )
        store = open_store(settings)
        references = BlobReferences(connections, store)
        decoders = stack.enter_context(DecoderPool())
        ingest = ChapterIngest(bus, store, references, decoders, settings.scratch())
        pictures = Pictures(bus, references, decoders, settings.scratch())
        post = Post(bus, OneTimeTokens(pool), Letters(settings, clock))
        # Whoever asks for a session learns of its end from the database, not from here.
        revocations = Revocations(settings.need("dsn"), settings.access_seconds)
        standing = Standing(bus, Sessions(pool, revocations, lifetimes_of(settings)))
        disposal = Disposal(connections, store, references)
        _register(app, ingest, pictures, post, disposal, standing)
        await stack.enter_async_context(app.open_async())
        reactions = Reactions(dsn, bus, list(POLICIES.values()), deferral(app))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(reactions.run())
            tasks.create_task(_revive_stalled(app))
            tasks.create_task(_run_jobs(app))
            tasks.create_task(_sweep(ingest, pictures, pool, settings.scratch()))
            tasks.create_task(_sweep_rows(pool))


def _register(
    app: App,
    ingest: ChapterIngest,
    pictures: Pictures,
    post: Post,
    disposal: Disposal,
    standing: Standing,
) -> None:
    """Bind each kind of job to what carries it out."""
    handlers: dict[type[Job], Handler] = {
        ProcessArchive: ingest.process,
        DiscardArchive: ingest.discard,
        ReleasePages: lambda job, _origin: ingest.release(job),
        SendInvitation: post.invite,
        SendLetter: post.send,
        DiscardTenant: disposal.discard,
        SettlePicture: pictures.settle,
        LiftBan: standing.lift,
        EndSessions: standing.end_sessions,
    }
    for name, kind in JOBS.items():
        app.task(name=name, retry=RETRY)(_task(kind, handlers[kind]))


def _task(kind: type[Job], handler: Handler) -> Callable[..., Awaitable[None]]:
    async def run(*, job: Any, origin: Any) -> None:
        await handler(convert(job, kind), convert(origin, Origin))

    return run


def deferral(app: App) -> DeferJobs:
    """What puts jobs on the queue, in the transaction of a connection."""
    names = {kind: name for name, kind in JOBS.items()}

    async def defer(connection: AsyncConnection[Any], jobs: list[Deferred]) -> None:
        for job, origin in jobs:
            name = names[type(job)]
            task = app.configure_task(name, connection=connection, schedule_at=job.due())
            await task.defer_async(job=to_builtins(job), origin=to_builtins(origin))

    return defer


async def _keep_error(
    call_next: Callable[[], Awaitable[Any]], context: JobContext, worker: Worker
) -> Any:
    """Run a job, and note for operators what it failed with."""
    try:
        return await call_next()
    except Exception as error:
        await _note_error(worker.app, context.job, error)
        raise


async def _note_error(app: App, job: QueuedJob, error: Exception) -> None:
    await app.connector.execute_query_async(
        "INSERT INTO errors (job_id, error) VALUES (%(job_id)s, %(error)s)"
        " ON CONFLICT (job_id) DO UPDATE SET error = excluded.error",
        job_id=job.id,
        error=repr(error),
    )


async def _run_jobs(app: App) -> None:
    await app.run_worker_async(
        concurrency=CONCURRENCY,
        install_signal_handlers=False,
        delete_jobs="successful",
        fetch_job_polling_interval=1.0,
        update_heartbeat_interval=HEARTBEAT_SECONDS,
        stalled_worker_timeout=STALLED_SECONDS,
        worker_middleware=[_keep_error],
    )
    raise JobsStopped


async def _sweep(
    ingest: ChapterIngest, pictures: Pictures, pool: TenantPool, scratch: Path
) -> None:
    """Clear away, now and then, what was cut off and left behind."""
    while True:
        await asyncio.to_thread(sweep, scratch, time.time())
        try:
            for tenant in await tenant_ids(pool):
                await ingest.sweep(tenant, time.time())
            await pictures.sweep(time.time())
        except BlobStoreUnavailable:
            logger.warning("blobs are not swept this time", exc_info=True)
        await asyncio.sleep(SWEEP_SECONDS)


async def _sweep_rows(pool: TenantPool) -> None:
    """Forget, now and then, what opens nothing any more, and add up what is stored."""
    while True:
        await sweep_sessions(pool)
        await sweep_tokens(pool)
        await sweep_factors(pool)
        await sweep_api_tokens(pool)
        async with pool.of(EVERY_TENANT) as connection:
            await add_up(connection)
        await sweep_incidents(pool)
        await asyncio.sleep(SWEEP_SECONDS)


async def _revive_stalled(app: App) -> None:
    """Queue again what a worker had in hand when it died, unless that happened too often."""
    while True:
        await asyncio.sleep(HEARTBEAT_SECONDS)
        for job in await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=STALLED_SECONDS):
            died = WorkerDied()
            await _note_error(app, job, died)
            if RETRY.get_retry_decision(exception=died, job=job) is None:
                logger.error("job %s stalled; it is given up", job.id)
                await app.job_manager.finish_job(job, Status.FAILED, delete_job=False)
            else:
                logger.warning("job %s stalled; it is queued again", job.id)
                await app.job_manager.retry_job(job)
