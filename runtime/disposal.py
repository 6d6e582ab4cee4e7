"""What is left of a closed organisation beside its record, and its going."""

import asyncio
from typing import LiteralString

from psycopg import Connection
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool

from commands.kernel import Origin
from commands.tenancy import DiscardTenant
from ingest.blobs import BlobStore
from ingest.keys import tenant_key
from ingest.references import BlobReferences

_OWNERS: LiteralString = (
    "SELECT DISTINCT owner FROM ingest.blob_references WHERE starts_with(key, %s)"
)

_ENTRIES: tuple[LiteralString, ...] = (
    "DELETE FROM people.sessions WHERE tenant = %s",
    "DELETE FROM people.one_time_tokens WHERE tenant = %s",
)


class Disposal:
    """Carries out DiscardTenant; done twice it is done."""

    def __init__(
        self,
        pool: ConnectionPool[Connection[TupleRow]],
        store: BlobStore,
        references: BlobReferences,
    ) -> None:
        self._pool = pool
        self._store = store
        self._references = references

    async def discard(self, job: DiscardTenant, origin: Origin) -> None:
        """Forget who is signed in to an organisation, and delete its files."""
        await asyncio.to_thread(self._discard, origin.tenant)

    def _discard(self, tenant: str) -> None:
        prefix = tenant_key(tenant, "")
        with self._pool.connection() as connection:
            for statement in _ENTRIES:
                connection.execute(statement, (tenant,))
            owners = [owner for (owner,) in connection.execute(_OWNERS, (prefix,))]
        for owner in owners:
            self._references.release(owner)
        for key in list(self._store.keys(prefix)):
            self._store.delete(key)
