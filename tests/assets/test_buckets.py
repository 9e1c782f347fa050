"""Whole commands on data that lie in an object store, spoken to as S3 on loopback."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import pipelines as imagesets
from assets.settings import ROOT, Settings
from pipelines.building import Web, Workshop
from pipelines.lineage.lock import lock
from pipelines.stages import DEFAULT
from pipelines.store import Bucket, Folder, provenance, sweeping
from pipelines.store.bucket import identity_of, stored
from pipelines.store.objects import Objects
from tests import builders, object_stores
from tests.assets import records
from tests.assets.conftest import Command
from tests.assets.project import DATASETS, Project
from tests.waiting import until

ADDRESS = "s3://bucket/team"
SECRET = object_stores.KEYS["AWS_SECRET_ACCESS_KEY"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    with object_stores.serving() as variables:
        yield variables


@pytest.fixture
def team(
    server: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Settings]:
    """Settings of somebody whose data lie in a bucket."""
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("IMAGESETS_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setenv("IMAGESETS_HOME", str(tmp_path / "home"))
    everything = Objects.at("s3://bucket")
    yield Settings(ADDRESS, scratch=tmp_path / "scratch", home=tmp_path / "home")
    for path, _ in everything.below(""):
        everything.forget(path)


def here(project: Project) -> list[str]:
    return ["--data", ADDRESS, "--catalogue", str(project.publisher.catalogue)]


def options(project: Project) -> list[str]:
    return [*here(project), *project.mirror]


def built_in(folder: Path) -> list[str]:
    return [path for path in builders.files_under(folder) if not path.startswith(".seen")]


def test_what_is_built_in_a_bucket_is_byte_for_byte_what_is_built_in_a_folder(
    built: Project, team: Settings, tmp_path: Path, command: Command
) -> None:
    said = command("build", *DATASETS, *options(built))
    assert said.code == 0, said.stderr
    assert "They are in s3://bucket/team." in said.stdout
    plan = built.plan()
    in_memory = object_stores.bucket(object_stores.in_memory(), tmp_path / "memory")
    workshop = Workshop(in_memory, plan, Web(str(built.publisher.mirror)))
    wanted = plan.of(plan.declared.datasets.values(), DEFAULT)
    for asset in dict.fromkeys(one.asset for one in wanted):
        workshop.make(asset)
    for dataset in plan.declared.datasets.values():
        expected = lock(plan, Folder(built.data), dataset)
        assert lock(plan, team.store, dataset) == expected
        assert lock(plan, in_memory, dataset) == expected

    shutil.rmtree(team.here)
    said = command("build", *DATASETS, *options(built))
    assert "Nothing to do" in said.stdout
    assert built_in(team.here) == [], "nothing is fetched where nothing is to do"
    said = command("verify", "--deep", *options(built))
    assert (said.code, "are whole" in said.stdout) == (0, True), said.stderr
    assert "All 7 hops hold" in command("trace", "tiny_digits/test:3", *here(built)).stdout
    status = json.loads(command("status", "--json", *here(built)).stdout)
    assert status["data"] == ADDRESS
    assert {one["standing"] for one in status["datasets"]} == {"up to date"}


def test_an_object_is_the_same_one_whether_it_is_asked_for_or_listed(team: Settings) -> None:
    objects = Objects.at(ADDRESS)
    objects.send("tables/one", b"pixels")
    [(path, listed)] = objects.below("tables/")
    assert identity_of(listed) == identity_of(objects.head(path))
    before = identity_of(listed)
    objects.send("tables/one", b"PIXELS")
    [(path, listed)] = objects.below("tables/")
    assert identity_of(listed) == identity_of(objects.head(path)) != before


def test_archives_whose_names_have_spaces_lie_in_a_bucket_and_come_out_of_one(
    team: Settings, tmp_path: Path, command: Command
) -> None:
    """Out of a mirror in a store into a data folder in one, and back: `The Eiffel Tower.npy`."""
    values = np.array([0, 0, 1, 1], np.uint8)
    tiny = builders.tiny(tmp_path, builders.images(4), values, classes=2, format="npy")
    for name, data in tiny.members.items():
        Objects.at("s3://bucket").send(f"mirror/tiny/{name}", data)
    declared = ["--catalogue", str(tmp_path / "catalogue")]
    there = ["--data", ADDRESS, *declared]

    said = command("build", *there, "--mirror", "s3://bucket/mirror")

    assert said.code == 0, said.stderr
    shutil.rmtree(team.here)
    found = team.store.local("archives/tiny/class 1.npy").read_bytes()
    assert found == tiny.members["class 1.npy"]
    assert command("verify", "--deep", *there).code == 0
    said = command("trace", "archives/tiny/class 1.npy", *there)
    assert (said.code, "s3://bucket/mirror/tiny/class%201.npy" in said.stdout) == (0, True)
    assert "class 1.npy" in command("trace", "tiny/train:3", "--no-picture", *there).stdout
    assert command("copy", ADDRESS, str(tmp_path / "back")).code == 0
    back = ["--data", str(tmp_path / "back"), *declared]
    assert command("verify", *back).code == 0
    said = command("mirror", str(tmp_path / "mirrored"), *back)
    assert said.code == 0, said.stderr
    assert (tmp_path / "mirrored/tiny/class 0.npy").read_bytes() == tiny.members["class 0.npy"]


def test_a_build_in_a_bucket_is_told_to_dagster_and_what_changes_is_made_anew(
    project: Project, team: Settings, command: Command
) -> None:
    assert command("build", "tiny_digits", *options(project)).code == 0
    said = command("build", "tiny_digits", "--only", "csv", "--csv-header", *options(project))
    assert "Made 2 of 5" in said.stdout
    store = team.store
    assert isinstance(store, Bucket)
    assert (store.objects.small("exports/tiny_digits/test.csv")[0] or b"").startswith(b"label,")
    said = command("sweep", "--older", "0", "--data", ADDRESS)
    assert "Removed 2 objects that nothing names" in said.stdout
    said = command("verify", "tiny_digits", "--csv-header", *options(project))
    assert said.code == 0, said.stdout
    listed = command("list", "--csv-header", *here(project))
    assert "data folder: s3://bucket/team" in listed.stdout
    assert "up to date (12 artefacts)" in listed.stdout


def test_what_rotted_in_a_bucket_is_found_and_repaired(
    project: Project, team: Settings, command: Command
) -> None:
    command("build", "tiny_digits", *options(project))
    store = team.store
    assert isinstance(store, Bucket)
    table = "tables/tiny_digits/test.parquet"
    key = stored(table, store.look(table).sha256)
    data = bytearray(store.objects.small(key)[0] or b"")
    data[len(data) // 2] ^= 1
    store.objects.send(key, bytes(data))
    said = command("verify", "tiny_digits", *options(project))
    assert said.code == 1
    assert f"{table}: changed" in said.stdout
    assert command("verify", "--repair", "tiny_digits", *options(project)).code == 0
    assert command("verify", "tiny_digits", *options(project)).code == 0


def test_copies_are_hashed_on_the_way_and_go_both_ways(
    built: Project, team: Settings, tmp_path: Path, command: Command
) -> None:
    said = command("copy", str(built.data), ADDRESS)
    assert said.code == 0, said.stderr
    again = command("copy", str(built.data), ADDRESS)
    assert "Copied 0 artefacts" in again.stdout
    back = tmp_path / "back"
    assert command("copy", ADDRESS, str(back)).code == 0
    made = {path for path in built_in(built.data) if not path.startswith("dagster")}
    kept = {path for path in made if not path.startswith("lineage/history")}
    assert {*built_in(back)} == kept
    for path in kept:
        assert (back / path).read_bytes() == (built.data / path).read_bytes(), path

    rotten = built.data / "tables/tiny_digits/test.parquet"
    rotten.write_bytes(rotten.read_bytes()[:-1] + b"!")
    said = command("copy", str(built.data), str(tmp_path / "third"))
    assert said.code == 1
    assert "error: tables/tiny_digits/test.parquet is not whole" in said.stderr
    assert not (tmp_path / "third/tables/tiny_digits/test.parquet").exists()
    assert (tmp_path / "third/tables/tiny_digits/train.parquet").exists()


def test_a_copy_replaces_nothing_that_is_newer(
    built: Project, tmp_path: Path, command: Command
) -> None:
    newer = built.copied_to(tmp_path / "newer")
    outcomes = newer.build("tiny_digits", stages=["csv"], csv_header=True)
    assert outcomes["tiny_digits/test_csv"].state == "made"
    said = command("copy", str(built.data), str(newer.data))
    assert "exports/tiny_digits/test.csv  newer there" in said.stdout
    assert (newer.data / "exports/tiny_digits/test.csv").read_text().startswith("label,")


def test_the_library_reads_a_bucket_and_fetches_once(
    built: Project, team: Settings, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    command("copy", str(built.data), ADDRESS)
    monkeypatch.setenv("IMAGESETS_DATA", ADDRESS)
    monkeypatch.setenv("IMAGESETS_CATALOGUE", str(built.publisher.catalogue))
    images, labels = built.publisher.splits["tiny_digits", "test"][:2]
    found = imagesets.load("tiny_digits", "test")
    assert (found.images == images).all()
    assert (found.labels == labels).all()
    place = imagesets.path("tiny_digits", "test")
    assert place == team.here / "tables/tiny_digits/test.parquet"
    inode = place.stat().st_ino
    imagesets.load("tiny_digits", "test", verify=True)
    assert place.stat().st_ino == inode


def test_credentials_are_recorded_nowhere(
    project: Project, team: Settings, command: Command, tmp_path: Path
) -> None:
    said = command("build", "tiny_digits", *options(project))
    command("status", "--json", *here(project))
    store = team.store
    assert isinstance(store, Bucket)
    where = tmp_path / "all"
    for path, _ in store.objects.below(""):
        (where / path).parent.mkdir(parents=True, exist_ok=True)
        (where / path).write_bytes(b"".join(store.objects.pieces(path)))
    for folder in (where, team.here, team.dagster_home):
        assert records.holding(folder, "tiny_digits"), "it would be found"
        assert not records.holding(folder, SECRET)
    assert SECRET not in said.stdout + said.stderr


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ("s3://key:word@bucket/team", "credentials don't belong into the address"),
        ("s3://bucket/team?secret_key=word", "credentials don't belong into the address"),
        ("s3:///team", "an address without a bucket"),
        ("ftp://bucket/team", "write a folder, or an address that begins with s3"),
    ],
)
def test_an_address_that_will_not_do_is_refused_and_not_repeated(
    data: str, complaint: str, command: Command
) -> None:
    said = command("list", "--data", data)
    assert said.code == 2
    assert complaint in said.stderr
    assert "word" not in said.stderr


def test_a_store_that_does_not_answer_is_named(
    team: Settings, project: Project, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    data = "s3://bucket/elsewhere"  # one that was opened keeps its endpoint
    said = command("list", "--data", data, "--catalogue", str(project.publisher.catalogue))
    assert said.code == 1
    assert "s3://bucket/elsewhere" in said.stderr
    assert "can't be reached" in said.stderr


# --- Writers that are killed ----------------------------------------------------------------------

WRITER = """
import random, sys
from pathlib import Path
from pipelines.errors import StorageError
from pipelines.store import Artefact, Bucket, Folder, making
from pipelines.store.objects import Objects

version, scratch = sys.argv[1:]
store = Bucket(Objects.at("s3://bucket/race"), Folder(Path(scratch)))
artefact = Artefact("tables/digits/train.parquet", "tables", version, {})

def write(goal):
    return {"bytes": goal.write_bytes(random.randbytes(200_000))}

print("ready", flush=True)
while True:
    store.place(artefact.path).unlink(missing_ok=True)
    try:
        making.make(store, artefact, write)
    except StorageError:
        pass  # others were faster, three times
"""


def test_writers_of_two_versions_that_are_killed_again_and_again_never_contradict_themselves(
    server: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    started = 0

    def start() -> subprocess.Popen[str]:
        nonlocal started
        started += 1
        arguments = [sys.executable, "-c", WRITER, str(started % 2), str(tmp_path / str(started))]
        process = subprocess.Popen(
            arguments, cwd=ROOT, env={**os.environ}, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        return process

    objects = Objects.at("s3://bucket/race")
    store = object_stores.bucket(objects, tmp_path / "reader")
    path, looks, chance = "tables/digits/train.parquet", 0, random.Random(0)
    writers = [start() for _ in range(4)]
    try:
        until(lambda: _look(store, objects, path))
        for _ in range(12):
            end = time.monotonic() + chance.uniform(0.02, 0.4)
            looks += _look(store, objects, path)
            while time.monotonic() < end:
                looks += _look(store, objects, path)
            victim = writers.pop(chance.randrange(4))
            victim.send_signal(signal.SIGKILL)
            victim.communicate()
            writers.append(start())
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    assert looks > 10
    known = provenance.latest(store, path)
    assert known is not None
    assert store.look(path, anew=True).sha256 == known.sha256
    assert store.local(path).stat().st_size == 200_000
    unnamed = sweeping.unnamed(store, time.time() + 60)
    assert stored(path, known.sha256) not in unnamed


def _look(store: Bucket, objects: Objects, path: str) -> int:
    """Hold what is there against what provenance says of it; return 1 if anything was there."""
    said = store.read(f"lineage/{path}.json")
    if said is None:
        return 0
    known = json.loads(said)
    found, _ = objects.small(f"tables/digits/train.{known['sha256'][:16]}.parquet")
    assert found is not None, "provenance names an object that is not there"
    assert len(found) == known["size_bytes"]
    return 1
