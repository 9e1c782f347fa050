"""Whole builds that are killed at any moment: what is there afterwards is right, and known."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path

from assets import overview
from assets.display import Display
from assets.settings import Settings
from pipelines import catalogue
from tests.assets.project import Project, made

# A build takes about a second here, so developers and CI try a few moments, the nightly run many.
KILLS = {"dev": 5, "ci": 10, "nightly": 250}[os.environ.get("HYPOTHESIS_PROFILE", "dev")]
FOLDERS = ("archives", "tables", "statistics", "exports")


def artefacts(data: Path) -> list[str]:
    """Every file under a final name, sidecars excepted."""
    return [
        path.relative_to(data).as_posix()
        for folder in FOLDERS
        for path in (data / folder).rglob("*")
        if path.is_file() and not path.name.startswith(".") and path.suffix != ".json"
    ]


def everything(data: Path) -> set[str]:
    """Every file of ours, half-written ones too."""
    folders = (data / folder for folder in (*FOLDERS, "lineage"))
    return {str(path) for folder in folders for path in folder.rglob("*")}


def known_hashes(data: Path, path: str) -> list[str]:
    """The SHA-256 that the latest record tells, and the one that waits to become the latest."""
    records = [data / f"lineage/{path}.json", data / f"lineage/{path}.json.next"]
    return [json.loads(record.read_text())["sha256"] for record in records if record.exists()]


def test_a_build_may_be_killed_at_any_moment(
    project: Project, processes: ForkServerContext
) -> None:
    settings = Settings(
        project.data, project.publisher.catalogue, str(project.publisher.mirror), offline=True
    )
    declared = catalogue.load(settings.catalogue)
    chance = random.Random(0)
    project.build("tiny_digits", stages=["archives"])  # Dagster's own databases are set up
    unfinished, there = 0, set()
    for attempt in range(KILLS):
        process = processes.Process(target=project.build)
        process.start()
        changes, seen = chance.randint(1, 60), everything(project.data)
        while process.is_alive() and changes:  # files come and go: strike then, not while it loads
            if seen != (seen := everything(project.data)):
                changes -= 1
            time.sleep(0.0005)
        process.join(chance.uniform(0, 0.02))
        if process.is_alive():
            process.kill()
            process.join()
            unfinished += 1
        else:
            assert process.exitcode == 0
        found = artefacts(project.data)
        there.add(len(found))
        for path in found:
            sha256 = hashlib.sha256((project.data / path).read_bytes()).hexdigest()
            assert sha256 in known_hashes(project.data, path), f"{path} after kill {attempt}"
        verdicts = overview.verdicts(
            declared, tuple(declared.datasets.values()), settings, Display(), deep=attempt % 5 == 0
        )
        for verdict in (verdict for them in verdicts.values() for verdict in them):
            assert verdict.condition in ("whole", "uncompared"), verdict
        if len(found) == 27:  # everything: once more from the start
            for folder in (*FOLDERS, "lineage"):
                shutil.rmtree(project.data / folder)
    assert unfinished > KILLS / 4, "too few kills hit a build under way"
    assert len(there) > min(8, KILLS / 4), "the kills hit few different moments"

    project.build()
    assert made(project.build()) == set()
    assert len(artefacts(project.data)) == 27
    left = [path.name for path in project.data.rglob("*.partial")]
    assert [name for name in left if "dagster" not in name] == []
