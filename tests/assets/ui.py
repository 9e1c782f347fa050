"""The Dagster UI in processes of its own, as a person starts it, and what it is asked.

Not here: what it shows or does (the tests that serve it).
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assets.settings import ROOT
from tests.assets.project import environment
from tests.waiting import within

WORKSPACE = ROOT / "workspace.yaml"

ASSETS = "{ assetNodes { assetKey { path } groupName isMaterializable dependencyKeys { path } } }"
LOCATIONS = """{ workspaceOrError { ... on Workspace { locationEntries {
    name locationOrLoadError { __typename ... on PythonError { message } }
} } } }"""
RUNS = "{ runsOrError { ... on Runs { results { runId jobName status } } } }"
REPOSITORY = {"repositoryLocationName": "imagesets", "repositoryName": "__repository__"}
IN_REPOSITORY = """(repositorySelector: {
    repositoryLocationName: "imagesets", repositoryName: "__repository__"
})"""
AUTOMATION = f"""{{
    schedulesOrError{IN_REPOSITORY} {{
        ... on Schedules {{ results {{ name scheduleState {{ status }} }} }}
    }}
    sensorsOrError{IN_REPOSITORY} {{
        ... on Sensors {{ results {{ name sensorState {{ status }} }} }}
    }}
}}"""
TURN_ON = """mutation($selector: SensorSelector!) { startSensor(sensorSelector: $selector) {
    __typename ... on Sensor { sensorState { status } } ... on PythonError { message }
} }"""
SAW = """mutation($selector: SensorSelector!, $cursor: String) {
    setSensorCursor(sensorSelector: $selector, cursor: $cursor) {
        __typename ... on PythonError { message }
    }
}"""
LAUNCH = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
} }"""


@dataclass(frozen=True)
class UI:
    """A running Dagster UI."""

    url: str
    pid: int

    def ask(self, query: str, **variables: Any) -> Any:
        request = urllib.request.Request(
            f"{self.url}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=within(30)) as response:
            answer = json.load(response)
        assert "errors" not in answer, answer
        return answer["data"]


@contextmanager
def served(command: Sequence[str], port: int, cwd: Path, **variables: str) -> Iterator[UI]:
    """Start a Dagster UI, wait until it answers, and stop it as Ctrl-C does."""
    log = cwd / "ui.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=cwd,
            env=environment(**variables),
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + within(60)
            while True:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                try:
                    urllib.request.urlopen(f"{url}/server_info", timeout=5).close()
                except (urllib.error.URLError, ConnectionError):
                    time.sleep(0.1)
                else:
                    break
            yield UI(url, process.pid)
        finally:
            process.terminate()
            try:
                process.wait(within(20))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


def free_port() -> int:
    """A port that nobody listens at, nor takes meanwhile.

    Systems give ports from 32768 on to whoever asks for any, and to every connection.
    """
    while True:
        port = random.SystemRandom().randrange(10_000, 32_768)
        with socket.socket() as found, contextlib.suppress(OSError):
            found.bind(("127.0.0.1", port))
            return port


def without_daemon(port: int) -> list[str]:
    """The command of Dagster's own that serves the UI, where nobody waits for sensors."""
    where = ["-w", str(WORKSPACE), "--host", "127.0.0.1", "--port", str(port)]
    return ["-m", "dagster_webserver", *where, "--log-level", "warning"]


def runs_of(ui: UI) -> list[dict[str, str]]:
    found: list[dict[str, str]] = ui.ask(RUNS)["runsOrError"]["results"]
    return found


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found = children.get(pid, [])
    return [*found, *(below for child in found for below in descendants(child))]


def command_of(pid: int) -> str:
    """What a process runs; nothing where it has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return ""


def materialize(*keys: list[str]) -> dict[str, Any]:
    """Parameters of a run of some assets."""
    return {
        "mode": "default",
        "runConfigData": {},
        "executionMetadata": {"tags": []},
        "selector": {
            **REPOSITORY,
            "pipelineName": "__ASSET_JOB",
            "assetSelection": [{"path": key} for key in keys],
            "assetCheckSelection": None,
        },
    }


def outcome(ui: UI, run_id: str) -> str:
    """How a run ended; runs are polled for a few minutes at most."""
    deadline = time.monotonic() + within(60)
    while time.monotonic() < deadline:
        runs = {run["runId"]: run["status"] for run in ui.ask(RUNS)["runsOrError"]["results"]}
        if runs[run_id] in ("SUCCESS", "FAILURE", "CANCELED"):
            return str(runs[run_id])
        time.sleep(0.2)
    return "still running"
