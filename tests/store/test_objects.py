"""Objects: what goes wrong with a store is told in words, and nothing hangs."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.errors import StorageError
from pipelines.store import Artefact, making
from pipelines.store.objects import Objects, scratch_of
from tests import object_stores

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    with object_stores.serving() as variables:
        yield variables


@pytest.mark.slow
def test_a_bucket_that_is_not_there_is_told(
    server: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    objects = Objects.at("s3://typo/team")
    asked = (
        lambda: [*objects.below("")],
        lambda: objects.send("file", b"1"),
        lambda: objects.replace("file", None, b"1"),
    )
    for ask in asked:
        with pytest.raises(StorageError, match=r"s3://typo/team.* there is no such bucket. Create"):
            ask()


@pytest.mark.slow
def test_a_server_for_tests_begins_empty_though_there_was_one_before(
    server: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variables in (server, None):
        with contextlib.nullcontext(variables) if variables else object_stores.serving() as found:
            for name, value in found.items():
                monkeypatch.setenv(name, value)
            objects = Objects.at("s3://bucket/team")
            assert [*objects.below("")] == []
            objects.send("file", b"1")


def test_an_endpoint_that_is_no_address_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "localhost:9000")
    with pytest.raises(StorageError, match="AWS_ENDPOINT_URL is no address that begins with"):
        Objects.at("s3://bucket/team")
    for address in ("gs://bucket/team", "s3://bucket/team?endpoint_override=localhost:9000"):
        Objects.at(address)


def test_a_number_sign_is_not_cut_off_with_what_follows() -> None:
    with pytest.raises(StorageError, match="s3://bucket/a#b can't be opened: write %23 for a #"):
        Objects.at("s3://bucket/a#b")
    Objects.at("s3://bucket/a%23b")


def test_a_profile_that_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_PROFILE", "typo")
    with pytest.raises(StorageError, match=r"boto3 can't look for credentials: .*typo"):
        Objects.at("s3://bucket/team")


FORKED = """
import os, signal
from pipelines.errors import StorageError
from tests import object_stores

objects = object_stores.in_memory()
objects.send("file", b"1")
if os.fork():
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
else:
    signal.alarm(20)
    try:
        objects.small("file")
    except StorageError as error:
        assert "forked off one that read there" in str(error), error
        os._exit(0)
    os._exit(1)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_who_is_forked_off_a_reader_is_refused_and_does_not_wait_for_ever() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKED], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_somebody_without_a_home_has_the_scratch_in_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object) -> None:
        raise KeyError

    with monkeypatch.context() as patched:
        patched.setattr("pwd.getpwuid", unknown)
        for name in ("HOME", "XDG_CACHE_HOME"):
            patched.delenv(name, raising=False)
        patched.setattr(tempfile, "tempdir", str(tmp_path))
        scratch = scratch_of("s3://bucket/team")
        assert scratch.is_relative_to(tmp_path)
        bucket = object_stores.bucket(object_stores.in_memory(), scratch)
        known, _ = making.make(bucket, Artefact("tables/a.parquet", "tables", "1", {}), _write)
        assert bucket.local(known.path).read_bytes() == b"pixels"


def _write(goal: Path) -> dict[str, int]:
    return {"records": goal.write_bytes(b"pixels")}
