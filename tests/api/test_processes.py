"""Many processes, and some that are killed: what the library says of a cache that they share."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

import pipelines as imagesets
from tests.builders import Publisher
from tests.servers import folder, serving
from tests.waiting import within

ROOT = Path(__file__).resolve().parent.parent.parent
KILLS = {"nightly": 400}.get(os.environ.get("HYPOTHESIS_PROFILE", ""), 100)

# Forks from a process that has imported everything, and is alone in itself: no thread runs yet.
KILLING = """
import hashlib, json, os, random, shutil, signal, sys, time
import pipelines as imagesets
from pipelines import formats, products
from pipelines.api import loading, making
formats.known(), products.known()
data, kills = sys.argv[1], int(sys.argv[2])
chance = random.Random(14)

def load():
    found = imagesets.load("tiny_colours", "train")
    return hashlib.sha256(found.images.tobytes() + found.labels.tobytes()).hexdigest()

def forked(work):
    end, start = os.pipe()
    if not (pid := os.fork()):
        os.write(start, work().encode())
        os._exit(0)
    os.close(start)
    return pid, end

def told(pid, end):
    with os.fdopen(end) as file:
        said = file.read()
    return said, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def whole():
    found = load()
    verdicts = imagesets.verify("tiny_colours") if not number % 10 else []  # takes longer
    return found if all(one.is_whole for one in verdicts) else "damaged"

def counted(most=-1):
    # What is asked of the system for files; at the last of these, it is killed.
    asked = 0

    def count(event, _):
        nonlocal asked
        asked += event.startswith(("open", "os.", "shutil."))
        if asked == most:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    load()
    return str(asked)

took, number = [], 0
for _ in range(3):
    shutil.rmtree(data, ignore_errors=True)
    began = time.perf_counter()
    told(*forked(load))
    took.append(time.perf_counter() - began)
shutil.rmtree(data, ignore_errors=True)
calls = int(told(*forked(counted))[0])
for number in range(kills):
    shutil.rmtree(data, ignore_errors=True)
    if number % 2:  # at any moment
        pid, end = forked(load)
        time.sleep(chance.uniform(0, min(took)))
        os.kill(pid, signal.SIGKILL)
    else:  # from the first call to the last, however busy the machine is
        pid, end = forked(lambda: counted(1 + number * (calls - 1) // kills))
    said, code = told(pid, end)
    left = sum(len(names) for _, _, names in os.walk(data))
    print(json.dumps([code, left, told(*forked(whole))]))
"""


@pytest.mark.slow
def test_after_a_kill_at_any_moment_of_a_first_load_the_next_one_is_right(
    publisher: Publisher, data: Path
) -> None:
    images, labels, _ = publisher.splits["tiny_colours", "train"]
    expected = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()

    done = subprocess.run(
        [sys.executable, "-c", KILLING, str(data), str(KILLS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=within(250),
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [next_one for _, _, next_one in found] == [[expected, 0]] * KILLS
    killed = [files for code, files, _ in found[::2] if code == -signal.SIGKILL]
    assert len(killed) > KILLS / 2 * 0.9, "too few kills hit a load under way"
    assert len({*killed}) > 5, "the kills hit few different moments"


def _digest(_number: int) -> str:
    found = imagesets.load("tiny_digits", "train")
    return hashlib.sha256(found.images.tobytes() + found.labels.tobytes()).hexdigest()


@pytest.mark.slow
def test_ten_processes_at_once_ask_a_server_once_for_each_file(
    publisher: Publisher, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels, _ = publisher.splits["tiny_digits", "train"]
    expected = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    monkeypatch.delenv("IMAGESETS_OFFLINE")
    with serving(b"", folder(publisher.mirror)) as server:
        monkeypatch.setenv("IMAGESETS_MIRROR", server.url.rstrip("/"))
        with ProcessPoolExecutor(10, mp_context=get_context("spawn")) as pool:
            found = list(pool.map(_digest, range(10)))
        asked = Counter(zip(server.methods, server.paths, strict=True))

    assert found == [expected] * 10
    wanted = ("train-images.gz", "train-labels.gz")
    assert asked == {("GET", f"/tiny_digits/{name}"): 1 for name in wanted}
    assert not list((data / "lineage/history").rglob("*.json")), "nothing was made twice"


def test_threads_of_one_process_load_at_once(publisher: Publisher) -> None:
    images = publisher.splits["tiny_letters", "train"][0]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: imagesets.load("tiny_letters", "train"), range(16)))
    for one in found:
        np.testing.assert_array_equal(one.images, images)


def _loaded(dataset: str) -> int:
    return len(imagesets.load(dataset, "train"))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_of_a_pool_load_however_they_are_started(
    publisher: Publisher, data: Path, method: str
) -> None:
    """The parent has loaded before, as people have: it has threads behind it."""
    code = f"""
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
import pipelines as imagesets
from tests.api.test_processes import _loaded

if __name__ == "__main__":
    here = len(imagesets.load("tiny_digits", "train"))
    with ProcessPoolExecutor(2, mp_context=get_context({method!r})) as pool:
        there = list(pool.map(_loaded, ["tiny_digits", "tiny_letters", "tiny_colours"]))
    print(here, *there)
"""
    script = data.parent / "script.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, script],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore::DeprecationWarning"},
        capture_output=True,
        text=True,
        timeout=within(120),
        check=False,
    )
    counts = [
        len(publisher.splits[name, "train"][1])
        for name in ("tiny_digits", "tiny_digits", "tiny_letters", "tiny_colours")
    ]
    assert (done.stdout, done.stderr) == (" ".join(map(str, counts)) + "\n", "")
