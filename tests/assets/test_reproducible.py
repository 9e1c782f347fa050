"""The same bytes wherever, whenever and however fast everything is made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from assets.settings import ROOT
from tests.assets.conftest import Command, Start
from tests.assets.project import Project, environment
from tests.waiting import within

LOCKED = Path(__file__).with_name("official.lock")


def test_another_machine_would_make_the_same_bytes(built: Project, tmp_path: Path) -> None:
    """Another folder, one core instead of two, other threads, hash seed, zone, language, rights."""
    variables = {
        "PYTHONHASHSEED": "12345",
        "OMP_NUM_THREADS": "1",
        "POLARS_MAX_THREADS": "1",
        "TZ": "Pacific/Kiritimati",
        "LC_ALL": "C",
        "HOSTNAME": "elsewhere",
    }
    there = Project(built.publisher, tmp_path / "there" / "data")

    def restrict() -> None:
        os.umask(0o077)
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    subprocess.run(
        [sys.executable, "-m", "assets", "build", *there.options, *there.mirror],
        cwd=ROOT,
        env=environment(**variables),
        preexec_fn=restrict,
        capture_output=True,
        check=True,
        timeout=within(60),
    )
    before, after = built.snapshot(), there.snapshot()
    assert before.keys() == after.keys()
    for path in before:
        if not path.startswith("lineage/") or path.endswith("/croissant.json"):
            assert after[path][2] == before[path][2], path


def test_another_day_makes_the_same_bytes(
    mirror: Path, tmp_path: Path, forked: Start, command: Command
) -> None:
    """From the official archives, the very bytes of the day on which they last changed.

    They change with the code, a declaration or a library. After such a change:
    `python -m assets lock mnist fashion_mnist > tests/assets/official.lock`.
    """
    options = ["--data", str(tmp_path / "data")]
    datasets = ["mnist", "fashion_mnist"]
    start = forked("build", *datasets, "--offline", "--mirror", str(mirror), *options)
    built = start.communicate()
    assert built.returncode == 0, built.stderr
    said = command("lock", "--check", str(LOCKED), *options)
    assert said.code == 0, said.stdout + said.stderr
    assert said.stdout.splitlines() == [f"{dataset}: as locked" for dataset in datasets]
