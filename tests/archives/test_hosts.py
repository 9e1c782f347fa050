"""Publishers' hosts: all our processes together are as polite as one."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from pipelines import archives
from pipelines.archives import hosts, probes
from pipelines.archives.hosts import CONNECTIONS
from pipelines.errors import ArchiveUnavailable
from tests.archives.test_resuming import ARCHIVE, DATA, HASTE, obtain
from tests.servers import Handler, good, serving, status
from tests.waiting import until, within

PATIENT = replace(HASTE, read_s=within(60))
Start = Callable[..., BaseProcess]


def _obtained(environment: dict[str, str], goal: Path, url: str) -> None:
    os.environ.update(environment)  # that of the server of processes is older
    obtain(goal, url, patience=PATIENT)


@pytest.fixture
def start(processes: ForkServerContext, tmp_path: Path) -> Start:
    """Start a download in a process of its own."""

    def run(url: str, name: str) -> BaseProcess:
        environment = {key: os.environ[key] for key in ("XDG_CACHE_HOME", "NO_PROXY", "no_proxy")}
        process = processes.Process(target=_obtained, args=(environment, tmp_path / name, url))
        process.start()
        return process

    return run


class Counting:
    """A server that answers when it is told to, and counts who waits for that."""

    def __init__(self) -> None:
        self.open = self.most = 0
        self.goes_on = threading.Event()
        self._lock = threading.Condition()

    def __call__(self, handler: Handler, data: bytes) -> None:
        with self._lock:
            self.open += 1
            self.most = max(self.most, self.open)
            self._lock.notify_all()
        self.goes_on.wait(within(30))
        with self._lock:  # before the client can know, and another one come in its place
            self.open -= 1
        good()(handler, data)

    def wait_for(self, count: int) -> None:
        with self._lock:
            assert self._lock.wait_for(lambda: self.open == count, within(30))


def test_all_processes_together_open_two_connections_to_a_host(
    start: Start, tmp_path: Path
) -> None:
    counting = Counting()
    with serving(DATA, counting) as server:
        downloads = [start(server.url, str(number)) for number in range(4)]
        counting.wait_for(CONNECTIONS)
        time.sleep(1)  # in which the others would ask, too
        counting.goes_on.set()
        for download in downloads:
            download.join(within(30))

    assert [download.exitcode for download in downloads] == [0] * 4
    assert counting.most == CONNECTIONS
    assert [(tmp_path / str(number)).read_bytes() for number in range(4)] == [DATA] * 4


def test_one_who_waits_for_a_host_says_so_once_and_a_killed_process_blocks_nobody(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    counting = Counting()
    with serving(DATA, counting, counting, good()) as server:
        killed = [start(server.url, f"killed {number}") for number in range(CONNECTIONS)]
        counting.wait_for(CONNECTIONS)

        def waits() -> list[str]:
            return [text for text in caplog.messages if text.startswith("waiting")]

        def kill() -> None:
            until(waits)
            time.sleep(3 * hosts.POLL_S)  # in which it might say so again
            for process in killed:
                os.kill(process.pid or 0, signal.SIGKILL)

        killing = threading.Thread(target=kill)
        killing.start()
        obtain(tmp_path / "file.gz", server.url)
        counting.goes_on.set()
        killing.join()
        for process in killed:
            process.join(within(30))
        host = server.url.split("/")[2]

    assert waits() == [f"waiting for {host}: 2 connections of other processes are open"]


def test_a_host_that_told_one_process_to_wait_is_left_alone_by_all(
    start: Start, tmp_path: Path
) -> None:
    with serving(DATA, status(503, Retry_After="3600"), good()) as server:
        told = start(server.url, "told")
        told.join(within(30))
        assert told.exitcode == 1

        with pytest.raises(ArchiveUnavailable, match=r"asks to wait 3[56]\d\d s"):
            obtain(tmp_path / "file.gz", server.url)
        [probe] = probes.look([f"{server.url}file.gz"]).values()
        assert probe.status == "dead"
        assert probe.problem
        assert probe.problem.startswith("the server asks to wait ")
        assert len(server.requests) == 1


def test_a_look_that_is_told_to_wait_counts_for_downloads(tmp_path: Path) -> None:
    with serving(DATA, status(429, Retry_After="3600"), good()) as server:
        probes.look([f"{server.url}file.gz"])
        with pytest.raises(ArchiveUnavailable, match="asks to wait"):
            obtain(tmp_path / "file.gz", server.url)
        assert len(server.requests) == 1


def test_a_host_that_wants_to_be_left_alone_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    with serving(DATA, status(429, Retry_After="1"), good()) as server:
        assert probes.look([f"{server.url}file.gz"])
        obtain(tmp_path / "file.gz", server.url)
        assert len(server.requests) == 2


@pytest.mark.parametrize("note", ["", "nonsense", "nan", "inf", "-1", "1e300", "9999999999"])
def test_a_note_that_can_not_be_meant_holds_up_nobody(tmp_path: Path, note: str) -> None:
    with serving(DATA) as server:
        hosts.folder().mkdir(parents=True)
        host = server.url.split("/")[2]
        (hosts.folder() / f"{host}.wait").write_text(note)
        obtain(tmp_path / "file.gz", server.url)


def test_without_a_folder_to_meet_in_a_process_is_polite_for_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a file"))
    with serving(DATA, status(503, Retry_After="1"), good()) as server:
        archives.obtain(ARCHIVE, tmp_path / "f.gz", [f"{server.url}file.gz"], patience=HASTE)
        assert len(server.requests) == 2


def test_what_opens_a_host_is_in_no_name_of_a_file(tmp_path: Path) -> None:
    with serving(DATA, status(503, Retry_After="1"), good()) as server:
        obtain(tmp_path / "file.gz", server.url.replace("//", "//me:s3cr3t@"))
    names = [path.name for path in hosts.folder().iterdir()]
    assert names
    assert not any("s3cr3t" in name or "me" in name for name in names)
