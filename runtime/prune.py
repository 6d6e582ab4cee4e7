"""Drops the read models of earlier versions once nothing serves them any more."""

from typing import Any

import psycopg
from psycopg import sql

from runtime.registry import MODELS

_CHECKPOINTS = "SELECT model, version, position FROM projections.checkpoints ORDER BY 1, 2"

_IS_FREE = (
    "SELECT pg_try_advisory_xact_lock(hashtextextended(%(schema)s, 0))"
    " AND pg_try_advisory_xact_lock(hashtext(%(model)s), %(version)s)"
)
"""Whether no process answers from a read model (TenantPool), and none folds it (Projection)."""


def prune(dsn: str) -> list[str]:
    """Drop, as the database's owner, what is retired; the names of the dropped schemas.

    A read model is retired when no code declares it, or when a newer version has come as far. It
    stays while any process still answers from it or folds it.
    """
    with psycopg.connect(dsn, autocommit=True) as connection:
        checkpoints = connection.execute(_CHECKPOINTS).fetchall()
        positions = {(model, version): position for model, version, position in checkpoints}
        return [
            f"{model}_{version}"
            for (model, version), position in positions.items()
            if _is_retired(model, version, position, positions)
            and _drop_if_free(connection, model, version)
        ]


def _is_retired(
    model: str, version: int, position: int, positions: dict[tuple[str, int], int]
) -> bool:
    if model not in MODELS:
        return True
    current = MODELS[model].version
    return version < current and positions.get((model, current), -1) >= position


def _drop_if_free(connection: psycopg.Connection[Any], model: str, version: int) -> bool:
    schema = f"{model}_{version}"
    named = {"schema": schema, "model": model, "version": version}
    with connection.transaction():
        if connection.execute(_IS_FREE, named).fetchone() != (True,):
            return False
        connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
        for table in ("dead_letters", "checkpoints"):
            connection.execute(
                sql.SQL(
                    "DELETE FROM projections.{} WHERE model = %(model)s AND version = %(version)s"
                ).format(sql.Identifier(table)),
                named,
            )
    return True
