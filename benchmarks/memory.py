"""Peak memory of one stage on a synthetic split: each measurement is a process of its own.

Not here: what is done with the figures (`benchmarks/speed.py`).

`ru_maxrss` would not do: exec carries the parent's peak over. Two figures are read instead, both
from /proc/self/status and both without what Python and the libraries take before the stage begins:

    anonymous  the peak of RssAnon, sampled every 2 ms: memory the stage really asked for
    whole      VmHWM, reset before the stage: also counts pages of mapped files (Parquet, LMDB),
               which are the page cache's and which the kernel takes back when it wants to
"""

from __future__ import annotations

import functools
import hashlib
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from isal import isal_zlib

if (_root := str(Path(__file__).resolve().parent.parent)) not in sys.path:
    sys.path.insert(0, _root)

from pipelines import catalogue, products, statistics, tables
from pipelines.products import Inputs, Subject
from pipelines.progress import silent
from pipelines.store import hashing

STAGES = ("table", "statistics", "csv", "lmdb", "batches")

_SAMPLE_S = 0.002
_BLOCK_RECORDS = 10_000
_HEIGHT = _WIDTH = 28
_CLASSES = 10

_TOML = """
title = "Synthetic"
homepage = "https://example.org/"
citation = "none"
licence = "not stated"
acknowledgements = "none"
mirrors = []
[archives]
"images.gz" = {images}
"labels.gz" = {labels}
[datasets.synthetic]
title = "Synthetic"
format = "idx"
image = {{ height = 28, width = 28, channels = 1 }}
classes = {classes}
[datasets.synthetic.splits.train]
records = {records}
counts = {counts}
images = "images.gz"
labels = "labels.gz"
"""


@dataclass(frozen=True, slots=True)
class Peak:
    """Mebibytes that a stage took at most."""

    anonymous: float
    whole: float


def peaks(folder: Path, records: int) -> dict[str, Peak]:
    """Return the peak of each stage on a split of so many records, made and used in `folder`."""
    with tempfile.TemporaryDirectory(dir=folder) as made:
        synthesise(Path(made), records)
        return {stage: _in_a_process(stage, Path(made)) for stage in STAGES}


def synthesise(folder: Path, records: int) -> None:
    """Write a source called `synthetic`: its declaration, and gzipped IDX of sparse random pixels.

    A fifth of the pixels is not 0; 10,000 records repeat, which no compressor's window spans.
    """
    random = np.random.default_rng(0)
    shape = (_BLOCK_RECORDS, _HEIGHT, _WIDTH)
    lit = random.random(shape, np.float32) < 0.2
    block = np.where(lit, random.integers(0, 256, shape, np.uint8), np.uint8(0)).tobytes()
    labels = np.arange(records, dtype=np.int64) % _CLASSES
    size = _HEIGHT * _WIDTH

    def image_bytes():
        yield _header(records, _HEIGHT, _WIDTH)
        for start in range(0, records, _BLOCK_RECORDS):
            yield block[: (min(records, start + _BLOCK_RECORDS) - start) * size]

    facts = {
        "images": _gzipped(folder / "images.gz", image_bytes()),
        "labels": _gzipped(
            folder / "labels.gz", iter([_header(records), labels.astype(np.uint8).tobytes()])
        ),
    }
    declaration = _TOML.format(
        **facts,
        records=records,
        classes=[str(label) for label in range(_CLASSES)],
        counts=np.bincount(labels, minlength=_CLASSES).tolist(),
    )
    (folder / "catalogue").mkdir()
    (folder / "catalogue" / "synthetic.toml").write_text(declaration, "utf-8")


def _header(*dimensions: int) -> bytes:
    return bytes([0, 0, 8, len(dimensions)]) + np.array(dimensions, ">u4").tobytes()


def _gzipped(goal: Path, pieces) -> str:
    """Write a gzip file; return its declaration."""
    deflate = isal_zlib.compressobj(1, wbits=31)
    with goal.open("wb") as file:
        for piece in pieces:
            file.write(deflate.compress(piece))
        file.write(deflate.flush())
    with goal.open("rb") as file:
        md5 = hashlib.file_digest(file, "md5").hexdigest()
    return f'{{ bytes = {goal.stat().st_size}, md5 = "{md5}", sha256 = "{hashing.sha256(goal)}" }}'


def _in_a_process(stage: str, folder: Path) -> Peak:
    done = subprocess.run(
        [sys.executable, __file__, stage, str(folder)], check=True, capture_output=True, text=True
    )
    return Peak(**json.loads(done.stdout))


def export(name: str, subject: Subject, table: Path, goal: Path) -> None:
    """Write the export called so of a table, with its options as they are by default."""
    product = products.known()[name]
    inputs = Inputs((subject,), {}, (), {subject.split.name: table})
    product.write(inputs, goal, product.chosen({}), silent)


def _work(stage: str, folder: Path) -> None:
    source = catalogue.load(folder / "catalogue").sources["synthetic"]
    dataset = source.datasets["synthetic"]
    split = dataset.splits["train"]
    table = folder / "train.parquet"
    match stage:
        case "table":
            tables.write(source, dataset, split, folder, table)
        case "statistics":
            statistics.write([table], folder / "statistics.parquet")
        case "csv":
            export("csv", Subject(source, dataset, (split,)), table, folder / "train.csv")
        case "lmdb":
            export("lmdb", Subject(source, dataset, (split,)), table, folder / "data.mdb")
        case "batches":
            for batch in tables.batches(table):
                batch.images.max()


def _status() -> dict[str, float]:
    """Return the memory figures of this process, in MiB."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    pairs = (line.split(":", 1) for line in lines if line.endswith(" kB"))
    return {key: int(value.split()[0]) / 1024 for key, value in pairs}


def measured(work: Callable[[], object]) -> Peak:
    """Return what some work takes beyond what this process takes already."""
    before = _status()
    Path("/proc/self/clear_refs").write_text("5", "ascii")  # resets VmHWM
    most, done = before["RssAnon"], threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(_SAMPLE_S):
            most = max(most, _status()["RssAnon"])

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return Peak(most - before["RssAnon"], _status()["VmHWM"] - before["VmRSS"])


if __name__ == "__main__":
    _stage, _folder = sys.argv[1:]
    _peak = measured(functools.partial(_work, _stage, Path(_folder)))
    print(json.dumps({"anonymous": _peak.anonymous, "whole": _peak.whole}))
