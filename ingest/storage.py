"""How much a tenant stores: a row for each change, which add up to what its blobs take.

The database writes a row with every blob that is added or dropped, in the same transaction, so the
sum is exact; nobody waits for anybody's total, and reading one costs as many rows as were written
since they were last added up.
"""

from typing import Any, LiteralString

from psycopg import AsyncConnection

_STORED: LiteralString = (
    "SELECT coalesce(sum(bytes), 0)::bigint FROM ingest.stored WHERE tenant = %s"
)
_ADD_UP: LiteralString = (
    "WITH gone AS (DELETE FROM ingest.stored RETURNING tenant, bytes)"
    " INSERT INTO ingest.stored (tenant, bytes) SELECT tenant, sum(bytes) FROM gone GROUP BY tenant"
)


async def stored_bytes(connection: AsyncConnection[Any], tenant: str) -> int:
    """What the blobs of a tenant take, each counted once however many hold it."""
    cursor = await connection.execute(_STORED, (tenant,))
    (total,) = await cursor.fetchone() or (0,)
    return total


async def add_up(connection: AsyncConnection[Any]) -> None:
    """Put one row for each tenant in the place of its rows so far."""
    await connection.execute(_ADD_UP)
