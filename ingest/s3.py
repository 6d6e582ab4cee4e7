"""Blobs in a bucket of any S3 server."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from ingest.blobs import (
    CHUNK_BYTES,
    BlobNotFound,
    BlobReader,
    BlobStoreRefused,
    BlobStoreUnavailable,
    ByteRange,
    RangeNotSatisfiable,
    SourceUnreadable,
    check_key,
    check_range,
)


class S3Store:
    """Blobs as objects of one S3 bucket."""

    def __init__(
        self,
        bucket: str,
        endpoint: str,
        region: str,
        access_key: str,
        secret_key: str,
        prefix: str = "",
    ) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        # Clients of boto3 are made as they run, so that there is no type to name.
        self._client: Any = boto3.client(  # pyright: ignore[reportUnknownMemberType]
            "s3",
            endpoint_url=endpoint,
            region_name=region,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            config=Config(
                connect_timeout=5,
                read_timeout=30,
                retries={"mode": "standard", "total_max_attempts": 3},
                max_pool_connections=32,
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                # Checksums in trailers, the default, are refused by several other servers.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def put(self, key: str, source: Path, media_type: str) -> None:
        name = self._name(key)
        try:
            with source.open("rb") as content, _s3_errors(key):
                self._client.upload_fileobj(
                    content,
                    self._bucket,
                    name,
                    ExtraArgs={"ContentType": media_type},
                    Config=TransferConfig(max_concurrency=4),
                )
        except OSError as error:
            raise SourceUnreadable(str(source)) from error

    def open(self, key: str, byte_range: ByteRange | None = None) -> BlobReader:
        check_range(byte_range)
        wanted: dict[str, str] = {}
        if byte_range:
            first, last = byte_range
            wanted["Range"] = f"bytes={first}-{'' if last is None else last}"
        with _s3_errors(key):
            answer = self._client.get_object(Bucket=self._bucket, Key=self._name(key), **wanted)
        length: int = answer["ContentLength"]
        total = answer["ContentRange"].rpartition("/")[2] if "ContentRange" in answer else length
        return BlobReader(
            _body_chunks(key, answer["Body"]),
            answer["Body"].close,
            size=int(total),
            length=length,
            media_type=answer["ContentType"],
            etag=answer["ETag"].strip('"'),
        )

    def delete(self, key: str) -> None:
        with _s3_errors(key):
            self._client.delete_object(Bucket=self._bucket, Key=self._name(key))

    def exists(self, key: str) -> bool:
        try:
            with _s3_errors(key):
                self._client.head_object(Bucket=self._bucket, Key=self._name(key))
        except BlobNotFound:
            return False
        return True

    def keys(self, prefix: str = "") -> Iterator[str]:
        pages = self._client.get_paginator("list_objects_v2")
        with _s3_errors(prefix):
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix + prefix):
                for entry in page.get("Contents", ()):
                    yield entry["Key"].removeprefix(self._prefix)

    def close(self) -> None:
        """Close the idle connections."""
        self._client.close()

    def _name(self, key: str) -> str:
        check_key(key)
        check_key(self._prefix + key)
        return self._prefix + key


@contextmanager
def _s3_errors(key: str) -> Generator[None]:
    try:
        yield
    except ClientError as error:
        raise _translated(error, key) from error
    except BotoCoreError as error:
        raise BlobStoreUnavailable(str(error)) from error


def _translated(error: ClientError, key: str) -> Exception:
    response: Any = error.response
    status: int = response["ResponseMetadata"]["HTTPStatusCode"]
    if response["Error"]["Code"] in ("NoSuchKey", "404"):
        return BlobNotFound(key)
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return RangeNotSatisfiable(str(error))
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return BlobStoreRefused(str(error))
    return BlobStoreUnavailable(str(error))


def _body_chunks(key: str, body: Any) -> Iterator[bytes]:
    with _s3_errors(key):
        yield from body.iter_chunks(CHUNK_BYTES)
