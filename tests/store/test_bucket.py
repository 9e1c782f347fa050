"""A bucket: artefacts in an object store, which many machines write to and read."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import obstore
import pytest

from pipelines.errors import Conflict, MadeByNewer, StorageError
from pipelines.store import (
    Artefact,
    Bucket,
    Facts,
    Store,
    bucket,
    layout,
    making,
    provenance,
    state,
    sweeping,
)
from pipelines.store.bucket import stored
from pipelines.store.objects import Objects
from tests import object_stores

TABLE = Artefact("tables/digits/train.parquet", "tables", "1", {}, (), None)
NEWER = replace(TABLE, code_version="2")
FOLDER = replace(TABLE, path="exports/digits/train_npy", stage="npy", is_folder=True)
A_DAY_LATER = 10.0**11


@pytest.fixture
def objects() -> Objects:
    return object_stores.in_memory()


@pytest.fixture
def here(objects: Objects, tmp_path: Path) -> Bucket:
    return object_stores.bucket(objects, tmp_path / "here")


@pytest.fixture
def there(objects: Objects, tmp_path: Path) -> Bucket:
    return object_stores.bucket(objects, tmp_path / "there")


def writes(content: bytes) -> Callable[[Path], Facts]:
    def build(goal: Path) -> Facts:
        if goal.is_dir():
            (goal / "deep").mkdir()
            (goal / "deep/images.npy").write_bytes(content)
            (goal / "labels.npy").write_bytes(content[:1])
        else:
            goal.write_bytes(content)
        return {"records": len(content)}

    return build


def keys(objects: Objects) -> list[str]:
    return [path for path, _ in objects.below("")]


class TestSmallFiles:
    """Files that are swapped."""

    def test_one_is_written_and_removed_only_where_it_holds_what_is_expected(
        self, here: Bucket
    ) -> None:
        here.swap("lineage/file", None, b"one")
        here.swap("lineage/file", b"one", b"two")
        for expected in (None, b"one"):
            with pytest.raises(Conflict, match="written by somebody else meanwhile"):
                here.swap("lineage/file", expected, b"three")
        assert here.read("lineage/file") == b"two"
        assert [*here.names("lineage")] == ["lineage/file"]
        here.swap("lineage/file", b"two", None)
        assert here.read("lineage/file") is None
        assert here.names("lineage") == {}
        assert here.stat("lineage/file") is None
        here.swap("lineage/file", None, b"four")
        assert here.read("lineage/file") == b"four"

    def test_of_many_who_add_to_one_nobody_is_lost(self, here: Bucket) -> None:
        here.swap("lineage/count", None, b"0")

        def add(_: int) -> None:
            while True:
                said = here.read("lineage/count") or b""
                try:
                    return here.swap("lineage/count", said, b"%d" % (int(said) + 1))
                except Conflict:
                    continue

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(add, range(160)))
        assert here.read("lineage/count") == b"160"

    def test_who_writes_the_same_as_somebody_else_is_told(
        self, here: Bucket, there: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put = Objects.replace

        def meanwhile(self: Objects, *arguments: Any) -> None:
            monkeypatch.setattr(Objects, "replace", put)
            there.swap("lineage/file", None, b"one")
            put(self, *arguments)

        monkeypatch.setattr(Objects, "replace", meanwhile)
        with pytest.raises(Conflict, match="written by somebody else"):
            here.swap("lineage/file", None, b"one")

    def test_a_write_whose_answer_was_lost_is_no_conflict(
        self, here: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put = obstore.put

        def lose_the_answer(*arguments: Any, **options: Any) -> Any:
            put(*arguments, **options)
            return put(*arguments, **options)  # the client asks again

        monkeypatch.setattr(obstore, "put", lose_the_answer)
        here.swap("lineage/file", None, b"one")
        here.swap("lineage/file", b"one", b"two")
        assert here.read("lineage/file") == b"two"


@pytest.mark.parametrize("artefact", [TABLE, FOLDER], ids=["file", "folder"])
class TestArtefacts:
    """Artefacts, that is files and folders."""

    def test_what_one_machine_makes_another_one_reads_and_does_not_make(
        self, here: Bucket, there: Bucket, artefact: Artefact
    ) -> None:
        known, before = making.make(here, artefact, writes(b"pixels"))
        assert before.condition == "missing"
        again, found = making.make(there, artefact, lambda _: pytest.fail("it is there"))
        assert (again, found.condition) == (known, "whole")
        assert not there.place(artefact.path).exists(), "nothing was fetched to know that"

        place = there.local(artefact.path)

        assert place == there.place(artefact.path)
        file = place / "deep/images.npy" if artefact.is_folder else place
        assert file.read_bytes() == b"pixels"
        inode = file.stat().st_ino
        there.local(artefact.path)
        assert file.stat().st_ino == inode, "what is here is not fetched again"

    def test_what_is_made_anew_is_fetched_anew_and_the_old_one_swept_a_day_later(
        self, here: Bucket, there: Bucket, objects: Objects, artefact: Artefact
    ) -> None:
        old, _ = making.make(here, artefact, writes(b"old"))
        there.local(artefact.path)
        newer = replace(artefact, code_version="2")
        new, before = making.make(here, newer, writes(b"new"))
        assert before.condition == "stale"
        file = there.local(artefact.path) / ("deep/images.npy" if artefact.is_folder else "")
        assert file.read_bytes() == b"new"
        [past] = [key for key in keys(objects) if key.startswith(layout.past_lineages())]
        assert objects.small(past)[0] == provenance.dump(old)

        assert sweeping.unnamed(here, 0) == {}, "somebody may still read it"
        gone = stored(old.path, old.sha256)
        unnamed = sweeping.unnamed(here, A_DAY_LATER)
        assert all(key.startswith(gone) for key in unnamed)
        assert len(unnamed) == (2 if artefact.is_folder else 1)
        for key in unnamed:
            here.forget(key)
        assert state.decide(here, newer).is_up_to_date
        assert stored(new.path, new.sha256) not in str(unnamed)

    def test_a_killed_writer_leaves_nothing_that_readers_find(
        self, here: Bucket, there: Bucket, artefact: Artefact, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        making.make(here, artefact, writes(b"old"))
        newer = replace(artefact, code_version="2")
        with monkeypatch.context() as patched:
            patched.setattr(Bucket, "swap", _killed)
            with pytest.raises(KeyboardInterrupt):
                making.make(here, newer, writes(b"new"))
        assert state.decide(there, artefact).is_up_to_date
        file = there.local(artefact.path) / ("deep/images.npy" if artefact.is_folder else "")
        assert file.read_bytes() == b"old"
        assert sweeping.unnamed(here, A_DAY_LATER), "the new one, which nothing names"
        known, _ = making.make(here, newer, writes(b"new"))
        assert provenance.latest(there, artefact.path) == known
        assert [
            key for key in sweeping.unnamed(here, A_DAY_LATER) if known.sha256[:16] in key
        ] == []

    def test_where_two_machines_make_one_at_once_the_first_stays_if_it_does(
        self, here: Bucket, there: Bucket, artefact: Artefact
    ) -> None:
        def meanwhile(goal: Path) -> Facts:
            making.make(there, artefact, writes(b"theirs"))
            return writes(b"ours")(goal)

        known, _ = making.make(here, artefact, meanwhile)
        assert known == provenance.latest(there, artefact.path)
        assert known.records == len(b"theirs")
        file = here.local(artefact.path) / ("deep/images.npy" if artefact.is_folder else "")
        assert file.read_bytes() == b"theirs"

    def test_where_another_version_makes_it_meanwhile_it_is_made_from_what_is_there_then(
        self, here: Bucket, there: Bucket, artefact: Artefact
    ) -> None:
        tries = 0

        def meanwhile(goal: Path) -> Facts:
            nonlocal tries
            tries += 1
            if tries == 1:
                making.make(there, replace(artefact, code_version="2"), writes(b"theirs"))
            return writes(b"ours")(goal)

        known, before = making.make(here, artefact, meanwhile)
        assert (tries, before.condition) == (2, "stale")
        assert known == provenance.latest(there, artefact.path)
        assert state.decide(there, artefact).is_up_to_date

    def test_an_object_that_is_gone_is_missing_and_made_again(
        self, here: Bucket, there: Bucket, objects: Objects, artefact: Artefact
    ) -> None:
        known, _ = making.make(here, artefact, writes(b"pixels"))
        key = stored(known.path, known.sha256)
        for path in [path for path in keys(objects) if path.startswith(key)]:
            objects.forget(path)
        assert state.decide(there, artefact).condition == "missing"
        with pytest.raises(StorageError, match="is not there, though provenance names it"):
            there.local(artefact.path)
        making.make(there, artefact, writes(b"pixels"))
        assert state.decide(here, artefact).is_up_to_date

    def test_bytes_that_rotted_are_found_by_reading_and_made_again(
        self, here: Bucket, there: Bucket, objects: Objects, artefact: Artefact
    ) -> None:
        known, _ = making.make(here, artefact, writes(b"pixels"))
        key = stored(known.path, known.sha256) + "/deep/images.npy" * artefact.is_folder
        objects.send(key, b"pixelz")
        with pytest.raises(StorageError, match="has other bytes than recorded"):
            there.local(artefact.path)
        assert not there.place(artefact.path).exists()
        assert not provenance.is_of(known, there.look(artefact.path, anew=True))
        assert state.decide(there, artefact).condition == "changed", "it is remembered"

        making.make(there, artefact, writes(b"pixels"))

        assert provenance.is_of(known, there.look(artefact.path, anew=True))
        assert state.decide(there, artefact).is_up_to_date


def _killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_file_lacks_bytes_where_its_size_is_not_the_recorded_one(
    here: Bucket, objects: Objects
) -> None:
    known, _ = making.make(here, TABLE, writes(b"pixels"))
    objects.send(stored(known.path, known.sha256), b"pix")
    assert state.decide(here, TABLE).condition == "changed"


def test_people_find_a_copy_under_the_name_they_know(here: Bucket, objects: Objects) -> None:
    making.make(here, replace(TABLE, sidecar=layout.sidecar(TABLE.path)), writes(b"pixels"))
    assert objects.small(TABLE.path)[0] == b"pixels"
    assert b'"records": 6' in (objects.small(layout.sidecar(TABLE.path))[0] or b"")


def test_what_is_distrusted_is_made_again_and_its_provenance_that_of_the_past(
    here: Bucket, there: Bucket
) -> None:
    known, _ = making.make(here, TABLE, writes(b"pixels"))
    making.distrust(there, TABLE.path, known.sha256)
    assert provenance.latest(here, TABLE.path) is None
    past = layout.past_lineage(TABLE.path, known.run.ended)
    assert here.read(past) == provenance.dump(known)
    assert state.decide(here, TABLE).condition == "missing"


def test_a_sweep_removes_nothing_that_is_not_named_by_content(
    here: Bucket, objects: Objects
) -> None:
    known, _ = making.make(here, TABLE, writes(b"pixels"))
    others = ["notes.txt", "else/a.0123456789abcdef.bin", "tables/digits/notes.txt"]
    for key in others:
        objects.send(key, b"somebody's")
    making.make(here, replace(TABLE, code_version="2"), writes(b"new"))
    assert [*sweeping.unnamed(here, A_DAY_LATER)] == [stored(known.path, known.sha256)]


def test_a_sweep_refuses_where_a_newer_version_may_name_what_it_would_remove(here: Bucket) -> None:
    known, _ = making.make(here, TABLE, writes(b"pixels"))
    said = json.loads(provenance.dump(known)) | {"format": "imagesets-lineage/9"}
    del said["digest"]
    text = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    said["digest"] = hashlib.sha256(text.encode()).hexdigest()
    name = layout.lineage(TABLE.path)
    here.swap(name, here.read(name), json.dumps(said).encode())
    with pytest.raises(MadeByNewer):
        sweeping.unnamed(here, A_DAY_LATER)


def test_readers_of_a_snapshot_ask_for_nothing_twice(
    here: Bucket, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    making.make(here, TABLE, writes(b"pixels"))
    view = here.at_once([TABLE.path, "tables/digits/other.parquet"])
    monkeypatch.setattr(Objects, "small", _killed)
    monkeypatch.setattr(Objects, "head", _killed)
    assert state.decide(view, TABLE).is_up_to_date
    assert provenance.latest(view, "tables/digits/other.parquet") is None


def _decided(bucket: Bucket, *artefacts: Artefact) -> list[str]:
    """The conditions of artefacts as a view of a bucket tells them."""
    view = bucket.at_once([one.path for one in artefacts])
    return [state.decide(view, one).condition for one in artefacts]


def test_small_files_that_were_read_here_before_are_not_read_again(
    here: Bucket, there: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    making.make(there, TABLE, writes(b"pixels"))
    making.make(there, FOLDER, writes(b"pixels"))
    asked, small = list[str](), Objects.small

    def noting(self: Objects, path: str) -> Any:
        asked.append(path)
        return small(self, path)

    monkeypatch.setattr(Objects, "small", noting)
    read = []
    for _ in range(2):
        assert _decided(here, TABLE, FOLDER) == ["whole", "whole"]
        read.append(sorted(asked))
        asked.clear()
    assert read == [sorted(map(layout.lineage, (TABLE.path, FOLDER.path))), []]

    monkeypatch.setattr(Objects, "small", small)
    making.make(there, NEWER, writes(b"pixels"))
    assert _decided(here, NEWER) == ["whole"]
    assert _decided(here, TABLE) == ["stale"], "somebody else has made it meanwhile"


@pytest.mark.parametrize("many", [1, 50], ids=["listed", "asked for"])
@pytest.mark.parametrize("artefact", [TABLE, FOLDER], ids=["file", "folder"])
@pytest.mark.parametrize("harm", ["gone", "cut", "bytes", "bytes read", "provenance"])
def test_what_a_store_lists_refutes_what_was_known_before(
    here: Bucket,
    there: Bucket,
    objects: Objects,
    monkeypatch: pytest.MonkeyPatch,
    artefact: Artefact,
    many: int,
    harm: str,
) -> None:
    monkeypatch.setattr(bucket, "MANY", many)
    known, _ = making.make(there, artefact, writes(b"pixels"))
    assert _decided(here, artefact) == ["whole"]
    if harm == "bytes":  # it was read, as by `verify`: so a list shows that it is another
        here.look(artefact.path, anew=True)
    key = stored(known.path, known.sha256)
    key = f"{key}/deep/images.npy" if artefact.is_folder else key
    if harm == "gone":
        objects.forget(key)
    elif harm == "cut":
        objects.send(key, b"pixel")
    elif "bytes" in harm:
        objects.send(key, b"PIXELS")
        if harm == "bytes read":
            here.look(artefact.path, anew=True)
    else:
        objects.send(layout.lineage(artefact.path), b"{}")
    missing = "changed" if artefact.is_folder else "missing"
    expected = {"gone": missing, "provenance": "missing"}.get(harm, "changed")
    assert _decided(here, artefact) == [expected]


def test_an_object_is_the_same_whether_it_is_listed_or_asked_for() -> None:
    """Lists of some stores have finer times and no quotes, and no store's have versions."""
    moment = datetime(2026, 3, 1, 12, 0, 5, 250_000, UTC)
    listed: Any = {"path": "a", "size": 6, "last_modified": moment, "e_tag": "0x8D"}
    asked: Any = {**listed, "last_modified": moment.replace(microsecond=0), "e_tag": '"0x8D"'}
    same = bucket.identity_of({**asked, "version": "3"})
    assert bucket.identity_of({**listed, "version": None}) == same
    assert bucket.identity_of({**listed, "e_tag": "0x8E", "version": None}) != same


@pytest.mark.parametrize("damage", [b"{", b"[]", b'{"store": 1}'])
def test_a_note_of_small_files_that_is_damaged_is_none(here: Bucket, damage: bytes) -> None:
    making.make(here, TABLE, writes(b"pixels"))
    assert _decided(here, TABLE) == ["whole"]
    note = here.place(layout.seen("files/digits"))
    assert b"digits/train" in note.read_bytes()
    note.write_bytes(damage)
    assert _decided(here, TABLE) == ["whole"]


def test_a_note_of_another_store_is_none(here: Bucket, tmp_path: Path) -> None:
    making.make(here, TABLE, writes(b"pixels"))
    assert _decided(here, TABLE) == ["whole"]
    empty = Objects("memory://another", object_stores.in_memory().store)
    other = object_stores.bucket(empty, tmp_path / "here")
    making.make(other, NEWER, writes(b"pixels"))
    assert _decided(other, NEWER) == ["whole"], "though the tags of both are the same"


def test_threads_that_read_one_artefact_at_once_fetch_it_once(
    here: Bucket, there: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    making.make(here, TABLE, writes(b"pixels" * 100_000))
    fetched, pieces, begin = [], Objects.pieces, threading.Barrier(4)

    def count(self: Objects, path: str) -> object:
        fetched.append(path)
        return pieces(self, path)

    monkeypatch.setattr(Objects, "pieces", count)

    def read(_: int) -> bytes:
        begin.wait()
        return there.local(TABLE.path).read_bytes()

    with ThreadPoolExecutor(4) as pool:
        assert {*pool.map(read, range(4))} == {b"pixels" * 100_000}
    assert len(fetched) == 1


# --- While somebody else writes -------------------------------------------------------------------


def test_doubt_about_what_another_machine_made_again_meanwhile_retires_nothing(
    here: Bucket, there: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, _ = making.make(here, TABLE, writes(b"wrong"))
    newer: list[provenance.Provenance] = []

    def meanwhile(store: Store, known: provenance.Provenance) -> None:
        if store is here:
            newer.append(making.make(there, NEWER, writes(b"right"))[0])

    with monkeypatch.context() as patched:
        patched.setattr(provenance, "settle", meanwhile)
        making.distrust(here, TABLE.path, known.sha256)

    assert provenance.latest(here, TABLE.path) == newer[0]


def test_a_writer_that_is_killed_as_provenance_is_swapped_has_kept_that_of_the_past(
    here: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, _ = making.make(here, TABLE, writes(b"old"))
    past = layout.past_lineage(TABLE.path, old.run.ended)
    swap = Bucket.swap

    def killed_after(self: Bucket, path: str, *others: Any, **named: Any) -> None:
        swap(self, path, *others, **named)
        if path == layout.lineage(TABLE.path):
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Bucket, "swap", killed_after)
        with pytest.raises(KeyboardInterrupt):
            making.make(here, NEWER, writes(b"new"))

    assert here.read(past) == provenance.dump(old)


def test_what_is_replaced_and_swept_while_it_is_fetched_is_fetched_as_it_is_then(
    here: Bucket, there: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    making.make(here, TABLE, writes(b"old"))
    fetch, tries = Bucket._fetch, 0

    def replaced(self: Bucket, known: provenance.Provenance) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            making.make(here, NEWER, writes(b"new"))
            here.forget(stored(known.path, known.sha256))
        fetch(self, known)

    monkeypatch.setattr(Bucket, "_fetch", replaced)
    assert there.local(TABLE.path).read_bytes() == b"new"


def test_what_somebody_put_into_a_folder_is_no_part_of_it(
    here: Bucket, there: Bucket, objects: Objects
) -> None:
    known, _ = making.make(here, FOLDER, writes(b"pixels"))
    stray = f"{stored(known.path, known.sha256)}/deep/notes.txt"
    objects.send(stray, b"somebody's")
    assert state.decide(there, FOLDER).is_up_to_date
    place = there.local(FOLDER.path)
    assert sorted(path.name for path in place.rglob("*")) == ["deep", "images.npy", "labels.npy"]
    assert [*sweeping.unnamed(here, A_DAY_LATER)] == [stray]


def test_a_folder_without_files_is_one(here: Bucket, there: Bucket) -> None:
    making.make(here, FOLDER, lambda _: {})
    assert [*there.local(FOLDER.path).iterdir()] == []


def test_a_sweep_leaves_what_is_written_again_to_be_named(here: Bucket, there: Bucket) -> None:
    old, _ = making.make(here, TABLE, writes(b"old"))
    making.make(here, NEWER, writes(b"new"))
    [(path, found)] = sweeping.unnamed(here, A_DAY_LATER).items()
    making.make(there, TABLE, writes(b"old"))
    assert path == stored(old.path, old.sha256)
    assert not sweeping.remove(here, path, found)
    assert there.local(TABLE.path).read_bytes() == b"old"
    assert not sweeping.remove(here, "tables/gone.0123456789abcdef.parquet", found)


def test_a_sweep_leaves_what_was_replaced_lately_to_its_readers(
    here: Bucket, objects: Objects
) -> None:
    making.make(here, TABLE, writes(b"old"))
    time.sleep(0.01)
    between = time.time()
    time.sleep(0.01)
    making.make(here, NEWER, writes(b"new"))
    assert sweeping.unnamed(here, between) == {}, "written before, and replaced after"
    assert len(sweeping.unnamed(here, A_DAY_LATER)) == 1


def test_every_suffix_is_swept(here: Bucket) -> None:
    archive = replace(TABLE, path="archives/digits/t10k-images.idx3-ubyte")
    making.make(here, archive, writes(b"old"))
    making.make(here, replace(archive, code_version="2"), writes(b"new"))
    assert len(sweeping.unnamed(here, A_DAY_LATER)) == 1


def test_a_scratch_folder_that_can_not_be_written_to_is_told_with_what_to_do(
    here: Bucket, objects: Objects
) -> None:
    making.make(here, TABLE, writes(b"pixels"))
    elsewhere = object_stores.bucket(objects, Path("/proc/nowhere"))
    assert state.decide(elsewhere, TABLE).is_up_to_date, "nothing is written for that"
    with pytest.raises(StorageError, match="IMAGESETS_SCRATCH"):
        elsewhere.local(TABLE.path)
