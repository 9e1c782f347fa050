"""What lies in deploy/ names settings, commands, files and packages that there are.

No container is started here: docs/deployment.md says so, too.
"""

from __future__ import annotations

import argparse
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from assets.command_line._main import _parser
from assets.command_line.declaring import declared
from assets.running import deployment
from assets.settings import ROOT, Settings, variables
from pipelines import __version__

DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
VALUES = yaml.safe_load((DEPLOY / "values.yaml").read_text("utf-8"))
DOCKERFILE = (DEPLOY / "Dockerfile").read_text("utf-8")
DOCS = (ROOT / "docs" / "deployment.md").read_text("utf-8")
OURS = f"imagesets:{__version__}"
CLOUD = {"AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"}
OF_IMAGES = {"POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB", "REDISCLI_AUTH"}
# What the images bring: their programs by name, as healthchecks and commands call them.
PROGRAMS = {
    "postgres": {"pg_isready"},
    "redis": {"redis-cli", "redis-server"},
    "chrislusf/seaweedfs": {"wget", "sh", "server"},  # its entrypoint hands `server …` to weed
}
SERVICES = COMPOSE["services"]


def environment_of(service: str) -> dict[str, str]:
    """What a service is given, with the defaults of what nobody chose."""
    given = SERVICES[service].get("environment", {})
    return {key: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(text)) for key, text in given.items()}


def parsed(arguments: list[str]) -> argparse.Namespace:
    return _parser(arguments).parse_args(arguments)


def versions(lock: str) -> dict[str, set[str]]:
    """Return each package of a lock, with its version, or those for several Pythons."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([\w.]+)", lock, re.MULTILINE):
        found.setdefault(name, set()).add(version)
    return found


def texts(tree: Any) -> Iterator[str]:
    match tree:
        case dict():
            for key, value in tree.items():
                yield from (key, *texts(value))
        case list():
            for value in tree:
                yield from texts(value)
        case str():
            yield tree


def test_every_variable_is_one_that_somebody_reads() -> None:
    known = {*variables().values(), *CLOUD, *OF_IMAGES}
    for name, service in SERVICES.items():
        assert {*service.get("environment", {})} <= known, name
    for one in VALUES["dagster-user-deployments"]["deployments"]:
        assert {each["name"] for each in one["env"]} <= known
    set_in_image = re.findall(r"^(?:ENV|   ) +(\w+)=", DOCKERFILE, re.MULTILINE)
    assert {*set_in_image} == {
        *("IMAGESETS_HOME", "IMAGESETS_SCRATCH", "XDG_CACHE_HOME", "PYTHONUNBUFFERED")
    }
    comments = (DEPLOY / "values.yaml").read_text("utf-8")
    assert {*re.findall(r"IMAGESETS_\w+", comments)} <= known


@pytest.mark.parametrize("service", ["ui", "worker"])
def test_the_settings_of_our_containers_are_taken_together(service: str) -> None:
    settings = Settings.from_environment(environment_of(service))

    assert settings.is_shared
    assert settings.broker == "redis://:imagesets@redis:6379/0"
    assert settings.runs_at_once == 2
    if not pytest.importorskip("dagster_celery"):
        return
    deployment.check(settings)


def test_there_are_as_many_runs_at_once_as_workers() -> None:
    workers = SERVICES["worker"]["deploy"]["replicas"]

    assert workers == SERVICES["ui"]["environment"]["IMAGESETS_RUNS_AT_ONCE"] == "${WORKERS:-2}"


@pytest.mark.parametrize("service", ["ui", "worker"])
def test_our_containers_run_commands_that_there_are(service: str) -> None:
    assert 'ENTRYPOINT ["python", "-m", "assets"]' in DOCKERFILE
    given = parsed(SERVICES[service]["command"])

    assert given.run.__module__ == f"assets.commands.{service}"
    if service == "ui":
        assert (given.host, given.port, given.browser) == ("0.0.0.0", 3000, False)


@pytest.mark.parametrize("service", ["ui", "worker", "postgres", "redis", "store"])
def test_every_server_has_a_healthcheck_of_a_program_that_its_image_has(service: str) -> None:
    kind, program, *arguments = SERVICES[service]["healthcheck"]["test"]

    assert kind == "CMD"
    if SERVICES[service]["image"] != OURS:
        image = SERVICES[service]["image"].rpartition(":")[0]
        assert program in PROGRAMS[image]
        return
    assert program == "python"
    if arguments[0] == "-c":
        compile(arguments[1], "the healthcheck", "exec")
        assert ":3000/" in arguments[1]
    else:
        assert arguments[:2] == ["-m", "assets"]
        assert parsed(arguments[2:]).check


@pytest.mark.parametrize("service", SERVICES)
def test_commands_of_other_images_are_programs_that_these_have(service: str) -> None:
    image = SERVICES[service]["image"].rpartition(":")[0]
    if image in PROGRAMS:
        first = [*SERVICES[service].get("entrypoint", []), *SERVICES[service].get("command", [])]
        assert not first or first[0] in PROGRAMS[image]


def test_every_image_is_pinned_to_a_version() -> None:
    images = [service["image"] for service in SERVICES.values()]
    images += re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    for image in images:
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+[\w.-]*", image), image
    ours = {text for text in texts(VALUES) if text == __version__}
    assert ours == {__version__}
    assert {image for image in images if image.startswith("imagesets:")} == {OURS}
    tags = re.findall(r"tag: ([\w.]+)", (DEPLOY / "values.yaml").read_text())
    assert {*tags} == {__version__}


def test_services_wait_for_those_that_there_are_and_keep_what_is_declared() -> None:
    for service in SERVICES.values():
        for name, condition in service.get("depends_on", {}).items():
            kind = condition["condition"]
            if kind == "service_healthy":
                assert "healthcheck" in SERVICES[name]
            else:
                assert kind == "service_completed_successfully"
        named = [one.partition(":")[0] for one in service.get("volumes", [])]
        assert {one for one in named if one} <= {*COMPOSE["volumes"], "/var/lib/imagesets"}
        assert {one["source"] for one in service.get("configs", [])} <= {*COMPOSE["configs"]}


def test_nothing_but_the_ui_can_be_reached_and_that_from_this_machine_alone() -> None:
    ports = {name: one["ports"] for name, one in SERVICES.items() if "ports" in one}

    assert ports == {"ui": ["127.0.0.1:3000:3000"]}
    assert VALUES["dagsterWebserver"]["service"] == {"type": "ClusterIP"}


def test_the_identities_of_the_store_are_those_of_its_clients() -> None:
    text = COMPOSE["configs"]["identities"]["content"]
    known = yaml.safe_load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text))["identities"]

    given = environment_of("ui")
    key = {
        "accessKey": given["AWS_ACCESS_KEY_ID"],
        "secretKey": given["AWS_SECRET_ACCESS_KEY"],
    }
    assert [one["credentials"] for one in known] == [[key]]


def test_the_image_is_made_of_files_that_there_are_and_that_are_not_left_out() -> None:
    wanted = [
        name
        for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE)
        for name in line.split()[:-1]
    ]
    let_in = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").split()
    assert {"assets", "pipelines", "deploy/requirements.lock"} <= {*wanted}
    for name in wanted:
        assert (ROOT / name).exists(), name
        assert f"!{name}" in let_in, name
    build = COMPOSE["x-imagesets"]["build"]
    assert (DEPLOY / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).is_file()


def test_the_image_holds_what_each_machine_needs_in_versions_of_the_project() -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    needed = ["build", "ui", "postgres", "workers", "kubernetes"]
    named = [one for group in needed for one in groups["dependency-groups"][group]]
    named += groups["project"]["dependencies"] + groups["project"]["optional-dependencies"]["s3"]
    text = (DEPLOY / "requirements.lock").read_text("ascii")
    locked = versions(text)
    for one in named:
        assert re.match(r"[\w-]+", one)[0].replace("_", "-") in locked  # type: ignore[index]
    developed = versions((ROOT / "requirements-dev.lock").read_text("ascii"))
    for name in locked.keys() & developed.keys():
        assert locked[name] == developed[name], "one version of each, here and there"
    assert "index" not in text
    assert "://" not in text


def test_kubernetes_loads_the_definitions_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    from dagster._cli.api import grpc_command

    [deployed] = VALUES["dagster-user-deployments"]["deployments"]
    arguments = deployed["dagsterApiGrpcArgs"]
    context = grpc_command.make_context("grpc", ["--port", "3030", *arguments])
    inside = Path("/opt/imagesets")
    assert f"WORKDIR {inside}" in DOCKERFILE
    assert (ROOT / Path(context.params["python_file"]).relative_to(inside)).is_file()
    from assets import definitions

    assert hasattr(definitions, context.params["attribute"])
    assert Path(context.params["working_directory"]) == inside


def test_kubernetes_runs_are_looked_after_as_those_of_workers() -> None:
    daemon = VALUES["dagsterDaemon"]
    monitored = daemon["runMonitoring"]
    assert monitored["startTimeoutSeconds"] == deployment.START_S
    assert monitored["pollIntervalSeconds"] == deployment.LOOK_S
    assert monitored["maxRuntimeSeconds"] == Settings().longest_run_s
    assert daemon["runRetries"]["maxRetries"] == deployment.RETRIES
    assert VALUES["concurrency"]["pools"] == {"defaultLimit": 1, "granularity": "run"}
    given = {one["name"] for one in VALUES["dagster-user-deployments"]["deployments"][0]["env"]}
    assert "IMAGESETS_BROKER" not in given


@pytest.mark.parametrize("name", ["compose.yaml", "values.yaml", "Dockerfile"])
def test_every_file_is_explained(name: str) -> None:
    assert f"deploy/{name}" in DOCS


def test_the_docs_say_what_was_not_run_and_name_settings_and_commands_that_there_are() -> None:
    assert "were not run in containers" in DOCS
    known = {*variables().values()}
    assert {*re.findall(r"IMAGESETS_[A-Z_]+", DOCS)} <= known
    commands = {module.__name__.rpartition(".")[2] for module in declared()}
    assert {*re.findall(r"python -m assets (\w+)", DOCS)} <= commands
    for service in SERVICES:
        assert f"| `{service}` |" in DOCS
