"""A real S3 API on loopback: OpenStack Swift's s3api, all of it in one process of its own."""

import importlib
import io
import logging
import os
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

ACCESS_KEY = "tests:editor"
SECRET_KEY = "a-secret-of-the-tests"
REGION = "us-east-1"
LISTING_PAGE = 20

SWIFT_CONF = "[swift-hash]\nswift_hash_path_suffix = tests\n"
PROXY_CONF = f"""
[DEFAULT]
swift_dir = {{folder}}
[pipeline:main]
pipeline = catch_errors s3api tempauth slo proxy-server
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:s3api]
use = egg:swift#s3api
location = {REGION}
max_bucket_listing = {LISTING_PAGE}
[filter:tempauth]
use = egg:swift#tempauth
user_{ACCESS_KEY.replace(":", "_")} = {SECRET_KEY} .admin
[filter:slo]
use = egg:swift#slo
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
"""


class S3Server:
    """An S3 server for the length of a `with` block; it checks every signature it is sent."""

    access_key = ACCESS_KEY
    secret_key = SECRET_KEY
    region = REGION

    def __init__(self) -> None:
        self.endpoint = ""
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="s3-"))
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-P", "-W", "ignore", __file__, folder],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            assert process.stdout is not None
            port = process.stdout.readline().strip()
            if not port:
                raise S3ServerFailed("the S3 server ended before it was ready; see stderr")
            self.endpoint = f"http://127.0.0.1:{port}"
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server and remove its files; stopping it twice is fine."""
        self._stack.close()

    def client(self) -> Any:
        """A plain boto3 client, for what a test does behind the store's back."""
        boto3: Any = importlib.import_module("boto3")
        config: Any = importlib.import_module("botocore.config")
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            config=config.Config(s3={"addressing_style": "path"}, signature_version="s3v4"),
        )

    def create_bucket(self, name: str) -> None:
        """Make an empty bucket."""
        client = self.client()
        client.create_bucket(Bucket=name)
        client.close()


class S3ServerFailed(Exception):
    """The S3 server did not start."""


def build_ring(folder: Path, name: str, port: int) -> None:
    """Write a ring of one device and one replica."""
    builder: Any = importlib.import_module("swift.common.ring").RingBuilder(4, 1, 0)
    builder.add_dev(
        {"region": 0, "zone": 0, "weight": 1, "ip": "127.0.0.1", "port": port, "device": "disk"}
    )
    builder.rebalance()
    builder.get_ring().save(str(folder / f"{name}.ring.gz"))


def object_server(conf: dict[str, str]) -> Any:
    """Swift's object server in memory, so that the folder's filesystem needs no xattrs."""
    application: Any = importlib.import_module("swift.obj.mem_server").app_factory(conf)
    objects = application._filesystem
    stored = objects.get_object

    def get_object(name: str) -> tuple[io.BytesIO | None, Any]:
        content, metadata = stored(name)
        # Swift hands every reader the same file, whose position they would share.
        return (content and io.BytesIO(content.getvalue())), metadata

    objects.get_object = get_object
    return application


def serve(folder: Path) -> None:
    """Run the proxy and its three storage servers until standard input closes."""
    eventlet: Any = importlib.import_module("eventlet")
    eventlet.monkey_patch()
    wsgi: Any = importlib.import_module("eventlet.wsgi")
    utils: Any = importlib.import_module("swift.common.utils")
    swift_wsgi: Any = importlib.import_module("swift.common.wsgi")
    protocol: Any = importlib.import_module("swift.common.http_protocol").SwiftHttpProtocol
    # Swift's loggers send to syslog whatever they are told.
    logging.disable()

    (folder / "swift.conf").write_text(SWIFT_CONF)
    (folder / "proxy-server.conf").write_text(PROXY_CONF.format(folder=folder))
    (folder / "devices" / "disk").mkdir(parents=True)
    utils.set_swift_dir(str(folder))
    conf = {
        "devices": str(folder / "devices"),
        "mount_check": "false",
        "swift_dir": str(folder),
        "recon_cache_path": str(folder),
    }
    listeners: dict[str, socket.socket] = {
        name: eventlet.listen(("127.0.0.1", 0)) for name in ("account", "container", "object", "s3")
    }
    for name in ("account", "container", "object"):
        build_ring(folder, name, listeners[name].getsockname()[1])
    applications: dict[str, Any] = {
        "account": importlib.import_module("swift.account.server").app_factory(conf),
        "container": importlib.import_module("swift.container.server").app_factory(conf),
        "object": object_server(conf),
        "s3": swift_wsgi.loadapp(str(folder / "proxy-server.conf")),
    }
    for name, application in applications.items():
        eventlet.spawn(
            wsgi.server,
            listeners[name],
            application,
            utils.NullLogger(),
            protocol=protocol,
            capitalize_response_headers=False,
        )
    print(listeners["s3"].getsockname()[1], flush=True)  # noqa: T201
    eventlet.hubs.trampoline(sys.stdin, read=True)
    os._exit(0)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
