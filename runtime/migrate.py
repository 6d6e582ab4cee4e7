"""Brings a database up to date: the migrations, the jobs' tables, each read model's schema."""

from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from procrastinate.schema import SchemaManager
from psycopg import sql

from projections.kernel import ReadModel, ddl
from runtime.registry import MODELS
from runtime.settings import SettingInvalid

APP_ROLE = "imprimatur_app"
"""The role that the application's own must be, or be a member of."""

MIGRATIONS = Path(__file__).parent / "migrations"

JOBS = Path(SchemaManager.get_migrations_path())
"""Procrastinate's own: named by the version that brought each, `_pre_` and `_post_` in order."""

FIRST_REMEMBERED = "03.11"
"""Tables of which nothing was remembered were made by the version before this one."""

_LOCK = 1_229_803_601


def migrate(dsn: str) -> None:
    """Apply what is missing, as the database's owner; safe to run again and beside others."""
    if not dsn.startswith(("postgresql://", "postgres://")):
        raise SettingInvalid("a DSN is an address that begins with postgresql://")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        with _migrations(dsn, MIGRATIONS) as (backend, files):
            backend.apply_migrations(backend.to_apply(files))
        with connection.transaction():
            known = _create_jobs(connection)
        with _migrations(f"{dsn}{'&' if '?' in dsn else '?'}schema=jobs", JOBS) as (backend, files):
            backend.mark_migrations([file for file in files if file.id in known])
            backend.apply_migrations(backend.to_apply(files))
        with connection.transaction():
            _create_job_errors(connection)
            _grant_jobs(connection)
        for model in MODELS.values():
            with connection.transaction():
                _create_read_model(connection, model)


@contextmanager
def _migrations(dsn: str, folder: Path) -> Generator[tuple[Any, Any]]:
    """What applies the migrations of a folder and remembers them, and the migrations."""
    yoyo: Any = import_module("yoyo")  # it has no types
    backend = yoyo.get_backend(f"postgresql+psycopg://{dsn.partition('://')[2]}")
    try:
        yield backend, yoyo.read_migrations(str(folder)).filter(_is_sql)
    finally:
        backend.connection.close()


def _is_sql(migration: Any) -> bool:
    return Path(migration.path).suffix == ".sql"


def _create_jobs(connection: psycopg.Connection[Any]) -> set[str]:
    """The tables of procrastinate, in a schema of their own; the migrations that made them."""
    files = {file.stem for file in JOBS.glob("*.sql")}
    if not _exists(connection, "SELECT FROM pg_namespace WHERE nspname = 'jobs'"):
        connection.execute("CREATE SCHEMA jobs")
        connection.execute("SET LOCAL search_path TO jobs")
        connection.execute(SchemaManager.get_schema())
        return files
    if not _exists(connection, "SELECT WHERE to_regclass('jobs._yoyo_migration') IS NOT NULL"):
        return {file for file in files if file < FIRST_REMEMBERED}
    return set()


def _grant_jobs(connection: psycopg.Connection[Any]) -> None:
    for grant in (
        "USAGE ON SCHEMA jobs",
        "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA jobs",
        "USAGE ON ALL SEQUENCES IN SCHEMA jobs",
    ):
        connection.execute(_grant(grant))


def _create_job_errors(connection: psycopg.Connection[Any]) -> None:
    """What a job that failed failed with, which procrastinate does not keep."""
    if _exists(connection, "SELECT WHERE to_regclass('jobs.errors') IS NOT NULL"):
        return
    connection.execute(
        "CREATE TABLE jobs.errors ("
        " job_id bigint PRIMARY KEY REFERENCES jobs.procrastinate_jobs ON DELETE CASCADE,"
        " error text NOT NULL)"
    )


def _create_read_model(connection: psycopg.Connection[Any], model: type[ReadModel]) -> None:
    if _exists(
        connection,
        "SELECT FROM projections.checkpoints WHERE model = %s AND version = %s",
        (model.name, model.version),
    ):
        return
    for statement in ddl(model):
        connection.execute(statement)
    schema = sql.Identifier(model.schema())
    connection.execute(
        sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(schema, sql.Identifier(APP_ROLE))
    )
    connection.execute(
        sql.SQL("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {} TO {}").format(
            schema, sql.Identifier(APP_ROLE)
        )
    )
    connection.execute(
        "INSERT INTO projections.checkpoints (model, version) VALUES (%s, %s)",
        (model.name, model.version),
    )


def _grant(what: LiteralString) -> sql.Composed:
    return sql.SQL("GRANT {} TO {}").format(sql.SQL(what), sql.Identifier(APP_ROLE))


def _exists(
    connection: psycopg.Connection[Any], query: LiteralString, values: tuple[Any, ...] = ()
) -> bool:
    return connection.execute(query, values).fetchone() is not None
