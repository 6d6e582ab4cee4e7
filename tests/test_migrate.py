"""Bringing a database up to date."""

from typing import Any, LiteralString

import psycopg
import pytest

from runtime import migrate as migrations
from runtime.migrate import JOBS, migrate
from runtime.registry import MODELS
from runtime.settings import SettingInvalid
from tests.database import Database

FILES = sorted(JOBS.glob("*.sql"))

JOB_TABLES: dict[str, LiteralString] = {
    "functions": (
        "SELECT p.oid::regprocedure::text, md5(regexp_replace(prosrc, '\\s', '', 'g'))"
        " FROM pg_proc p WHERE pronamespace = 'jobs'::regnamespace ORDER BY 1"
    ),
    "columns": (
        "SELECT table_name, column_name, udt_name FROM information_schema.columns"
        " WHERE table_schema = 'jobs' ORDER BY 1, 2"
    ),
    "rights": (
        "SELECT table_name, privilege_type FROM information_schema.role_table_grants"
        " WHERE table_schema = 'jobs' AND grantee = 'imprimatur_app' ORDER BY 1, 2"
    ),
    "remembered": "SELECT migration_id FROM jobs._yoyo_migration ORDER BY 1",
}


def jobs(connection: psycopg.Connection[Any]) -> dict[str, list[tuple[Any, ...]]]:
    """All there is in the schema of the jobs."""
    return {what: connection.execute(asked).fetchall() for what, asked in JOB_TABLES.items()}


def test_migrating_again_changes_nothing(database: Database) -> None:
    with psycopg.connect(database.owner, autocommit=True) as connection:
        before = jobs(connection)
        migrate(database.owner)
        assert jobs(connection) == before
        rows = connection.execute(
            "SELECT model FROM projections.checkpoints ORDER BY model"
        ).fetchall()
    assert rows == [(name,) for name in sorted(MODELS)]


@pytest.mark.parametrize("version", ["03.02", "03.04", "03.04.00_50"])
def test_the_tables_of_jobs_come_from_an_older_version_to_the_one_that_is_installed(
    database: Database, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "FIRST_REMEMBERED", version)
    with psycopg.connect(database.owner, autocommit=True) as connection:
        newest = jobs(connection)
        connection.execute("DROP SCHEMA jobs CASCADE")
        connection.execute("CREATE SCHEMA jobs")
        connection.execute("SET search_path TO jobs")
        for file in FILES:
            if file.stem < version:
                connection.execute(file.read_bytes())
        connection.execute("SET search_path TO public")
        for _ in range(2):
            migrate(database.owner)
            assert jobs(connection) == newest
    assert newest["remembered"] == [(file.stem,) for file in FILES]


def test_a_dsn_must_be_an_address() -> None:
    with pytest.raises(SettingInvalid):
        migrate("host=127.0.0.1 dbname=imprimatur")
