"""Writers that are killed: does anybody ever find provenance that contradicts the bytes?

    python -m benchmarks.writers                                    # in a temporary folder
    python -m benchmarks.writers --data s3://bucket/prefix          # in any store, by its variables

Processes of two code versions make one artefact over and over, so that each finds the others' stale
and replaces it; every so often one of them is killed (SIGKILL) and another one begins. Meanwhile a
reader asks for the provenance and the bytes. Where provenance is the same before and after, the
bytes have to be those it names. At the end, whoever is left makes it once more, and it is whole.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

if (_root := str(Path(__file__).resolve().parent.parent)) not in sys.path:
    sys.path.insert(0, _root)

from pipelines.errors import ImagesetsError
from pipelines.store import Artefact, Folder, Store, hashing, making, provenance, state
from pipelines.store.bucket import opened

PATH = "tables/race/train.parquet"
VERSIONS = ("1", "2")
SIZE_BYTES = 2 << 20


def _store(address: str, scratch: str) -> Store:
    return opened(address, Path(scratch)) if "://" in address else Folder(Path(address))


def _artefact(version: str) -> Artefact:
    return Artefact(PATH, "tables", version, {"version": version})


def write(address: str, scratch: str, version: str) -> None:
    """Make the artefact by one version of the code, for ever."""
    store = _store(address, scratch)

    def build(goal: Path) -> dict[str, int]:
        """Write what nobody else writes, in pieces, so that it can be killed between them."""
        with goal.open("wb") as file:
            for _ in range(16):
                file.write(os.urandom(SIZE_BYTES // 16))
        return {"records": 1}

    while True:
        try:
            making.make(store, _artefact(version), build)
        except ImagesetsError:
            time.sleep(0.01)


def look(store: Store) -> str:
    """Read provenance and bytes; return `agree`, `contradict`, or `moved` where they were swapped.

    A file that can't be read while it is swapped is no answer, either.
    """
    before = provenance.latest(store, PATH)
    try:
        hashing.forget()
        found = store.look(PATH, anew=True).sha256
    except (OSError, ImagesetsError):
        return "moved"
    after = provenance.latest(store, PATH)
    if before is None or before != after:
        return "moved"
    return "agree" if found == before.sha256 else "contradict"


def main() -> None:
    """Let them write, kill, read; and look at what is left."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", help="a folder, or the address of a store; temporary by default")
    parser.add_argument("--writers", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=25.0)
    parser.add_argument("--kill-every", type=float, default=0.4, metavar="SECONDS")
    given = parser.parse_args()
    scratch = tempfile.mkdtemp(prefix="imagesets-writers-")
    address = given.data or f"{scratch}/data"
    spawn = multiprocessing.get_context("spawn")

    def started(number: int) -> multiprocessing.process.BaseProcess:
        mine = f"{scratch}/{number}"  # a machine of its own, as far as the store can tell
        process = spawn.Process(
            target=write, args=(address, mine, VERSIONS[number % 2]), daemon=True
        )
        process.start()
        return process

    writers = [started(number) for number in range(given.writers)]
    store, looks, killed = _store(address, f"{scratch}/reader"), dict[str, int](), 0
    while provenance.latest(store, PATH) is None:
        time.sleep(0.1)
    end = time.monotonic() + given.seconds
    next_kill = time.monotonic() + given.kill_every
    while time.monotonic() < end:
        found = look(store)
        looks[found] = looks.get(found, 0) + 1
        if time.monotonic() >= next_kill:
            number = random.randrange(given.writers)
            os.kill(writers[number].pid or 0, signal.SIGKILL)
            writers[number].join()
            writers[number] = started(number)
            killed, next_kill = killed + 1, time.monotonic() + given.kill_every
    for process in writers:
        process.kill()
        process.join()
    at_rest = look(store)
    known = provenance.latest(store, PATH)
    condition = state.decide(store, _artefact(known.code_version)).condition if known else "missing"
    print(f"{address}: {given.writers} writers of {len(VERSIONS)} versions, {killed} killed")
    print("  " + ", ".join(f"{count:,} looks {what}" for what, count in sorted(looks.items())))
    print(f"  at rest: provenance and bytes {at_rest}; {condition}")
    shutil.rmtree(scratch, ignore_errors=True)
    sys.exit("contradict" in looks or at_rest != "agree" or condition != "whole")


if __name__ == "__main__":
    main()
