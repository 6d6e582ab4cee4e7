"""What only a real S3 server can show about the blob store in a bucket."""

import datetime
from contextlib import closing
from typing import Any

import httpx
import pytest

from ingest.blobs import BlobStoreRefused, BlobStoreUnavailable
from ingest.s3 import S3Store
from tests.blobs import BUCKET, EIGHT_MIB, MakeFile, assert_every_use_raises, connect, content_of
from tests.s3 import S3Server


def test_a_server_that_is_down_is_unavailable(make_file: MakeFile) -> None:
    with S3Server() as server:
        store = connect(server)
    with closing(store):
        assert_every_use_raises(BlobStoreUnavailable, store, make_file(b"x"))


def test_a_bucket_that_is_absent_is_unavailable(s3: S3Server, make_file: MakeFile) -> None:
    with closing(connect(s3, bucket="nobody-made-this")) as store:
        with pytest.raises(BlobStoreUnavailable):
            store.put("key", make_file(b"x"), "text/plain")
        with pytest.raises(BlobStoreUnavailable):
            store.open("key")


def test_a_wrong_secret_is_refused(s3: S3Server, make_file: MakeFile) -> None:
    with closing(connect(s3, secret_key="a-guess")) as store:
        assert_every_use_raises(BlobStoreRefused, store, make_file(b"x"))


def test_stores_with_different_prefixes_share_a_bucket(
    s3: S3Server, s3_store: S3Store, make_file: MakeFile
) -> None:
    s3_store.put("key", make_file(b"x"), "text/plain")
    with closing(connect(s3, prefix="/elsewhere/")) as other:
        assert not other.exists("key")
        other.put("key", make_file(b"y"), "text/plain")
        assert list(other.keys()) == ["key"]
    assert content_of(s3_store.open("key")) == b"x"
    with closing(connect(s3)) as whole:
        assert "elsewhere/key" in whole.keys()  # noqa: SIM118


def test_uploads_carry_no_checksums_that_other_servers_refuse(
    s3_store: S3Store, make_file: MakeFile
) -> None:
    sent: list[set[str]] = []

    def record(request: Any, **_: object) -> None:
        sent.append({name.lower() for name in request.headers})

    events: Any = s3_store._client.meta.events  # pyright: ignore[reportPrivateUsage]
    events.register("before-send.s3", record)
    for size in (1, EIGHT_MIB + 1):
        s3_store.put("key", make_file(bytes(size)), "text/plain")
    assert len(sent) > 2
    assert not {name for names in sent for name in names if "checksum" in name or "trailer" in name}


def test_the_test_server_checks_presigned_requests(
    s3: S3Server, s3_store: S3Store, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_store.put("page", make_file(b"page"), "text/plain")
    s3_store.put("other", make_file(b"other"), "text/plain")
    key = s3_store._name("page")  # pyright: ignore[reportPrivateUsage]

    def presigned() -> str:
        with closing(s3.client()) as client:
            return client.generate_presigned_url(
                "get_object", Params={"Bucket": BUCKET, "Key": key}, ExpiresIn=60
            )

    url = presigned()
    assert httpx.get(url).content == b"page"
    assert httpx.get(url.replace("page", "other")).status_code == 403
    assert httpx.get(url.replace("X-Amz-Expires=60", "X-Amz-Expires=600")).status_code == 403
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: yesterday)
    assert httpx.get(presigned()).status_code == 403
