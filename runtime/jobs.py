"""What operators see and do about jobs."""

from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime

import psycopg
from msgspec import Struct
from procrastinate import App, SyncPsycopgConnector
from procrastinate.jobs import Status
from procrastinate.manager import JobManager
from psycopg.conninfo import make_conninfo

GIVEN_UP = Status.FAILED.value


class JobCount(Struct, frozen=True):
    """How many jobs of a kind are in a state."""

    kind: str
    state: str
    count: int


class GivenUp(Struct, frozen=True):
    """A job that failed too often to be tried again by itself, with its last error."""

    id: int
    kind: str
    error: str


class JobNotGivenUp(Exception):
    """No job of this number was given up."""


def count_jobs(dsn: str) -> list[JobCount]:
    """How many jobs there are, by kind and state; what is done is there no more."""
    with _job_manager(dsn) as manager:
        return [
            JobCount(task["name"], state.value, count)
            for task in manager.list_tasks()
            for state in Status
            if (count := task.get(state.value, 0))
        ]


def given_up_jobs(dsn: str) -> list[GivenUp]:
    """The jobs that are tried no more until an operator says so."""
    with _job_manager(dsn) as manager:
        rows = manager.connector.execute_query_all("SELECT job_id, error FROM errors")
        errors = {row["job_id"]: row["error"] for row in rows}
        return [
            GivenUp(job.id, job.task_name, errors.get(job.id, ""))
            for job in manager.list_jobs(status=GIVEN_UP)
            if job.id is not None
        ]


def retry_jobs(dsn: str, job_id: int | None = None) -> int:
    """Queue given-up jobs again, one or all of them, to be tried once more; how many those are."""
    with _job_manager(dsn) as manager:
        ids = [job.id for job in manager.list_jobs(id=job_id, status=GIVEN_UP) if job.id]
        if job_id is not None and not ids:
            raise JobNotGivenUp(f"no job {job_id} was given up")
        for id_ in ids:
            manager.retry_job_by_id(id_, retry_at=datetime.now(UTC))
    return len(ids)


@contextmanager
def _job_manager(dsn: str) -> Generator[JobManager]:
    # A pool would wait half a minute before it says that the database is down.
    psycopg.connect(dsn).close()
    conninfo = make_conninfo(dsn, options="-c search_path=jobs")
    app = App(connector=SyncPsycopgConnector(conninfo=conninfo, min_size=1, max_size=1))
    with app.open():
        yield app.job_manager
