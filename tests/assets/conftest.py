"""Fixtures of the tests that run assets: projects, and the command line in this process."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path

import dagster as dg
import pytest

from assets.command_line import main
from tests.assets.forked import Forked, command_line
from tests.assets.project import DATASETS, Project, Site
from tests.servers import serving


@pytest.fixture(scope="session")
def _published_once(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project.publish(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="session")
def _built_once(_built_of: Callable[..., Project]) -> Project:
    return _built_of(*DATASETS)


@pytest.fixture(scope="session")
def _built_of(
    _published_once: Project, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Project]:
    """What returns a project of some sources in which everything is built, once for all tests."""

    @functools.cache
    def built_of(*sources: str) -> Project:
        folder = tmp_path_factory.mktemp("built") / "project"
        project = _published_once.copied_to(folder, *sources)
        assert all(outcome.is_good for outcome in project.build().values())
        return project

    return built_of


def _sources(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Which sources a test's project has: all, unless it is marked with those that it needs.

    A project of one source takes a third of the time, whatever is done to it.
    """
    marker = request.node.get_closest_marker("sources")
    return marker.args if marker else DATASETS


@pytest.fixture
def project(request: pytest.FixtureRequest, _published_once: Project, tmp_path: Path) -> Project:
    """A project of the test's own in which nothing is built yet."""
    return _published_once.copied_to(tmp_path / "project", *_sources(request))


@pytest.fixture
def built(
    request: pytest.FixtureRequest, _built_of: Callable[..., Project], tmp_path: Path
) -> Project:
    """A project of the test's own in which everything is built."""
    return _built_of(*_sources(request)).copied_to(tmp_path / "project")


@pytest.fixture
def site(built: Project) -> Iterator[Site]:
    """The publisher's web site, behind the project in which everything is built."""
    found = Site(built.publisher.mirror)
    with serving(b"", found) as server:
        found.url = server.url
        yield found


@pytest.fixture
def site_of_project(project: Project) -> Iterator[Site]:
    """The publisher's web site, behind the project in which nothing is built yet."""
    found = Site(project.publisher.mirror)
    with serving(b"", found) as server:
        found.url = server.url
        yield found


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """Dagster's records of runs, in memory."""
    with dg.DagsterInstance.ephemeral() as found:
        yield found


@pytest.fixture(autouse=True)
def _process_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs and the command line set this process up for themselves; put it back as it was."""
    monkeypatch.setenv("DAGSTER_HOME", "")
    logger = logging.getLogger("pipelines")
    handlers, level = logger.handlers[:], logger.level
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    stdout: str
    stderr: str


Command = Callable[..., Said]
Start = Callable[..., Forked]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `python -m assets` in this process: a traceback would be the test's own."""

    def run(*arguments: str) -> Said:
        capsys.readouterr()
        try:
            code = main(arguments)
        except SystemExit as exit_:  # argparse ends the process itself
            code = int(exit_.code or 0)
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def forked(processes: ForkServerContext) -> Start:
    """Start `python -m assets` in a process of its own: for streams, signals and exit codes."""

    def start(
        *arguments: str,
        run: Callable[[Sequence[str]], object] = command_line,
        stderr: str | None = None,
        **variables: str,
    ) -> Forked:
        return Forked(processes, run, arguments, variables=variables, stderr=stderr)

    return start
