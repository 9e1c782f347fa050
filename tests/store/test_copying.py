"""Copying from one store to another, in which others write meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from assets.commands import copy as command
from pipelines.building import copying
from pipelines.errors import MadeByNewer
from pipelines.store import (
    Artefact,
    Bucket,
    Facts,
    Folder,
    Store,
    layout,
    making,
    provenance,
    state,
)
from pipelines.store.bucket import stored
from tests import object_stores

TABLE = Artefact("tables/digits/train.parquet", "tables", "1", {}, (), None)
NEWER = replace(TABLE, code_version="2")
ARRAYS = Artefact(
    "exports/digits/train_npy",
    "npy",
    "1",
    {},
    sidecar=layout.sidecar("exports/digits/train_npy"),
    is_folder=True,
)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "folder")


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    return object_stores.bucket(object_stores.in_memory(), tmp_path / "scratch")


def writes(content: bytes) -> Callable[[Path], Facts]:
    def build(goal: Path) -> Facts:
        (goal / "images.npy" if goal.is_dir() else goal).write_bytes(content)
        return {"records": len(content)}

    return build


def outcomes(origin: Store, goal: Store) -> dict[str, str]:
    return {one.path: one.outcome for one in copying.copy(origin, goal)}


def test_what_is_damaged_in_a_bucket_is_told_and_the_rest_is_copied(
    bucket: Bucket, folder: Folder
) -> None:
    other = replace(TABLE, path="tables/digits/test.parquet")
    gone = replace(TABLE, path="tables/digits/gone.parquet")
    known, lost = (making.make(bucket, one, writes(b"pixels"))[0] for one in (other, gone))
    making.make(bucket, TABLE, writes(b"pixels"))
    bucket.objects.send(stored(known.path, known.sha256), b"pixelz")
    bucket.objects.forget(stored(lost.path, lost.sha256))
    for path in (other.path, gone.path):
        bucket.place(path).unlink()

    said = {one.path: one for one in copying.copy(bucket, folder)}

    assert said[TABLE.path].outcome == "copied"
    assert said[other.path].outcome == said[gone.path].outcome == "not whole"
    assert "has other bytes than recorded" in said[other.path].why
    assert "is not there, though provenance names it" in said[gone.path].why
    assert not folder.place(other.path).exists()


def test_damaged_provenance_is_told(folder: Folder, bucket: Bucket) -> None:
    making.make(folder, TABLE, writes(b"pixels"))
    folder.place(layout.lineage(TABLE.path)).write_text("{}")
    [said] = copying.copy(folder, bucket)
    assert (said.outcome, said.why) == ("not whole", "its provenance is damaged")


def test_a_file_that_can_not_be_read_is_not_blamed_on_the_goal(
    folder: Folder, bucket: Bucket
) -> None:
    making.make(folder, TABLE, writes(b"pixels"))
    place = folder.place(TABLE.path)
    place.unlink()
    place.mkdir()
    [said] = copying.copy(folder, bucket)
    assert said.outcome == "not whole"


def test_what_is_made_newer_there_while_it_is_copied_stays(
    folder: Folder, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    making.make(folder, TABLE, writes(b"old"))
    colleague = object_stores.bucket(bucket.objects, tmp_path / "colleague")
    bring = copying._bring

    def meanwhile(*arguments: object) -> None:
        if provenance.latest(colleague, TABLE.path) is None:
            making.make(colleague, NEWER, writes(b"newer"))
        bring(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(copying, "_bring", meanwhile)
    assert outcomes(folder, bucket) == {TABLE.path: "newer there"}
    assert state.decide(colleague, NEWER).is_up_to_date


def test_what_is_made_anew_while_it_is_copied_is_copied_as_it_is_then(
    folder: Folder, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    making.make(folder, TABLE, writes(b"old"))
    bring = copying._bring

    def meanwhile(*arguments: object) -> None:
        making.make(folder, NEWER, writes(b"newer"))
        bring(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(copying, "_bring", meanwhile)
    assert outcomes(folder, bucket) == {TABLE.path: "copied"}
    assert state.decide(bucket, NEWER).is_up_to_date


def test_newer_provenance_of_the_same_bytes_is_copied(folder: Folder, bucket: Bucket) -> None:
    making.make(folder, TABLE, writes(b"pixels"))
    assert outcomes(folder, bucket) == {TABLE.path: "copied"}
    assert outcomes(folder, bucket) == {TABLE.path: "there already"}
    making.make(folder, NEWER, writes(b"pixels"))
    assert outcomes(folder, bucket) == {TABLE.path: "copied"}
    assert state.decide(bucket, NEWER).is_up_to_date


def test_a_sidecar_comes_along_where_the_copy_for_people_of_it_is_missing(
    folder: Folder, bucket: Bucket
) -> None:
    making.make(bucket, ARRAYS, writes(b"pixels"))
    assert ARRAYS.sidecar
    bucket.forget(ARRAYS.sidecar)
    assert outcomes(bucket, folder) == {ARRAYS.path: "copied"}
    assert state.decide(folder, ARRAYS).is_up_to_date


def test_what_was_found_of_an_artefact_comes_along_with_it_alone(
    folder: Folder, bucket: Bucket
) -> None:
    note = layout.judged(TABLE.path)
    making.make(folder, TABLE, writes(b"old"))
    folder.swap(note, None, b"of the old")
    making.make(bucket, NEWER, writes(b"newer"))
    bucket.swap(note, None, b"of the newer")
    assert outcomes(folder, bucket) == {TABLE.path: "newer there"}
    assert bucket.read(note) == b"of the newer"
    assert outcomes(bucket, folder) == {TABLE.path: "copied"}
    assert folder.read(note) == b"of the newer"


def test_provenance_of_a_newer_version_is_not_left_out_in_silence(
    folder: Folder, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    making.make(folder, TABLE, writes(b"pixels"))

    def refuse(*_: object) -> None:
        raise MadeByNewer("made by a newer Imagesets")

    monkeypatch.setattr(provenance, "_refuse_newer", refuse)
    with pytest.raises(MadeByNewer):
        outcomes(folder, bucket)


@pytest.mark.parametrize(
    ("one", "other", "is_one_place"),
    [
        ("s3://bucket/team", "s3://bucket/team/", True),
        ("s3://bucket/team", "s3a://bucket/team", True),
        ("s3://bucket/team", "s3://bucket/other", False),
        ("s3://bucket/team?endpoint_override=a", "s3://bucket/team?endpoint_override=b", False),
        (Path("/data/a?b"), Path("/data/a?c"), False),
        (Path("/data/../data"), Path("/data"), True),
    ],
)
def test_one_place_is_known_however_it_is_written(
    one: Path | str, other: Path | str, is_one_place: bool
) -> None:
    assert (command._place(one) == command._place(other)) is is_one_place
