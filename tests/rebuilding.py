"""Read models as their tables hold them, and as the log makes them anew."""

from typing import Any

import psycopg
from psycopg import sql

from commands.vault import KeyRing
from projections.kernel import ReadModel
from projections.projector import Projection
from runtime.registry import MODELS
from tests.database import MASTER_KEY

Tables = dict[str, list[tuple[Any, ...]]]
"""Every row of every table of a read model, and its totals where there are any."""


def tables_of(connection: psycopg.Connection[Any], model: type[ReadModel]) -> Tables:
    """What a read model holds."""
    schema = sql.Identifier(model.schema())
    tables = {
        row.table: connection.execute(
            sql.SQL("SELECT * FROM {}.{} ORDER BY 1, 2").format(schema, sql.Identifier(row.table))
        ).fetchall()
        for row in model.rows
    }
    # A total of 0 is there where it once was another, and not where all came in one batch.
    totals = sql.SQL("SELECT * FROM {}.totals WHERE total <> 0 ORDER BY 1, 2").format(schema)
    return tables | {"totals": connection.execute(totals).fetchall()}


def empty(connection: psycopg.Connection[Any], model: type[ReadModel]) -> None:
    """Bring a read model back to where it was before the log began."""
    schema = sql.Identifier(model.schema())
    for row in model.rows:
        connection.execute(sql.SQL("DELETE FROM {}.{}").format(schema, sql.Identifier(row.table)))
    connection.execute(sql.SQL("DELETE FROM {}.totals").format(schema))
    connection.execute(
        "UPDATE projections.checkpoints SET position = 0, changed = 0 WHERE model = %s",
        (model.name,),
    )


def fold_all(
    connection: psycopg.Connection[Any], model: type[ReadModel], master_key: str = MASTER_KEY
) -> Projection:
    """Fold whatever a read model has not folded yet."""
    projection = Projection(connection, model, KeyRing(master_key))
    projection.open()
    while projection.step():
        pass
    return projection


def assert_equal_to_a_rebuild(dsn: str, master_key: str = MASTER_KEY) -> None:
    """Every read model holds what the log says, to the byte; nothing is changed."""
    with psycopg.connect(dsn) as connection:
        for model in MODELS.values():
            kept = tables_of(connection, model)
            empty(connection, model)
            fold_all(connection, model, master_key)
            assert tables_of(connection, model) == kept
        connection.rollback()
