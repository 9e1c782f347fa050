"""Options of a single run, as the launchpad of the Dagster UI takes them."""

from __future__ import annotations

import re
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest
import yaml

from assets.definitions import automated
from assets.settings import ROOT, Settings
from pipelines import stages, tables
from tests.assets.project import Project, made, moved

pytestmark = pytest.mark.sources("tiny_digits")

EXAMPLE = re.search(r"```yaml\n(.*?)```", (ROOT / "docs" / "operations.md").read_text(), re.DOTALL)


def run(project: Project, **options: Any) -> dg.ExecuteInProcessResult:
    """Run the job of a source with some options, as the UI does."""
    settings = Settings(
        project.data, project.publisher.catalogue, str(project.publisher.mirror), offline=True
    )
    job = automated(settings).resolve_job_def("everything_of_tiny_digits")
    return job.execute_in_process(run_config=options_of(**options))


def options_of(**options: Any) -> dict[str, Any]:
    """The configuration of a run with some options."""
    return {"resources": {"options": {"config": options}}}


def materialized(result: dg.ExecuteInProcessResult) -> set[str]:
    return {
        event.asset_key.to_user_string()
        for event in result.all_events
        if event.is_step_materialization and event.asset_key
    }


def test_a_header_is_for_that_run_and_the_next_build_goes_by_the_settings(built: Project) -> None:
    csv = built.data / "exports/tiny_digits/train.csv"
    plain = csv.read_bytes()

    assert run(built, csv_header=True).success

    assert csv.read_bytes() == b"label," + b",".join(b"pixel%d" % n for n in range(1, 13)) + (
        b"\n" + plain
    )
    assert made(built.build("tiny_digits")) == {"tiny_digits/train_csv", "tiny_digits/test_csv"}
    assert csv.read_bytes() == plain


def test_another_level_compresses_the_tables_anew_and_their_records_are_the_same(
    built: Project,
) -> None:
    table = built.data / "tables/tiny_digits/train.parquet"
    before, records = table.read_bytes(), tables.read(table)

    assert run(built, compression_level=19).success

    assert table.read_bytes() != before
    assert pq.read_metadata(table).row_group(0).column(3).compression == "ZSTD"
    again = tables.read(table)
    assert again.images.tobytes() == records.images.tobytes()
    assert again.labels.tobytes() == records.labels.tobytes()


def test_only_the_exports_that_were_asked_for_are_made(project: Project) -> None:
    result = run(project, exports=["lmdb"])

    assert result.success
    found = materialized(result)
    assert {"tiny_digits/train", "tiny_digits/train_lmdb", "tiny_digits/test_lmdb"} <= found
    assert not {"tiny_digits/train_csv", "tiny_digits/test_csv"} & found
    assert not list(project.data.rglob("*.csv"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"exports": ["hdf9"]}, "exports[0] not in enum type Export got hdf9"),
        ({"compression_level": 99}, "less than or equal to 22"),
        ({"csv_headers": True}, 'unexpected config entry "csv_headers"'),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_before_anything_is_made(
    built: Project, options: dict[str, Any], words: str
) -> None:
    before = built.snapshot()
    with pytest.raises(dg.DagsterError) as caught:
        run(built, **options)
    assert words in str(caught.value) + str(caught.value.__cause__)
    assert moved(before, built.snapshot()) == set()


def test_the_documented_launchpad_is_the_default(built: Project) -> None:
    assert EXAMPLE
    options = yaml.safe_load(EXAMPLE[1])["resources"]["options"]["config"]
    assert set(options) == {"csv_header", "lmdb_encoded", "compression_level", "exports"}
    before = built.snapshot()
    assert run(built, **options).success
    assert moved(before, built.snapshot()) == set()
    assert (
        options["compression_level"]
        == Settings().chosen["compression_level"]
        == tables.COMPRESSION_LEVEL
    )


def test_an_export_that_there_is_not_is_refused_at_launch(built: Project) -> None:
    job = automated(built.settings()).resolve_job_def("everything_of_tiny_digits")
    for kinds in (["csv"], list(stages.exports())):
        assert dg.validate_run_config(job, options_of(exports=kinds))

    with pytest.raises(dg.DagsterInvalidConfigError, match="hdf9"):
        dg.validate_run_config(job, options_of(exports=["csv", "hdf9"]))


@pytest.mark.parametrize("level", [99, -8])
def test_a_level_that_zstd_has_not_is_refused_at_launch(built: Project, level: int) -> None:
    job = automated(built.settings()).resolve_job_def("everything_of_tiny_digits")

    with pytest.raises(dg.DagsterConfigMappingFunctionError) as caught:
        dg.validate_run_config(job, options_of(compression_level=level))

    assert "compression_level" in str(caught.value.__cause__)
    assert dg.validate_run_config(job, options_of(compression_level=22))
