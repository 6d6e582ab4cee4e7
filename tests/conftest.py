"""Fixtures that many tests share."""

from collections.abc import Iterator

import pytest

from tests.database import Database, Server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """One PostgreSQL server for each test process."""
    with Server() as server:
        yield server


@pytest.fixture
def database(postgres: Server) -> Iterator[Database]:
    """A fresh, migrated database."""
    with postgres.database() as database:
        yield database
