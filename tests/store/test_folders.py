"""Artefacts of several files: a folder that appears whole, of which every file is known."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pipelines.errors import StaleInput, StorageError
from pipelines.store import (
    Artefact,
    Folder,
    Input,
    hashing,
    layout,
    making,
    provenance,
    seen,
    state,
    writing,
)
from tests import builders

ROOT = Path(__file__).parents[2]
PATH = "exports/digits/train_shards"
SHARDS = {"a": b"first", "b": b"second", "deep/c": b"third"}
ARTEFACT = Artefact(PATH, "shards", "1", {}, is_folder=True)
Change = Callable[[Path], object]


def write(files: dict[str, bytes]) -> Callable[[Path], dict[str, Any]]:
    def build(goal: Path) -> dict[str, Any]:
        assert [*goal.iterdir()] == [], "what a killed process left"
        for name, content in files.items():
            (goal / name).parent.mkdir(exist_ok=True)
            (goal / name).write_bytes(content)
        return {"records": len(files)}

    return build


def refuse(_: Path) -> dict[str, Any]:
    pytest.fail("it is made again")


def files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in builders.files_under(folder)}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """A store with a folder artefact in it."""
    monkeypatch.setattr(seen, "COARSEST_TICK_S", -60.0)
    found = Folder(tmp_path)
    making.make(found, ARTEFACT, write(SHARDS))
    hashing.forget()
    return found


@pytest.fixture
def folder(store: Folder) -> Path:
    return store.local(PATH)


def test_every_file_of_a_folder_is_known_and_the_hash_is_that_of_their_list(
    store: Folder, folder: Path
) -> None:
    known = provenance.latest(store, PATH)
    assert known is not None
    assert files(folder) == SHARDS
    assert {file.path: file.sha256 for file in known.files or ()} == {
        name: hashlib.sha256(content).hexdigest() for name, content in SHARDS.items()
    }
    assert known.size_bytes == sum(map(len, SHARDS.values()))
    printed = subprocess.run(["sha256sum", *SHARDS], cwd=folder, capture_output=True, check=True)
    assert known.sha256 == hashlib.sha256(printed.stdout).hexdigest()


def test_provenance_of_a_folder_is_as_the_schema_says_and_of_one_file_as_it_always_was(
    store: Folder,
) -> None:
    schema = json.loads((ROOT / "pipelines/lineage.schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)

    def said(artefact: Artefact, build: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
        known, _ = making.make(store, artefact, build)
        found: dict[str, Any] = json.loads(provenance.dump(known))
        assert not list(validator.iter_errors(found))
        assert provenance.load(store, artefact.path) == known
        return found

    def one(goal: Path) -> dict[str, Any]:
        goal.write_bytes(b"one")
        return {}

    of_folder = said(ARTEFACT, refuse)
    assert of_folder["format"] == "imagesets-lineage/2"
    assert list(validator.iter_errors(of_folder | {"format": "imagesets-lineage/1"}))
    of_file = said(Artefact("exports/digits/train.csv", "csv", "1", {}), one)
    assert of_file["format"] == "imagesets-lineage/1"
    assert "files" not in of_file
    card = said(Artefact("descriptions/digits/card.md", "card", "1", {}), one)
    assert card["format"] == "imagesets-lineage/2"
    few = said(Artefact("exports/digits/few", "few", "1", {}, libraries=("numpy",)), one)
    assert few["format"] == "imagesets-lineage/2"
    assert sorted(few["run"]["versions"]) == ["imagesets", "numpy", "python"]


def _list(said: dict[str, Any], files: list[dict[str, Any]]) -> None:
    """Let provenance list other files, with the hash and the size of that list."""
    sha256 = hashing.sha256_of(hashing.File(**file) for file in files)
    said.update(files=files, sha256=sha256, size_bytes=sum(file["size_bytes"] for file in files))


@pytest.mark.parametrize(
    "change",
    [
        lambda said: _list(said, said["files"][::-1]),
        lambda said: _list(said, [*said["files"], said["files"][-1]]),
        lambda said: said.update(format="imagesets-lineage/1"),
        lambda said: said["files"].pop(),
        lambda said: said["files"].reverse(),
        lambda said: said["files"].append(said["files"][-1]),
        lambda said: said["files"][0].update(size_bytes=4),
        lambda said: said["files"][0].update(more=1),
        lambda said: said.update(sha256="0" * 64),
    ],
)
def test_provenance_whose_files_are_not_what_its_hash_says_is_not_believed(
    store: Folder, change: Callable[[dict[str, Any]], object]
) -> None:
    place = store.local(layout.lineage(PATH))
    said = json.loads(place.read_text("utf-8"))
    del said["digest"]
    change(said)
    place.write_text(json.dumps(said | {"digest": provenance._digest(said)}), "utf-8")
    assert state.decide(store, ARTEFACT).reason == "its provenance is damaged"


def test_the_second_time_nothing_is_done_and_nothing_is_read(
    store: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    making.make(store, ARTEFACT, refuse)
    hashing.forget()
    monkeypatch.setattr(hashing, "look_through", lambda *_: pytest.fail("a file is read"))
    _, before = making.make(store, ARTEFACT, refuse)
    assert before.is_up_to_date


def _flipped(folder: Path) -> None:
    stat = (folder / "b").stat()
    (folder / "b").write_bytes(b"Second")
    os.utime(folder / "b", ns=(stat.st_atime_ns, stat.st_mtime_ns))


def _renamed(folder: Path) -> None:
    (folder / "a").rename(folder / "A")


def _exchanged(folder: Path) -> None:
    for old, new in (("a", "x"), ("b", "a"), ("x", "b")):
        (folder / old).rename(folder / new)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_flipped, "b has other bytes"),
        (lambda folder: (folder / "new").write_bytes(b""), "new was added"),
        (lambda folder: (folder / "deep/new").write_bytes(b""), "deep/new was added"),
        (lambda folder: (folder / "b\udcff").write_bytes(b""), r"b\xff was added"),
        (lambda folder: (folder / "deep/c").unlink(), "deep/c is missing"),
        (_renamed, "A was added, a is missing"),
        (_exchanged, "a has other bytes, b has other bytes"),
        (
            lambda folder: [(folder / str(n)).touch() for n in range(5)],
            "0 was added, 1 was added, 2 was added, 2 more",
        ),
    ],
)
def test_whatever_changes_in_a_folder_is_found_named_and_mended(
    store: Folder, folder: Path, change: Change, reason: str
) -> None:
    time.sleep(0.02)  # a tick of the file system's clock
    change(folder)
    found = state.decide(store, ARTEFACT)
    assert found.condition == "changed"
    assert found.reason == f"its files changed since it was made: {reason}"
    making.make(store, ARTEFACT, write(SHARDS))
    assert files(folder) == SHARDS
    assert state.decide(store, ARTEFACT).is_up_to_date


def _a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_bytes(b"precious")


@pytest.mark.parametrize(
    ("change", "condition", "reason"),
    [
        (shutil.rmtree, "missing", "it is not there"),
        (_a_file, "missing", "something that is no folder is in its place"),
        (lambda folder: os.mkfifo(folder / "pipe"), "changed", "it can't be read"),
        (lambda folder: (folder / "up").symlink_to(".."), "changed", "it can't be read"),
    ],
)
def test_a_folder_that_can_not_be_read_is_told(
    store: Folder, folder: Path, change: Change, condition: str, reason: str
) -> None:
    change(folder)
    found = state.decide(store, ARTEFACT)
    assert (found.condition, found.reason) == (condition, reason)


def test_a_file_in_the_place_of_a_folder_is_named_and_kept(store: Folder, folder: Path) -> None:
    _a_file(folder)
    with pytest.raises(StorageError, match=r"train_shards can't be written.*no folder is in the"):
        making.make(store, ARTEFACT, write(SHARDS))
    assert folder.read_bytes() == b"precious"


def test_a_failure_leaves_the_old_folder_and_nothing_beside_it(store: Folder, folder: Path) -> None:
    def fail(goal: Path) -> dict[str, Any]:
        write({"a": b"half"})(goal)
        raise ValueError("no more")

    before = files(store.root)
    with pytest.raises(ValueError, match="no more"):
        making.make(store, replace(ARTEFACT, code_version="2"), fail)
    assert files(store.root) == before
    assert [*folder.parent.iterdir()] == [folder]


def test_what_is_made_from_a_folder_names_its_hash_and_is_held_against_it(
    store: Folder, folder: Path
) -> None:
    [made_from] = state.inputs(store, [ARTEFACT])
    assert made_from == Input(PATH, hashing.sha256(folder), sum(map(len, SHARDS.values())))
    index = Artefact("exports/digits/index", "index", "1", {}, (made_from,))

    def list_shards(goal: Path) -> dict[str, Any]:
        goal.write_text("\n".join(files(folder)))
        return {}

    def add_one(goal: Path) -> dict[str, Any]:
        (folder / "more").touch()
        return list_shards(goal)

    with pytest.raises(StaleInput, match="was changed or replaced while it was used"):
        making.make(store, index, add_one)
    with pytest.raises(StaleInput, match="changed since it was made: expected SHA-256"):
        making.make(store, index, list_shards)
    making.make(store, ARTEFACT, write(SHARDS))
    making.make(store, index, list_shards)
    assert state.decide(store, index).is_up_to_date
    making.distrust(store, PATH, made_from.sha256)
    assert state.decide(store, ARTEFACT).condition == "unknown"
    assert state.decide(store, index).condition == "unknown"


def test_every_file_and_folder_is_on_the_disk_before_the_folder_takes_its_place(
    store: Folder, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: set[int] = set()
    real = os.fsync

    def spy(descriptor: int) -> None:
        real(descriptor)
        if files(folder) == SHARDS:
            flushed.add(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", spy)
    making.make(store, replace(ARTEFACT, code_version="2"), write({"a": b"", "deep/b": b"new"}))
    assert {path.stat().st_ino for path in (folder, *folder.rglob("*"))} <= flushed


# --- A folder appears whole -----------------------------------------------------------------------


def _without_renameat2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())


def _refused_by_the_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        def renameat2(self, *_: object) -> int:
            ctypes.set_errno(errno.EINVAL)
            return -1

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Library())


def _as_it_is(_: pytest.MonkeyPatch) -> None:
    pass


@pytest.fixture(params=[_as_it_is, _without_renameat2, _refused_by_the_file_system])
def _system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux, and systems that can't exchange two folders."""
    request.param(monkeypatch)


@pytest.mark.usefixtures("_system")
def test_a_folder_takes_the_place_of_the_old_one_whole(store: Folder, folder: Path) -> None:
    new = {"a": b"new", "z": b""}
    making.make(store, replace(ARTEFACT, code_version="2"), write(new))
    assert files(folder) == new
    assert [*folder.parent.iterdir()] == [folder]


def read_whole(folder: Path) -> dict[str, bytes]:
    """Read a folder as a reader does that opens it first, then its files by their names."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        names = ["version", *(f"{n}" for n in range(8))]
        found = {}
        for name in names:
            file = os.open(name, os.O_RDONLY, dir_fd=descriptor)
            with open(file, "rb") as opened:
                found[name] = opened.read()
        return found
    finally:
        os.close(descriptor)


@pytest.mark.usefixtures("_system")
def test_whoever_reads_while_folders_are_exchanged_finds_old_none_or_new_and_no_mix(
    tmp_path: Path,
) -> None:
    store, over = Folder(tmp_path), threading.Event()
    mixed: list[dict[str, bytes]] = []
    whole = 0

    def read() -> None:
        nonlocal whole
        while not over.is_set():
            try:
                found = read_whole(store.local(PATH))
            except FileNotFoundError:
                continue
            whole += 1
            if len({*found.values()}) != 1:
                mixed.append(found)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for version in itertools.count():
            if version >= 200 and whole:
                break
            staged = tmp_path / "staged"
            staged.mkdir()
            for name in ("version", *map(str, range(8))):
                (staged / name).write_bytes(b"%d" % version)
            writing.move(staged, store.local(PATH)) if version else store.publish(staged, PATH)
    finally:
        over.set()
        reader.join(60)
    assert mixed == []
    assert whole > 0


@pytest.mark.skipif(
    getattr(ctypes.CDLL(None), "renameat2", None) is None, reason="this system has no renameat2"
)
def test_where_the_system_can_exchange_folders_there_is_always_one(tmp_path: Path) -> None:
    goal, over = tmp_path / "goal", threading.Event()
    goal.mkdir()
    missing = 0

    def look() -> None:
        nonlocal missing
        while not over.is_set():
            missing += not os.path.isdir(goal)

    looker = threading.Thread(target=look)
    looker.start()
    try:
        for _ in range(300):
            (tmp_path / "staged").mkdir()
            writing.move(tmp_path / "staged", goal)
    finally:
        over.set()
        looker.join(60)
    assert missing == 0


def test_where_a_new_folder_can_not_take_its_place_the_old_one_goes_back(
    store: Folder, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without_renameat2(monkeypatch)
    real, refusals = Path.replace, [OSError(errno.EIO, "the disk refuses")]

    def refuse_once(self: Path, goal: Path) -> Path:
        if goal == folder and refusals:
            raise refusals.pop()
        return real(self, goal)

    monkeypatch.setattr(Path, "replace", refuse_once)
    with pytest.raises(StorageError, match="train_shards can't be written"):
        making.make(store, replace(ARTEFACT, code_version="2"), write({"a": b"new"}))
    assert refusals == []
    assert files(folder) == SHARDS
    assert [*folder.parent.iterdir()] == [folder]


def make_until(data: Path, version: str, operation: int) -> None:
    """Make the folder, and be killed at the n-th operation on our files."""
    left = operation

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "ctypes.dlsym"):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    new = {name: version.encode() for name in SHARDS}
    sys.addaudithook(count)
    making.make(Folder(data), replace(ARTEFACT, code_version=version), write(new))
    os._exit(0)


@pytest.mark.timeout(300)
def test_a_maker_that_is_killed_leaves_the_old_folder_or_the_new_one_and_its_provenance(
    processes: ForkServerContext, store: Folder, folder: Path
) -> None:
    killed, there = 0, set()
    old = "1"
    for operation in range(1, 400, 3):
        version = str(operation + 1)
        process = processes.Process(target=make_until, args=(store.root, version, operation))
        process.start()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        killed += process.exitcode == -signal.SIGKILL
        hashing.forget()
        known = provenance.latest(store, PATH)
        assert known is not None
        assert known.code_version in (old, version)
        assert state.decide(store, replace(ARTEFACT, code_version=known.code_version)).is_up_to_date
        there.add(known.code_version == version)
        old = known.code_version
        if process.exitcode == 0:
            break
    assert killed > 10
    assert there == {True, False}
    making.make(store, replace(ARTEFACT, code_version=old), refuse)
    assert [*folder.parent.iterdir()] == [folder]


def test_what_a_process_left_that_died_just_after_the_exchange_is_removed(
    store: Folder, folder: Path
) -> None:
    """Its provenance still waits, and the old folder lies where the new one was made."""
    shutil.copytree(folder, layout.staged(folder))
    place = store.local(layout.lineage(PATH))
    place.rename(store.local(layout.pending_lineage(PATH)))
    making.make(store, ARTEFACT, refuse)
    assert [*folder.parent.iterdir()] == [folder]


@pytest.mark.parametrize(
    "change",
    [
        lambda new: (new / "deep/c").unlink(),  # which is read next
        lambda new: (new / "a").write_bytes(b"other"),  # which was read already
        lambda new: (new / "more").touch(),
    ],
)
def test_a_folder_that_changes_while_it_is_read_is_read_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, change: Change
) -> None:
    real, times = hashing.look_through, 0

    def look_and_replace(*given: Any) -> hashing.Sight:
        nonlocal times
        times += 1
        sight = real(*given)
        if times == 2:
            shutil.copytree(folder, folder.with_name("new"))
            change(folder.with_name("new"))
            writing.move(folder.with_name("new"), folder)
        return sight

    monkeypatch.setattr(hashing, "look_through", look_and_replace)
    sight = hashing.look(folder)
    assert {file.path: file.sha256 for file in sight.files or ()} == {
        name: hashlib.sha256(content).hexdigest() for name, content in files(folder).items()
    }


def test_a_folder_without_files_is_one_too(tmp_path: Path) -> None:
    store = Folder(tmp_path)
    making.make(store, ARTEFACT, write({}))
    hashing.forget()
    assert state.decide(store, ARTEFACT).is_up_to_date
