"""Days of operation: all is turned on, publishers change, vanish and come back, a run is killed.

The daemon's part is played here, at times of our own: which sensor and schedule is due, which runs
their ticks ask for. What they do, and the runs, are the product's.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from assets.graph import define
from assets.running import abandoned, runs
from assets.settings import Settings
from pipelines.lineage import verify
from pipelines.progress import Display
from pipelines.stages import DEFAULT
from tests import builders
from tests.assets.project import Project, Site, environment, executing, serving
from tests.assets.test_notifications import Chat, chat
from tests.servers import Handler
from tests.servers import serving as answering
from tests.waiting import until

__all__ = ["chat"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc"),
]

KEPT = ("tiny_digits", "tiny_letters")
LOCATION = InProcessCodeLocationOrigin(
    LoadableTargetOrigin(python_file="assets/definitions.py"), location_name="imagesets"
)
SUNDAY = datetime(2026, 1, 4, tzinfo=UTC)


@dataclass
class Publishers(Site):
    """A server of all sources; each can vanish by itself."""

    vanished: set[str] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)

    def __call__(self, handler: Handler, data: bytes) -> None:
        source = handler.path.split("/")[1]
        self.asked.add(source)
        self.gone = source in self.vanished
        super().__call__(handler, data)


class Operation:
    """Everything turned on, in a project that begins with nothing."""

    def __init__(self, project: Project, site: Publishers, chat: Chat) -> None:
        self.project, self.site, self.chat = project, site, chat
        self.now = SUNDAY
        self.verified: list[bool] = []  # whether each verification found all whole
        self._cursors: dict[str, Any] = {}
        self._due: dict[str, datetime] = {}
        self._keys: set[str | None] = set()
        self._declared: dict[Path, bytes] = {}
        self._definitions = dg.Definitions()

    def settings(self, mirror: str = "") -> Settings:
        return self.project.settings(mirror=mirror or self.site.url, webhook=self.chat.url)

    @contextmanager
    def records(self) -> Iterator[dg.DagsterInstance]:
        with runs.records(self.settings()) as instance:
            yield instance

    def person_makes(self, *datasets: str) -> None:
        """Materialize some datasets, as somebody does who selects them in the UI."""
        settings = self.settings()
        plan = settings.plan()
        chosen = plan.declared.select(datasets)
        keys = [dg.AssetKey(one) for one in plan.assets(plan.of(chosen, DEFAULT))]
        with self.records() as instance:
            runs.execute(instance, define(settings, plan), keys, "by_hand", "somebody")

    def days(self, days: int) -> list[str]:
        """Let time pass; return the jobs that were started, and the assets that were asked for."""
        started, until = [], self.now + timedelta(days=days)
        while self.now < until:
            self.now += timedelta(days=1)
            with self.records() as instance:
                abandoned.close(instance)
                started += self._ticks(instance)
        return started

    def _ticks(self, instance: dg.DagsterInstance) -> list[str]:
        definitions, repository = self._loaded()
        started = []
        for schedule in repository.schedule_defs:
            is_refresh = schedule.job_name == "refresh"
            first = SUNDAY + timedelta(days=1 if is_refresh else 4, hours=6)
            every = timedelta(days=28 if "monthly" in schedule.name else 7)
            if self._is_due(schedule.name, every, first):
                tick = schedule.evaluate_tick(dg.build_schedule_context(instance))
                for request in tick.run_requests or ():
                    job = definitions.resolve_job_def(schedule.job_name)
                    run = job.execute_in_process(request.run_config, instance, raise_on_error=False)
                    if is_refresh:
                        started.append(schedule.job_name)
                    else:
                        self.verified.append(run.success)
        for sensor in repository.sensor_defs:
            if isinstance(sensor, dg.AutomationConditionSensorDefinition):
                started += self._condition(instance, definitions)
                continue
            every = timedelta(seconds=sensor.minimum_interval_seconds or 30)
            if not self._is_due(sensor.name, every):
                continue
            found = self._tick(instance, sensor)
            for event in found.asset_events:
                instance.report_runless_asset_event(event)
            for request in found.run_requests or ():
                if request.run_key not in self._keys:
                    self._keys.add(request.run_key)
                    started.append(self._run(instance, definitions, "refresh"))
        return started

    def _loaded(self) -> tuple[dg.Definitions, dg.RepositoryDefinition]:
        """Load what is defined, as the daemon does; again only where a declaration changed."""
        declared = {path: path.read_bytes() for path in self.project.publisher.catalogue.iterdir()}
        if declared != self._declared:
            self._declared = declared
            self._definitions = self.project.definitions(self.site.url, webhook=self.chat.url)
        return self._definitions, self._definitions.get_repository_def()

    def _is_due(self, name: str, every: timedelta, first: datetime = SUNDAY) -> bool:
        due = self._due.setdefault(name, first)
        if self.now < due:
            return False
        self._due[name] = self.now + every
        return True

    def _run(self, instance: dg.DagsterInstance, definitions: dg.Definitions, job: str) -> str:
        found = definitions.resolve_job_def(job)
        found.execute_in_process(instance=instance, raise_on_error=False)
        return job

    def _condition(self, instance: dg.DagsterInstance, definitions: dg.Definitions) -> list[str]:
        result = dg.evaluate_automation_conditions(
            definitions,
            instance,
            dg.AssetSelection.all(),
            cursor=self._cursors.get("declarative"),
            evaluation_time=self.now,
        )
        self._cursors["declarative"] = result.cursor
        asked = [
            key
            for key in definitions.resolve_asset_graph().materializable_asset_keys
            if result.get_num_requested(key)
        ]
        if asked:
            settings = self.settings()
            made = define(settings, settings.plan())
            runs.execute(instance, made, asked, "declarative", "the sensor declarative")
        return sorted(key.to_user_string() for key in asked)

    def _tick(
        self, instance: dg.DagsterInstance, sensor: dg.SensorDefinition
    ) -> SensorExecutionData:
        """Let a sensor tick as in the daemon, where it is of a code location."""
        _, repository = self._loaded()
        context = dg.SensorEvaluationContext(
            instance_ref=None,
            instance=instance,
            cursor=self._cursors.get(sensor.name),
            repository_name=repository.name,
            repository_def=repository,
            sensor_name=sensor.name,
            code_location_origin=LOCATION,
        )
        found = sensor.evaluate_tick(context)
        self._cursors[sensor.name] = found.cursor or context.cursor
        return found

    def killed_in_the_middle(self, job: str) -> str:
        """Run a job whose fetch never ends, and kill its process; return the run."""
        known = {run.run_id for run in self._under_way()}
        with serving(self.project.publisher.mirror, stall=True) as stalled:
            settings = self.settings(stalled.url)
            with subprocess.Popen(
                executing(job),
                env=environment(DAGSTER_HOME=str(runs.home(settings)), **settings.as_environment()),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ) as process:
                until(stalled.stalled.is_set)
                started = [run for run in self._under_way() if run.run_id not in known]
                process.kill()
        return max(started, key=lambda run: run.job_name == job).run_id

    def _under_way(self) -> list[dg.DagsterRun]:
        with self.records() as instance:
            return list(instance.get_runs(dg.RunsFilter(statuses=list(abandoned.UNDER_WAY))))

    def told(self) -> list[str]:
        """What people were told since the last time that this was asked."""
        texts = [str(message["text"]) for message in self.chat.told]
        self.chat.told.clear()
        return texts

    def assert_all_is_well(self) -> None:
        """Nothing is under way or stuck, and every artefact of what is kept is whole."""
        assert self._under_way() == []
        plan = self.project.plan()
        kept = plan.declared.select(KEPT)
        verdicts = verify.verify(self.settings().store, plan, kept, Display(), deep=True)
        assert len(verdicts) >= 2 * 8
        assert [v.path for v in verdicts if not v.is_whole] == []


@pytest.fixture
def operation(project: Project, chat: Chat) -> Iterator[Operation]:
    site = Publishers(project.publisher.mirror)
    with answering(b"", site) as server:
        site.url = server.url
        yield Operation(project, site, chat)


def test_days_of_operation_leave_nothing_stuck_fetch_what_was_asked_for_and_tell_once(
    operation: Operation,
) -> None:
    site, project = operation.site, operation.project
    assert operation.days(2) == ["refresh"], "it is Monday once, and there is nothing to refresh"
    assert site.methods == [], "nothing was ever made here: nobody is asked for anything"

    operation.person_makes(*KEPT)
    before = project.snapshot()
    assert operation.days(2) == [], "what is new here has no news"
    assert project.snapshot() == before
    assert operation.told() == []

    _vanishes_and_comes_back(operation, "tiny_letters")

    # A publisher has other files, and they are declared; and it is Monday again.
    labels = project.publisher.splits["tiny_digits", "test"][1]
    project.republish("tiny_digits", "test-labels.gz", builders.gz(builders.idx(labels[::-1])))
    started = operation.days(2)
    assert {one.partition("/")[0] for one in started} <= {"refresh", *KEPT}
    operation.assert_all_is_well()
    assert operation.told() == []

    _vanishes_and_comes_back(operation, "tiny_letters")

    # What a refresh was fetching when its process was killed is fetched by the next one.
    (project.data / "archives/tiny_letters/letters.zip").unlink()
    killed = operation.killed_in_the_middle("refresh")
    started = operation.days(7)
    told = operation.told()
    assert sum(killed in text for text in told) == 1, told
    assert "refresh" in started
    operation.assert_all_is_well()

    assert operation.days(1) == []
    assert operation.told() == []
    assert operation.verified == [True] * 4, "three Thursdays, and once deep"
    assert site.asked == {*KEPT}, "tiny_colours was asked for by nobody"


def _vanishes_and_comes_back(operation: Operation, source: str) -> None:
    operation.site.vanished = {source}
    assert operation.days(2) == []
    [text] = operation.told()
    assert "letters.zip: HTTP 404" in text
    operation.site.vanished = set()
    assert operation.days(2) == []
    assert operation.told() == []
