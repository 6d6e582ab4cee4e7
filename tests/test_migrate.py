"""Bringing a database up to date."""

import psycopg
import pytest

from runtime.migrate import migrate
from runtime.settings import SettingInvalid
from tests.database import Database


def test_migrating_again_changes_nothing(database: Database) -> None:
    migrate(database.owner)
    with psycopg.connect(database.owner) as connection:
        rows = connection.execute(
            "SELECT model FROM projections.checkpoints ORDER BY model"
        ).fetchall()
    assert rows == [("catalogue",), ("moderation",)]


def test_a_dsn_must_be_an_address() -> None:
    with pytest.raises(SettingInvalid):
        migrate("host=127.0.0.1 dbname=imprimatur")
