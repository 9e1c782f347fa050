"""A mirror in an object store: S3's protocol, spoken by a small server on loopback."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipelines import archives, catalogue
from pipelines.errors import ArchiveUnavailable
from tests.builders import Publisher


class _Bucket(BaseHTTPRequestHandler):
    """HEAD and ranged GET of objects under /bucket/, as S3 answers them."""

    protocol_version = "HTTP/1.1"
    root: Path

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        path = self.root / self.path.partition("?")[0].removeprefix("/bucket/")
        if not path.is_file():
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        data = path.read_bytes()
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        part = data[int(span[1]) : int(span[2]) + 1] if span else data
        self.send_response(206 if span else 200)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Fri, 01 Sep 2017 00:00:00 GMT")
        if span:
            self.send_header("Content-Range", f"bytes {span[1]}-{span[2]}/{len(data)}")
        self.end_headers()
        if with_body:
            self.wfile.write(part)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def bucket(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a bucket that holds the publisher's mirror."""
    handler = type("Handler", (_Bucket,), {"root": publisher.mirror})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    options = f"region=nowhere&scheme=http&endpoint_override=127.0.0.1:{server.server_port}"
    yield f"s3://bucket/?{options}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_archives_come_out_of_an_object_store_byte_for_byte(
    bucket: str, publisher: Publisher, tmp_path: Path
) -> None:
    source = catalogue.load(publisher.catalogue).sources["tiny_digits"]
    for archive in source.archives.values():
        [place] = archives.places(source, archive, bucket, offline=False)
        assert archives.obtain(archive, tmp_path / archive.name, [place]) == place
        expected = publisher.archive("tiny_digits", archive.name).read_bytes()
        assert (tmp_path / archive.name).read_bytes() == expected


def test_what_an_object_store_lacks_is_told(
    bucket: str, publisher: Publisher, tmp_path: Path
) -> None:
    source = catalogue.load(publisher.catalogue).sources["tiny_digits"]
    archive = source.archives["train-images.gz"]
    publisher.archive("tiny_digits", archive.name).unlink()
    place = archives.places(source, archive, bucket, offline=False)
    with pytest.raises(ArchiveUnavailable, match="no such file"):
        archives.obtain(archive, tmp_path / archive.name, place)


def test_offline_leaves_object_stores_alone(bucket: str, publisher: Publisher) -> None:
    source = catalogue.load(publisher.catalogue).sources["tiny_digits"]
    archive = source.archives["train-images.gz"]
    assert archives.places(source, archive, bucket, offline=True) == []
