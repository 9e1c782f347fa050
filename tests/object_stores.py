"""Object stores for tests: one in memory, and a server on loopback that speaks S3 (moto's).

The server takes one request at a time. So it never loses an update, which moto by itself does.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from obstore.store import MemoryStore

from pipelines.store import Bucket, Folder
from pipelines.store.objects import Objects

KEYS = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "s3cr3tkey", "AWS_REGION": "test-1"}


def in_memory() -> Objects:
    """Return an empty object store of this process."""
    return Objects("memory://bucket", MemoryStore())


def bucket(objects: Objects, scratch: Path) -> Bucket:
    """Return a bucket as one machine has it, by its scratch folder."""
    return Bucket(objects, Folder(scratch))


@contextmanager
def serving() -> Iterator[dict[str, str]]:
    """Serve an empty bucket called `bucket`; give the variables that lead to the server."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, *_: Any) -> None:
            pass

    application, one_at_a_time = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def answer(environ: Any, start: Any) -> Any:
        with one_at_a_time:
            return [b"".join(application(environ, start))]

    # A thread for each connection: the clients keep theirs open.
    server = make_server("127.0.0.1", 0, answer, threaded=True, request_handler=Quiet)
    server.daemon_threads = True  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    variables = KEYS | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}"}
    try:
        # What moto holds is the process's, and is there from the server before.
        urlopen(f"{variables['AWS_ENDPOINT_URL']}/moto-api/reset", b"", timeout=10).close()
        _create_bucket(variables)
        yield variables
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _create_bucket(variables: dict[str, str]) -> None:
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=variables["AWS_ENDPOINT_URL"],
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
        region_name=variables["AWS_REGION"],
    )
    client.create_bucket(
        Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": variables["AWS_REGION"]}
    )
    client.close()
