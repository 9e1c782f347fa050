"""Whole builds of three made-up sources: what is made, what a person sees, what Dagster records."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import jsonschema
import lmdb
import mlcroissant
import numpy as np
import polars as pl
import pytest

from assets.graph import define
from assets.running import overview
from assets.settings import ROOT, Settings
from tests.assets import project as projects
from tests.assets.conftest import Start
from tests.assets.project import ARCHIVES, DATASETS, Project, Snapshot, imagesets, moved

RECORDS = {"train": 30, "test": 12}
CLASSES = {"tiny_colours": 6, "tiny_digits": 3, "tiny_letters": 4}
SPLITS = [(dataset, split) for dataset in DATASETS for split in RECORDS]
ASSETS = [f"{source}/archives" for source in DATASETS] + [
    f"{dataset}/{asset}"
    for dataset in DATASETS
    for asset in (
        "train",
        "train_csv",
        "train_lmdb",
        "test",
        "test_csv",
        "test_lmdb",
        "statistics",
        "croissant",
    )
]
ARTEFACTS = {
    *(f"archives/{source}/{name}" for source, names in ARCHIVES.items() for name in names),
    *(f"statistics/{dataset}.parquet" for dataset in DATASETS),
    *(f"lineage/{dataset}/croissant.json" for dataset in DATASETS),
    *(f"tables/{dataset}/{split}.parquet" for dataset, split in SPLITS),
    *(f"exports/{dataset}/{split}.csv" for dataset, split in SPLITS),
    *(f"exports/{dataset}/{split}_lmdb/data.mdb" for dataset, split in SPLITS),
}
SIDECARS = {f"{path}.lineage.json" for path in ARTEFACTS if path.startswith("exports/")}


@dataclass(frozen=True)
class Built:
    """A project that was built twice, as a person does it: in two processes."""

    project: Project
    outputs: tuple[str, str]
    errors: tuple[str, str]
    codes: tuple[int, int]
    after: tuple[Snapshot, Snapshot]

    def path(self, relative: str) -> Path:
        return self.project.data / relative


@pytest.fixture(scope="module")
def twice(
    _published_once: Project, forked: Start, tmp_path_factory: pytest.TempPathFactory
) -> Built:
    project = _published_once.copied_to(tmp_path_factory.mktemp("twice") / "project")
    first = imagesets("build", *project.options, *project.mirror)
    after_first = project.snapshot()
    second = forked("build", *project.options, *project.mirror).communicate()
    return Built(
        project,
        (first.stdout, second.stdout),
        (first.stderr, second.stderr),
        (first.returncode, second.returncode),
        (after_first, project.snapshot()),
    )


def test_a_first_build_makes_every_artefact_and_provenance_of_each(twice: Built) -> None:
    records = {f"lineage/{path}.json" for path in ARTEFACTS}
    assert twice.codes[0] == 0
    assert set(twice.after[0]) == ARTEFACTS | records | SIDECARS


def test_all_provenance_is_as_the_schema_says(twice: Built) -> None:
    schema = json.loads((ROOT / "pipelines" / "lineage.schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    for path in ARTEFACTS:
        record = json.loads(twice.path(f"lineage/{path}.json").read_text())
        assert not list(validator.iter_errors(record))
        assert record["run"]["versions"]["numpy"] == np.__version__
        assert record["run"]["versions"]["dagster"] == dg.__version__
        assert record["run"]["started"] <= record["run"]["ended"]
        broken = {**record, "sha256": "no digest"}
        assert list(validator.iter_errors(broken)), "the schema refuses nothing"


def test_a_sidecar_says_what_an_export_was_made_from_down_to_the_archives(twice: Built) -> None:
    for path in SIDECARS:
        said = json.loads(twice.path(path).read_text())
        export = twice.path(path.removesuffix(".lineage.json"))
        assert said["sha256"] == hashlib.sha256(export.read_bytes()).hexdigest()
        [table] = said["inputs"]
        assert table["sha256"] == hashlib.sha256(twice.path(table["path"]).read_bytes()).hexdigest()
        for archive, digests in said["parameters"]["about"]["inputs"].items():
            data = twice.path(archive).read_bytes()
            assert digests["md5"] == hashlib.md5(data).hexdigest()
            assert digests["sha256"] == hashlib.sha256(data).hexdigest()


def test_the_summary_has_a_line_for_every_artefact(twice: Built) -> None:
    out = twice.outputs[0]
    assert projects.states(out) == dict.fromkeys(ASSETS, "made")
    assert out.splitlines()[0].split() == ["artefact", "records", "size", "seconds"]
    assert re.search(r"^tiny_digits/train +30  +\d\.\d kB  +\d+\.\d\d  made$", out, re.MULTILINE)
    assert re.search(r"^tiny_digits/archives  +\d+ B  +\d+\.\d\d  made$", out, re.MULTILINE)
    assert re.search(r"\n\nMade 27 of 27 in \d+\.\d s; all passed their checks\.\n", out)
    assert out.endswith(f"They are in {twice.project.data}.\n")


def test_the_summary_tells_the_size_of_the_file_that_is_there(twice: Built) -> None:
    size = twice.path("exports/tiny_digits/test.csv").stat().st_size
    assert 0 < size < 1000
    assert re.search(rf"^tiny_digits/test_csv +12 +{size} B ", twice.outputs[0], re.MULTILINE)


def test_a_log_gets_one_plain_line_for_each_piece_of_work(twice: Built) -> None:
    lines = twice.errors[0].splitlines()
    pieces = sum(map(len, ARCHIVES.values())) + len(DATASETS) * (2 + 2 * 3)
    assert len(lines) == pieces
    for line in lines:
        assert re.fullmatch(r"\S+: [\d.,]+ (records|B|kB|MB) in \d+\.\d\d s( \(\S+\))?", line), line


def test_dagster_chatters_on_neither_stream(twice: Built) -> None:
    for text in (*twice.outputs, *twice.errors):
        assert not re.search(r"dagster|debug|RUN_START|STEP_|Warning|Traceback|\x1b", text, re.I)


def test_a_second_build_does_nothing_and_says_so(twice: Built) -> None:
    assert twice.codes[1] == 0
    assert moved(*twice.after) == set()
    assert projects.states(twice.outputs[1]) == dict.fromkeys(ASSETS, "up to date")
    assert "Nothing to do: all 27 are up to date and passed their checks." in twice.outputs[1]
    assert twice.errors[1] == ""


@pytest.mark.parametrize(("dataset", "split"), SPLITS)
def test_a_table_holds_what_was_published(twice: Built, dataset: str, split: str) -> None:
    images, labels, coarse = twice.project.publisher.splits[dataset, split]
    table = pl.read_parquet(twice.path(f"tables/{dataset}/{split}.parquet"))
    pixels = np.frombuffer(b"".join(table["pixels"]), np.uint8).reshape(images.shape)
    assert np.array_equal(pixels, images)
    assert table["index"].to_list() == list(range(RECORDS[split]))
    assert table["label"].to_list() == labels.tolist()
    names = {
        "tiny_colours": ["rose", "ruby", "rust", "sky", "sea", "steel"],
        "tiny_digits": ["zero", "one", "two"],
        "tiny_letters": ["A", "B", "C", "D"],
    }[dataset]
    assert table["class"].cast(pl.String).to_list() == [names[label] for label in labels]
    if coarse is None:
        assert "coarse_label" not in table.columns
    else:
        assert table["coarse_label"].to_list() == coarse.tolist()
        colours = [["red", "blue"][label] for label in coarse]
        assert table["coarse_class"].cast(pl.String).to_list() == colours


@pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated")
@pytest.mark.filterwarnings("ignore:The inplace keyword")
def test_another_program_reads_the_records_by_way_of_the_croissant_document(twice: Built) -> None:
    labels = twice.project.publisher.splits["tiny_letters", "test"][1]
    document = mlcroissant.Dataset(twice.path("lineage/tiny_letters/croissant.json"))
    assert [record["test/label"] for record in document.records("test")] == labels.tolist()


@pytest.mark.parametrize(("dataset", "split"), SPLITS)
def test_a_csv_holds_what_was_published(twice: Built, dataset: str, split: str) -> None:
    images, labels, _ = twice.project.publisher.splits[dataset, split]
    rows = np.loadtxt(twice.path(f"exports/{dataset}/{split}.csv"), np.uint8, delimiter=",")
    assert np.array_equal(rows, np.column_stack([labels, images.reshape(len(images), -1)]))


@pytest.mark.parametrize(("dataset", "split"), SPLITS)
def test_an_lmdb_holds_what_was_published(twice: Built, dataset: str, split: str) -> None:
    images, _, _ = twice.project.publisher.splits[dataset, split]
    folder = twice.path(f"exports/{dataset}/{split}_lmdb")
    with (
        lmdb.open(str(folder), readonly=True, lock=False) as database,
        database.begin() as transaction,
    ):
        found = list(transaction.cursor())
    digits = 5 if dataset == "tiny_colours" else 8
    assert [key for key, _ in found] == [b"%0*d" % (digits, at) for at in range(len(images))]
    for (_, datum), image in zip(found, images, strict=True):
        assert image.transpose(2, 0, 1).tobytes() in datum


@pytest.mark.parametrize("dataset", DATASETS)
def test_statistics_count_and_measure_what_was_published(twice: Built, dataset: str) -> None:
    found = pl.read_parquet(twice.path(f"statistics/{dataset}.parquet"))
    assert len(found) == 2 * (CLASSES[dataset] + 1)
    for split in RECORDS:
        images, labels, _ = twice.project.publisher.splits[dataset, split]
        rows = found.filter(split=split)
        records = rows["records"].to_list()
        assert records == [*np.bincount(labels, minlength=CLASSES[dataset]), len(labels)]
        assert rows["mean_intensity"][-1] == pytest.approx(images.mean(), rel=1e-12)
        assert rows["std_intensity"][-1] == pytest.approx(images.std(), rel=1e-12)


def test_the_same_archives_give_the_same_bytes_in_another_folder(
    twice: Built, built: Project
) -> None:
    here, there = built.snapshot(lineage=False), twice.project.snapshot(lineage=False)
    assert {path: data for path, (_, _, data) in here.items()} == {
        path: data for path, (_, _, data) in there.items()
    }


def test_a_lineage_record_tells_the_hash_of_the_artefact_and_of_all_it_was_made_from(
    twice: Built,
) -> None:
    def sha256(path: str) -> str:
        return hashlib.sha256(twice.path(path).read_bytes()).hexdigest()

    for path in ARTEFACTS:
        record = json.loads(twice.path(f"lineage/{path}.json").read_text())
        assert record["path"] == path
        assert record["sha256"] == sha256(path)
        above = {one["path"]: one["sha256"] for one in record["inputs"]}
        if path.startswith("archives/"):
            [(place, digest)] = above.items()
            assert place.endswith(path.removeprefix("archives/"))
            assert digest == record["sha256"]
            assert record["facts"]["retrieved"].endswith("Z")
        else:
            assert above == {one: sha256(one) for one in above}
    table = json.loads(twice.path("lineage/tables/tiny_digits/test.parquet.json").read_text())
    assert {one["path"] for one in table["inputs"]} == {
        "archives/tiny_digits/test-images.gz",
        "archives/tiny_digits/test-labels.gz",
    }


class TestDagster:
    """What Dagster recorded of the first build, and what it is told where it has no records."""

    @pytest.fixture(scope="class")
    @staticmethod
    def instance(twice: Built) -> Iterator[dg.DagsterInstance]:
        with dg.DagsterInstance.from_config(str(twice.path("dagster"))) as instance:
            yield instance

    @pytest.fixture(scope="class")
    @staticmethod
    def told(
        twice: Built, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[dg.DagsterInstance]:
        """The records of a copy in which Dagster starts with none."""
        copy = twice.project.copied_to(tmp_path_factory.mktemp("told") / "project")
        shutil.rmtree(copy.data / "dagster")
        assert not projects.made(copy.build())
        with dg.DagsterInstance.from_config(str(copy.data / "dagster")) as instance:
            yield instance

    def test_only_the_run_that_made_something_is_recorded(
        self, instance: dg.DagsterInstance, told: dg.DagsterInstance
    ) -> None:
        assert [run.status for run in instance.get_runs()] == [dg.DagsterRunStatus.SUCCESS]
        assert told.get_runs() == []

    def test_nothing_is_sent_anywhere(self, instance: dg.DagsterInstance) -> None:
        assert instance.telemetry_enabled is False

    def test_every_asset_is_materialized_once_and_told_with_the_same_data_version(
        self, instance: dg.DagsterInstance, told: dg.DagsterInstance
    ) -> None:
        known = {*instance.get_asset_keys()} - {overview.KEY}
        keys = {key.to_user_string(): key for key in known}
        assert set(keys) == set(ASSETS)
        for asset, key in keys.items():
            tags = [m.tags or {} for m in _both(told, instance, key)]
            assert len(tags) == 2, asset
            versions = {tag["dagster/data_version"] for tag in tags}
            assert len(versions) == 1, asset

    @pytest.mark.parametrize(
        ("asset", "path", "records"),
        [
            ("tiny_digits/train", "tables/tiny_digits/train.parquet", 30),
            ("tiny_digits/statistics", "statistics/tiny_digits.parquet", 8),
            ("tiny_letters/test_csv", "exports/tiny_letters/test.csv", 12),
            ("tiny_colours/test_lmdb", "exports/tiny_colours/test_lmdb/data.mdb", 12),
            ("tiny_letters/archives", "archives/tiny_letters/letters.zip", None),
        ],
    )
    def test_a_materialization_tells_path_bytes_records_and_hash(
        self,
        instance: dg.DagsterInstance,
        told: dg.DagsterInstance,
        twice: Built,
        asset: str,
        path: str,
        records: int | None,
    ) -> None:
        again, first = _both(told, instance, dg.AssetKey(asset.split("/")))
        data = twice.path(path).read_bytes()
        for materialization, state in ((first, "made"), (again, "up to date")):
            facts = {name: value.value for name, value in materialization.metadata.items()}
            tags = materialization.tags or {}
            assert tags["dagster/data_version"] == hashlib.sha256(data).hexdigest()
            assert facts["path"] == path
            assert facts["bytes"] == len(data)
            assert facts["state"] == state
            assert facts.get("dagster/row_count") == records

    def test_archives_tell_where_they_came_from(
        self, instance: dg.DagsterInstance, told: dg.DagsterInstance, twice: Built
    ) -> None:
        _, first = _both(told, instance, dg.AssetKey(["tiny_digits", "archives"]))
        mirror = twice.project.publisher.mirror
        published = {name: mirror / "tiny_digits" / name for name in ARCHIVES["tiny_digits"]}
        for name, path in published.items():
            data = path.read_bytes()
            told = first.metadata[name].value
            assert re.match(
                rf"{len(data)} bytes, retrieved 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC", told
            )
            assert f"MD5 `{hashlib.md5(data).hexdigest()}`" in told
            assert f"SHA-256 `{hashlib.sha256(data).hexdigest()}`" in told.replace("` `", "")
            assert f"from `{path}`" in told
            assert len(told) < 1000, "longer texts are not shown in the page"

    def test_statistics_show_the_classic_table(
        self, instance: dg.DagsterInstance, told: dg.DagsterInstance, twice: Built
    ) -> None:
        _, first = _both(told, instance, dg.AssetKey(["tiny_digits", "statistics"]))
        counts = [
            np.bincount(twice.project.publisher.splits["tiny_digits", split][1]).tolist()
            for split in RECORDS
        ]
        rows = [
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in str(first.metadata["classes"].value).splitlines()
        ]
        assert rows[0] == ["category", "train", "test"]
        assert rows[2:] == [
            [name, str(train), str(test)]
            for name, train, test in zip(("zero", "one", "two"), *counts, strict=True)
        ] + [["total", "30", "12"]]

    def test_checks_are_recorded_with_what_was_expected_and_found(
        self, instance: dg.DagsterInstance, told: dg.DagsterInstance, twice: Built
    ) -> None:
        key = dg.AssetKey(["tiny_digits", "train"])
        storages = instance.event_log_storage, told.event_log_storage
        labels = twice.project.publisher.splits["tiny_digits", "train"][1]
        values = {
            "records_as_declared": 30,
            "index_complete": True,
            "labels_within_classes": True,
            "no_duplicates_within_split": "every image once",
        }
        counts = zip(("zero", "one", "two"), np.bincount(labels).tolist(), strict=True)
        side_by_side = [{"class": c, "expected": n, "found": n} for c, n in counts]
        for check, value in values.items():
            history = [
                record
                for storage in storages
                for record in storage.get_asset_check_execution_history(
                    dg.AssetCheckKey(key, check), limit=5
                )
            ]
            assert [record.status.value for record in history] == ["SUCCEEDED"] * 2
            for record in history:
                assert record.event is not None
                found = record.event.asset_check_evaluation
                assert found is not None
                assert found.metadata["expected"].value == value
                assert found.metadata["found"].value == value
        latest = storages[1].get_latest_asset_check_execution_by_key(
            [dg.AssetCheckKey(key, "class_counts_as_declared")]
        )
        [record] = latest.values()
        assert record.event is not None
        rows = record.event.asset_check_evaluation.metadata["expected and found"].records
        assert [row.data for row in rows] == side_by_side

    @pytest.mark.parametrize(
        ("asset", "shown"),
        [
            (
                "tiny_colours/train",
                {"examples": "data:image/svg", "examples, large": "data:image/png;base64,"},
            ),
            (
                "tiny_letters/statistics",
                {
                    "records": "data:image/svg+xml,",
                    "mean intensity (0–255)": "data:image/svg+xml,",
                    "mean images": "data:image/svg+xml,",
                    "mean images, large": "data:image/png;base64,",
                },
            ),
        ],
    )
    def test_pictures_are_shown_whether_an_artefact_was_made_or_up_to_date(
        self,
        instance: dg.DagsterInstance,
        told: dg.DagsterInstance,
        asset: str,
        shown: dict[str, str],
    ) -> None:
        again, first = _both(told, instance, dg.AssetKey(asset.split("/")))
        for name, data in shown.items():
            picture = first.metadata[name]
            assert isinstance(picture, dg.MarkdownMetadataValue)
            assert data in str(picture.value)
            assert again.metadata[name] == picture

    def test_what_was_made_tells_how_fast_for_plots_over_time(
        self, instance: dg.DagsterInstance, told: dg.DagsterInstance
    ) -> None:
        for asset, rate in (
            ("tiny_digits/train_csv", "records/s"),
            ("tiny_digits/archives", "MB/s"),
        ):
            again, first = _both(told, instance, dg.AssetKey(asset.split("/")))
            assert float(first.metadata[rate].value) >= 0
            assert rate not in again.metadata

    def test_a_csv_says_whether_it_has_a_header_and_why_it_was_made(
        self, instance: dg.DagsterInstance, told: dg.DagsterInstance
    ) -> None:
        again, first = _both(told, instance, dg.AssetKey(["tiny_digits", "train_csv"]))
        assert first.metadata["csv_header"].value == "false"
        assert again.metadata["csv_header"].value == "false"
        assert first.metadata["made because"].value == "it was not there"
        assert "made because" not in again.metadata

    def test_a_materialization_tells_the_bytes_and_where_they_lie(
        self, instance: dg.DagsterInstance, told: dg.DagsterInstance, twice: Built
    ) -> None:
        _, again = _both(told, instance, dg.AssetKey(["tiny_digits", "train_lmdb"]))
        path = twice.path("exports/tiny_digits/train_lmdb/data.mdb")
        whole = hashlib.sha256(path.read_bytes()).hexdigest()
        assert str(again.metadata["sha256"].value).replace("` `", "") == f"`{whole}`"
        assert again.metadata["dagster/uri"].value == path.as_uri()


def test_an_asset_materialized_alone_refuses_inputs_that_are_not_there_or_out_of_date(
    built: Project,
) -> None:
    # What the button of the Dagster UI does: one asset, without those it is made from.
    built.redeclare("tiny_digits", '"zero"', '"nought"')
    before = built.snapshot()
    settings = Settings(data=built.data, catalogue=built.publisher.catalogue)
    result = (
        define(settings, settings.plan())
        .resolve_implicit_global_asset_job_def()
        .execute_in_process(
            asset_selection=[dg.AssetKey(["tiny_digits", "train_csv"])], raise_on_error=False
        )
    )
    assert not result.success
    [failure] = [event for event in result.all_events if event.is_step_failure]
    cause = failure.step_failure_data.error
    text = cause.to_string() if cause else ""
    assert "tables/tiny_digits/train.parquet must be made first" in text
    assert "classes" in text
    assert moved(before, built.snapshot()) == set()


def _both(
    told: dg.DagsterInstance, instance: dg.DagsterInstance, key: dg.AssetKey
) -> list[dg.AssetMaterialization]:
    """What was told of an asset, and what was recorded when it was made."""
    return [*_materializations(told, key), *_materializations(instance, key)]


def _materializations(
    instance: dg.DagsterInstance, key: dg.AssetKey
) -> list[dg.AssetMaterialization]:
    """An asset's materializations, the latest first."""
    records = instance.fetch_materializations(key, limit=10).records
    return [record.asset_materialization for record in records if record.asset_materialization]
