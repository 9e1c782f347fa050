"""What comes out the same on one machine only: built, locked and verified like all else, or not."""

from __future__ import annotations

import json

import pytest

from assets import checks
from assets.running import integrity
from pipelines.lineage import lock, verify
from pipelines.progress import Display
from pipelines.stages import DEFAULT
from pipelines.store import Folder
from tests import builders
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
    locked = {one.stage for one in lock.locked(plan, digits)}
    assert {*DEFAULT} <= locked
    assert ("pictures" in locked, "embedding" in locked) == (True, False)
    found = verify.verify(Folder(built.data), plan, (digits,), Display(), deep=True)
    [verdict] = [one for one in found if one.path == "descriptions/tiny_digits/embedding"]
    assert (verdict.condition, verdict.is_deep) == ("whole", False)
    assert all(one.is_whole for one in found)
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
