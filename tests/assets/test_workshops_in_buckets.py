"""Workshops whose artefacts lie in a bucket, which other machines build in, too."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import pipelines as imagesets
from pipelines import plan as plans
from pipelines import tables
from pipelines.api import place
from pipelines.building import Web, Workshop
from pipelines.lineage import openlineage
from pipelines.lineage.verify import verify
from pipelines.progress import Display
from pipelines.store import Bucket, Folder, making, provenance
from pipelines.store.bucket import stored
from tests import builders, object_stores
from tests.assets.project import Project

TABLE = "tables/tiny_digits/train.parquet"
STATISTICS = "statistics/tiny_digits.parquet"


@pytest.fixture
def here(tmp_path: Path) -> Bucket:
    return object_stores.bucket(object_stores.in_memory(), tmp_path / "here")


def make(workshop: Workshop, *stages: str) -> None:
    dataset = workshop.plan.declared.datasets["tiny_digits"]
    for asset in dict.fromkeys(one.asset for one in workshop.plan.of([dataset], stages)):
        workshop.make(asset)


def test_a_table_that_is_written_twice_because_of_another_machine_is_added_up_once(
    built: Project, here: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, web, told = built.plan(), Web(str(built.publisher.mirror)), tmp_path / "told.jsonl"
    outbox = openlineage.Target(str(told)).open()
    assert outbox is not None
    there = object_stores.bucket(here.objects, tmp_path / "there")
    compressed = plans.of(plan.declared, {**plan.options, "compression_level": 9})
    write, written = tables.write, 0

    def meanwhile(*arguments: object, **options: object) -> int:
        nonlocal written
        written += 1
        if written == 1:
            Workshop(there, compressed, web).make(("tiny_digits", "train"))
        return write(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(tables, "write", meanwhile)
    workshop = Workshop(here, plan, web, outbox=outbox)
    make(workshop, "archives", "tables", "statistics")
    outbox.close()

    assert written == 4, "the other machine's, ours twice, and the test split"
    expected = provenance.latest(Folder(built.data), STATISTICS)
    found = provenance.latest(here, STATISTICS)
    assert expected is not None
    assert found is not None
    assert found.sha256 == expected.sha256
    events = [json.loads(line) for line in told.read_text().splitlines()]
    of_it = [one["eventType"] for one in events if one["job"]["name"] == TABLE]
    assert sorted(of_it) == ["COMPLETE", "FAIL", "START", "START"]


def test_only_what_something_is_made_from_is_fetched(built: Project, here: Bucket) -> None:
    workshop = Workshop(here, built.plan(), Web(str(built.publisher.mirror)), warns=False)
    make(workshop, "archives", "tables", "statistics")
    shutil.rmtree(here.scratch.root)
    make(workshop, "archives", "tables", "csv")
    fetched = {path for path in builders.files_under(here.scratch.root) if path[0] != "."}
    assert fetched == {
        f"{folder}/tiny_digits/{split}.{suffix}"
        for folder, suffix in (("tables", "parquet"), ("exports", "csv"))
        for split in ("train", "test")
    }


def test_what_the_library_verifies_is_what_it_returns(
    built: Project, here: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGESETS_CATALOGUE", str(built.publisher.catalogue))
    monkeypatch.setenv("IMAGESETS_MIRROR", str(built.publisher.mirror))
    monkeypatch.setattr(place, "store", lambda: here)
    table = imagesets.path("tiny_digits", "test")
    whole = table.read_bytes()
    table.write_bytes(whole[:-1] + b"!")
    assert imagesets.path("tiny_digits", "test", verify=True).read_bytes() == whole
    table.unlink()
    assert imagesets.path("tiny_digits", "test", verify=True).read_bytes() == whole


def test_what_was_found_changed_is_found_again_until_it_is_mended(
    built: Project, here: Bucket
) -> None:
    plan = built.plan()
    make(Workshop(here, plan, Web(str(built.publisher.mirror))), "archives", "tables")
    table = TABLE
    known = provenance.latest(here, table)
    assert known is not None
    here.objects.send(stored(table, known.sha256), b"rotten")
    datasets = [plan.declared.datasets["tiny_digits"]]

    def wrong() -> dict[str, str]:
        verdicts = verify(here, plan, datasets, Display())
        making.distrust_changed(here, verdicts)
        return {one.path: one.condition for one in verdicts if not one.is_whole}

    assert wrong() == {table: "changed"}
    assert [*wrong()] == [table]


def test_what_is_doubted_is_still_known_to_have_been_made(built: Project, here: Bucket) -> None:
    plan = built.plan()
    make(Workshop(here, plan, Web(str(built.publisher.mirror))), "archives", "tables")
    table = TABLE
    known = provenance.latest(here, table)
    assert known is not None
    provenance.retire(here, known)
    verdicts = verify(here, plan, [plan.declared.datasets["tiny_digits"]], Display())
    assert [one.path for one in verdicts if not one.is_whole] == [table]
