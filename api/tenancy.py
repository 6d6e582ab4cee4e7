"""Which organisations there are, known without asking for every request."""

import asyncio
from collections.abc import Mapping

from msgspec import json
from psycopg import sql

from api.positions import Positions
from commands.connections import EVERY_TENANT, TenantPool
from domain.tenancy import MAIN, Tenant
from projections.tenancy import Tenancy, TenantRow

_ALL = sql.SQL("SELECT state FROM {}.tenants").format(sql.Identifier(Tenancy.schema()))


class Tenants:
    """Organisations as they stand, all of them read anew when any of them changed."""

    def __init__(self, pool: TenantPool, positions: Positions) -> None:
        self._pool = pool
        self._positions = positions
        self._known: Mapping[str, Tenant] = {}
        self._changed: int | None = None
        self._reading = asyncio.Lock()

    async def find(self, tenant_id: str) -> Tenant | None:
        """An organisation that is open; None where there is none of this id."""
        if self._is_outdated():
            async with self._reading:
                if self._is_outdated():
                    await self._read()
        tenant = self._known.get(tenant_id, Tenant() if tenant_id == MAIN else None)
        return None if tenant is None or tenant.closed else tenant

    def _is_outdated(self) -> bool:
        checkpoint = self._positions.current(Tenancy)
        return self._changed is None or (
            checkpoint is not None and checkpoint.changed != self._changed
        )

    async def _read(self) -> None:
        # Noted before reading: a change between the two is then read once more, and not missed.
        checkpoint = self._positions.current(Tenancy)
        async with self._pool.of(EVERY_TENANT) as connection:
            cursor = await connection.execute(_ALL, binary=True)
            rows = [json.decode(state, type=TenantRow) for (state,) in await cursor.fetchall()]
        self._known = {row.id: row.organisation for row in rows}
        self._changed = checkpoint.changed if checkpoint else None
