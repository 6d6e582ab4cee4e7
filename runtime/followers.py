"""What operators see and do about read models and policies."""

from typing import Any, LiteralString

import psycopg

from projections.standings import STANDINGS, Follower, Standing

_READ_MODEL: LiteralString = "%s IN (model, model || '_' || version)"


class ReadModelUnknown(Exception):
    """No read model is called so."""


class PolicyUnknown(Exception):
    """No policy is called so."""


def read_standings(dsn: str, follower: Follower) -> list[Standing]:
    """Where every read model stands, or every policy."""
    with psycopg.connect(dsn) as connection:
        rows: list[tuple[Any, ...]] = connection.execute(STANDINGS).fetchall()
    return [one for row in rows if (one := Standing(*row)).follower == follower]


def retry_read_model(dsn: str, model: str) -> int:
    """Ask the projector to fold again what a read model set aside; how many events that is.

    The read model goes by its name, with or without its version.
    """
    with psycopg.connect(dsn) as connection:
        known = f"SELECT FROM projections.checkpoints WHERE {_READ_MODEL}"
        if connection.execute(known, (model,)).fetchone() is None:
            raise ReadModelUnknown(f"there is no read model called {model}")
        marking = f"UPDATE projections.dead_letters SET retry = true WHERE {_READ_MODEL}"
        return _mark(connection, marking, model)


def retry_policies(dsn: str, policy: str | None = None) -> int:
    """Ask the worker to react again to what a policy, or every one, set aside; how much that is."""
    with psycopg.connect(dsn) as connection:
        known = "SELECT FROM projections.policies WHERE name = %s"
        if policy is not None and connection.execute(known, (policy,)).fetchone() is None:
            raise PolicyUnknown(f"there is no policy called {policy}")
        marking = (
            "UPDATE projections.policy_dead_letters SET retry = true"
            " WHERE policy = coalesce(%s, policy)"
        )
        return _mark(connection, marking, policy)


def _mark(connection: psycopg.Connection[Any], marking: LiteralString, name: str | None) -> int:
    marked = connection.execute(marking, (name,))
    connection.execute("NOTIFY imprimatur_log")
    return marked.rowcount
