"""Who holds which blob: exact reference counts for content-addressed blobs."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import LiteralString

from msgspec import Struct
from psycopg import Connection
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool

from ingest.blobs import BlobStore, BlobStoreUnavailable, check_key

STORE_THREADS = 8


# The rules that everything below keeps:
# - A reference changes only under its blob's row lock, and locks are taken in the order of keys.
# - A held reference means that the object is stored.
# - A reference that is not held is an intent, committed before any object is put or deleted: it
#   says that the object may be stored or not, and keeps the blob's row until this is settled.
# - An object is deleted only under the lock of a row without any reference or intent.

DECLARE_BLOBS = """
    INSERT INTO ingest.blobs (key, bytes, media_type)
    SELECT * FROM unnest(%s::text[], %s::bigint[], %s::text[]) AS blob (key, bytes, media_type)
    ORDER BY key COLLATE "C"
    ON CONFLICT (key) DO UPDATE SET bytes = excluded.bytes, media_type = excluded.media_type
"""
DECLARE_INTENTS = """
    INSERT INTO ingest.blob_references (owner, key, held)
    SELECT %s, key, false FROM unnest(%s::text[]) AS blob (key)
    ON CONFLICT DO NOTHING
"""
LOCK_BLOBS = """
    SELECT key FROM ingest.blobs WHERE key = ANY(%s) ORDER BY key FOR UPDATE
"""
LOCK_BLOBS_OF = """
    SELECT key FROM ingest.blobs
    WHERE key IN (SELECT key FROM ingest.blob_references WHERE owner = %s AND held = %s)
    ORDER BY key FOR UPDATE
"""
FIND_STORED = """
    SELECT DISTINCT key FROM ingest.blob_references WHERE key = ANY(%s) AND held
"""
SET_HELD = """
    UPDATE ingest.blob_references SET held = %s WHERE owner = %s AND key = ANY(%s)
"""
DROP_INTENTS = """
    DELETE FROM ingest.blob_references WHERE owner = %s AND key = ANY(%s) AND NOT held
"""
HAND_OVER = """
    UPDATE ingest.blob_references SET owner = %s WHERE owner = %s AND key = ANY(%s)
"""
FIND_INCOMING = """
    SELECT DISTINCT owner FROM ingest.blob_references WHERE owner LIKE 'incoming/%'
"""
DROP_UNREFERENCED = """
    DELETE FROM ingest.blobs AS blob WHERE key = ANY(%s) AND NOT EXISTS (
        SELECT FROM ingest.blob_references AS reference WHERE reference.key = blob.key
    )
    RETURNING key
"""


class StoredFile(Struct, frozen=True):
    """A local file and the content-addressed key that it is to be stored under."""

    key: str
    path: Path
    media_type: str
    bytes: int


class BlobReferences:
    """Stores blobs while an owner holds them and deletes them with their last reference.

    A crash leaves intents, and perhaps their objects, which the next `hold` or `release` by the
    same owner settles; until then they only keep an object longer than anybody needs it.
    """

    def __init__(self, pool: ConnectionPool[Connection[TupleRow]], store: BlobStore) -> None:
        self._pool = pool
        self._store = store

    def hold(self, owner: str, blobs: Sequence[StoredFile]) -> None:
        """Make the owner hold all the blobs, or none that it did not hold before."""
        files = {blob.key: blob for blob in blobs}
        for key in files:
            check_key(key)
        try:
            while not self._fulfil(owner, files):
                self._declare(owner, files.values())
        except Exception:
            # What cannot be deleted now stays an intent, for the owner's next hold or release.
            with suppress(BlobStoreUnavailable):
                self._discard(owner)
            raise

    def release(self, owner: str) -> None:
        """Drop all that the owner holds, and the objects that nobody holds any more."""
        with self._pool.connection() as connection:
            keys = _keys(connection, LOCK_BLOBS_OF, [owner, True])
            connection.execute(SET_HELD, [False, owner, keys])
        self._discard(owner)

    def hand_over(self, owner: str, to: str) -> None:
        """Let another, who holds nothing of it yet, hold all that the owner holds."""
        with self._pool.connection() as connection:
            keys = _keys(connection, LOCK_BLOBS_OF, [owner, True])
            connection.execute(HAND_OVER, [to, owner, keys])

    def incoming(self) -> list[str]:
        """The owners of what is on its way in, by their names."""
        with self._pool.connection() as connection:
            return _keys(connection, FIND_INCOMING, None)

    def _declare(self, owner: str, files: Collection[StoredFile]) -> None:
        """Commit the intent to hold the blobs."""
        keys = [file.key for file in files]
        sizes = [file.bytes for file in files]
        media_types = [file.media_type for file in files]
        with self._pool.connection() as connection:
            connection.execute(DECLARE_BLOBS, [keys, sizes, media_types])
            connection.execute(DECLARE_INTENTS, [owner, keys])

    def _fulfil(self, owner: str, files: Mapping[str, StoredFile]) -> bool:
        """Turn intents into references and put what is not stored; False if an intent lacks."""
        with self._pool.connection() as connection:
            keys = _keys(connection, LOCK_BLOBS, [list(files)])
            stored = _keys(connection, FIND_STORED, [keys])
            held = connection.execute(SET_HELD, [True, owner, keys])
            if held.rowcount < len(files):
                connection.rollback()
                return False
            self._put([files[key] for key in files.keys() - set(stored)])
            return True

    def _discard(self, owner: str) -> None:
        """Drop the owner's intents, and the objects without any reference or intent."""
        with self._pool.connection() as connection:
            keys = _keys(connection, LOCK_BLOBS_OF, [owner, False])
            connection.execute(DROP_INTENTS, [owner, keys])
            unreferenced = _keys(connection, DROP_UNREFERENCED, [keys])
            with ThreadPoolExecutor(STORE_THREADS) as threads:
                list(threads.map(self._store.delete, unreferenced))

    def _put(self, files: Iterable[StoredFile]) -> None:
        def put(file: StoredFile) -> None:
            self._store.put(file.key, file.path, file.media_type)

        with ThreadPoolExecutor(STORE_THREADS) as threads:
            list(threads.map(put, files))


def _keys(
    connection: Connection[TupleRow], query: LiteralString, arguments: list[object] | None
) -> list[str]:
    return [key for (key,) in connection.execute(query, arguments)]
