"""OpenLineage events of whole builds, held against what was built and the published schemas."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import referencing

from tests.assets.conftest import Command
from tests.assets.project import DATASETS, Project

pytest.importorskip("openlineage.client", reason="the extra openlineage is not installed")

SCHEMAS = os.environ.get("IMAGESETS_OPENLINEAGE_SCHEMAS", "")
FACETS = {  # key of a facet → its schema, as the specification pairs them
    "columnLineage": "ColumnLineageDatasetFacet",
    "dataQualityMetrics": "DataQualityMetricsDatasetFacet",
    "dataSource": "DatasourceDatasetFacet",
    "datasetType": "DatasetTypeDatasetFacet",
    "errorMessage": "ErrorMessageRunFacet",
    "inputStatistics": "InputStatisticsInputDatasetFacet",
    "jobType": "JobTypeJobFacet",
    "outputStatistics": "OutputStatisticsOutputDatasetFacet",
    "parent": "ParentRunFacet",
    "processing_engine": "ProcessingEngineRunFacet",
    "schema": "SchemaDatasetFacet",
    "storage": "StorageDatasetFacet",
    "version": "DatasetVersionDatasetFacet",
}
SPEC = "https://openlineage.io/spec"
Event = dict[str, Any]


def read(path: Path) -> list[Event]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def facets(event: Event) -> Iterator[tuple[str, Any]]:
    """Every facet of an event, with its key."""
    yield from event["run"]["facets"].items()
    yield from event["job"]["facets"].items()
    for dataset in (*event["inputs"], *event["outputs"]):
        for kind in ("facets", "inputFacets", "outputFacets"):
            yield from dataset.get(kind, {}).items()


@pytest.fixture(scope="module")
def events(
    _published_once: Project, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Project, list[Event]]:
    """All events of a build of everything, followed by one in which an archive is wrong."""
    folder = tmp_path_factory.mktemp("openlineage")
    project = _published_once.copied_to(folder / "project")
    path = folder / "events.jsonl"
    assert all(outcome.is_good for outcome in project.build(openlineage=str(path)).values())
    wrong = _published_once.copied_to(folder / "wrong")
    wrong.publisher.archive("tiny_digits", "test-labels.gz").write_bytes(b"wrong")
    outcomes = wrong.build("tiny_digits", openlineage=str(path))
    assert outcomes["tiny_digits/archives"].state == "failed"
    return project, read(path)


def completed(events: tuple[Project, list[Event]], job: str) -> tuple[Event, Event]:
    """The event that tells that an artefact was made, and the artefact in it."""
    project, told = events
    [event] = [
        event
        for event in told
        if (event["eventType"], event["job"]["name"]) == ("COMPLETE", job)
        and event["outputs"][0]["name"].startswith(str(project.data))
    ]
    [output] = event["outputs"]
    return event, output


def made_from(output: Event, column: str) -> set[tuple[str, str, str]]:
    """(name, field, kind) of all that a column was made from."""
    return {
        (field["name"], field["field"], f"{kind['type']} {kind['subtype']}")
        for field in output["facets"]["columnLineage"]["fields"][column]["inputFields"]
        for kind in field["transformations"]
    }


def test_each_artefact_has_a_start_and_an_end(events: tuple[Project, list[Event]]) -> None:
    project, told = events
    by_run: dict[str, list[Event]] = {}
    for event in told:
        by_run.setdefault(event["run"]["runId"], []).append(event)
    ends = {"COMPLETE": set[str](), "FAIL": set[str]()}
    for start, end in by_run.values():
        assert start["eventType"] == "START"
        assert start["job"] == end["job"]
        assert start["eventTime"] <= end["eventTime"]
        assert start["outputs"][0]["name"] == end["outputs"][0]["name"]
        ends[end["eventType"]].add(end["job"]["name"])
    made = {
        path.removeprefix("lineage/").removesuffix(".json")
        for path in project.snapshot()
        if path.startswith("lineage/") and not path.endswith("/croissant.json")
    }
    assert made | {f"lineage/{dataset}/croissant.json" for dataset in DATASETS} == ends["COMPLETE"]
    assert ends["FAIL"] == {"archives/tiny_digits/test-labels.gz"}


def test_a_failure_is_told_with_what_was_expected_and_found(
    events: tuple[Project, list[Event]],
) -> None:
    [failure] = [event for event in events[1] if event["eventType"] == "FAIL"]
    message = failure["run"]["facets"]["errorMessage"]["message"]
    assert "test-labels.gz" in message
    assert hashlib.md5(b"wrong").hexdigest() in message


def test_what_is_told_of_a_file_is_so(events: tuple[Project, list[Event]]) -> None:
    checked = 0
    for event in events[1]:
        if event["eventType"] == "COMPLETE":
            for dataset in (*event["inputs"], *event["outputs"]):
                assert dataset["namespace"] == "file"
                content = Path(dataset["name"]).read_bytes()
                digest = hashlib.sha256(content).hexdigest()
                assert dataset["facets"]["version"]["datasetVersion"] == digest
                for kind in ("inputFacets", "outputFacets"):
                    for facet in dataset.get(kind, {}).values():
                        assert (facet["size"], facet["fileCount"]) == (len(content), 1)
                        checked += 1
    assert checked > 50


@pytest.mark.parametrize(("split", "records"), [("train", 30), ("test", 12)])
def test_a_table_is_told_with_its_columns_rows_and_extremes(
    events: tuple[Project, list[Event]], split: str, records: int
) -> None:
    project, _ = events
    _, output = completed(events, f"tables/tiny_colours/{split}.parquet")
    fields = output["facets"]["schema"]["fields"]
    assert [field["name"] for field in fields] == [
        "index",
        "label",
        "class",
        "coarse_label",
        "coarse_class",
        "pixels",
    ]
    assert [field["type"] for field in fields][:2] == ["uint32", "uint8"]
    assert fields[-1]["type"] == f"fixed_size_binary[{4 * 4 * 3}]"
    assert all(field["description"] for field in fields)
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == records
    _, labels, coarse = project.publisher.splits["tiny_colours", split]
    metrics = output["facets"]["dataQualityMetrics"]["columnMetrics"]
    expected = {"index": range(records), "label": labels, "coarse_label": coarse}
    assert set(metrics) == set(expected)
    for name, values in expected.items():
        found = (metrics[name]["min"], metrics[name]["max"], metrics[name]["nullCount"])
        assert found == (min(values), max(values), 0)


def test_columns_are_told_with_the_members_and_columns_they_come_from(
    events: tuple[Project, list[Event]],
) -> None:
    data = events[0].data
    _, digits = completed(events, "tables/tiny_digits/train.parquet")
    images, labels = (
        str(data / f"archives/tiny_digits/train-{x}.gz") for x in ("images", "labels")
    )
    assert made_from(digits, "pixels") == {(images, "train-images.gz", "DIRECT TRANSFORMATION")}
    assert made_from(digits, "label") == {(labels, "train-labels.gz", "DIRECT TRANSFORMATION")}
    assert made_from(digits, "class") == made_from(digits, "label")
    assert made_from(digits, "index") == {(images, "train-images.gz", "INDIRECT SORT")}

    _, letters = completed(events, "tables/tiny_letters/test.parquet")
    archive = str(data / "archives/tiny_letters/letters.zip")
    member = "gzip/test-images.gz"
    assert made_from(letters, "pixels") == {(archive, member, "DIRECT TRANSFORMATION")}

    _, colours = completed(events, "tables/tiny_colours/train.parquet")
    archive = str(data / "archives/tiny_colours/colours.tar.gz")
    for column in ("label", "coarse_label", "pixels"):
        assert made_from(colours, column) == {
            (archive, f"bin/train_{number}.bin", "DIRECT TRANSFORMATION") for number in (1, 2)
        }

    _, csv = completed(events, "exports/tiny_digits/train.csv")
    table = str(data / "tables/tiny_digits/train.parquet")
    assert made_from(csv, "label") == {(table, "label", "DIRECT IDENTITY")}
    assert made_from(csv, "pixels") == {(table, "pixels", "DIRECT TRANSFORMATION")}

    _, lmdb = completed(events, "exports/tiny_digits/train_lmdb/data.mdb")
    assert made_from(lmdb, "key") == {(table, "index", "DIRECT TRANSFORMATION")}
    assert made_from(lmdb, "data") == {(table, "pixels", "DIRECT TRANSFORMATION")}

    _, figures = completed(events, "statistics/tiny_digits.parquet")
    both = [str(data / f"tables/tiny_digits/{split}.parquet") for split in ("train", "test")]
    assert made_from(figures, "mean_image") == {
        *((table, "pixels", "DIRECT AGGREGATION") for table in both),
        *((table, "label", "INDIRECT GROUP_BY") for table in both),
    }
    assert made_from(figures, "records") == {(t, "label", "DIRECT AGGREGATION") for t in both}


IMAGE = ("channels", "height", "width")  # of every Datum: the same for all records


def test_every_column_but_constants_comes_from_somewhere(
    events: tuple[Project, list[Event]],
) -> None:
    for event in events[1]:
        for output in event["outputs"]:
            if "schema" in output["facets"]:
                columns = {field["name"] for field in output["facets"]["schema"]["fields"]}
                origins = set(output["facets"]["columnLineage"]["fields"])
                of_job = {"statistics/": {"dataset", "split"}, "_lmdb": set(IMAGE)}
                constants = set().union(
                    *(c for x, c in of_job.items() if x in event["job"]["name"])
                )
                assert columns - constants == origins
                described = [f for f in output["facets"]["schema"]["fields"] if "description" in f]
                assert len(described) == len(columns)


def test_members_that_columns_come_from_are_fields_of_their_archive(
    events: tuple[Project, list[Event]],
) -> None:
    event, output = completed(events, "tables/tiny_colours/test.parquet")
    [archive] = event["inputs"]
    fields = {field["name"] for field in archive["facets"]["schema"]["fields"]}
    assert fields == {field for _, field, _ in made_from(output, "pixels")}


def test_what_is_up_to_date_is_not_told(project: Project, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    project.build("tiny_letters", openlineage=str(path))
    told = len(read(path))
    project.build("tiny_letters", openlineage=str(path))
    assert len(read(path)) == told
    (project.data / "exports/tiny_letters/test.csv").unlink()
    project.build("tiny_letters", openlineage=str(path))
    assert [event["job"]["name"] for event in read(path)[told:]] == [
        "exports/tiny_letters/test.csv"
    ] * 2


def test_nothing_is_told_unless_it_is_asked_for(project: Project) -> None:
    project.build("tiny_letters", stages=["archives"])
    assert not list(project.data.parent.rglob("*.jsonl"))


def test_the_command_line_tells_a_file_and_survives_an_endpoint_that_is_not_there(
    project: Project, command: Command, tmp_path: Path
) -> None:
    path = tmp_path / "events.jsonl"
    options = [*project.options, *project.mirror]
    said = command("fetch", "tiny_letters", "--openlineage", str(path), *options)
    assert (said.code, said.stderr.count("OpenLineage")) == (0, 0)
    [start, end] = read(path)
    assert start["job"]["name"] == end["job"]["name"] == "archives/tiny_letters/letters.zip"
    nowhere = "http://127.0.0.1:1"
    said = command("build", "tiny_letters", "--openlineage", nowhere, *options)
    assert said.code == 0
    assert said.stderr.count("OpenLineage: not every event reaches") == 1
    assert said.stderr.count(nowhere) == 1


def test_every_event_is_built_as_the_standard_says(events: tuple[Project, list[Event]]) -> None:
    parents = set()
    for event in events[1]:
        assert event["schemaURL"] == f"{SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent"
        assert datetime.fromisoformat(event["eventTime"]).tzinfo is not None
        assert str(uuid.UUID(event["run"]["runId"])) == event["run"]["runId"]
        parents.add(event["run"]["facets"]["parent"]["run"]["runId"])
        for key, facet in facets(event):
            name = FACETS[key]
            assert facet["_producer"] == event["producer"]
            assert facet["_schemaURL"].startswith(f"{SPEC}/facets/")
            assert facet["_schemaURL"].endswith(f"/{name}.json#/$defs/{name}")
    assert len(parents) == 2, "two builds: two runs of Dagster"
    assert {key for event in events[1] for key, _ in facets(event)} == set(FACETS)


@pytest.mark.skipif(
    not SCHEMAS,
    reason="published schemas: set IMAGESETS_OPENLINEAGE_SCHEMAS to OpenLineage's folder spec/",
)
def test_every_event_is_valid_by_the_published_schemas(
    events: tuple[Project, list[Event]],
) -> None:
    paths = [Path(SCHEMAS) / "OpenLineage.json"]
    paths += [Path(SCHEMAS) / "facets" / f"{name}.json" for name in FACETS.values()]
    published = {path.stem: json.loads(path.read_text()) for path in paths}
    registry: referencing.Registry[Any] = referencing.Registry().with_resources(
        (schema["$id"], referencing.Resource.from_contents(schema)) for schema in published.values()
    )
    validators = {
        name: jsonschema.Draft202012Validator(
            schema,
            registry=registry,
            format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER,
        )
        for name, schema in published.items()
    }
    for event in events[1]:
        validators["OpenLineage"].validate(event)
        for key, facet in facets(event):
            validators[FACETS[key]].validate({key: facet})
    broken = {**events[1][0], "eventType": "BEGIN"}
    assert not validators["OpenLineage"].is_valid(broken), "the schema refuses nothing"
    assert not validators["SchemaDatasetFacet"].is_valid({"schema": {"fields": [{}]}})
