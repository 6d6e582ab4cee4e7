"""Where read models and policies stand: how far behind the log, and how much they set aside."""

from typing import Literal, LiteralString

from msgspec import Struct

STANDINGS: LiteralString = """
    WITH head AS (SELECT coalesce(max(position), 0) AS at FROM log.events)
    SELECT 'read model', c.model || '_' || c.version, c.position, head.at - c.position,
           (SELECT count(*) FROM projections.dead_letters d
            WHERE d.model = c.model AND d.version = c.version)
    FROM projections.checkpoints c, head
    UNION ALL
    SELECT 'policy', p.name, p.position, head.at - p.position,
           (SELECT count(*) FROM projections.policy_dead_letters d WHERE d.policy = p.name)
    FROM projections.policies p, head
    ORDER BY 1, 2
"""
"""A row for each Standing, asked over a connection that sees every tenant."""

Follower = Literal["read model", "policy"]


class Standing(Struct, frozen=True):
    """Where one of those that follow the log stands."""

    follower: Follower
    name: str
    position: int
    lag: int
    dead_letters: int
