"""`writing.locked`: real processes that want the same block, some of them killed while in it."""

from __future__ import annotations

import fcntl
import functools
import os
import random
import time
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import filelock

from pipelines.store import writing

KILLS = 60
WORKERS = 5


def hold(path: Path, told: Connection) -> None:
    """Enter the block, say so, and leave it when told to."""
    told.send("asks")
    with writing.locked(path):
        told.send("is in")
        told.recv()
    told.send("is out")


def come_and_go(path: Path, journal: Path, seed: int) -> None:
    """Enter and leave the block until killed, and note every step; end when not alone in it.

    The kernel takes this other lock, whose file is never removed, from a process that dies.
    """
    filelock.FileLock = functools.partial(filelock.FileLock, poll_interval=0.0005)  # type: ignore[misc]
    chance = random.Random(seed)
    alone = os.open(journal.with_name("alone"), os.O_RDWR | os.O_CREAT)
    steps = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    while True:
        with writing.locked(path):
            try:
                fcntl.lockf(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.write(steps, f"{os.getpid()} meets\n".encode())
                return
            os.write(steps, f"{os.getpid()} enters\n".encode())
            if chance.random() < 0.1:
                time.sleep(0.002)
            os.write(steps, f"{os.getpid()} leaves\n".encode())
            fcntl.lockf(alone, fcntl.LOCK_UN)


def test_who_waits_for_a_process_that_is_killed_comes_next_and_alone(
    processes: ForkServerContext, tmp_path: Path
) -> None:
    path = tmp_path / "goal.bin"
    pipes = [processes.Pipe() for _ in range(3)]
    first, second, third = (
        processes.Process(target=hold, args=(path, theirs)) for _, theirs in pipes
    )
    first_says, second_says, third_says = (ours for ours, _ in pipes)

    def hear(says: Connection) -> object:
        assert says.poll(60), "nothing is said any more"
        return says.recv()

    try:
        first.start()
        assert [hear(first_says), hear(first_says)] == ["asks", "is in"]
        second.start()
        assert hear(second_says) == "asks"
        assert not second_says.poll(0.3), "two are in at once"
        first.kill()
        first.join()
        assert hear(second_says) == "is in"
        third.start()
        assert hear(third_says) == "asks"
        assert not third_says.poll(0.3), "two are in at once"
        second_says.send("leave")
        assert hear(second_says) == "is out"
        assert hear(third_says) == "is in"
        third_says.send("leave")
        assert hear(third_says) == "is out"
    finally:
        for process in (first, second, third):
            if process.pid is not None:
                process.kill()
                process.join()
    assert [*tmp_path.iterdir()] == [], "a lock that nobody holds was left"


def test_two_are_never_in_at_once_though_locks_are_removed_and_holders_killed(
    processes: ForkServerContext, tmp_path: Path
) -> None:
    path, journal = tmp_path / "goal.bin", tmp_path / "journal"
    chance = random.Random(0)
    seeds = iter(range(WORKERS + KILLS))

    def begin() -> ForkServerProcess:
        process = processes.Process(target=come_and_go, args=(path, journal, next(seeds)))
        process.start()
        return process

    def written() -> int:
        return journal.stat().st_size if journal.exists() else 0

    at_work = [begin() for _ in range(WORKERS)]
    killed = []
    try:
        for _ in range(KILLS):
            enough = written() + 500
            while written() < enough and all(process.is_alive() for process in at_work):
                time.sleep(0.001)
            time.sleep(chance.uniform(0, 0.003))
            number = chance.randrange(WORKERS)
            at_work[number].kill()
            at_work[number].join()
            killed.append(str(at_work[number].pid))
            at_work[number] = begin()
    finally:
        for process in at_work:
            process.kill()
            process.join()
    last = dict(line.split() for line in journal.read_text().splitlines())
    assert "meets" not in last.values(), "two were in at once"
    assert "enters" in [last.get(pid) for pid in killed], "no kill hit a process in the block"
