"""Jobs, the schedule and the sensors: what they start, when, and that all are off at first."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from assets import spelling
from assets.definitions import automated
from assets.graph import define
from assets.running import integrity, jobs, mirrors, runs
from assets.settings import Settings
from pipelines.archives import fetching
from pipelines.errors import UnknownName
from pipelines.stages import DEFAULT
from tests import builders
from tests.assets.project import DATASETS, Project, Site, of_all
from tests.assets.test_refresh import figures, version
from tests.builders import newer_code

pytestmark = pytest.mark.sources("tiny_digits")

if TYPE_CHECKING:
    from dagster._core.definitions.declarative_automation.serialized_objects import (
        AutomationConditionCursor,
    )


@pytest.fixture(scope="module")
def everything() -> dg.Definitions:
    """The definitions of the built-in catalogue."""
    return automated(Settings())


# --- jobs -----------------------------------------------------------------------------------------


def selected(definitions: dg.Definitions, job: str) -> set[str]:
    layer = definitions.resolve_job_def(job).asset_layer
    return {key.to_user_string() for key in layer.executable_asset_keys}


def stages(assets: set[str]) -> set[str]:
    """The last words of assets' names: archives, train, train_csv, …"""
    return {asset.rpartition("/")[2] for asset in assets}


@of_all
def test_there_is_a_job_for_everything_each_source_and_each_stage(
    everything: dg.Definitions,
) -> None:
    graph = everything.resolve_asset_graph()
    plan = Settings().plan()
    default = plan.of(plan.declared.by_default, DEFAULT)
    assert selected(everything, "everything") == {"/".join(one.asset) for one in default}
    default = plan.of(plan.declared.datasets.values(), DEFAULT)
    jobs = {job.name for job in everything.resolve_all_job_defs()}
    for source, one in plan.declared.sources.items():
        if one.on_request and not any(dataset.is_in_parts for dataset in one.datasets.values()):
            assert f"everything_of_{spelling.legal(source)}" not in jobs, "nobody ever asked for it"
            continue
        # emnist, emnist/letters, emnist/on_request, …
        keys = {
            key.to_user_string()
            for key in graph.get_all_asset_keys()
            if (graph.get(key).group_name or "").partition("/")[0] == spelling.legal(source)
        }
        of_source = {"/".join(one.asset) for one in default if one.source.name == source}
        assert selected(everything, f"everything_of_{spelling.legal(source)}") == of_source <= keys
    assert stages(selected(everything, "archives")) == {"archives"}
    assert stages(selected(everything, "tables")) == {"archives", "train", "test"}
    exports = {f"{split}_{kind}" for split in ("train", "test") for kind in ("csv", "lmdb")}
    assert stages(selected(everything, "exports")) == {"archives", "train", "test"} | exports


def test_jobs_that_make_assets_do_not_look_at_mirrors(everything: dg.Definitions) -> None:
    for job in everything.resolve_all_job_defs():
        if not job.name.startswith("__"):
            checks = job.asset_layer.asset_graph.asset_check_keys
            assert mirrors.CHECK not in {check.name for check in checks}, job.name


@of_all
def test_every_source_has_a_check_of_its_mirrors_that_nothing_waits_for(
    everything: dg.Definitions,
) -> None:
    graph = everything.resolve_asset_graph()
    found = [check for check in graph.asset_check_keys if check.name == mirrors.CHECK]
    assert len(found) == len(Settings().plan().declared.sources)
    for check in found:
        assert check.asset_key.path[-1] == "mirrors", "archives count what a build tells of them"
        assert not graph.get_check_spec(check).blocking


def test_the_check_of_the_mirrors_can_be_run_by_itself(
    built: Project, site: Site, instance: dg.DagsterInstance
) -> None:
    graph = built.definitions(site.url)
    job = dg.define_asset_job(
        "look",
        dg.AssetSelection.checks(dg.AssetCheckKey(mirrors.key("tiny_digits"), mirrors.CHECK)),
    )
    found = dg.Definitions.merge(graph, dg.Definitions(jobs=[job])).resolve_job_def("look")
    site.gone = True

    result = found.execute_in_process(instance=instance)

    assert result.success, "a check tells; it stops nothing"
    [check] = result.get_asset_check_evaluations()
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert figures(instance, "tiny_digits") == (0, 4, 0)


# --- the schedule ---------------------------------------------------------------------------------


def test_what_starts_by_itself_is_off_at_first(everything: dg.Definitions) -> None:
    repository = everything.get_repository_def()
    assert repository.schedule_defs
    assert repository.sensor_defs
    for schedule in repository.schedule_defs:
        assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED, schedule.name
    for sensor in repository.sensor_defs:
        assert sensor.default_status is dg.DefaultSensorStatus.STOPPED, sensor.name


def schedules(project: Project, **settings: Any) -> dict[str, dg.ScheduleDefinition]:
    found = project.definitions(None, **settings).get_repository_def().schedule_defs
    return {schedule.name: schedule for schedule in found}


def times(project: Project, **settings: Any) -> dict[str, tuple[str, Any, str | None]]:
    """Schedule → its job, when it starts that, and where that is the time."""
    return {
        name: (one.job_name, one.cron_schedule, one.execution_timezone)
        for name, one in schedules(project, **settings).items()
    }


def test_refresh_and_verification_start_at_the_documented_times_unless_the_settings_say_otherwise(
    built: Project,
) -> None:
    assert times(built) == {
        "weekly_refresh": ("refresh", "0 6 * * 1", "UTC"),
        "weekly_verify": ("verify", "0 6 * * 4", "UTC"),
        "monthly_deep_verify": ("verify", "0 6 1 * *", "UTC"),
    }
    more = {
        "refresh_cron": "30 2 * * *",
        "verify_cron": "30 3 * * *",
        "deep_verify_cron": "30 4 * * 0",
        "refresh_timezone": "Europe/Paris",
    }
    assert times(built, **more) == {
        "weekly_refresh": ("refresh", "30 2 * * *", "Europe/Paris"),
        "weekly_verify": ("verify", "30 3 * * *", "Europe/Paris"),
        "monthly_deep_verify": ("verify", "30 4 * * 0", "Europe/Paris"),
    }


@pytest.mark.sources("tiny_letters")
@pytest.mark.parametrize(
    ("name", "deep"), [("weekly_verify", False), ("monthly_deep_verify", True)]
)
def test_what_is_here_is_verified_at_its_time_and_where_nothing_is_no_run_is_started(
    project: Project, instance: dg.DagsterInstance, name: str, deep: bool
) -> None:
    schedule = schedules(project)[name]
    context = dg.build_schedule_context(instance)
    assert schedule.evaluate_tick(context).skip_message == jobs.NOTHING_KEPT
    project.build("tiny_letters")

    [asked] = schedule.evaluate_tick(context).run_requests or []

    job = project.definitions().resolve_job_def("verify")
    assert job.execute_in_process(run_config=asked.run_config, instance=instance).success
    told = {key for key in (integrity.VERIFIED, integrity.DEEPLY) if _is_told(instance, key)}
    assert told == {integrity.VERIFIED} | ({integrity.DEEPLY} if deep else set())


def _is_told(instance: dg.DagsterInstance, key: dg.AssetKey) -> bool:
    return instance.get_latest_materialization_event(key) is not None


# --- the sensor that looks at mirrors -------------------------------------------------------------


LETTERS_ZIP = "tiny_letters/letters.zip"


class Ticks:
    """Ticks of the sensor `mirrors_changed`, as the daemon makes them."""

    def __init__(
        self, project: Project, url: str, instance: dg.DagsterInstance, **settings: Any
    ) -> None:
        self._project, self._url, self._instance = project, url, instance
        self._settings = settings
        self.cursor: str | None = None

    def __call__(self) -> tuple[list[str | None], set[str], str]:
        """Run keys, sources whose mirrors were told of, and why nothing is started."""
        repository = self._project.definitions(self._url, **self._settings).get_repository_def()
        context = dg.build_sensor_context(
            self._instance, self.cursor, repository_def=repository, sensor_name="mirrors_changed"
        )
        found = repository.get_sensor_def("mirrors_changed").evaluate_tick(context)
        for event in found.asset_events:
            self._instance.report_runless_asset_event(event)
        self.cursor = found.cursor or self.cursor
        return (
            [request.run_key for request in found.run_requests or ()],
            {event.asset_key.path[0] for event in found.asset_events} - {"overview"},
            found.skip_message or "",
        )


@pytest.fixture
def tick(built: Project, site: Site, instance: dg.DagsterInstance) -> Ticks:
    return Ticks(built, site.url, instance)


@of_all
def test_the_first_tick_only_records_and_another_version_starts_one_refresh(
    tick: Ticks, site: Site, instance: dg.DagsterInstance
) -> None:
    assert tick() == ([], set(DATASETS), "No mirror has news.")
    assert version(instance, "tiny_digits")
    site.etag = '"v2"'

    [run_key], sources, _ = tick()

    assert run_key
    assert sources == set(DATASETS)
    for _ in range(2):
        assert tick() == ([], set(DATASETS), "No mirror has news."), "but somebody looked"


@of_all
def test_a_mirror_that_answers_for_the_first_time_is_only_recorded(tick: Ticks, site: Site) -> None:
    site.gone = True
    assert tick()[0] == []
    site.gone = False

    assert tick() == ([], set(DATASETS), "No mirror has news.")


@pytest.mark.sources("tiny_digits", "tiny_letters")
def test_only_mirrors_of_what_was_made_here_are_looked_at(
    project: Project, site_of_project: Site, instance: dg.DagsterInstance
) -> None:
    site = site_of_project
    tick = Ticks(project, site.url, instance)
    assert tick() == ([], set(), jobs.NOTHING_KEPT)
    project.build("tiny_letters", stages=["archives"])
    assert tick() == ([], set(), jobs.NOTHING_KEPT), "archives were fetched, perhaps for others"
    assert site.methods == []

    project.build("tiny_letters")

    assert tick() == ([], {"tiny_letters"}, "No mirror has news.")
    project.build("tiny_digits")
    both = {"tiny_letters", "tiny_digits"}
    assert tick() == ([], both, "No mirror has news."), "new here, and no news"
    site.etag = '"v2"'
    [_], sources, _ = tick()
    assert sources == {"tiny_letters", "tiny_digits"}


@pytest.mark.sources("tiny_colours")
def test_the_settings_may_name_whose_mirrors_are_looked_at(
    project: Project, site_of_project: Site, instance: dg.DagsterInstance
) -> None:
    tick = Ticks(project, site_of_project.url, instance, datasets=("tiny_colours",))

    assert tick() == ([], {"tiny_colours"}, "No mirror has news.")


@pytest.mark.sources("tiny_letters")
def test_another_version_at_one_mirror_is_news_each_time(tick: Ticks, built: Project) -> None:
    tick()
    built.publisher.archive("tiny_letters", "letters.zip").write_bytes(b"another")
    [first], _, _ = tick()
    built.publisher.archive("tiny_letters", "letters.zip").write_bytes(b"other")

    [second], _, _ = tick()

    assert second != first
    assert tick()[0] == []


def test_a_version_that_comes_back_is_news_again(tick: Ticks, site: Site) -> None:
    tick()
    keys = []
    for etag in ('"v2"', '"v1"', '"v2"', '"v1"'):
        site.etag = etag
        keys += tick()[0]

    assert len(set(keys)) == 4, "Dagster starts one run for a key, ever"


@of_all
def test_a_mirror_that_dies_and_comes_back_is_observed_and_nothing_is_started(
    tick: Ticks, site: Site, instance: dg.DagsterInstance
) -> None:
    tick()
    for gone in (True, False):
        site.gone = gone
        assert tick() == ([], set(DATASETS), "No mirror has news.")
        assert figures(instance, "tiny_letters") == ((0, 1, 0) if gone else (1, 0, 0))


def test_where_no_mirror_answers_at_all_nothing_is_started(tick: Ticks, site: Site) -> None:
    site.gone = True

    assert tick()[0] == []


def test_what_the_sensor_saw_is_still_compared_by_the_refresh_that_it_starts(
    tick: Ticks, built: Project, site: Site, instance: dg.DagsterInstance
) -> None:
    refresh = built.definitions(site.url).resolve_job_def("refresh")
    tick()
    refresh.execute_in_process(instance=instance)
    file = built.publisher.archive("tiny_digits", "test-labels.gz")
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    site.etag = '"v2"'
    assert len(tick()[0]) == 1
    assert "GET" not in site.methods, "a tick fetches nothing"

    refresh.execute_in_process(instance=instance)

    assert figures(instance, "tiny_digits") == (1, 0, 1)


def test_the_sensor_looks_once_a_day_at_most(everything: dg.Definitions) -> None:
    sensor = everything.get_repository_def().get_sensor_def("mirrors_changed")
    assert sensor.minimum_interval_seconds == 24 * 60 * 60


@of_all
def test_the_cursor_is_small_and_readable(tick: Ticks, site: Site) -> None:
    tick()
    site.etag = '"v2"'
    tick()
    found = json.loads(tick.cursor or "")
    assert found["changes"] == 1
    place, size = f"{site.url}tiny_letters/letters.zip", len((site.root / LETTERS_ZIP).read_bytes())
    assert found["places"][place].startswith(f'bytes {size}, etag "v2"')
    assert len(found["places"]) == 6


# --- conditions -----------------------------------------------------------------------------------


class Daemon:
    """Ticks of the sensor `declarative`: what its conditions ask for is materialized."""

    def __init__(
        self,
        project: Project,
        instance: dg.DagsterInstance,
        cursor: AutomationConditionCursor | None = None,
        now: datetime = datetime(2026, 1, 1, 12, tzinfo=UTC),  # a Thursday
        **settings: Any,
    ) -> None:
        self._project, self._instance, self._settings = project, instance, settings
        self.cursor, self.now = cursor, now

    def _tick(self, definitions: dg.Definitions) -> set[str]:
        """Return the assets that are asked for, and materialize them."""
        result = dg.evaluate_automation_conditions(
            definitions,
            self._instance,
            dg.AssetSelection.all(),
            cursor=self.cursor,
            evaluation_time=self.now,
        )
        self.cursor = result.cursor
        asked = [
            key
            for key in definitions.resolve_asset_graph().materializable_asset_keys
            if result.get_num_requested(key)
        ]
        if asked:
            settings = Settings(
                self._project.data,
                self._project.publisher.catalogue,
                str(self._project.publisher.mirror),
            )
            made = define(settings, settings.plan())
            runs.execute(self._instance, made, asked, "declarative", "the sensor")
        self.now += timedelta(minutes=1)
        return {key.to_user_string() for key in asked}

    def settle(self) -> list[set[str]]:
        """Tick until nothing is asked for twice in a row; return what was, tick by tick."""
        definitions = self._project.definitions(
            str(self._project.publisher.mirror), **self._settings
        )
        found: list[set[str]] = []
        while len(found) < 20 and found[-2:] != [set(), set()]:
            found.append(self._tick(definitions))
        assert len(found) < 20, f"it never ends: {found}"
        return [asked for asked in found if asked]


@dataclass(frozen=True)
class Settled:
    """What a daemon leaves that has seen everything built and has nothing to do."""

    project: Project
    records: Path
    cursor: AutomationConditionCursor | None
    now: datetime


@pytest.fixture(scope="module")
def _settled_once(
    _built_of: Callable[..., Project], tmp_path_factory: pytest.TempPathFactory
) -> Settled:
    folder = tmp_path_factory.mktemp("settled")
    built = _built_of("tiny_digits", "tiny_letters")
    project, records = built.copied_to(folder / "project"), folder / "records"
    records.mkdir()
    settings = Settings(project.data, project.publisher.catalogue, str(project.publisher.mirror))
    definitions = define(settings, settings.plan())
    keys = definitions.resolve_asset_graph().materializable_asset_keys
    with dg.DagsterInstance.local_temp(str(records)) as instance:
        runs.execute(instance, definitions, list(keys), "everything", "a test")
        found = Daemon(project, instance)
        assert found.settle() == []
    return Settled(project, records, found.cursor, found.now)


@pytest.fixture
def settled(_settled_once: Settled, tmp_path: Path) -> Project:
    """A project of the test's own in which everything is built."""
    return _settled_once.project.copied_to(tmp_path / "project")


@pytest.fixture
def daemon(_settled_once: Settled, settled: Project, tmp_path: Path) -> Iterator[Daemon]:
    """A daemon that has seen everything built and has nothing to do."""
    records = shutil.copytree(_settled_once.records, tmp_path / "records")
    with dg.DagsterInstance.local_temp(str(records)) as instance:
        yield Daemon(settled, instance, _settled_once.cursor, _settled_once.now)


LETTERS = {f"tiny_letters/{name}" for name in ("train", "test")}
EXPORTS_OF_LETTERS = {f"{table}_{kind}" for table in LETTERS for kind in ("csv", "lmdb")}
ARCHIVES_OF_ALL = {"tiny_digits/archives", "tiny_letters/archives"}


def made_by_default(project: Project, *datasets: str) -> set[str]:
    plan = project.plan()
    return {
        "/".join(asset)
        for asset in plan.assets(
            plan.of(plan.declared.select(datasets or project.sources), DEFAULT)
        )
    }


def test_what_was_never_made_is_asked_for_by_nobody(
    project: Project, instance: dg.DagsterInstance
) -> None:
    daemon = Daemon(project, instance)
    assert daemon.settle() == []
    daemon.now = datetime(2026, 1, 5, 6, 1, tzinfo=UTC)  # Monday, just after six

    assert daemon.settle() == []


@pytest.mark.sources("tiny_digits", "tiny_letters")
def test_once_a_table_was_made_the_rest_of_its_dataset_is_and_no_others(
    project: Project, instance: dg.DagsterInstance
) -> None:
    daemon = Daemon(project, instance)
    daemon.settle()
    settings = project.settings(mirror=str(project.publisher.mirror))
    first = {"tiny_letters/archives", "tiny_letters/train"}
    keys = [dg.AssetKey(name.split("/")) for name in sorted(first)]
    runs.execute(instance, define(settings, settings.plan()), keys, "tables", "a test")

    asked = daemon.settle()

    rest = made_by_default(project, "tiny_letters") - first
    assert set().union(*asked) == rest
    daemon.now = datetime(2026, 1, 5, 6, 1, tzinfo=UTC)  # Monday, just after six
    assert daemon.settle() == [{"tiny_letters/archives"}]


@pytest.mark.sources("tiny_digits", "tiny_letters")
def test_what_the_settings_name_is_asked_for_once_all_together(
    project: Project, instance: dg.DagsterInstance
) -> None:
    named = ("tiny_digits", "tiny_letters")

    [asked] = Daemon(project, instance, datasets=named).settle()

    assert asked == made_by_default(project, *named)


@of_all
def test_a_dataset_that_the_settings_misspell_is_refused_when_the_ui_loads(
    project: Project,
) -> None:
    with pytest.raises(UnknownName, match=r"IMAGESETS_DATASETS: .*'tiny_leters'.*tiny_letters"):
        project.definitions(datasets=("tiny_leters",))


@pytest.mark.sources("tiny_letters")
def test_what_could_not_be_made_is_not_asked_for_at_every_tick(
    project: Project, instance: dg.DagsterInstance
) -> None:
    project.publisher.archive("tiny_letters", "letters.zip").unlink()

    asked = Daemon(project, instance, datasets=project.sources).settle()

    assert sum("tiny_letters/archives" in some for some in asked) == 1


def test_when_the_time_comes_archives_are_looked_at_and_what_is_as_it_was_ends_there(
    daemon: Daemon, settled: Project
) -> None:
    before = settled.snapshot()
    daemon.now = datetime(2026, 1, 5, 6, 1, tzinfo=UTC)  # Monday, just after six

    assert daemon.settle() == [ARCHIVES_OF_ALL]

    assert settled.snapshot() == before


def test_other_bytes_go_through_to_the_last_export_of_their_source(
    daemon: Daemon, settled: Project
) -> None:
    labels = settled.publisher.splits["tiny_digits", "test"][1]
    settled.republish("tiny_digits", "test-labels.gz", builders.gz(builders.idx(labels[::-1])))

    found = daemon.settle()

    # The declaration is a part of what makes each asset, so all are asked for; bytes decide below.
    assert found[0] >= {"tiny_digits/archives"}
    asked = set().union(*found)
    assert {asset.partition("/")[0] for asset in asked} == {"tiny_digits"}
    assert settled.build("tiny_digits")["tiny_digits/test_csv"].state == "up to date"


def test_newer_code_asks_for_its_asset_and_what_is_below_if_its_bytes_changed(
    daemon: Daemon, settled: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer_code(monkeypatch, "csv")
    csv = {f"{source}/{split}_csv" for source in settled.sources for split in ("train", "test")}
    assert daemon.settle() == [csv]

    monkeypatch.setattr(fetching, "CODE_VERSION", "newer")
    assert daemon.settle() == [ARCHIVES_OF_ALL], "the archives came out as they were"


def test_a_renamed_class_asks_for_what_tells_it(daemon: Daemon, settled: Project) -> None:
    settled.redeclare("tiny_letters", '"A"', '"Alpha"')

    found = daemon.settle()

    assert set().union(*found) >= LETTERS
    assert "tiny_letters/archives" not in set().union(*found)
    assert settled.build("tiny_letters")["tiny_letters/statistics"].state == "up to date"


def test_a_check_that_fails_stops_what_is_below(daemon: Daemon, settled: Project) -> None:
    found = builders.counts(settled.publisher.splits["tiny_letters", "train"][1], 4)
    wrong = [found[0] + 1, found[1] - 1, *found[2:]]
    settled.redeclare("tiny_letters", f"counts = {found}", f"counts = {wrong}")

    asked = daemon.settle()

    assert "tiny_letters/train_csv" not in set().union(*asked[1:])
