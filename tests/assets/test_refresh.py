"""The refresh: publishers that stay the same, change, vanish and come back, and what follows."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets import graph
from assets.definitions import automated
from assets.running import mirrors, runs
from assets.running.refresh import OUTCOME, PART_OF
from assets.settings import Settings
from pipelines.lineage import status
from pipelines.stages import DEFAULT
from pipelines.store import Folder
from tests import builders
from tests.assets.conftest import Start
from tests.assets.project import ARCHIVES, DATASETS, Project, Site, moved, of_all
from tests.builders import newer_code

pytestmark = pytest.mark.sources("tiny_digits")

DIGITS_BELOW_TEST = {
    f"tiny_digits/{asset}" for asset in ("test", "test_csv", "test_lmdb", "statistics", "croissant")
}


@dataclass(frozen=True)
class Refreshed:
    """What a refresh did."""

    success: bool
    outcome: str
    made: set[str]
    errors: str
    moved: set[str]


Refresh = Callable[..., Refreshed]


MADE_OF_SPLIT = ("", "_csv", "_lmdb")  # the assets of a split, by what follows its name


@pytest.fixture
def refresh(built: Project, site: Site, instance: dg.DagsterInstance) -> Refresh:
    """Run the job `refresh` on the project, with the publisher's server as its mirror."""

    def run(config: Mapping[str, Any] | None = None, **more: Any) -> Refreshed:
        before = built.snapshot()
        job = built.definitions(site.url, **more).resolve_job_def("refresh")
        result = job.execute_in_process(
            instance=instance, raise_on_error=False, run_config={"ops": config or {}}
        )
        run = instance.get_run_by_id(result.run_id)
        assert run is not None
        [rebuild] = [
            event.step_output_data.metadata
            for event in result.all_events
            if event.event_type_value == "STEP_OUTPUT" and event.step_key == "rebuild"
        ] or [{}]
        failures = [
            event.step_failure_data.user_failure_data
            for event in result.all_events
            if event.event_type_value == "STEP_FAILURE"
        ]
        return Refreshed(
            result.success,
            run.tags[OUTCOME],
            set(rebuild["made"].value) if "made" in rebuild else set(),  # type: ignore[arg-type]
            "\n".join(str(failure and failure.description) for failure in failures),
            moved(before, built.snapshot()),
        )

    return run


def looked(instance: dg.DagsterInstance, source: str) -> dg.AssetMaterialization:
    """What the last look at a source's mirrors told."""
    [record] = instance.fetch_materializations(mirrors.key(source), limit=1).records
    assert record.asset_materialization is not None
    return record.asset_materialization


def version(instance: dg.DagsterInstance, source: str) -> str:
    return (looked(instance, source).tags or {})[mirrors.DATA_VERSION]


def figures(instance: dg.DagsterInstance, source: str) -> tuple[object, ...]:
    """Mirrors alive, places dead, places wrong."""
    metadata = looked(instance, source).metadata
    names = ("mirrors_alive", "places_dead", "places_wrong")
    return tuple(metadata[name].value for name in names)


def checked(instance: dg.DagsterInstance, source: str) -> dg.AssetCheckEvaluation:
    """The latest evaluation of the check of a source's mirrors."""
    check = dg.AssetCheckKey(mirrors.key(source), mirrors.CHECK)
    record = instance.event_log_storage.get_latest_asset_check_execution_by_key([check])[check]
    assert record.event is not None
    assert record.event.dagster_event is not None
    return record.event.dagster_event.asset_check_evaluation_data


def materializations(project: Project, instance: dg.DagsterInstance) -> int:
    """How often anything that a run makes was materialized; what is told of it counts for none."""
    return sum(
        len(instance.fetch_materializations(dg.AssetKey(asset), limit=1000).records)
        for asset in project.plan().assets()
    )


# --- nothing changed ------------------------------------------------------------------------------


def test_where_nothing_changed_nothing_is_made_or_materialized_or_fetched(
    built: Project, refresh: Refresh, site: Site, instance: dg.DagsterInstance
) -> None:
    for _ in range(2):
        found = refresh()

        assert found.success
        assert found.outcome == "nothing to do"
        assert found.moved == set(), "no inode, no time, no byte"
    assert set(site.methods) == {"HEAD"}
    assert materializations(built, instance) == 0


@of_all
def test_what_mirrors_say_is_told_of_them_as_numbers(
    refresh: Refresh, site: Site, instance: dg.DagsterInstance
) -> None:
    refresh()

    for source in DATASETS:
        found = looked(instance, source)
        assert figures(instance, source) == (1, 0, 0)
        assert isinstance(found.metadata["seconds"].value, float)
        shown = found.metadata["places"]
        assert isinstance(shown, dg.TableMetadataValue)
        places: list[Any] = [record.data for record in shown.records]
        assert [row["place"] for row in places] == [
            f"{site.url}{source}/{archive}" for archive in ARCHIVES[source]
        ]
        for row, archive in zip(places, ARCHIVES[source], strict=True):
            size = (site.root / source / archive).stat().st_size
            assert (row["size_bytes"], row["etag"]) == (size, '"v1"')
        assert checked(instance, source).passed


@pytest.mark.sources("tiny_letters")
def test_the_data_version_of_mirrors_changes_with_them_only(
    refresh: Refresh, site: Site, instance: dg.DagsterInstance
) -> None:
    versions = []
    for etag in ('"v1"', '"v1"', '"v2"'):
        site.etag = etag
        refresh()
        versions.append(version(instance, "tiny_letters"))

    assert versions[0] == versions[1] != versions[2]
    assert versions[0]


# --- something changed here -----------------------------------------------------------------------


def test_what_was_deleted_is_made_again_and_nothing_else(built: Project, refresh: Refresh) -> None:
    (built.data / "exports/tiny_digits/test.csv").unlink()

    found = refresh()

    assert found.success
    assert found.outcome == "made 1"
    assert found.made == {"tiny_digits/test_csv"}
    assert {path for path in found.moved if not path.startswith("lineage/")} == {
        "exports/tiny_digits/test.csv"
    }
    assert refresh().outcome == "nothing to do"


def test_only_what_is_mended_is_materialized_and_its_log_is_that_of_its_own_run(
    built: Project, site: Site, tmp_path: Path
) -> None:
    (built.data / "exports/tiny_digits/test.csv").unlink()
    (tmp_path / "home").mkdir()
    home = runs.home(Settings(tmp_path / "home"))
    with dg.DagsterInstance.from_config(str(home)) as instance:
        job = built.definitions(site.url).resolve_job_def("refresh")
        result = job.execute_in_process(instance=instance)

        assert materializations(built, instance) == 1
        [child] = [run for run in instance.get_runs() if PART_OF in run.tags]

        def said(run_id: str) -> list[str]:
            return [entry.user_message for entry in instance.all_logs(run_id)]

        line = "exports/tiny_digits/test.csv: making it, because it is not there"
        assert line in said(child.run_id)
        assert line not in said(result.run_id)
        assert "made 1" in said(result.run_id), "the refresh goes on to log for itself"


@pytest.mark.sources("tiny_letters")
def test_what_was_up_to_date_adds_no_seconds_to_the_plots(
    built: Project, instance: dg.DagsterInstance
) -> None:
    (built.data / "exports/tiny_letters/test.csv").unlink()
    definitions = built.definitions(str(built.publisher.mirror))
    job = definitions.resolve_job_def("everything_of_tiny_letters")

    result = job.execute_in_process(instance=instance)

    assert result.success
    timed = {
        event.asset_key.to_user_string()
        for event in result.get_asset_materialization_events()
        if event.asset_key and "seconds" in event.materialization.metadata
    }
    assert timed == {"tiny_letters/test_csv"}


OF_LETTERS = [
    f"tiny_letters/{split}{kind}" for split in ("train", "test") for kind in MADE_OF_SPLIT
]
OF_LETTERS += ["tiny_letters/archives", "tiny_letters/statistics", "tiny_letters/croissant"]


@of_all
@pytest.mark.parametrize(
    ("path", "assets"),
    [
        ("archives/tiny_letters/letters.zip", OF_LETTERS),
        (
            "tables/tiny_digits/train.parquet",
            [
                *(f"tiny_digits/train{kind}" for kind in MADE_OF_SPLIT),
                "tiny_digits/statistics",
                "tiny_digits/croissant",
            ],
        ),
        ("exports/tiny_colours/test_lmdb/data.mdb", ["tiny_colours/test_lmdb"]),
    ],
)
def test_bytes_that_rotted_are_made_again_with_all_that_was_made_from_them_since(
    built: Project, refresh: Refresh, path: str, assets: list[str]
) -> None:
    good = (built.data / path).read_bytes()
    built.rot(path)
    config = {"verify_artefacts": {"config": {"hash_everything": False}}}
    if path.startswith("exports/"):
        assert refresh(config).outcome == "nothing to do", "seen only by those who look"

    found = refresh()

    assert (found.outcome, found.made) == (f"made {len(assets)}", set(assets))
    assert (built.data / path).read_bytes() == good
    assert refresh().outcome == "nothing to do"


@pytest.mark.sources("tiny_colours")
def test_bytes_that_were_changed_behind_size_and_time_are_noticed_without_reading_everything(
    built: Project, refresh: Refresh
) -> None:
    file = built.data / "exports/tiny_colours/test.csv"
    good, stat = file.read_bytes(), file.stat()
    file.write_bytes(bytes([good[0] ^ 1]) + good[1:])
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    config = {"verify_artefacts": {"config": {"hash_everything": False}}}
    assert refresh(config).made == {"tiny_colours/test_csv"}
    assert file.read_bytes() == good


@of_all
def test_newer_code_makes_its_artefacts_again_and_no_others(
    refresh: Refresh, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer_code(monkeypatch, "csv")

    found = refresh()

    assert found.made == {f"{name}/{split}_csv" for name in DATASETS for split in ("train", "test")}
    assert refresh().outcome == "nothing to do"


# --- something changed at the publisher's ---------------------------------------------------------


def test_another_etag_with_the_same_bytes_is_fetched_once_compared_and_thrown_away(
    refresh: Refresh, site: Site, instance: dg.DagsterInstance
) -> None:
    refresh()
    site.etag = '"v2"'
    site.methods.clear()

    found = refresh()

    assert found.outcome == "nothing to do"
    assert found.moved == set()
    assert site.methods.count("GET") == len(ARCHIVES["tiny_digits"])
    assert checked(instance, "tiny_digits").passed
    site.methods.clear()
    assert refresh().outcome == "nothing to do"
    assert set(site.methods) == {"HEAD"}, "what was compared once is known"


@pytest.mark.sources("tiny_digits", "tiny_letters")
def test_other_bytes_of_the_same_length_fail_the_check_each_time_and_destroy_nothing(
    built: Project, refresh: Refresh, site: Site, instance: dg.DagsterInstance
) -> None:
    refresh()
    file = built.publisher.archive("tiny_digits", "test-labels.gz")
    good = file.read_bytes()
    file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    site.etag = '"v2"'
    for _ in range(2):
        found = refresh()

        assert found.moved == set()
        assert found.outcome == "nothing to do"
        check = checked(instance, "tiny_digits")
        assert not check.passed
        assert check.severity is dg.AssetCheckSeverity.ERROR
        said = check.description or ""
        assert f"{site.url}tiny_digits/test-labels.gz: {len(good)} bytes with MD5" in said
        assert "is kept" in said
        assert "tiny_digits.toml" in said
        assert checked(instance, "tiny_letters").passed
        assert figures(instance, "tiny_digits") == (1, 0, 1)
    file.write_bytes(good)
    site.etag = '"v3"'
    refresh()
    assert checked(instance, "tiny_digits").passed, "the publisher mended it"


@pytest.mark.sources("tiny_letters")
def test_another_length_fails_the_check_without_fetching(
    built: Project, refresh: Refresh, site: Site, instance: dg.DagsterInstance
) -> None:
    file = built.publisher.archive("tiny_letters", "letters.zip")
    size = file.stat().st_size
    file.write_bytes(file.read_bytes() + b"!")

    found = refresh()

    assert found.moved == set()
    assert set(site.methods) == {"HEAD"}
    said = checked(instance, "tiny_letters").description or ""
    assert f"{size + 1:,} bytes are announced, {size:,} are declared" in said


def test_a_mirror_that_vanishes_warns_and_one_that_comes_back_is_as_before(
    refresh: Refresh, site: Site, instance: dg.DagsterInstance
) -> None:
    refresh()
    before = version(instance, "tiny_digits")
    site.gone = True

    found = refresh()

    assert found.success
    assert (found.outcome, found.moved) == ("nothing to do", set())
    assert figures(instance, "tiny_digits") == (0, 4, 0)
    check = checked(instance, "tiny_digits")
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "HTTP 404" in (check.description or "")
    assert version(instance, "tiny_digits") == before
    site.gone = False
    site.methods.clear()
    assert refresh().moved == set()
    assert set(site.methods) == {"HEAD"}
    assert figures(instance, "tiny_digits") == (1, 0, 0)
    assert version(instance, "tiny_digits") == before
    assert checked(instance, "tiny_digits").passed


@pytest.mark.sources("tiny_letters")
def test_a_dead_mirror_beside_a_living_one_warns(
    built: Project, refresh: Refresh, instance: dg.DagsterInstance
) -> None:
    built.redeclare("tiny_letters", "mirrors = []", 'mirrors = ["http://127.0.0.1:1/"]')

    refresh()

    assert figures(instance, "tiny_letters") == (1, 1, 0)
    assert looked(instance, "tiny_letters").metadata["mirrors"].value == 2
    check = checked(instance, "tiny_letters")
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "http://127.0.0.1:1/letters.zip: " in (check.description or "")
    assert "1 of 2 mirrors give every archive now" in (check.description or "")


@pytest.mark.sources("tiny_letters")
def test_three_of_four_mirrors_that_are_dead_are_named(
    built: Project, refresh: Refresh, instance: dg.DagsterInstance
) -> None:
    dead = [f"http://127.0.0.1:1/{name}/" for name in ("a", "b", "c")]
    built.redeclare("tiny_letters", "mirrors = []", f"mirrors = {dead}".replace("'", '"'))

    refresh()

    check = checked(instance, "tiny_letters")
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    said = (check.description or "").splitlines()[0].rstrip()
    assert said.startswith("1 of 4 mirrors give every archive now.")
    assert said.endswith(", ".join(dead))


@pytest.mark.sources("tiny_letters")
def test_another_version_that_nobody_compared_is_not_certified(
    refresh: Refresh, site: Site, instance: dg.DagsterInstance
) -> None:
    refresh()
    site.etag = '"v2"'

    refresh({"look_at_mirrors": {"config": {"fetch_changed": False}}})

    check = checked(instance, "tiny_letters")
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "another version lies there" in (check.description or "")
    refresh()
    assert checked(instance, "tiny_letters").passed


@pytest.mark.sources("tiny_letters")
def test_what_an_earlier_release_saw_of_mirrors_is_not_forgotten(
    built: Project, site: Site, instance: dg.DagsterInstance
) -> None:
    source = built.plan().declared.sources["tiny_letters"]
    settings = built.settings(mirror=site.url)
    [found] = mirrors.look(
        built.plan().declared, [source], settings, {source.name: {}}, fetch=False
    )
    told = found.told()
    observed = dg.AssetObservation(
        dg.AssetKey(["tiny_letters", "archives"]), metadata=told.metadata
    )
    instance.report_runless_asset_event(observed)

    before = mirrors.known(instance, "tiny_letters")

    assert before == {one.probe.place: one for one in found.standings}


def test_a_new_release_that_was_declared_is_fetched_and_goes_through(
    built: Project, refresh: Refresh, site: Site, instance: dg.DagsterInstance
) -> None:
    refresh()
    labels = built.publisher.splits["tiny_digits", "test"][1]
    built.republish("tiny_digits", "test-labels.gz", builders.gz(builders.idx(labels[::-1])))
    site.etag = '"v2"'

    found = refresh()

    assert found.success
    assert found.made == DIGITS_BELOW_TEST | {"tiny_digits/archives"}
    assert checked(instance, "tiny_digits").passed
    assert refresh().outcome == "nothing to do"


@pytest.mark.sources("tiny_letters")
def test_what_is_gone_here_and_at_the_publishers_fails_and_keeps_the_rest(
    built: Project,
    refresh: Refresh,
    site: Site,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(graph, "RETRIES", None)  # they are tested in test_executions
    (built.data / "archives/tiny_letters/letters.zip").unlink()
    site.gone = True

    found = refresh()

    assert not found.success
    assert found.outcome == "made 0, 1 failed", "what was made from it is as it was"
    assert "tiny_letters/archives: letters.zip (" in found.errors
    assert found.moved == set()
    assert figures(instance, "tiny_letters") == (0, 1, 0), "observed all the same"
    site.gone = False
    assert refresh().made == {"tiny_letters/archives"}


@of_all
def test_offline_nothing_is_asked_for(
    refresh: Refresh, site: Site, instance: dg.DagsterInstance
) -> None:
    assert refresh(offline=True).outcome == "nothing to do"

    assert site.methods == []
    for source in DATASETS:
        assert mirrors.known(instance, source) == {}
        assert not instance.fetch_materializations(mirrors.key(source), limit=1).records


@of_all
def test_what_was_never_made_here_is_neither_looked_at_nor_made(
    project: Project, site_of_project: Site, instance: dg.DagsterInstance
) -> None:
    site = site_of_project
    job = project.definitions(site.url).resolve_job_def("refresh")
    assert job.execute_in_process(instance=instance).success
    assert (site.methods, project.snapshot()) == ([], {})
    project.build("tiny_letters")
    for table in ("train", "test"):
        (project.data / f"tables/tiny_letters/{table}.parquet").unlink()

    assert job.execute_in_process(instance=instance).success

    assert site.methods == ["HEAD"]
    plan = project.plan()
    reasons = {
        name: status.reasons(Folder(project.data), plan, dataset)
        for name, dataset in plan.declared.datasets.items()
    }
    assert reasons["tiny_letters"] == {}
    assert all(reasons[name] for name in ("tiny_colours", "tiny_digits"))
    assert {path.name for path in (project.data / "archives").iterdir()} == {"tiny_letters"}


@pytest.mark.sources("tiny_digits", "tiny_letters")
def test_what_the_settings_name_is_made_where_nothing_is_yet_and_nothing_else(
    project: Project, instance: dg.DagsterInstance
) -> None:
    named = ("tiny_digits", "tiny_letters")
    definitions = project.definitions(str(project.publisher.mirror), datasets=named)

    assert definitions.resolve_job_def("refresh").execute_in_process(instance=instance).success

    plan = project.plan()
    for name, dataset in plan.declared.datasets.items():
        reasons = status.reasons(Folder(project.data), plan, dataset)
        assert (reasons == {}) == (name in named)


# --- two at once, and looking only ----------------------------------------------------------------


def refreshed_alone(_: Sequence[str]) -> bool:
    """Run the job `refresh` as the environment wants it; return whether it failed."""
    job = automated(Settings.from_environment()).resolve_job_def("refresh")
    with dg.DagsterInstance.get() as instance:
        return not job.execute_in_process(instance=instance, raise_on_error=False).success


@of_all
def test_two_refreshes_at_once_both_succeed_and_make_each_artefact_once(
    project: Project, forked: Start
) -> None:
    settings = (
        Settings(project.data, project.publisher.catalogue, str(project.publisher.mirror))
        .with_({"datasets": DATASETS})
        .as_environment()
    )
    home = runs.home(Settings(project.data))
    dg.DagsterInstance.from_config(str(home)).dispose()  # its databases are there already
    both = [forked(run=refreshed_alone, **settings, DAGSTER_HOME=str(home)) for _ in range(2)]
    said = [process.communicate(timeout=100) for process in both]

    assert [done.returncode for done in said] == [0, 0], said
    with dg.DagsterInstance.from_config(str(home)) as found:
        outcomes = [run.tags[OUTCOME] for run in found.get_runs() if run.job_name == "refresh"]
        made = {
            asset
            for asset in found.all_asset_keys()
            for record in found.fetch_materializations(asset, limit=10).records
            if record.asset_materialization
            and "state" in record.asset_materialization.metadata
            and record.asset_materialization.metadata["state"].value == "made"
        }
    assert len(outcomes) == 2
    assert not any("failed" in outcome for outcome in outcomes)
    plan = project.plan()
    default = plan.of(plan.declared.datasets.values(), DEFAULT)
    assert {tuple(asset.path) for asset in made} == {one.asset for one in default}
    records = builders.files_under(project.data / "lineage")
    assert records
    assert [path for path in records if path.startswith("history/")] == [], "made twice"


@of_all
def test_the_job_verify_tells_what_is_broken_and_changes_nothing(
    built: Project, instance: dg.DagsterInstance
) -> None:
    job = built.definitions().resolve_job_def("verify")
    assert job.execute_in_process(instance=instance).success
    for path in ("tables/tiny_digits/test.parquet", "exports/tiny_letters/train.csv"):
        with (built.data / path).open("r+b") as file:
            file.seek(50)
            file.write(b"?")
    (built.data / "statistics/tiny_colours.parquet").unlink()
    before = built.snapshot()

    result = job.execute_in_process(instance=instance, raise_on_error=False)

    assert not result.success
    [failure] = [e for e in result.all_events if e.event_type_value == "STEP_FAILURE"]
    said = runs.reason(failure)
    assert "tables/tiny_digits/test.parquet: changed: " in said
    assert "exports/tiny_letters/train.csv: changed: " in said
    assert "statistics/tiny_colours.parquet: missing: it is not there" in said
    assert "verify --repair" in said
    assert built.snapshot() == before


def test_the_job_verify_can_compare_every_record_with_the_archives(
    built: Project, instance: dg.DagsterInstance
) -> None:
    job = built.definitions().resolve_job_def("verify")
    config = {"ops": {"verify_everything": {"config": {"deep": True}}}}

    assert job.execute_in_process(config, instance=instance).success


def test_what_a_refresh_does_not_make_and_is_broken_is_named_and_it_fails(
    built: Project, refresh: Refresh
) -> None:
    built.build("tiny_digits", stages=["npz"])
    [file] = (built.data / "exports/tiny_digits").glob("*.npz")
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)

    done = refresh()

    assert not done.success
    assert done.outcome == "made 0, 1 broken, made on request"
    assert f"{file.relative_to(built.data)}: changed: " in done.errors
    assert "verify --repair does" in done.errors
