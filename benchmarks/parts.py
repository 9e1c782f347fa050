"""A split in parts of millions of made-up records: seconds per million, and memory, as it grows.

    python -m benchmarks.parts [--millions 1 2 5]

Drawings of 28×28 pixels are published in a temporary folder, 147,000 to a class and file, and
built, verified (deep, too), traced, and read: each in a process of its own, whose peak of memory is
told. Both should stay flat. 5 million records take 10 GB of disk.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

if (_root := str(Path(__file__).resolve().parent.parent)) not in sys.path:
    sys.path.insert(0, _root)

from pipelines import plan, stages, tables
from pipelines.building import Ahead, Web, Workshop
from pipelines.lineage import trace, verify
from pipelines.progress import Display
from pipelines.store import Folder, layout

PART_RECORDS = 147_000  # about what a class of Quick, Draw! has
DATASET = "drawings"


def publish(folder: Path, parts: int) -> None:
    """Publish so many files of drawings: strokes on black, no two alike."""
    import hashlib

    random = np.random.default_rng(0)
    mirror, catalogue = folder / "mirror" / DATASET, folder / "catalogue"
    mirror.mkdir(parents=True)
    catalogue.mkdir()
    strokes = (random.random((4096, 784)) < 0.15) * random.integers(64, 256, (4096, 784))
    strokes = strokes.astype(np.uint8)
    archives = []
    for part in range(parts):
        images = strokes[random.integers(0, 4096, PART_RECORDS)]
        images[:, ::2] |= strokes[random.integers(0, 4096, PART_RECORDS), ::2]
        numbers = np.arange(part * PART_RECORDS, (part + 1) * PART_RECORDS, dtype="<u4")
        images[:, :4] = numbers.view(np.uint8).reshape(-1, 4)
        np.save(mirror / f"{part:03}.npy", images)
        data = (mirror / f"{part:03}.npy").read_bytes()
        hashes = hashlib.md5(data).hexdigest(), hashlib.sha256(data).hexdigest()
        said = 'bytes = {}, md5 = "{}", sha256 = "{}"'.format(len(data), *hashes)
        archives.append(f'"{part:03}.npy" = {{ {said} }}')
    names = [f"{part:03}" for part in range(parts)]
    (catalogue / f"{DATASET}.toml").write_text(
        "\n".join(
            [
                'title = "Drawings"',
                'homepage = "https://example.org/"',
                'citation = "@misc{drawings}"',
                'licence = "made up"',
                'acknowledgements = "Made up."',
                "mirrors = []",
                "[archives]",
                *archives,
                f"[datasets.{DATASET}]",
                'title = "Drawings"',
                'format = "npy"',
                "image = { height = 28, width = 28, channels = 1 }",
                f"classes = {names}",
                f"[datasets.{DATASET}.splits.train]",
                f"records = {parts * PART_RECORDS}",
                f"counts = {[PART_RECORDS] * parts}",
                'parts = "members"',
                f"arrays = {[f'{name}.npy' for name in names]}",
            ]
        )
    )


def _planned(folder: Path) -> plan.Plan:
    options = {name: option.default for name, option in stages.options().items()}
    return plan.of(plan.load(folder / "catalogue"), options)


def build(folder: Path) -> None:
    """Make archives, tables, sums, manifest and statistics, as a build does."""
    everything, store = _planned(folder), Folder(folder / "data")
    wanted = everything.of(
        everything.declared.datasets.values(),
        ("archives", "tables", "sums", "manifest", "statistics"),
    )
    paths = {one.path for one in wanted}
    workshop = Workshop(store, everything, Web(str(folder / "mirror")), wanted=paths)
    steps = list(dict.fromkeys(one.step for one in wanted))
    with Ahead(workshop, steps) as ahead:
        for asset, part in steps:
            assert ahead.take(asset, [part])


def verify_shallow(folder: Path) -> None:
    """Hash everything anew."""
    _verify(folder, deep=False)


def verify_deep(folder: Path) -> None:
    """Compare every record with the archives."""
    _verify(folder, deep=True)


def _verify(folder: Path, *, deep: bool) -> None:
    everything = _planned(folder)
    datasets = list(everything.declared.datasets.values())
    found = verify.verify(Folder(folder / "data"), everything, datasets, Display(), deep=deep)
    assert found
    assert all(one.is_whole for one in found)


def read_in_batches(folder: Path) -> None:
    """Read every record once, a row group at a time."""
    manifest = Folder(folder / "data").local(layout.manifest(DATASET, "train"))
    records = sum(len(batch) for batch in tables.batches(manifest))
    assert records == tables.info(manifest).records


def trace_ten(folder: Path) -> None:
    """Trace ten records, all over the split, to their publisher's bytes."""
    everything, store = _planned(folder), Folder(folder / "data")
    records = everything.declared.datasets[DATASET].splits["train"].records
    for number in range(10):
        assert trace.trace(everything, store, f"{DATASET}/train:{records * number // 10}").holds


PHASES = (build, verify_shallow, verify_deep, read_in_batches, trace_ten)


def _measured(phase: Callable[[Path], None], folder: Path) -> tuple[float, float, float]:
    """Return wall seconds, CPU seconds and the peak of memory in MiB of a phase."""
    Path("/proc/self/clear_refs").write_text("5")  # its peak begins here, not with its parent's
    began, cpu = time.perf_counter(), time.process_time()
    phase(folder)
    [peak] = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return time.perf_counter() - began, time.process_time() - cpu, int(peak) / 1024


def main() -> None:
    """Publish, and run each phase for each number of records."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--millions", type=int, nargs="+", default=[1, 2, 5])
    given = parser.parse_args()
    print(f"{'records':>10}  {'phase':16}{'s':>8}{'CPU s':>8}{'CPU s / 10^6':>14}{'MiB':>7}")
    for millions in given.millions:
        parts = round(millions * 1_000_000 / PART_RECORDS)
        folder = Path(tempfile.mkdtemp(prefix="imagesets-parts-"))
        try:
            publish(folder, parts)
            for phase in PHASES:
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    wall, cpu, peak = pool.apply(_measured, (phase, folder))
                records = parts * PART_RECORDS
                print(
                    f"{records:>10,}  {phase.__name__:16}{wall:>8.1f}{cpu:>8.1f}"
                    f"{cpu / records * 1e6:>14.2f}{peak:>7.0f}",
                    flush=True,
                )
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
