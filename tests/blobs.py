"""What the tests of blob stores share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ingest.blobs import BlobReader, BlobStore
from ingest.s3 import S3Store
from tests.s3 import S3Server

BUCKET = "imprimatur"
EIGHT_MIB = 8 * 1024 * 1024

MakeFile = Callable[[bytes], Path]


def connect(s3: S3Server, *, prefix: str = "", secret_key: str = "", bucket: str = "") -> S3Store:
    """A store in a bucket of a server."""
    return S3Store(
        bucket or BUCKET,
        s3.endpoint,
        s3.region,
        s3.access_key,
        secret_key or s3.secret_key,
        prefix,
    )


def content_of(reader: BlobReader) -> bytes:
    """All that a reader reads."""
    with reader:
        return b"".join(reader)


def assert_every_use_raises(error: type[Exception], store: BlobStore, source: Path) -> None:
    """Whatever is asked of the store, it says the same."""
    for use in (
        lambda: store.put("key", source, "text/plain"),
        lambda: store.open("key"),
        lambda: store.delete("key"),
        lambda: store.exists("key"),
        lambda: list(store.keys()),
    ):
        with pytest.raises(error):
            use()
