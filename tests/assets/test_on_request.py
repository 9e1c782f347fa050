"""A source that is made on request: only who names it, or a dataset of it, has it made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.storage.tags import BACKFILL_ID_TAG

from assets.graph import define
from assets.running import runs
from pipelines import products
from pipelines.errors import CatalogueError
from pipelines.plan import Plan
from pipelines.products import Product
from pipelines.stages import DEFAULT
from tests.assets.conftest import Command
from tests.assets.project import Project, made
from tests.assets.test_automation import Daemon

pytestmark = pytest.mark.sources("tiny_digits", "tiny_letters")

LARGE, SMALL = "tiny_letters", "tiny_digits"


def on_request(project: Project, *sources: str) -> Project:
    for source in sources or (LARGE,):
        project.redeclare(source, 'title = "Tiny"\n', 'title = "Tiny"\non_request = true\n')
    return project


@pytest.fixture
def large(project: Project) -> Project:
    """A project of two sources, in which nothing is built; one of them is made on request."""
    return on_request(project)


@pytest.fixture
def all_built(built: Project) -> Project:
    """The same, and somebody built both."""
    return on_request(built)


def options(project: Project) -> list[str]:
    return [*project.options, *project.mirror]


def files_of(project: Project, name: str) -> list[str]:
    """What is in the data folder of a dataset, or of its source."""
    return [path for path in project.snapshot() if f"/{name}" in path]


# --- the catalogue and the plan -------------------------------------------------------------------


def test_datasets_of_such_a_source_are_there_and_not_among_those_by_default(large: Project) -> None:
    declared = large.plan().declared

    assert {*declared.datasets} == {SMALL, LARGE}
    assert [one.name for one in declared.by_default] == [SMALL]
    assert [one.name for one in declared.select([LARGE])] == [LARGE]


@pytest.mark.parametrize("value", ['"yes"', "1", "[true]"])
def test_it_is_true_or_false_and_nothing_else(project: Project, value: str) -> None:
    project.redeclare(LARGE, 'title = "Tiny"\n', f'title = "Tiny"\non_request = {value}\n')

    with pytest.raises(CatalogueError, match="on_request: Input should be a valid boolean"):
        project.plan()


def test_whether_it_is_made_on_request_makes_nothing_again(all_built: Project) -> None:
    assert made(all_built.build(SMALL, LARGE)) == set()


def listing(index: Product) -> Product:
    """An index of all datasets that needs the statistics of each, and lists what it is given."""

    def write(inputs: Any, goal: Path, _chosen: Any, _advance: Any) -> dict[str, Any]:
        goal.write_text("".join(f"{path}\n" for path in inputs.paths))
        return {}

    return replace(
        index, write=write, needs=("statistics",), uses=("tables",), requires=(), extra=None
    )


def test_what_is_of_all_datasets_shows_it_where_it_is_there_and_never_needs_it(
    large: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: Any = products.known()
    monkeypatch.setitem(known, "index", listing(known["index"]))
    page = large.data / "descriptions/index.html"
    tables = [f"tables/{{}}/{split}.parquet" for split in ("train", "test")]
    small = [f"statistics/{SMALL}.parquet", *(table.format(SMALL) for table in tables)]

    large.build(SMALL, stages=["index"])

    assert sorted(page.read_text().splitlines()) == sorted(small)
    assert files_of(large, LARGE) == []
    found = large.plan()
    of_default = found.of(found.declared.by_default)
    assert "descriptions/index.html" in {one.path for one in of_default}, "it is of all of these"
    assert not any(one.is_of_catalogue for one in found.of(found.declared.select([LARGE])))

    large.build(LARGE)

    assert made(large.build(SMALL, stages=["index"])) == {"catalogue/index"}
    there = [f"statistics/{LARGE}.parquet", *(table.format(LARGE) for table in tables)]
    assert sorted(page.read_text().splitlines()) == sorted([*small, *there])


# --- commands -------------------------------------------------------------------------------------


def test_a_build_that_names_nothing_leaves_it_out_and_says_how_to_have_it(
    large: Project, command: Command
) -> None:
    said = command("build", *options(large))

    assert said.code == 0, said.stderr
    assert files_of(large, SMALL)
    assert files_of(large, LARGE) == []
    size = large.publisher.archive(LARGE, "letters.zip").stat().st_size
    assert said.stdout.splitlines()[-1] == (
        f"Left out, since made on request: {LARGE} ({size / 1000:.1f} kB). Name it: python -m "
        f"assets build {LARGE}"
    )
    again = command("build", *options(large)).stdout
    assert "Nothing to do" in again
    assert f"build {LARGE}" in again


@pytest.mark.parametrize("names", [[LARGE], [LARGE, SMALL]])
def test_a_build_that_names_it_makes_it(large: Project, command: Command, names: list[str]) -> None:
    said = command("build", *names, *options(large))

    assert said.code == 0, said.stderr
    assert "on request" not in said.stdout
    wanted = large.plan().of(large.plan().declared.select(names), DEFAULT)
    assert all((large.data / one.path).exists() for one in wanted), "even if it is all there is"


def test_archives_are_fetched_and_mirrored_of_what_is_named(
    large: Project, command: Command, tmp_path: Path
) -> None:
    fetched = command("fetch", *options(large))
    goal = tmp_path / "a mirror"
    mirrored = command("mirror", str(goal), *options(large))

    assert (fetched.code, mirrored.code) == (0, 0)
    assert files_of(large, LARGE) == []
    assert [path.name for path in goal.iterdir()] == [SMALL]
    assert f"Name it: python -m assets fetch {LARGE}\n" in fetched.stdout
    assert f"Name it: python -m assets mirror '{goal}' {LARGE}\n" in mirrored.stdout

    assert command("fetch", LARGE, *options(large)).code == 0
    assert command("mirror", str(goal), LARGE, *options(large)).code == 0
    assert (large.data / "archives" / LARGE / "letters.zip").exists()
    assert (goal / LARGE / "letters.zip").exists()


def test_where_all_there_is_is_made_on_request_a_build_asks_for_a_name(
    large: Project, command: Command
) -> None:
    on_request(large, SMALL)

    for name in ("build", "fetch"):
        said = command(name, *options(large))
        assert said.code == 2
        assert f"made on request: name what you want. Known: {SMALL}, {LARGE}." in said.stderr
    assert command("build", SMALL, *options(large)).code == 0
    assert files_of(large, LARGE) == []


def test_list_says_that_it_is_on_request_and_what_of_it_is_here(
    large: Project, command: Command
) -> None:
    def row() -> str:
        lines = command("list", *large.options).stdout.splitlines()
        [found] = [line for line in lines if line.startswith(LARGE)]
        return found

    assert row().endswith("  on request")
    large.build(LARGE, stages=["archives"])
    assert "  on request: 1 of " in row()
    large.build(LARGE)
    assert "  on request: up to date (" in row()


def test_who_looks_at_what_is_here_looks_at_what_was_made_of_it(
    large: Project, command: Command
) -> None:
    large.build(SMALL)
    seen = [*large.options]
    assert command("status", *seen).code == 0, "that it is not built is no trouble"
    assert command("verify", *seen).code == 0
    assert command("lock", *seen).stdout.split()[::2] == [SMALL]

    large.build(LARGE)

    assert command("lock", *seen).stdout.split()[::2] == [SMALL, LARGE]
    assert "Tiny letters" in command("statistics", *seen).stdout
    (large.data / "tables" / LARGE / "test.parquet").write_bytes(b"rotten")
    assert f"tables/{LARGE}/test.parquet: changed" in command("verify", *seen).stdout
    assert command("status", *seen).code == 1
    assert command("verify", "--repair", *options(large)).code == 0
    assert command("status", *seen).code == 0


def test_a_part_of_it_is_all_that_there_should_be(large: Project, command: Command) -> None:
    large.build(SMALL)
    large.build(LARGE, stages=["tables"])

    said = command("status", *large.options)

    assert said.code == 0, "nobody asked for its exports"
    [row] = [line for line in said.stdout.splitlines() if line.startswith(LARGE)]
    assert "up to date" in row
    assert "  3 of 3  " in row
    (large.data / "archives" / LARGE / "letters.zip").unlink()
    assert command("status", *large.options).code == 1, "what was made of it should be here"


# --- runs of Dagster ------------------------------------------------------------------------------


def selected(definitions: dg.Definitions, job: str) -> set[str]:
    layer = definitions.resolve_job_def(job).asset_layer
    return {key.path[0] for key in layer.executable_asset_keys}


def test_the_ui_shows_its_archives_until_somebody_asks_for_it(large: Project) -> None:
    def shown() -> set[str]:
        found = large.definitions().resolve_asset_graph().materializable_asset_keys
        return {key.path[1] for key in found if key.path[0] == LARGE}

    assert shown() == {"archives"}
    assert f"everything_of_{LARGE}" not in {
        job.name for job in large.definitions().resolve_all_job_defs()
    }

    large.build(LARGE, stages=["archives"])
    assert shown() > {"archives", "train", "train_csv", "statistics", "card"}


def test_no_job_of_everything_has_it_and_one_of_its_own_does(all_built: Project) -> None:
    definitions = all_built.definitions()

    for name in ("everything", "archives", "tables", "exports", f"everything_of_{SMALL}"):
        assert selected(definitions, name) == {SMALL}, name
    assert selected(definitions, f"everything_of_{LARGE}") == {LARGE}


def test_where_all_there_is_is_made_on_request_there_is_no_job_of_everything(
    all_built: Project,
) -> None:
    definitions = on_request(all_built, SMALL).definitions()

    names = {job.name for job in definitions.resolve_all_job_defs()}
    assert {f"everything_of_{SMALL}", f"everything_of_{LARGE}", "refresh", "verify"} <= names
    assert not {"everything", "archives", "tables", "exports"} & names


def test_the_job_of_its_own_makes_it(large: Project, instance: dg.DagsterInstance) -> None:
    large.build(LARGE, stages=["archives"])
    job = large.definitions(str(large.publisher.mirror)).resolve_job_def(f"everything_of_{LARGE}")

    assert job.execute_in_process(instance=instance).success

    wanted = large.plan().of(large.plan().declared.select([LARGE]), DEFAULT)
    assert all((large.data / one.path).exists() for one in wanted)


def keys(found: Plan, *datasets: str) -> list[dg.AssetKey]:
    """All assets there are, or all that there can be of some datasets."""
    chosen = found.of(found.declared.select(datasets)) if datasets else None
    return [dg.AssetKey(asset) for asset in found.assets(chosen)]


@pytest.mark.parametrize("names_them", [True, False])
def test_materialize_all_leaves_it_out(
    large: Project, instance: dg.DagsterInstance, names_them: bool
) -> None:
    settings = large.settings(mirror=str(large.publisher.mirror))
    job = define(settings, settings.plan()).resolve_implicit_global_asset_job_def()

    found = job.execute_in_process(
        instance=instance, asset_selection=keys(settings.plan()) if names_them else None
    )

    assert found.success
    wanted = settings.plan().of(settings.plan().declared.by_default, DEFAULT)
    assert all((large.data / one.path).exists() for one in wanted)
    assert files_of(large, LARGE) == []


def test_who_materializes_all_of_its_group_has_it(
    large: Project, instance: dg.DagsterInstance
) -> None:
    settings = large.settings(mirror=str(large.publisher.mirror))
    job = define(settings, settings.plan()).resolve_implicit_global_asset_job_def()
    default = settings.plan().of(settings.plan().declared.select([LARGE]), DEFAULT)

    found = job.execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(asset) for asset in settings.plan().assets(default)],
    )

    assert found.success
    assert all((large.data / one.path).exists() for one in default)


@pytest.mark.parametrize(("asked", "is_made"), [((), False), ((LARGE,), True)])
def test_a_run_of_it_alone_that_is_part_of_a_backfill_of_everything_makes_nothing(
    large: Project, instance: dg.DagsterInstance, asked: tuple[str, ...], is_made: bool
) -> None:
    # Where some assets have partitions, "Materialize all" is a backfill: a run for each kind.
    settings = large.settings(mirror=str(large.publisher.mirror))
    job = define(settings, settings.plan()).resolve_implicit_global_asset_job_def()
    instance.add_backfill(
        PartitionBackfill(
            backfill_id="all",
            status=BulkActionStatus.REQUESTED,
            from_failure=False,
            tags={},
            backfill_timestamp=0.0,
            asset_selection=keys(settings.plan(), *asked),
        )
    )

    found = job.execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey([LARGE, "archives"]), dg.AssetKey([LARGE, "train"])],
        tags={BACKFILL_ID_TAG: "all"},
    )

    assert found.success
    assert bool(files_of(large, LARGE)) is is_made


# --- what is kept up to date ----------------------------------------------------------------------


def refreshed(project: Project, instance: dg.DagsterInstance, **settings: Any) -> None:
    mirror = str(project.publisher.mirror)
    job = project.definitions(mirror, **settings).resolve_job_def("refresh")
    assert job.execute_in_process(instance=instance).success


def test_a_refresh_mends_what_was_made_of_it_and_makes_no_more(
    large: Project, instance: dg.DagsterInstance
) -> None:
    large.build(SMALL)
    refreshed(large, instance)
    assert files_of(large, LARGE) == [], "nobody asked for it"

    large.build(LARGE, stages=["tables"])
    before = files_of(large, LARGE)
    (large.data / "tables" / LARGE / "test.parquet").write_bytes(b"rotten")
    refreshed(large, instance)

    assert files_of(large, LARGE) == before, "mended, and no exports beside it"
    assert large.build(LARGE, stages=["tables"])[f"{LARGE}/test"].state == "up to date"


def test_what_the_settings_name_is_kept_up_to_date_as_a_whole(
    large: Project, instance: dg.DagsterInstance
) -> None:
    refreshed(large, instance, datasets=(LARGE,))

    assert made(large.build(LARGE)) == set(), "all was made"
    assert files_of(large, SMALL) == []


def test_no_condition_asks_for_what_nobody_made_of_it(
    large: Project, instance: dg.DagsterInstance
) -> None:
    daemon = Daemon(large, instance)
    assert daemon.settle() == []
    settings = large.settings(mirror=str(large.publisher.mirror))
    wanted = [dg.AssetKey([LARGE, "archives"]), dg.AssetKey([LARGE, "train"])]
    runs.execute(instance, define(settings, settings.plan()), wanted, "by_hand", "a test")

    assert daemon.settle() == [], "the rest was not asked for"
    large.redeclare(LARGE, 'title = "Tiny letters"', 'title = "Small letters"')
    assert daemon.settle() == [{f"{LARGE}/train"}], "but what was is made again"


def test_the_condition_makes_all_of_it_where_the_settings_name_it(
    large: Project, instance: dg.DagsterInstance
) -> None:
    asked = set().union(*Daemon(large, instance, datasets=(LARGE,)).settle())

    found = large.plan()
    wanted = found.assets(found.of(found.declared.select([LARGE]), DEFAULT))
    assert asked == {"/".join(asset) for asset in wanted}
