"""Whatever is certified was looked at: by builds, refreshes, `verify`, `lock` and `list`."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from assets.running import runs
from assets.running.outcomes import Outcome
from assets.settings import Settings
from pipelines.progress import Display
from pipelines.store import Folder, hashing, seen
from tests.assets.conftest import Command, Start
from tests.assets.forked import Forked
from tests.assets.project import Project, made, moved
from tests.assets.test_verify import (
    ARCHIVE,
    CROISSANT,
    CSV,
    LMDB,
    STATISTICS,
    TABLE,
    flip,
    lock,
    rerecord,
    verify,
)

pytestmark = pytest.mark.sources("tiny_digits")

MADE_BY_0_1_0 = Path(__file__).parents[1] / "fixtures/made-by-0.1.0.tar.xz"
LOCKED_BY_0_1_0 = """\
tiny_colours  sha256:9809c74efc1c5cd283f0792d6eef01bcc28474b465f37b80985f15fe017599ca
tiny_digits  sha256:794bab210d5da76477490e7dd7a203ddcbfe2ae155fdc6bce14dabc4d73483ba
tiny_letters  sha256:7c8d288ecde1c1b62278c419c6b28f5b9676b000fb221f2e25dbd59435a2504e
"""


def materialize(project: Project, *assets: str) -> dict[str, Outcome]:
    """Make some assets and nothing else, as a person does in the UI."""
    settings = Settings(project.data, project.publisher.catalogue, str(project.publisher.mirror))
    wanted = [((one, name), "") for one, _, name in (asset.partition("/") for asset in assets)]
    made = runs.materialize(settings, settings.plan(), wanted, Display())
    return {o.asset: o for o in made}


def test_rot_in_a_table_never_reaches_an_export_and_the_next_build_heals_it(
    built: Project, command: Command
) -> None:
    before = built.snapshot(lineage=False)
    built.rot(TABLE)
    (built.data / CSV).unlink()

    found = materialize(built, "tiny_digits/train_csv")["tiny_digits/train_csv"]

    assert found.state == "failed"
    assert f"{TABLE} changed since it was made: expected SHA-256" in found.error
    assert "Build again" in found.error
    assert not (built.data / CSV).exists()
    assert made(built.build("tiny_digits")) == {
        f"tiny_digits/{asset}"
        for asset in ("train", "train_csv", "train_lmdb", "statistics", "croissant")
    }
    after = built.snapshot(lineage=False)
    assert {path: facts[2] for path, facts in after.items()} == {
        path: facts[2] for path, facts in before.items()
    }
    assert verify(command, built, "--deep") == (0, [])


@pytest.mark.parametrize("path", [TABLE, STATISTICS])
def test_checks_of_a_file_that_rotted_say_so_and_the_next_build_heals_it(
    built: Project, command: Command, path: str
) -> None:
    built.rot(path)  # in its footer, so that no reader can open it
    (built.data / f"lineage/checks/{path}.json").unlink()  # otherwise nobody reads it
    asset = "train" if path == TABLE else "statistics"
    [failed] = materialize(built, f"tiny_digits/{asset}").values()
    assert failed.state == "failed"
    assert f"{path} changed since it was made: expected SHA-256" in failed.error
    assert all(outcome.is_good for outcome in built.build("tiny_digits").values())
    assert verify(command, built, "--deep") == (0, [])


def test_a_list_of_files_of_which_one_rotted_says_so_and_the_next_build_heals_it(
    built: Project, command: Command
) -> None:
    built.rot(TABLE)
    (built.data / f"lineage/checks/{TABLE}.json").unlink()  # otherwise nobody reads it
    said = command("list", *built.options)
    assert said.code == 0
    assert re.search(r"^tiny_digits .* readable failed$", said.stdout, re.M)
    assert all(outcome.is_good for outcome in built.build("tiny_digits").values())
    assert verify(command, built, "--deep") == (0, [])


def test_rot_in_an_archive_never_reaches_a_table(built: Project, command: Command) -> None:
    built.rot(ARCHIVE, at=4)  # the time in its header: the content stays as it is
    (built.data / TABLE).unlink()
    found = materialize(built, "tiny_digits/train")["tiny_digits/train"]
    assert found.state == "failed"
    assert f"{ARCHIVE} changed since it was made" in found.error
    built.build("tiny_digits")
    assert verify(command, built, "--deep") == (0, [])


def test_exports_that_older_versions_made_from_a_rotten_table_are_made_again(
    built: Project, command: Command
) -> None:
    """A CSV whose provenance names a table that it was not made from; the table then rots away."""
    lines = (built.data / CSV).read_bytes()
    flip(built.data / CSV)
    rerecord(built, CSV)
    built.rot(TABLE)

    assert verify(command, built, "--repair")[0] == 0

    assert (built.data / CSV).read_bytes() == lines
    assert verify(command, built, "--deep") == (0, [])


def test_what_the_catalogue_declares_of_an_archive_decides_whatever_its_record_says(
    built: Project, command: Command
) -> None:
    good = (built.data / ARCHIVE).read_bytes()
    flip(built.data / ARCHIVE, at=4)  # the time in gzip's header: the content stays as it is
    rerecord(built, ARCHIVE)

    for options in ([], ["--deep"]):
        assert verify(command, built, *options) == (1, [(ARCHIVE, "changed")])
    said = lock(command, built, "tiny_digits")
    assert said.code == 1
    assert f"{ARCHIVE} must be made first: its bytes are not those of the catalogue" in said.stderr
    assert "tiny_digits/archives" in made(built.build("tiny_digits"))
    assert (built.data / ARCHIVE).read_bytes() == good
    assert verify(command, built, "--deep") == (0, [])


def test_what_rots_is_found_by_verify_and_lock_whatever_this_process_knows(
    built: Project, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    built.rot(CSV)
    known = seen.look(Folder(built.data), CSV)
    monkeypatch.setattr(hashing, "remembered", lambda _: known)
    assert verify(command, built) == (1, [(CSV, "changed")])
    monkeypatch.undo()
    built.rot(LMDB)
    said = lock(command, built, "tiny_digits")
    assert said.code == 1
    assert "changed since it was made" in said.stderr


@pytest.fixture
def bad_sector(built: Project, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let a file that was whole when it was last read lie on a part of a disk that went bad."""
    monkeypatch.setattr(seen, "COARSEST_TICK_S", -60.0)  # what was just written is settled
    real, bad = os.pread, set[int]()

    def pread(descriptor: int, size: int, at: int) -> bytes:
        if os.fstat(descriptor).st_ino in bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(descriptor, size, at)

    def go_bad(path: str) -> None:
        seen.look_anew(Folder(built.data), path)
        hashing.forget()
        bad.add((built.data / path).stat().st_ino)

    monkeypatch.setattr(os, "pread", pread)
    return go_bad


@pytest.mark.parametrize("path", [ARCHIVE, TABLE, CSV, CROISSANT])
def test_what_a_disk_does_not_give_back_is_in_no_lock_and_is_made_again(
    built: Project, command: Command, bad_sector: Callable[[str], None], path: str
) -> None:
    bad_sector(path)
    said = lock(command, built, "tiny_digits")
    assert (said.code, f"{path} must be made first: it can't be read" in said.stderr) == (1, True)
    hashing.forget()
    said = command("list", *built.options)
    assert re.search(r"^tiny_digits .* \d+ of \d+ artefacts up to date$", said.stdout, re.M)

    assert verify(command, built, "--repair")[0] == 0

    assert verify(command, built, "--deep") == (0, [])


def test_what_is_made_from_what_a_disk_does_not_give_back_is_made_by_the_next_build(
    built: Project, command: Command, bad_sector: Callable[[str], None]
) -> None:
    (built.data / CSV).unlink()
    bad_sector(TABLE)
    failed = materialize(built, "tiny_digits/train_csv")["tiny_digits/train_csv"]
    assert f"{TABLE} can't be read to its end (Input/output error)" in failed.error
    assert all(outcome.is_good for outcome in built.build("tiny_digits").values())
    assert verify(command, built, "--deep") == (0, [])


def test_what_is_up_to_date_says_when_its_bytes_were_last_read(
    built: Project, command: Command
) -> None:
    def look_at(when: str, *paths: str) -> None:
        for path in paths:
            sight = hashing.look(built.data / path)
            seen.note(Folder(built.data), path, replace(sight, looked=when))
        hashing.forget()

    kept = [path for path in built.snapshot() if not path.endswith("lineage.json")]
    artefacts = [path for path in kept if not path.startswith("lineage/")]
    artefacts += [path for path in kept if path.endswith("/croissant.json")]
    assert len(artefacts) == 12
    look_at("2100-01-02T03:04:05Z", *artefacts)
    look_at("2100-01-01T02:03:04Z", CSV)
    words = "bytes last read 2100-01-01 02:03 UTC or later; verify reads them again"
    assert words in command("list", *built.options).stdout
    said = command("build", "tiny_digits", *built.options, *built.mirror)
    assert "Nothing to do" in said.stdout
    assert words in said.stdout

    flip(built.data / CSV)  # read just now, and not up to date: the others are told of
    words = "bytes last read 2100-01-02 03:04 UTC or later"
    assert words in command("list", *built.options).stdout

    look_at("2001-01-01T00:00:00Z", CSV)  # before its last change, so that can't be
    assert "2001" not in command("list", *built.options).stdout


def test_a_check_of_counts_that_failed_is_told_by_looking_deep(
    project: Project, command: Command
) -> None:
    text = project.publisher.toml("tiny_digits").read_text()
    [a, b, c] = re.findall(r"records = 30\ncounts = \[(\d+), (\d+), (\d+)\]", text)[0]
    wrong = f"counts = [{int(a) - 1}, {int(b) + 1}, {c}]"
    project.redeclare("tiny_digits", f"counts = [{a}, {b}, {c}]", wrong)
    outcomes = project.build("tiny_digits")
    assert outcomes["tiny_digits/train"].state == "failed"

    said = command("verify", "--deep", *project.options)

    assert said.code == 1
    assert f"{TABLE}: undeclared: check class_counts_as_declared failed" in said.stdout
    assert verify(command, project, "--deep", "--repair")[0] == 1, "nothing that is made mends it"


def test_provenance_of_a_newer_version_is_named_and_kept(built: Project, command: Command) -> None:
    provenance = built.data / f"lineage/{CSV}.json"
    rerecord(built, CSV, format="imagesets-lineage/3")
    before = provenance.read_bytes()

    said = command("verify", *built.options)
    assert said.code == 1
    assert re.search(rf"^{CSV}: unknown: .*was made by a newer Imagesets", said.stdout, re.M)
    outcome = built.build("tiny_digits")["tiny_digits/train_csv"]
    assert outcome.state == "failed"
    assert "made by a newer Imagesets" in outcome.error
    for arguments in (["verify", "--repair"], ["list"], ["lock", "tiny_digits"], ["trace", CSV]):
        said = command(*arguments, *built.options)
        assert said.code == 1
        assert "made by a newer Imagesets" in said.stdout + said.stderr
    assert provenance.read_bytes() == before


@pytest.fixture
def made_by_0_1_0(tmp_path: Path) -> Project:
    """What version 0.1.0 made of the three tiny sources, with its catalogue."""
    with tarfile.open(MADE_BY_0_1_0) as archive:
        archive.extractall(tmp_path, filter="data")
    project = Project.publish(tmp_path / "now")
    shutil.copytree(tmp_path / "catalogue", project.publisher.catalogue, dirs_exist_ok=True)
    shutil.copytree(tmp_path / "data", project.data)
    return project


def test_data_made_by_0_1_0_is_whole_and_locked_alike_and_there_is_nothing_to_do(
    made_by_0_1_0: Project, command: Command
) -> None:
    project = made_by_0_1_0
    before = project.snapshot()
    assert verify(command, project) == (0, [])
    assert verify(command, project, "--deep") == (0, [])
    assert command("lock", *project.options).stdout == LOCKED_BY_0_1_0
    assert made(project.build(mirror=None, offline=True)) == set()
    for artefact in (f"{TABLE}:3", f"{CSV}:3", f"{LMDB}:3", STATISTICS, CROISSANT, ARCHIVE):
        if artefact != CROISSANT:
            assert command("trace", artefact, *project.options).code == 0
    assert moved(before, project.snapshot()) == set()


@pytest.mark.parametrize("path", [ARCHIVE, TABLE, CSV])
def test_damage_in_data_made_by_0_1_0_is_healed(
    made_by_0_1_0: Project, command: Command, path: str
) -> None:
    flip(made_by_0_1_0.data / path)
    assert verify(command, made_by_0_1_0) == (1, [(path, "changed")])
    assert verify(command, made_by_0_1_0, "--repair")[0] == 0
    assert verify(command, made_by_0_1_0, "--deep") == (0, [])
    assert command("lock", *made_by_0_1_0.options).stdout == LOCKED_BY_0_1_0


def test_refreshing_and_repairing_beside_builds_makes_none_of_them_fail(
    built: Project, forked: Start
) -> None:
    """Real processes on one data folder: two that build with options in turn, one that repairs."""

    def start(*command: str) -> Forked:
        return forked(*command, *built.options, *built.mirror, "tiny_digits")

    for _ in range(2):
        for path in (TABLE, CSV, LMDB, STATISTICS):
            flip(built.data / path)
        working = [start("build"), start("verify", "--repair"), start("build")]
        said = [process.communicate(timeout=200) for process in working]
        assert [done.returncode for done in said[::2]] == [0, 0], said
        for done in said:
            assert "choose another data folder" not in done.stdout + done.stderr, said
    last = start("verify", "--deep").communicate(timeout=200)
    assert last.returncode == 0, last
