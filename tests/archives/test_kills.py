"""Downloads that are killed, and downloads that meet: real processes, real signals."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path

import numpy as np

from pipelines import archives
from pipelines.archives.readers import CHUNK_BYTES
from pipelines.declarations import Archive
from tests import builders
from tests.servers import Handler, cut, good, serving, slow, status
from tests.waiting import within

KILLS = {"dev": 60, "ci": 100, "nightly": 400}[os.environ.get("HYPOTHESIS_PROFILE", "dev")]
DATA = builders.gz(np.random.default_rng(1).bytes(4 * CHUNK_BYTES))
ARCHIVE = Archive(
    name="file.gz",
    size_bytes=len(DATA),
    md5=hashlib.md5(DATA).hexdigest(),
    sha256=hashlib.sha256(DATA).hexdigest(),
)


def obtain(goal: Path, url: str) -> None:
    archives.obtain(ARCHIVE, goal, [f"{url}file.gz"])


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def test_a_download_survives_being_killed_at_any_moment(
    processes: ForkServerContext, tmp_path: Path
) -> None:
    goal, partial = tmp_path / "file.gz", tmp_path / ".file.gz.partial"
    chance = random.Random(0)
    kept, seen = [], 0
    with serving(DATA, slow(1_000_000)) as server:
        for attempt in range(KILLS):
            process = processes.Process(target=obtain, args=(goal, server.url))
            before = size(partial)
            process.start()
            moment = attempt % 3  # of three, one is let ask, and one receive something
            while process.is_alive() and (
                (moment == 1 and len(server.requests) == seen)
                or (moment == 2 and size(partial) == before)
            ):
                time.sleep(0.001)
            time.sleep(chance.uniform(0, 0.04))
            process.kill()
            process.join()
            assert not goal.exists() or goal.read_bytes() == DATA
            # A request that the server has not read yet got no answer: the next one is of as much.
            kept += [before] * (len(server.requests) - seen)
            seen = len(kept)
            if goal.exists():
                goal.unlink()
        obtain(goal, server.url)
    assert goal.read_bytes() == DATA
    asked = [request.get("Range", "bytes=0-") for request in server.requests[: len(kept)]]
    assert asked == [f"bytes={size}-" for size in kept], "what was on the disk was asked for again"
    assert len(kept) > KILLS / 2, "too few kills hit a download under way"
    assert len({*kept}) > KILLS / 10, "the kills hit few different moments"


def test_what_a_killed_process_left_blocks_nobody(
    processes: ForkServerContext, tmp_path: Path
) -> None:
    goal, partial, lock = (tmp_path / f for f in ("file.gz", ".file.gz.partial", ".file.gz.lock"))
    with serving(DATA, slow(1_000_000), good()) as server:
        process = processes.Process(target=obtain, args=(goal, server.url))
        process.start()
        while not size(partial):
            time.sleep(0.001)
        process.kill()
        process.join()
        assert lock.exists()
        kept = size(partial)
        obtain(goal, server.url)
    assert server.requests[1]["Range"] == f"bytes={kept}-"
    assert goal.read_bytes() == DATA
    assert [path.name for path in tmp_path.iterdir()] == ["file.gz"]


def test_a_lock_file_that_nobody_holds_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / ".file.gz.lock").write_bytes(b"")
    with serving(DATA) as server:
        obtain(tmp_path / "file.gz", server.url)
    assert [path.name for path in tmp_path.iterdir()] == ["file.gz"]


def test_a_process_that_waits_goes_on_where_another_failed(
    processes: ForkServerContext, tmp_path: Path
) -> None:
    goal = tmp_path / "file.gz"
    begun = threading.Event()

    def fail_late(handler: Handler, data: bytes) -> None:
        cut(10_000)(handler, data)
        handler.wfile.flush()
        begun.wait(within(30))

    with serving(DATA, fail_late, status(403), good()) as server:
        both = [processes.Process(target=obtain, args=(goal, server.url)) for _ in range(2)]
        for process in both:
            process.start()
        time.sleep(0.3)  # one downloads, the other waits for the lock
        begun.set()
        for process in both:
            process.join(within(60))
    assert sorted(process.exitcode or 0 for process in both) == [0, 1]
    assert [request.get("Range") for request in server.requests] == [None, *["bytes=10000-"] * 2]
    assert goal.read_bytes() == DATA
    assert [path.name for path in tmp_path.iterdir()] == ["file.gz"]


def test_two_processes_that_want_the_same_archive_download_it_once(
    processes: ForkServerContext, tmp_path: Path
) -> None:
    goal = tmp_path / "file.gz"
    with serving(DATA, slow(4_000_000)) as server:
        both = [processes.Process(target=obtain, args=(goal, server.url)) for _ in range(2)]
        for process in both:
            process.start()
        for process in both:
            process.join(within(60))
    assert [process.exitcode for process in both] == [0, 0]
    assert goal.read_bytes() == DATA
    assert len(server.requests) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file.gz"]
