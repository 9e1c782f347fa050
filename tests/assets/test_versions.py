"""Versions side by side: each has assets, files, provenance and a lock of its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from assets import spelling
from assets.definitions import automated
from pipelines import tables
from pipelines.store.objects import Objects
from tests import builders, object_stores
from tests.assets.conftest import Command
from tests.assets.project import Project, serving

pytestmark = pytest.mark.sources("tiny_digits")

VERSION = "2001-02.3"
OLDER = f"tiny_digits@{VERSION}"

Splits = dict[str, tuple[builders.Array, builders.Array]]


def older_splits() -> Splits:
    return {
        "train": (builders.images(20, seed=7), builders.labels(20, 3, 7)),
        "test": (builders.images(9, seed=8), builders.labels(9, 3, 8)),
    }


@pytest.fixture
def both(project: Project) -> Project:
    """A project of tiny_digits and an older version of it, in which nothing is built."""
    builders.add_version(project.publisher, VERSION, older_splits())
    return project


@pytest.fixture
def current_built(built: Project) -> Project:
    """The same, where the current version is built."""
    builders.add_version(built.publisher, VERSION, older_splits())
    return built


def options(project: Project) -> list[str]:
    return [*project.options, *project.mirror]


def test_a_version_is_made_beside_the_current_one_whose_files_stay_where_they_are(
    current_built: Project, command: Command
) -> None:
    before = current_built.snapshot()

    said = command("build", OLDER, *options(current_built))

    assert (said.code, f"{OLDER}/train_csv" in said.stdout) == (0, True), said
    after = current_built.snapshot()
    assert {path: after[path] for path in before} == before
    new = {*after} - {*before}
    assert f"tables/{OLDER}/train.parquet" in new
    assert f"lineage/tables/{OLDER}/train.parquet.json" in new
    assert all(OLDER in path for path in new)
    for split, (images, labels) in older_splits().items():
        found = tables.read(current_built.data / "tables" / OLDER / f"{split}.parquet")
        assert np.array_equal(found.images, images)
        assert np.array_equal(found.labels, labels)


def test_every_command_takes_the_name_of_a_version(both: Project, command: Command) -> None:
    assert command("build", OLDER, *options(both)).code == 0

    assert f"{OLDER}  20 train + 9 test" in command("list", *both.options).stdout
    assert command("verify", "--deep", OLDER, *options(both)).code == 0
    assert "up to date" in command("status", OLDER, *both.options).stdout
    assert command("lock", OLDER, *both.options).stdout.startswith(f"{OLDER}  sha256:")
    assert "Tiny digits, version 2001-02.3" in command("statistics", OLDER, *both.options).stdout
    traced = command("trace", f"{OLDER}/train:3", *both.options)
    assert (traced.code, "All 7 hops hold." in traced.stdout) == (0, True), traced
    file = both.data / "tables" / OLDER / "train.parquet"
    assert command("trace", f"{file}:3", *both.options).code == 0


def test_what_a_lock_says_of_a_version_can_be_checked(
    both: Project, command: Command, tmp_path: Path
) -> None:
    both.build(OLDER)
    line = command("lock", OLDER, *both.options).stdout
    (tmp_path / "data.lock").write_text(line)

    said = command("lock", "--check", str(tmp_path / "data.lock"), *both.options)

    assert (said.code, said.stdout) == (0, f"{OLDER}: as locked\n")


def test_a_plain_build_makes_no_version_and_says_nothing_of_it(
    current_built: Project, command: Command
) -> None:
    said = command("build", *options(current_built))

    assert said.code == 0
    assert OLDER not in said.stdout + said.stderr


@pytest.mark.parametrize(
    "words", [("build",), ("verify",), ("lock",), ("status",), ("statistics",), ("fetch",)]
)
def test_a_version_that_there_is_none_of_is_told_with_those_that_there_are(
    both: Project, command: Command, words: tuple[str, ...]
) -> None:
    said = command(*words, "tiny_digits@3", *both.options)

    assert said.code == 2
    assert said.stderr.endswith(
        f"error: There is no version 'tiny_digits@3'. Known: {OLDER} and tiny_digits, the current "
        "one.\n"
    )


def test_bytes_of_another_version_are_called_by_its_name(both: Project, command: Command) -> None:
    archive = both.publisher.archive
    wrong = archive(OLDER, "train-labels.gz").read_bytes()
    archive("tiny_digits", "train-labels.gz").write_bytes(wrong)

    said = command("build", "tiny_digits", *options(both))

    assert said.code == 1
    assert f". Those bytes are {OLDER}/train-labels.gz." in said.stderr


def test_a_mirror_of_ones_own_has_versions_in_folders_of_their_names(
    both: Project, command: Command, tmp_path: Path
) -> None:
    mirror = tmp_path / "mirror"
    assert command("mirror", str(mirror), OLDER, *options(both)).code == 0
    assert [path.name for path in mirror.iterdir()] == [OLDER]

    with serving(mirror) as server:
        said = command("fetch", OLDER, *both.options, "--mirror", server.url)

    assert said.code == 0, said
    traced = command("trace", f"archives/{OLDER}/train-images.gz", *both.options)
    assert f"{server.url}/tiny_digits%40{VERSION}/train-images.gz" in traced.stdout


@pytest.mark.slow
def test_versions_lie_in_a_bucket_and_come_out_of_one(
    both: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: Command
) -> None:
    with object_stores.serving() as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("IMAGESETS_SCRATCH", str(tmp_path / "scratch"))
        monkeypatch.setenv("IMAGESETS_HOME", str(tmp_path / "home"))
        catalogue = ["--catalogue", str(both.publisher.catalogue)]
        there = ["--data", "s3://bucket/team", *catalogue]
        assert command("build", OLDER, *there, *both.mirror).code == 0
        shutil.rmtree(tmp_path / "scratch")
        assert command("verify", "--deep", OLDER, *there).code == 0
        assert "All 7 hops hold." in command("trace", f"{OLDER}/train:3", *there).stdout
        locked = command("lock", OLDER, *there).stdout

        for file in (both.publisher.mirror / OLDER).iterdir():
            Objects.at(f"s3://bucket/mirror/{OLDER}").store.put(file.name, file.read_bytes())
        said = command("build", OLDER, *both.options, "--mirror", "s3://bucket/mirror")

    assert said.code == 0, said
    assert command("lock", OLDER, *both.options).stdout == locked


# --- Dagster --------------------------------------------------------------------------------------


def test_assets_of_a_version_are_called_so_and_all_else_of_them_as_dagster_allows(
    both: Project,
) -> None:
    both.build(OLDER, stages=["archives"])
    definitions = both.definitions()
    dg.Definitions.validate_loadable(definitions)
    repository = definitions.get_repository_def()
    node = repository.asset_graph.get(dg.AssetKey([OLDER, "train"]))

    assert node.group_name == "tiny_digits_AT_2001M02P3"
    assert node.tags["dataset"] == "tiny_digits_AT_2001M02P3"
    assert node.parent_keys == {dg.AssetKey([OLDER, "archives"])}
    assert repository.has_job("everything_of_tiny_digits_AT_2001M02P3")
    everything = repository.get_job("everything").asset_layer.executable_asset_keys
    assert not any(OLDER in key.path for key in everything)


def test_no_two_names_are_spelt_the_same() -> None:
    names = ["a_1", "a@1", "a@1.2", "a@1-2", "a@12", "a_at_1", "a@1p2", "a@1m2", "a@1.2-3"]

    assert len({spelling.legal(name) for name in names}) == len(names)
    assert spelling.legal("emnist_letters") == "emnist_letters"


def test_a_job_of_dagster_makes_a_version_with_its_checks(
    both: Project, instance: dg.DagsterInstance
) -> None:
    mirror = str(both.publisher.mirror)
    both.build(OLDER, stages=["archives"])
    repository = both.definitions(mirror=mirror).get_repository_def()
    job = repository.get_job("everything_of_tiny_digits_AT_2001M02P3")

    result = job.execute_in_process(instance=instance)

    assert result.success
    keys = {event.asset_key.to_user_string() for event in result.get_asset_materialization_events()}
    assert f"{OLDER}/train_lmdb" in keys
    assert all(key.startswith(f"{OLDER}/") for key in keys)
    judged = {one.asset_key.to_user_string() for one in result.get_asset_check_evaluations()}
    assert f"{OLDER}/train" in judged
    assert all(one.passed for one in result.get_asset_check_evaluations())


def test_the_integrity_of_a_version_is_checked_on_a_click(
    both: Project, instance: dg.DagsterInstance
) -> None:
    both.build(OLDER)
    key = dg.AssetKey([OLDER, "train_csv"])
    repository = both.definitions().get_repository_def()
    both.rot(f"exports/{OLDER}/train.csv")
    checks = [one for one in repository.asset_graph.asset_check_keys if one.asset_key == key]

    found = definitions_checks(both, instance, checks)

    assert not all(one.passed for one in found)
    assert {one.asset_key for one in found} == {key}


def definitions_checks(
    project: Project, instance: dg.DagsterInstance, checks: list[dg.AssetCheckKey]
) -> list[dg.AssetCheckEvaluation]:
    """Execute checks alone, as a click in the UI does; return what they found."""
    result = (
        project.definitions()
        .resolve_implicit_global_asset_job_def()
        .get_subset(asset_selection=set(), asset_check_selection={*checks})
        .execute_in_process(instance=instance)
    )
    assert result.success
    return result.get_asset_check_evaluations()


def test_versions_that_are_named_are_kept_up_to_date(both: Project) -> None:
    settings = both.settings(datasets=(OLDER,))
    definitions = automated(settings)
    graph = definitions.get_repository_def().asset_graph

    assert graph.get(dg.AssetKey([OLDER, "train"])).automation_condition is not None
    assert graph.get(dg.AssetKey(["tiny_digits", "train"])).automation_condition is None


# --- diff -----------------------------------------------------------------------------------------


@pytest.fixture
def corrected(project: Project) -> Project:
    """Both versions built: the current one left a record out, and corrected a label."""
    splits = project.publisher.splits
    images, labels, _ = splits["tiny_digits", "train"]
    test_images, test_labels, _ = splits["tiny_digits", "test"]
    wrong = labels.copy()
    wrong[3] = (labels[3] + 1) % 3
    extra = builders.images(1, seed=99)
    older = {
        "train": (np.concatenate([images, extra]), np.append(wrong, np.uint8(1))),
        "test": (test_images[::-1].copy(), test_labels[::-1].copy()),
    }
    builders.add_version(project.publisher, "1", older)
    project.build("tiny_digits", "tiny_digits@1", stages=("tables",))
    return project


def test_diff_says_what_changed_since_an_older_version(
    corrected: Project, command: Command
) -> None:
    said = command("diff", "tiny_digits@1", "tiny_digits", *corrected.options)

    assert said.code == 1
    rows = [line.split() for line in said.stdout.splitlines()[:5]]
    assert rows == [
        [
            "split",
            "tiny_digits@1",
            "tiny_digits",
            *["unchanged", "moved", "relabelled", "removed", "added"],
        ],
        ["train", "31", "30", "29", "0", "1", "1", "0"],
        ["test", "12", "12", "0", "12", "0", "0", "0"],
        [*rows[3]],
        ["total", "43", "42", "29", "12", "1", "1", "0"],
    ]
    names = ("zero", "one", "two")
    right = int(corrected.publisher.splits["tiny_digits", "train"][1][3])
    assert "\nremoved:\n  train 30 (one)\n" in said.stdout
    assert f"train 3 ({names[(right + 1) % 3]}) → train 3 ({names[right]})\n" in said.stdout
    assert "\n  and 7 more; --show N names N of them\n" in said.stdout


def test_diff_says_the_same_as_json_and_of_one_split(corrected: Project, command: Command) -> None:
    words = ("diff", "tiny_digits@1", "tiny_digits", "--json", "--show", "1", "--split", "test")

    said = command(*words, *corrected.options)

    told = json.loads(said.stdout)
    assert (said.code, told["format"], told["are_equal"]) == (1, "imagesets-diff/1", False)
    assert told["totals"] == {"removed": 0, "added": 0, "relabelled": 0, "moved": 12}
    assert [one["split"] for one in told["splits"]] == ["test"]
    [moved] = told["first"]["moved"]
    assert (moved["before"]["index"], moved["after"]["index"]) == (0, 11)


def test_diff_of_the_same_records_is_nothing(corrected: Project, command: Command) -> None:
    said = command("diff", "tiny_digits", "tiny_digits", *corrected.options)

    assert said.code == 0
    assert "Both hold the same records in the same order." in said.stdout


def test_what_diff_can_not_tell_is_no_difference(project: Project, command: Command) -> None:
    builders.add_version(project.publisher, "1", older_splits())

    said = command("diff", "tiny_digits@1", "tiny_digits", *project.options)

    assert said.code == 2
    assert said.stderr == (
        "error: tables/tiny_digits@1/train.parquet can't be compared: it is not there. Build it: "
        "python -m assets build tiny_digits@1 --only tables\n"
    )


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("tiny_digits@9", "tiny_digits"), "There is no version 'tiny_digits@9'."),
        (("tiny_digits", "tiny_letters"), "only datasets of images of one shape can be compared."),
        (("tiny_digits", "tiny_digits", "--split", "tets"), "Did you mean 'test'? Known: train"),
    ],
)
@pytest.mark.sources("tiny_digits", "tiny_letters")
def test_diff_of_what_can_not_be_compared_is_refused(
    project: Project, command: Command, words: tuple[str, ...], why: str
) -> None:
    said = command("diff", *words, *project.options)

    assert (said.code, why in said.stderr) == (2, True), said


def test_diff_does_not_compare_what_is_out_of_date(corrected: Project, command: Command) -> None:
    corrected.redeclare(
        "tiny_digits@1", "[datasets.tiny_digits]", '[datasets.tiny_digits]\ntitle = "Other"'
    )

    said = command("diff", "tiny_digits@1", "tiny_digits", *corrected.options)

    assert said.code == 2
    assert "can't be compared: its declaration or options changed: title" in said.stderr


# --- locks that were made before ------------------------------------------------------------------


def release(project: Project) -> None:
    """Let the publisher release other bytes: what was current is version 1 from now on."""
    publisher = project.publisher
    current, older = publisher.toml("tiny_digits"), publisher.toml("tiny_digits@1")
    of_bytes = current.read_text()
    older.write_text(of_bytes[of_bytes.index("mirrors") :])
    shutil.copytree(publisher.mirror / "tiny_digits", publisher.mirror / "tiny_digits@1")
    labels = builders.gz(builders.idx(publisher.splits["tiny_digits", "test"][1][::-1].copy()))
    project.republish("tiny_digits", "test-labels.gz", labels)


def test_an_old_lock_names_what_it_named_after_another_version_became_current(
    built: Project, command: Command, tmp_path: Path
) -> None:
    file = tmp_path / "data.lock"
    file.write_text(command("lock", "tiny_digits", *built.options).stdout)
    check = ("lock", "--check", str(file), *built.options)
    release(built)

    before = command(*check)
    assert command("build", "tiny_digits", "tiny_digits@1", *options(built)).code == 0
    after = command(*check)

    told = (
        "  The lock is of tiny_digits@1, current when it was made; its paths "
        "hold another one by now. It is locked by: python -m assets lock tiny_digits@1\n"
    )
    assert (before.code, after.code) == (1, 1)
    assert before.stdout.startswith("tiny_digits: can not be locked: archives/tiny_digits/")
    assert before.stdout.endswith(told)
    assert after.stdout.startswith("tiny_digits: differs: tiny_digits  sha256:")
    assert after.stdout.endswith(told)


def test_a_lock_of_nothing_that_was_ever_here_is_said_to_be_unknown(
    built: Project, command: Command, tmp_path: Path
) -> None:
    file = tmp_path / "data.lock"
    file.write_text(f"tiny_digits  sha256:{'0' * 64}\n")
    release(built)
    assert command("build", "tiny_digits", *options(built)).code == 0

    said = command("lock", "--check", str(file), *built.options)

    assert said.code == 1
    assert said.stdout.endswith(
        "  If it is of another version (tiny_digits@1), nothing here knows it.\n"
    )
