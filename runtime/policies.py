"""What operators see and do about policies."""

from typing import Any

import psycopg
from msgspec import Struct

_STATUS = """
    SELECT p.name, p.position,
           (SELECT coalesce(max(position), 0) FROM log.events) - p.position,
           (SELECT count(*) FROM projections.policy_dead_letters d WHERE d.policy = p.name)
    FROM projections.policies p ORDER BY 1
"""


class PolicyStatus(Struct, frozen=True):
    """Where a policy stands."""

    policy: str
    position: int
    lag: int
    dead_letters: int


def read_policies(dsn: str) -> list[PolicyStatus]:
    """Where every policy stands."""
    with psycopg.connect(dsn) as connection:
        rows: list[tuple[Any, ...]] = connection.execute(_STATUS).fetchall()
    return [PolicyStatus(*row) for row in rows]


def retry_policies(dsn: str, policy: str | None = None) -> int:
    """Ask the worker to react again to what a policy, or every one, set aside; how much that is."""
    with psycopg.connect(dsn) as connection:
        asked = connection.execute(
            "UPDATE projections.policy_dead_letters SET retry = true"
            " WHERE policy = coalesce(%s, policy)",
            (policy,),
        )
        connection.execute("NOTIFY imprimatur_log")
        return asked.rowcount
