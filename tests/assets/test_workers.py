"""Workers on several machines: how the instance is configured, what is refused, and real ones."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import tomllib
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.launcher import WorkerStatus

from assets.running import abandoned, deployment, runs, turns
from assets.settings import ROOT, Settings
from benchmarks import workers
from pipelines.errors import ImagesetsError
from tests.assets.conftest import Command
from tests.assets.project import Project, environment

POSTGRES = "postgresql+psycopg2://me:p0stgres-s3cret@127.0.0.1:1/runs"
BROKER = "redis://:br0ker-s3cret@127.0.0.1:1/0"
ASKED = os.environ.get("IMAGESETS_TEST_WORKERS")  # tests begin without such variables
HEAVY = ("celery", "dagster_celery", "dagster_postgres", "kombu", "obstore", "psycopg2", "redis")


def settings(home: Path, **chosen: object) -> Settings:
    shared = {"data": "s3://bucket/team", "postgres": POSTGRES, "broker": BROKER}
    return Settings(**{**shared, "home": home, **chosen})  # type: ignore[arg-type]


# --- Configuration ------------------------------------------------------------------------------


@pytest.mark.parametrize("postgres", [None, POSTGRES])
def test_without_a_broker_the_instance_is_as_it_always_was(
    tmp_path: Path, postgres: str | None
) -> None:
    text = (runs.home(Settings(tmp_path, postgres=postgres)) / "dagster.yaml").read_bytes()

    assert text.startswith((ROOT / "dagster.yaml").read_bytes())
    assert (b"postgres_url:\n      env: IMAGESETS_POSTGRES" in text) is bool(postgres)
    assert "DefaultRunCoordinator" in yaml.safe_load(text)["run_coordinator"]["class"]


def test_with_a_broker_runs_are_queued_launched_monitored_and_retried(tmp_path: Path) -> None:
    pytest.importorskip("dagster_celery", reason="the group `workers`")
    home = runs.home(settings(tmp_path, runs_at_once=5, longest_run_s=77))

    text = (home / "dagster.yaml").read_text()
    assert "s3cret" not in text
    assert "127.0.0.1" not in text
    found = yaml.safe_load(text)
    assert found["storage"] == {"postgres": {"postgres_url": {"env": "IMAGESETS_POSTGRES"}}}
    assert found["run_launcher"]["config"] == {
        "broker": {"env": "IMAGESETS_BROKER"},
        "backend": {"env": "IMAGESETS_BROKER"},
    }
    assert found["run_coordinator"]["class"] == "QueuedRunCoordinator"
    assert found["concurrency"]["runs"] == {"max_concurrent_runs": 5}
    assert found["run_monitoring"]["max_runtime_seconds"] == 77
    assert found["run_retries"]["retry_on_asset_or_op_failure"] is False
    for kept in ("telemetry", "nux", "compute_logs", "python_logs", "retention"):
        assert found[kept] == yaml.safe_load((ROOT / "dagster.yaml").read_text())[kept]


def test_dagster_takes_that_configuration(tmp_path: Path) -> None:
    pytest.importorskip("dagster_celery", reason="the group `workers`")
    written = deployment.configuration(settings(tmp_path, runs_at_once=5))
    chosen = yaml.safe_load(written)
    del chosen["storage"]  # which would be asked
    chosen["run_launcher"]["config"] = {"broker": "memory://", "backend": "cache+memory://"}
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(chosen))

    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert type(instance.run_launcher).__name__ == "Launcher"
        assert instance.run_monitoring_enabled
        assert instance.run_retries_max_retries == deployment.RETRIES
        queue = instance.get_concurrency_config()
        assert queue.run_queue_config is not None
        assert queue.run_queue_config.max_concurrent_runs == 5
        assert queue.pool_config.default_pool_limit == 1


@pytest.mark.parametrize(
    ("lacks", "says"),
    [
        ({"executor": "multiprocess"}, "and IMAGESETS_EXECUTOR is multiprocess.*--runs"),
        ({"postgres": None}, "but not IMAGESETS_POSTGRES.*one database.*unset IMAGESETS_BROKER"),
        (
            {"data": Path("/srv/data")},
            "but data lie in /srv/data, a folder of this machine.*Set IMAGESETS_DATA",
        ),
    ],
)
def test_a_broker_without_what_workers_share_is_refused(
    tmp_path: Path, lacks: dict[str, object], says: str
) -> None:
    with pytest.raises(ImagesetsError, match=f"IMAGESETS_BROKER is set, {says}") as error:
        runs.home(settings(tmp_path, **lacks))

    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize("module", ["dagster_celery", "redis"])
def test_what_is_not_installed_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setattr(deployment, "find_spec", lambda name: None if name == module else name)

    with pytest.raises(ImagesetsError, match=f"{module.replace('_', '-')} is not installed") as e:
        runs.home(settings(tmp_path))

    assert str(e.value).endswith(deployment.INSTALL)
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    assert all(f'"{one}"' in deployment.INSTALL for one in groups["workers"])


@pytest.mark.parametrize("text", ["amqp://me:s3cret@host//", "redis://me:s3 cret@host/0", "s3cret"])
def test_another_broker_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ImagesetsError, match="IMAGESETS_BROKER is not usable") as error:
        Settings.from_environment({"IMAGESETS_BROKER": text})

    assert "cret" not in str(error.value)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many"])
def test_a_number_of_runs_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ImagesetsError, match=r"IMAGESETS_RUNS_AT_ONCE is .*1 or more"):
        Settings.from_environment({"IMAGESETS_RUNS_AT_ONCE": text})


def test_a_worker_without_a_broker_says_what_to_set(command: Command) -> None:
    said = command("worker")

    assert said.code == 1
    assert "set IMAGESETS_BROKER to redis://host:port/0" in said.stderr


def test_a_ui_with_a_broker_alone_is_refused_before_it_makes_anything(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGESETS_BROKER", BROKER)

    said = command("ui", "--data", str(tmp_path / "data"), "--port", str(workers.free_port()))

    assert (said.code, said.stdout) == (1, "")
    assert "but not IMAGESETS_POSTGRES" in said.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.sources("tiny_digits")
def test_a_build_on_one_machine_imports_nothing_of_clouds_and_workers(project: Project) -> None:
    arguments = ["build", *project.options, *project.mirror]
    code = (
        "import sys; from assets.command_line import main; code = main(sys.argv[1:]); "
        f"print({{*{HEAVY}}} & {{*sys.modules}}); sys.exit(code)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.splitlines()[-1] == "set()"


# --- Over machines ------------------------------------------------------------------------------


def test_runs_on_one_source_wait_in_the_queue_where_machines_share_data(
    project: Project, tmp_path: Path
) -> None:
    def pools(shared: Settings) -> dict[str, str | None]:
        from assets.definitions import automated

        found = automated(shared).resolve_asset_graph().assets_defs
        made = [one for one in found if one.is_executable and len(one.keys) == 1]
        return {one.key.to_user_string(): one.op.pool for one in made}

    catalogue = project.publisher.catalogue
    alone = pools(Settings(tmp_path / "data", catalogue))
    shared = pools(settings(tmp_path / "home", broker=None, catalogue=catalogue))

    assert {*alone.values()} == {None}
    assert shared["tiny_digits/archives"] == shared["tiny_digits/train_csv"] == "tiny_digits"
    assert shared["tiny_letters/statistics"] == "tiny_letters"


def test_a_run_of_some_partitions_is_known_by_its_tags() -> None:
    class Context:
        def __init__(self, **tags: str) -> None:
            name = {f"dagster/{key}": value for key, value in tags.items()}
            self.dagster_run = dg.DagsterRun("job", tags=name)

    said = [
        turns._is_of_parts(Context(**tags))  # type: ignore[arg-type]
        for tags in ({"partition": "00001"}, {"asset_partition_range_start": "00001"}, {})
    ]

    assert said == [True, True, False]


def test_a_run_that_waits_for_a_worker_is_none_of_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abandoned, "SILENCE", -timedelta(minutes=1))
    for monitored in (False, True):
        overrides = {"run_monitoring": {"enabled": monitored}}
        with dg.DagsterInstance.local_temp(overrides=overrides) as instance:
            status = dg.DagsterRunStatus.STARTING
            instance.add_run(dg.DagsterRun("job", "00000000-0", status=status))
            assert len(abandoned.close(instance)) == (0 if monitored else 1)


def test_a_run_of_another_host_is_left_alone_where_workers_do_the_runs() -> None:
    overrides = {"run_monitoring": {"enabled": True}}
    with dg.DagsterInstance.local_temp(overrides=overrides) as instance:
        gone = str(2**22 + 1)
        for run_id, host in (("00000000-0", None), ("11111111-1", "elsewhere")):
            here = abandoned.process(run_id).split(":")
            here[-3] = gone
            tag = ":".join([host or here[0], *here[1:]])
            tags, status = {abandoned.PROCESS: tag}, dg.DagsterRunStatus.STARTED
            instance.add_run(dg.DagsterRun("job", run_id, status=status, tags=tags))

        assert len(abandoned.close(instance)) == 1
        left = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
        assert [run.run_id for run in left] == ["11111111-1"]


def test_a_run_without_a_worker_and_one_the_broker_forgot_count_as_going_on() -> None:
    pytest.importorskip("dagster_celery", reason="the group `workers`")
    from assets.running.launcher import Launcher

    launcher = Launcher("dagster", "memory://", "cache+memory://")
    tags = {"dagster-celery/task_id": "forgotten"}
    for run in (dg.DagsterRun("build"), dg.DagsterRun("everything", tags=tags)):
        assert launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING
    launcher.celery.backend.store_result("forgotten", OSError("killed"), "FAILURE")
    assert launcher.check_run_worker_health(run).status is WorkerStatus.FAILED


def test_a_run_that_somebody_cancels_is_no_failure_which_would_be_started_again() -> None:
    pytest.importorskip("dagster_celery", reason="the group `workers`")
    from assets.running.launcher import Launcher

    with dg.DagsterInstance.ephemeral() as instance:
        launcher = Launcher("dagster", "memory://", "cache+memory://")
        launcher.register_instance(instance)
        started, tags = dg.DagsterRunStatus.STARTED, {"dagster-celery/task_id": "some"}
        instance.add_run(dg.DagsterRun("job", "0", status=started, tags=tags))
        instance.add_run(dg.DagsterRun("build", "1", status=started))

        assert [launcher.terminate(run_id) for run_id in "01"] == [True, False]

        states = [run.status for run in map(instance.get_run_by_id, "01") if run]
        assert states == [dg.DagsterRunStatus.CANCELING, started]


# --- Real ones ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_is_killed_or_stopped_is_done_again_and_all_is_as_one_machine_makes_it() -> None:
    """PostgreSQL, Redis, an object store, the UI and two workers; benchmarks.workers does more."""
    if not ASKED:
        pytest.skip("two real workers, which take minutes: make test-workers")
    if lacking := workers.missing():
        pytest.skip(lacking)
    with tempfile.TemporaryDirectory(prefix="imagesets-workers-") as folder:
        os.chmod(folder, 0o755)  # PostgreSQL runs as another user
        _killed_and_stopped(Path(folder))


def _killed_and_stopped(folder: Path) -> None:
    names = workers.declare(folder, 3, records=200)
    local = workers.built_here(folder)
    with workers.deployed(folder, transfer_s=2.0, longest_run_s=300) as made:
        for name in ("worker0", "worker1"):
            made.start_worker(name)
        launched = [made.launch(f"everything_of_{name}") for name in names]
        killer = workers.Killer(made, 0, ["run"])
        killer.go_on()
        workers.until("a run that goes on", killer._going_on, 120)
        workers.end(stopped := made.workers.pop("worker0"))
        assert stopped.returncode == 0, (folder / "worker0.log").read_text()
        workers.until("the runs", lambda: made.finished(launched), 600)

        assert killer.done == ["run"]
        again = [run for run in made.runs() if workers.first(run) != run["runId"]]
        assert again, "what was killed was started again"
        assert workers.differences(local, made.settings("scratch-compared")) == []
        assert workers.leaks(made, workers.written(names[0])) == []
