"""What operators see and do about read models."""

from typing import Any

import psycopg
from msgspec import Struct

_STATUS = """
    SELECT c.model || '_' || c.version, c.position,
           (SELECT coalesce(max(position), 0) FROM log.events) - c.position,
           (SELECT count(*) FROM projections.dead_letters d
            WHERE d.model = c.model AND d.version = c.version)
    FROM projections.checkpoints c ORDER BY 1
"""


class Status(Struct, frozen=True):
    """Where a read model stands."""

    model: str
    position: int
    lag: int
    dead_letters: int


def read_status(dsn: str) -> list[Status]:
    """Where every read model stands."""
    with psycopg.connect(dsn) as connection:
        rows: list[tuple[Any, ...]] = connection.execute(_STATUS).fetchall()
    return [Status(*row) for row in rows]


def retry_dead_letters(dsn: str, model: str) -> int:
    """Ask the projector to fold again what a read model set aside; how many events that is.

    The read model goes by its name, with or without its version.
    """
    with psycopg.connect(dsn) as connection:
        asked = connection.execute(
            "UPDATE projections.dead_letters SET retry = true"
            " WHERE %s IN (model, model || '_' || version)",
            (model,),
        )
        connection.execute("NOTIFY imprimatur_log")
        return asked.rowcount
