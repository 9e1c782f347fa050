"""Fixtures that every test may ask for."""

from __future__ import annotations

import atexit
import gc
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
from hypothesis import settings

from pipelines.archives import hosts, web
from tests import builders

# How many examples a property is tried with: HYPOTHESIS_PROFILE=dev (the default), ci or nightly.
# Properties keep a cap of their own (`max_examples` beside them), so that they take seconds always;
# only test_hostile.py has none and follows the profile. It walks eight kinds of input: 8 × 100
# mutated inputs for developers and in CI (there the same ones each time), and 8 × 3,400 (27,200,
# others each time) in the nightly run. None has a deadline: an example that takes long
# says that the machine is busy, and pytest ends a test that hangs.
settings.register_profile("dev", max_examples=100, deadline=None)
settings.register_profile(
    "ci", max_examples=100, derandomize=True, database=None, print_blob=True, deadline=None
)
settings.register_profile("nightly", max_examples=3400, print_blob=True, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


# A shell that starts these tests in the background tells them to ignore Ctrl-C, and so would all
# that they start: some of it has to obey.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


MEMORY = Path("/dev/shm")  # files that live in memory, where a system has such a folder
ROOM_BYTES = 4 << 30


def _is_good_for_tests(folder: Path) -> bool:
    """Whether files can be written and run in a folder, and there is room for all of a run."""
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        return False
    runs_programs = not os.statvfs(folder).f_flag & getattr(os, "ST_NOEXEC", 0)
    return runs_programs and shutil.disk_usage(folder).free > ROOM_BYTES


# Half the time on some disks: every artefact is synced. pytest removes there what it always does.
if _is_good_for_tests(MEMORY):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

# Whoever asks for one of these builds through Dagster, starts processes, or reads gigabytes.
SLOW_FIXTURES = {
    *("project", "built", "made_by_0_1_0", "_published_once", "_built_once", "instance"),
    *("processes", "forked", "mirror"),
}

# Files that take longest, the longest first. They begin first: a worker that takes up one of them
# when the others are nearly done would be waited for. A new file need not be here.
LONGEST = (
    *("test_browser", "test_extending", "test_workspace", "test_verify", "test_automation"),
    *("test_abandoned", "test_cancelling", "test_benchmark", "test_records_in_browser"),
    *("test_embedding", "test_executions", "test_refresh", "test_trust", "test_contract"),
    *("test_tracing", "test_command_line", "test_card_in_a_browser", "test_failures"),
    *("test_random_walk", "test_official", "test_secrets", "test_hostile", "test_turns"),
    *("test_browsing_in_a_browser", "test_fetching", "test_nothing_to_do", "test_postgres"),
    *("test_kills", "test_killed_builds", "test_bombs", "test_reproducible", "test_tables"),
    *("test_parts", "test_on_request"),
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Start two workers for each core: slow tests wait for processes, servers and locks."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return cores if "not slow" in config.option.markexpr else 2 * cores


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what `make test-quick` leaves out, and begin with files that have some of it.

    The longest come first. What is left for the end are files of a few seconds, so that no worker
    waits long for another.
    """
    for item in items:
        if SLOW_FIXTURES & {*getattr(item, "fixturenames", ())}:
            item.add_marker("slow")
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (item.path not in slow, rank.get(item.path.stem, len(rank))))


# What the tests import stays: looking through it for garbage again and again, while more is being
# imported, takes half the time until the first test.
gc.disable()


def pytest_collection_finish() -> None:
    """Look for garbage again, from here on, and not among what was imported."""
    gc.freeze()
    atexit.register(gc.unfreeze)  # some libraries tell of what is left at the end
    gc.enable()
    _keep_the_log_of_absl_open()


def _keep_the_log_of_absl_open() -> None:
    """Keep a library's log from closing pytest's own file.

    absl, which mlcroissant imports, keeps the stream that is stderr then: pytest's, while tests are
    collected. It closes it when Dagster sets up its loggers, unless that is stderr at the moment.
    """
    if "absl.logging" in sys.modules:
        sys.modules["absl.logging"].get_absl_handler().python_handler.stream = sys.__stderr__


@pytest.fixture
def publisher(tmp_path: Path) -> builders.Publisher:
    """Three tiny sources, published in a folder of the test's own."""
    return builders.publish(tmp_path / "published")


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The folder with official archives that IMAGESETS_MIRROR names; skips where there is none."""
    folder = os.environ.get("IMAGESETS_MIRROR", "")
    if not folder or folder.startswith(("http://", "https://")):
        pytest.skip("official archives: set IMAGESETS_MIRROR to a folder laid out <source>/<file>")
    return Path(folder)


@pytest.fixture(scope="session")
def processes() -> ForkServerContext:
    """Processes that start in milliseconds: forked off one that has imported everything.

    There is only one such server in a process, so it imports for all who ask for it.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            *(
                "pipelines.archives",
                "tests.archives.test_kills",
                "tests.assets.preloaded",
                "sqlite3",
            ),
            "tests.frozen",
        ]
    )
    return context


@pytest.fixture(autouse=True)
def _no_settings_from_outside(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Tests choose their own settings; only `mirror` looks at the environment's."""
    request.getfixturevalue("mirror") if "mirror" in request.fixturenames else None
    for name in [name for name in os.environ if name.startswith("IMAGESETS_")]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True, scope="session")
def _no_cache_of_a_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests see is kept in no cache of a person."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _hosts_are_as_new(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Servers on loopback are asked without a proxy, and nothing is remembered of any."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, f"127.0.0.1,{os.environ.get(name, '')}".rstrip(","))
    web.out_of_reach.clear()
    yield
    web.out_of_reach.clear()
    shutil.rmtree(hosts.folder(), ignore_errors=True)
