"""Connections to the database, each of which sees one tenant at a time."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

EVERY_TENANT = "*"
"""What stands for all tenants, for those who serve them all: operators, projectors, policies."""

_KEEP = "SELECT pg_advisory_lock_shared(hashtextextended(name, 0)) FROM unnest(%s::text[]) AS name"


class TenantConnection(AsyncConnection[Any]):
    """A connection that knows whose rows it sees."""

    tenant = ""

    async def serve(self, tenant: str) -> None:
        """See the rows of one tenant from here on; nobody's, where none is named."""
        self.tenant = ""  # until it is certain
        await self.execute("SELECT set_config('imprimatur.tenant', %s, false)", (tenant,))
        self.tenant = tenant


class TenantPool(AsyncConnectionPool[AsyncConnection[Any]]):
    """Connections that see nobody's rows until they are asked for as a tenant's.

    While it is open, `imprimatur projections prune` drops none of the schemas that it reads.
    """

    def __init__(self, dsn: str, schemas: Sequence[str] = (), **options: Any) -> None:
        async def begin(connection: AsyncConnection[Any]) -> None:
            await cast("TenantConnection", connection).serve("")
            await connection.execute(_KEEP, (list(schemas),))

        super().__init__(
            dsn,
            connection_class=TenantConnection,
            configure=begin,
            kwargs={"autocommit": True, "prepare_threshold": 2},
            **options,
        )

    @asynccontextmanager
    async def of(
        self, tenant: str, wait_seconds: float | None = None
    ) -> AsyncGenerator[AsyncConnection[Any]]:
        """A connection on which row-level security shows this tenant's rows and no others."""
        async with self.connection(wait_seconds) as connection:
            one = cast("TenantConnection", connection)
            if one.tenant != tenant:
                await one.serve(tenant)
            try:
                yield one
            finally:
                if tenant == EVERY_TENANT and not one.broken:
                    await one.serve("")
