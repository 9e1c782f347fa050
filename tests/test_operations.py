"""The script of docs/operations.md, run as it stands there, and the words around it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from dagster._core.definitions.freshness import TimeWindowFreshnessPolicy

from assets.definitions import automated
from assets.running import runs
from assets.settings import ROOT, Settings, variables
from pipelines import products, stages
from tests.assets.project import Project, environment
from tests.assets.ui import UI, free_port, served, without_daemon
from tests.waiting import within

TEXT = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
[SCRIPT] = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project.publish(tmp_path_factory.mktemp("operations"))


def test_the_script_launches_follows_and_tells_how_it_ended(
    project: Project, tmp_path: Path
) -> None:
    port = free_port()
    chosen = Settings(project.data, project.publisher.catalogue, str(project.publisher.mirror))
    variables = {**chosen.as_environment(), "DAGSTER_HOME": str(runs.home(chosen))}
    with served(without_daemon(port), port, tmp_path, **variables) as ui:
        done = _follow(ui, tmp_path, "everything_of_tiny_letters")
        assert done.returncode == 0, done.stderr + done.stdout
        assert "tiny_letters/train_csv Materialized" in done.stdout
        assert re.search(r"^run \S+: SUCCESS$", done.stdout, re.MULTILINE)
        assert (project.data / "exports/tiny_letters/train.csv").exists()

        done = _follow(ui, tmp_path, "everything", "tiny_digits/archives", "tiny_digits/train")
        assert done.returncode == 0, done.stderr + done.stdout
        assert (project.data / "tables/tiny_digits/train.parquet").exists()
        assert not (project.data / "tables/tiny_digits/test.parquet").exists()

        project.publisher.archive("tiny_colours", "colours.tar.gz").unlink()
        done = _follow(ui, tmp_path, "everything_of_tiny_colours")
        assert done.returncode == 1
        assert "tiny_colours/archives " in done.stdout
        assert re.search(r"^run \S+: FAILURE$", done.stdout, re.MULTILINE)

        done = _follow(ui, tmp_path, "nothing_of_the_kind")
        assert done.returncode == 1
        assert "nothing_of_the_kind" in done.stderr


def _follow(ui: UI, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = folder / "follow.py"
    script.write_text(SCRIPT, encoding="utf-8")
    return subprocess.run(
        [sys.executable, str(script), *arguments],
        cwd=folder,
        env=environment(DAGSTER_URL=ui.url),
        capture_output=True,
        text=True,
        timeout=within(60),
        check=False,
    )


def test_every_job_schedule_and_sensor_is_described() -> None:
    repository = automated(Settings()).get_repository_def()
    names = {job.name for job in repository.get_all_jobs() if not job.name.startswith("__")}
    names |= {schedule.name for schedule in repository.schedule_defs}
    names |= {sensor.name for sensor in repository.sensor_defs}
    for name in names:
        shown = "everything_of_<source>" if name.startswith("everything_of_") else name
        assert f"`{shown}`" in TEXT, name


def test_every_option_of_a_default_build_is_shown_with_its_words_and_its_default() -> None:
    of_others = {
        f"{product.name}_{option.name}"
        for product in products.known().values()
        for option in product.options
        if product.name not in stages.DEFAULT
    }
    for name, option in stages.options().items():
        if name in of_others:  # docs/exports.md has these
            continue
        default = str(option.default).lower()
        assert f"      {name}: {default} # {option.help}" in TEXT
        assert f"(IMAGESETS_{name.upper()})" in TEXT


def test_every_setting_for_operators_is_described() -> None:
    names = ("datasets", "executor", "postgres", "refresh_cron", "refresh_timezone", "webhook")
    names += ("verify_cron", "deep_verify_cron")
    for name in names:
        assert f"`{variables()[name]}`" in TEXT


def test_what_is_told_of_freshness_is_what_is_declared() -> None:
    graph = automated(Settings()).resolve_asset_graph()
    policies = {
        node.key.to_user_string(): node.freshness_policy
        for node in graph.asset_nodes
        if node.freshness_policy
    }
    assert {name for name in policies if not name.endswith("/mirrors")} == {
        "overview",
        "verified",
        "verified_deeply",
    }
    for name, policy in policies.items():
        shown = "<source>/mirrors" if name.endswith("/mirrors") else name
        assert isinstance(policy, TimeWindowFreshnessPolicy)
        assert policy.warn_window
        warns, fails = (w.to_timedelta().days for w in (policy.warn_window, policy.fail_window))
        assert re.search(rf"^\| `{shown}` \| .* \| {warns} and {fails} days \|$", TEXT, re.M)
