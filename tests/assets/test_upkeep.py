"""What docs/operations.md says of backups, restoring and upgrading, done as it stands there."""

from __future__ import annotations

import re
import shlex
import shutil
import tarfile
from pathlib import Path

import pytest

from assets.settings import ROOT
from pipelines.store import hashing
from tests.assets.conftest import Command
from tests.assets.project import Project, moved
from tests.assets.test_trust import LOCKED_BY_0_1_0, MADE_BY_0_1_0

TEXT = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def commands(heading: str) -> list[list[str]]:
    """The commands that stand below a heading, in their order."""
    _, _, below = TEXT.partition(f"\n## {heading}\n")
    found = re.findall(r"^    python -m assets (.*)$", below.split("\n## ")[0], re.MULTILINE)
    assert found
    return [shlex.split(line) for line in found]


def run(command: Command, project: Project, arguments: list[str]) -> str:
    """Run a command of the page in a project, whose archives come from nowhere else."""
    said = command(*arguments, *project.options, *_offline(arguments))
    assert said.code == 0, said.stdout + said.stderr
    return said.stdout


def _offline(arguments: list[str]) -> list[str]:
    return ["--offline"] if arguments == ["build"] else []


def test_data_made_by_0_1_0_are_upgraded_as_the_page_says(tmp_path: Path, command: Command) -> None:
    with tarfile.open(MADE_BY_0_1_0) as archive:
        archive.extractall(tmp_path, filter="data")
    project = Project.publish(tmp_path / "now")
    shutil.copytree(tmp_path / "catalogue", project.publisher.catalogue, dirs_exist_ok=True)
    shutil.copytree(tmp_path / "data", project.data)
    before = project.snapshot()

    said = [run(command, project, arguments) for arguments in commands("Upgrading")]

    assert said[-1].count("up to date") == 3
    assert command("lock", *project.options).stdout == LOCKED_BY_0_1_0
    assert moved(before, project.snapshot()) == set()


def test_a_backup_without_local_notes_and_records_is_restored_to_the_same_bytes(
    built: Project, command: Command
) -> None:
    lock, before = command("lock", *built.options).stdout, built.snapshot()
    backup = built.data.with_name("backup")
    shutil.copytree(built.data, backup, ignore=shutil.ignore_patterns("dagster", ".seen"))
    shutil.rmtree(built.data)
    shutil.copytree(backup, built.data)
    hashing.forget()

    verify, build, _ = commands("Backup and restore")
    run(command, built, verify)
    assert "made" not in run(command, built, build).splitlines()[-1]

    assert command("lock", *built.options).stdout == lock
    assert command("status", *built.options).code == 0
    after = built.snapshot()
    assert {path: data for path, (_, _, data) in after.items()} == {
        path: data for path, (_, _, data) in before.items()
    }


def test_the_archives_alone_are_backup_enough(built: Project, command: Command) -> None:
    lock = command("lock", *built.options).stdout
    backup = built.data.with_name("backup")
    shutil.copytree(built.data / "archives", backup)
    shutil.rmtree(built.data)
    shutil.rmtree(built.publisher.mirror)
    hashing.forget()

    *_, build = commands("Backup and restore")
    run(command, built, [word.replace("/srv/backup/archives", str(backup)) for word in build])

    assert command("lock", *built.options).stdout == lock


@pytest.mark.parametrize(
    "name",
    [
        *("mnist", "fashion_mnist", "cifar10", "cifar100", "emnist", "quickdraw", "cifar10_c"),
        *("stl10", "svhn", "qmnist", "kmnist", "cifar10_1", "usps", "semeion"),
    ],
)
def test_sizes_are_those_that_a_build_warns_by(name: str) -> None:
    from assets.settings import Settings
    from pipelines import plan

    source = Settings().plan().declared.sources[name]
    archives = sum(archive.size_bytes for archive in source.archives.values())
    [row] = re.findall(rf"^\| `{name}`[^|]*\| ([\d.]+) MB \| ([\d.]+) GB", TEXT, re.MULTILINE)
    assert row[0] == f"{archives / 1e6:.1f}"
    needed = (archives + plan.room_bytes(source)) / 1e9
    assert needed <= float(row[1]) <= needed + 0.1
