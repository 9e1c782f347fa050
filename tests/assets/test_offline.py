"""Offline, nothing is connected to: a listener on loopback counts those who come."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from assets.running import mirrors, notifications, sensors
from assets.settings import Settings
from pipelines import catalogue
from tests.assets.conftest import Command
from tests.assets.project import Project


@dataclass
class Listener:
    """Takes connections, counts them, and hangs up."""

    url: str
    came: list[object] = field(default_factory=list)


@pytest.fixture
def listener() -> Iterator[Listener]:
    with socket.create_server(("127.0.0.1", 0)) as service:
        found = Listener(f"http://127.0.0.1:{service.getsockname()[1]}/")

        def listen() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, who = service.accept()
                    found.came.append(who)
                    connection.close()

        thread = threading.Thread(target=listen)
        thread.start()
        yield found
        service.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize("name", ["build", "fetch"])
def test_an_endpoint_is_not_told_and_one_warning_says_so(
    project: Project, command: Command, listener: Listener, name: str
) -> None:
    pytest.importorskip("openlineage.client", reason="the extra openlineage is not installed")
    endpoint = listener.url.replace("http://", "http://me:s3cr3tpw@")

    said = command(name, *project.options, *project.mirror, "--offline", "--openlineage", endpoint)

    assert (said.code, listener.came) == (0, [])
    warning = f"OpenLineage: offline, nothing is told to {listener.url}; the build goes on."
    assert said.stderr.count("OpenLineage") == said.stderr.count(warning) == 1
    assert "s3cr3tpw" not in said.stderr


def test_online_the_endpoint_is_told(
    project: Project, command: Command, listener: Listener
) -> None:
    pytest.importorskip("openlineage.client", reason="the extra openlineage is not installed")
    command("fetch", *project.options, *project.mirror, "--openlineage", listener.url)
    assert listener.came


def test_a_file_is_told_as_ever(project: Project, command: Command, tmp_path: Path) -> None:
    pytest.importorskip("openlineage.client", reason="the extra openlineage is not installed")
    events = tmp_path / "events.jsonl"
    arguments = ["tiny_letters", *project.options, *project.mirror]
    said = command("fetch", *arguments, "--offline", "--openlineage", str(events))
    assert (said.code, said.stderr.count("OpenLineage")) == (0, 0)
    assert len(events.read_text().splitlines()) == 2


@pytest.mark.parametrize("name", ["build", "fetch", "mirror", "verify"])
def test_no_command_looks_for_archives_anywhere_but_in_folders(
    built: Project, command: Command, listener: Listener, tmp_path: Path, name: str
) -> None:
    for archive in (built.data / "archives").rglob("*.*"):
        archive.unlink()
    for source in ("tiny_letters", "tiny_digits", "tiny_colours"):
        text = built.publisher.toml(source).read_text()
        lines = [
            f'mirrors = ["{listener.url}"]' if line.startswith("mirrors =") else line
            for line in text.splitlines()
        ]
        built.publisher.toml(source).write_text("\n".join(lines) + "\n")
    folder = [str(tmp_path / "for others")] if name == "mirror" else []
    repair = ["--repair"] if name == "verify" else []

    said = command(name, *folder, *built.options, *repair, "--offline", "--mirror", listener.url)

    assert (said.code, listener.came) == (1, []), said
    assert "offline, and no mirror folder was given" in said.stdout + said.stderr


def test_mirrors_are_not_looked_at(project: Project, listener: Listener) -> None:
    declared = catalogue.load(project.publisher.catalogue)
    chosen = Settings(project.data, project.publisher.catalogue, listener.url, offline=True)
    before: dict[str, dict[str, mirrors.Standing]] = {name: {} for name in declared.sources}
    for found in mirrors.look(declared, declared.sources.values(), chosen, before, fetch=True):
        assert found.standings == ()
    assert listener.came == []


def test_the_webhook_is_not_told_and_the_log_says_so(
    listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert not notifications.post(listener.url, "A run failed.", {}, offline=True)
    assert listener.came == []
    assert "A run failed.\nNobody is told: IMAGESETS_OFFLINE forbids connections." in caplog.text
    notifications.post(listener.url, "A run failed.", {})
    assert listener.came


def test_sensors_pass_on_that_nobody_may_be_told(project: Project, listener: Listener) -> None:
    import dagster as dg

    chosen = Settings(project.data, project.publisher.catalogue, offline=True, webhook=listener.url)
    with dg.DagsterInstance.ephemeral() as instance:
        key = dg.AssetKey(["tiny_letters", "archives"])
        place = {"place": "http://h/x", "status": "dead", "problem": "HTTP 404"}
        rows = [{"probe": place, "judged": "", "wrong": ""}]
        instance.report_runless_asset_event(
            dg.AssetObservation(key, metadata={"places": dg.MetadataValue.json(rows)})
        )
        declared = catalogue.load(chosen.catalogue)
        sensor = sensors.mirror_died(tuple(declared.sources), chosen.webhook, chosen.offline)
        context = dg.build_sensor_context(instance=instance)
        assert "Nobody was told: IMAGESETS_OFFLINE forbids connections." in str(sensor(context))
    assert listener.came == []
