"""Whole builds that are killed at any moment: what is there afterwards is right, and known.

Most of a build's time is Dagster's, so a kill at a random moment mostly hits nothing of ours. A
build therefore counts what it does to our files, and is killed at one of these operations.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import threading
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from assets.settings import Settings
from pipelines.lineage import verify
from pipelines.progress import Display
from pipelines.store import Folder
from tests.assets import truth
from tests.assets.project import Project, made

# A build takes about a second here, so developers and CI try a few moments, the nightly run many.
KILLS = {"dev": 5, "ci": 10, "nightly": 250}[os.environ.get("HYPOTHESIS_PROFILE", "dev")]
FOLDERS = ("archives", "tables", "statistics", "exports")
OPERATIONS = 120  # of the 600 or so of a whole build: a few builds are killed until one is done


def artefacts(data: Path) -> list[str]:
    """Every file under a final name, sidecars excepted."""
    return [
        path.relative_to(data).as_posix()
        for folder in FOLDERS
        for path in (data / folder).rglob("*")
        if path.is_file() and not path.name.startswith(".") and path.suffix != ".json"
    ]


def build_until(project: Project, operation: int, delay_s: float) -> None:
    """Build, and be killed at the n-th operation on our files, or a moment after.

    An operation is what Python tells of: a file is opened for writing, moved or removed, a folder
    made. A moment later a library may be in the middle of writing.
    """
    ours = tuple(f"{project.data}/{folder}/" for folder in (*FOLDERS, "lineage"))
    left = operation

    def strike() -> None:
        time.sleep(delay_s)
        os.kill(os.getpid(), signal.SIGKILL)

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if not (writes or event in ("os.rename", "os.remove", "os.mkdir")):
            return
        if not str(arguments[0]).startswith(ours):
            return
        left -= 1
        if left == 0 and delay_s:
            threading.Thread(target=strike).start()
        elif left == 0:
            strike()

    sys.addaudithook(count)
    project.build()


def known_hashes(data: Path, path: str) -> list[str]:
    """The SHA-256 that the latest record tells, and the one that waits to become the latest."""
    records = [data / f"lineage/{path}.json", data / f"lineage/{path}.json.next"]
    return [json.loads(record.read_text())["sha256"] for record in records if record.exists()]


@pytest.mark.timeout(60 * KILLS)
def test_a_build_may_be_killed_at_any_moment(
    project: Project, processes: ForkServerContext
) -> None:
    settings = Settings(
        project.data, project.publisher.catalogue, str(project.publisher.mirror), offline=True
    )
    plan = settings.plan()
    chance = random.Random(0)
    project.build("tiny_digits", stages=["archives"])  # Dagster's own databases are set up
    unfinished, there = 0, set()
    for attempt in range(KILLS):
        delay_s = chance.choice((0, chance.uniform(0, 0.005)))
        moment = (project, chance.randint(1, OPERATIONS), delay_s)
        process = processes.Process(target=build_until, args=moment)
        process.start()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        unfinished += process.exitcode == -signal.SIGKILL
        found = artefacts(project.data)
        there.add(len(found))
        for path in found:
            sha256 = hashlib.sha256((project.data / path).read_bytes()).hexdigest()
            assert sha256 in known_hashes(project.data, path), f"{path} after kill {attempt}"
        wrong = [path for path, state in truth.states(project).items() if state == "wrong"]
        assert wrong == [], f"after kill {attempt}"
        everything = tuple(plan.declared.datasets.values())
        deep = attempt % 5 == 0
        for verdict in verify.verify(Folder(project.data), plan, everything, Display(), deep=deep):
            assert verdict.condition in ("whole", "uncompared"), verdict
        if len(found) == 27:  # everything: once more from the start
            for folder in (*FOLDERS, "lineage"):
                shutil.rmtree(project.data / folder)
    assert unfinished > KILLS / 2, "too few kills hit a build under way"
    assert len(there) > min(8, KILLS / 4), "the kills hit few different moments"

    project.build()
    assert made(project.build()) == set()
    assert len(artefacts(project.data)) == 27
    left = [path.name for path in project.data.rglob("*.partial")]
    assert [name for name in left if "dagster" not in name] == []
