"""What comes out the same on one machine only: built, locked and verified like all else, or not."""

from __future__ import annotations

import json

import pytest

from assets import checks
from assets.running import integrity
from pipelines.descriptions import _classifiers, benchmark
from pipelines.lineage import lock, verify
from pipelines.progress import Display
from pipelines.stages import DEFAULT, PARTS
from pipelines.store import Folder, layout
from tests import builders
from tests.assets.conftest import Command
from tests.assets.project import Project


@pytest.mark.slow
def test_a_lock_and_deep_verification_leave_it_out(
    built: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = built.settings()
    plan = settings.plan()
    digits = plan.declared.datasets["tiny_digits"]
    before = lock.lock(plan, Folder(built.data), digits)
    built.build("tiny_digits", stages=["embedding"])
    folder = built.data / "descriptions/tiny_digits/embedding"
    assert builders.files_under(folder) == ["pca.parquet", "pca.png", "tsne.parquet", "tsne.png"]
    known = json.loads((built.data / "lineage/descriptions/tiny_digits/embedding.json").read_text())
    assert known["facts"].keys() == {"records", "threads", "processor", "cpu_seconds"}
    assert known["facts"]["processor"]
    assert {"openTSNE", "numpy", "matplotlib"} <= known["run"]["versions"].keys()

    assert lock.lock(plan, Folder(built.data), digits) == before
    monkeypatch.setattr(lock, "DEFAULT", (*DEFAULT, "embedding", "pictures"))
    locked = {one.stage for one in lock.locked(plan, settings.store, digits)}
    assert {*DEFAULT} - {*PARTS} <= locked
    assert ("pictures" in locked, "embedding" in locked) == (True, False)
    found = verify.verify(Folder(built.data), plan, (digits,), Display(), deep=True)
    assert all(one.is_whole for one in found), "nothing is held against it"
    [left_out] = [one for one in found if not one.is_deep and not layout.is_archive(one.path)]
    assert left_out.path == "descriptions/tiny_digits/embedding"
    events = {str(one.asset_key.path[-1]) for one in integrity.events(settings.store, plan, found)}
    assert "verified_deeply" not in events, "of one dataset alone"
    everything = tuple(plan.declared.datasets.values())
    found = verify.verify(Folder(built.data), plan, everything, Display(), deep=True)
    events = {str(one.asset_key.path[-1]) for one in integrity.events(settings.store, plan, found)}
    assert "verified_deeply" in events
    keys = {
        key
        for spec in integrity.specs(plan, plan.declared.sources["tiny_digits"])
        for key in [(spec.asset_key.path[-1], spec.name)]
    }
    assert ("embedding", checks.BYTES) in keys
    assert ("embedding", checks.RECORDS) not in keys
    assert ("pictures", checks.RECORDS) in keys
    picture = folder / "pca.png"
    picture.write_bytes(picture.read_bytes() + b" ")
    found = verify.verify(Folder(built.data), plan, (digits,), Display(), deep=True)
    assert [one.path for one in found if not one.is_whole] == [left_out.path]


@pytest.mark.slow
def test_a_benchmark_is_built_in_the_tier_that_is_chosen_and_read_back(
    built: Project, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_classifiers, "FIRST", _classifiers.FIRST[:3])
    monkeypatch.setattr(_classifiers, "FULL", _classifiers.FIRST[:2])
    monkeypatch.setattr(benchmark, "_FEW", 0)  # in processes of their own, as for real data
    folder = built.data / "descriptions/tiny_digits/benchmark"
    build = ("build", "tiny_digits", "--only", "benchmark", *built.options, *built.mirror)

    assert command(*build).code == 0
    assert builders.files_under(folder) == ["results.md", "results.parquet"]
    assert (len(benchmark.results(folder)), benchmark.about(folder)["tier"]) == (3, "first")
    assert "up to date" in command(*build).stdout
    assert command(*build, "--benchmark-tier", "full").code == 0
    assert (len(benchmark.results(folder)), benchmark.about(folder)["repeats"]) == (2, 3)

    known = json.loads((built.data / f"lineage/{folder.relative_to(built.data)}.json").read_text())
    assert len(known["facts"]["cpu_seconds"]) == 2
    assert {"scikit-learn", "numpy", "scipy"} <= known["run"]["versions"].keys()
    chosen = ("--benchmark-tier", "full", *built.options)
    said = command("verify", "tiny_digits", "--deep", *chosen)
    assert said.code == 0, said.stdout


def test_a_run_of_dagster_makes_both(built: Project) -> None:
    made = built.build("tiny_letters", stages=["embedding", "benchmark"])
    assert all(outcome.is_good for outcome in made.values())
    assert len(benchmark.results(built.data / "descriptions/tiny_letters/benchmark")) == 10
