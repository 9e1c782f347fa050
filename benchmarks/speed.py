"""The product's speed and memory, each figure beside what it is held against.

    python benchmarks/speed.py --mirror FOLDER      (laid out <source>/<file>)

Not here: the floor itself (`benchmarks/floor.py`), measuring memory (`benchmarks/memory.py`). What
each figure means is written in `benchmarks/README.md`. Every time is the median of alternating
repeats in one process, from a warm page cache, into a temporary folder; every ratio is the median
of the ratios of neighbouring repeats, so that whatever slows the machine down slows both.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if (_root := str(Path(__file__).resolve().parent.parent)) not in sys.path:
    sys.path.insert(0, _root)

from benchmarks import floor, memory
from pipelines import archives, catalogue, statistics, tables
from pipelines.declarations import Dataset, Source, Split
from pipelines.products import Subject
from pipelines.store import hashing, layout, making

if TYPE_CHECKING:  # Dagster is imported by the sections that measure it
    from assets.running.outcomes import Outcome
    from assets.settings import Settings

CATALOGUE = Path(_root) / "assets" / "catalogue"
STAGES = ("archives", "tables", "statistics", "csv", "lmdb")
SOURCES = ("mnist", "fashion_mnist")  # each has one dataset, called like itself
PAGE_BYTES = 1 << 20  # Parquet's own page size, which the tables keep


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table; `target` is the most that `value` should be."""

    section: str
    what: str
    value: float
    unit: str
    target: float | None = None

    def __str__(self) -> str:
        number = f"{self.value:.1f}" if self.unit in ("MiB", "ms", "%") else f"{self.value:.3f}"
        line = f"  {self.what:64}{number:>9} {self.unit:4}"
        if self.target is None:
            return line.rstrip()
        verdict = "met" if self.value <= self.target else "NOT MET"
        return f"{line}  ≤ {self.target:g} {self.unit}: {verdict}"


@dataclass(frozen=True, slots=True)
class Bench:
    """What the sections are given: archives, a folder to write to, how often to repeat."""

    mirror: Path | None
    work: Path
    repeats: int

    @property
    def archives(self) -> Path:
        """The mirror, for sections that do not run without it."""
        if self.mirror is None:
            raise MissingMirror
        return self.mirror


class MissingMirror(Exception):
    """A section needs the publishers' archives."""


@dataclass(frozen=True, slots=True)
class Time:
    """What one call took: wall, processor time of all threads, and the wait for the disk."""

    wall_s: float
    cpu_s: float
    fsync_s: float


def timed(work: Callable[[], object]) -> Time:
    with _watched_fsync() as waits:
        cpu, start = time.process_time(), time.perf_counter()
        work()
        wall = time.perf_counter() - start
        return Time(wall, time.process_time() - cpu, sum(waits))


def alternating(repeats: int, *works: Callable[[], object]) -> list[list[Time]]:
    """Run A B C A B C …, once more at first to warm up; return the times of A, of B, of C."""
    for work in works:
        work()
    rounds = [[timed(work) for work in works] for _ in range(repeats)]
    return [list(column) for column in zip(*rounds, strict=True)]


def wall(times: list[Time]) -> float:
    return median(t.wall_s for t in times)


def ratio(ours: list[Time], theirs: list[Time]) -> float:
    return median(a.wall_s / b.wall_s for a, b in zip(ours, theirs, strict=True))


@contextlib.contextmanager
def _watched_fsync() -> Iterator[list[float]]:
    real, waits = os.fsync, []

    def fsync(handle: int) -> None:
        start = time.perf_counter()
        real(handle)
        waits.append(time.perf_counter() - start)

    os.fsync = fsync
    try:
        yield waits
    finally:
        os.fsync = real


# ── 1 ── the spine: verify, decode, four tables, statistics ─────────────────────────────────────


def summed(
    source: Source, dataset: Dataset, split: Split, folder: Path, goal: Path, **how: bool
) -> statistics.Sums:
    """Write a table; return the sums of its records, added up on the way as the assets do it."""
    sums = statistics.nothing(len(dataset.classes), dataset.image.shape)
    add = partial(statistics.add, sums)
    tables.write(source, dataset, split, folder, goal, observe=add, **how)
    return sums


def spine(bench: Bench) -> Iterator[Figure]:
    declared, mirror = catalogue.load(CATALOGUE), bench.archives
    stages: dict[str, list[float]] = {"verify": [], "tables": [], "statistics": []}

    def ours() -> None:
        data = bench.work / "ours"
        spent = dict.fromkeys(stages, 0.0)
        for source, dataset in ((declared.sources[n], declared.datasets[n]) for n in SOURCES):
            start = time.perf_counter()
            with ThreadPoolExecutor(4) as pool:  # as the assets do it
                paths_of = {mirror / source.name / a.name: a for a in source.archives.values()}
                list(pool.map(archives.verify, paths_of.keys(), paths_of.values()))
            verified = time.perf_counter()
            paths, sums = [], {}
            for split in dataset.splits.values():
                paths.append(data / layout.table(dataset.name, split.name))
                sums[paths[-1]] = summed(source, dataset, split, mirror / source.name, paths[-1])
            written = time.perf_counter()
            statistics.write(paths, data / layout.statistics(dataset.name), known=sums)
            spent["verify"] += verified - start
            spent["tables"] += written - verified
            spent["statistics"] += time.perf_counter() - written
        for stage, seconds in spent.items():
            stages[stage].append(seconds)

    def side_by_side() -> None:
        """Two splits at a time, as the floor does it; then the statistics, two at a time too."""
        data = bench.work / "side"
        work = [(declared.sources[n], declared.datasets[n]) for n in SOURCES]
        splits = [(s, d, split) for s, d in work for split in d.splits.values()]
        splits.sort(key=lambda item: -item[2].records)
        with ThreadPoolExecutor(2) as pool:
            sums = dict(pool.map(lambda item: from_archives(*item, data), splits))
            list(pool.map(lambda item: summarised(item[1], data, sums), work))

    def summarised(dataset: Dataset, data: Path, sums: dict[Path, statistics.Sums]) -> None:
        paths = [data / layout.table(dataset.name, split) for split in dataset.splits]
        statistics.write(paths, data / layout.statistics(dataset.name), known=sums)

    def from_archives(
        source: Source, dataset: Dataset, split: Split, data: Path
    ) -> tuple[Path, statistics.Sums]:
        for name in split.archives:
            archives.verify(mirror / source.name / name, source.archives[name])
        goal = data / layout.table(dataset.name, split.name)
        folder = mirror / source.name
        return goal, summed(source, dataset, split, folder, goal, decode_ahead=False)

    def floor_at(level: int) -> Callable[[], object]:
        goal = bench.work / f"floor{level}"
        goal.mkdir(exist_ok=True)
        return lambda: floor.run(mirror, goal, level)

    same_level = tables.COMPRESSION_LEVEL
    mine, side, bare, bare_same = alternating(
        bench.repeats, ours, side_by_side, floor_at(1), floor_at(same_level)
    )
    yield Figure("spine", "ours, two splits at a time", wall(side), "s")
    yield Figure("spine", "ours, stage after stage as the assets run", wall(mine), "s")
    for stage, seconds in stages.items():
        yield Figure("spine", f"  of which {stage}", median(seconds[1:]), "s")
    yield Figure("spine", "  of which waiting for fsync", median(t.fsync_s for t in mine), "s")
    yield Figure("spine", "floor, zstd 1", wall(bare), "s")
    yield Figure("spine", f"floor, zstd {same_level} as ours", wall(bare_same), "s")
    yield Figure("spine", "two splits at a time ÷ floor", ratio(side, bare), "×", 1.15)
    yield Figure("spine", f"  ÷ floor, zstd {same_level}", ratio(side, bare_same), "×")
    yield Figure("spine", "stage after stage ÷ floor", ratio(mine, bare), "×")
    yield Figure(
        "spine",
        "processor time, ours ÷ floor",
        median(a.cpu_s / b.cpu_s for a, b in zip(side, bare, strict=True)),
        "×",
    )


# ── 2 ── reading a split back ───────────────────────────────────────────────────────────────────


def read(bench: Bench) -> Iterator[Figure]:
    for name in SOURCES:
        table = _table(bench, name)
        batch = tables.read(table)
        images, labels = bench.work / "images.npy", bench.work / "labels.npy"
        np.save(images, batch.images)
        np.save(labels, batch.labels)
        pages = _compressed(batch.images)
        del batch
        ours, theirs, bound = alternating(
            3 * bench.repeats,
            lambda table=table: tables.read(table),
            lambda images=images, labels=labels: (np.load(images), np.load(labels)),
            lambda pages=pages: _decompress(pages),
        )
        yield Figure("read", f"{name}/train: tables.read", 1000 * wall(ours), "ms")
        yield Figure("read", f"{name}/train: np.load", 1000 * wall(theirs), "ms")
        yield Figure("read", f"{name}/train: zstd alone, two threads", 1000 * wall(bound), "ms")
        yield Figure("read", f"{name}/train: read ÷ zstd alone", ratio(ours, bound), "×", 1.3)
        yield Figure("read", f"{name}/train: read ÷ np.load", ratio(ours, theirs), "×")
        spent = median(a.cpu_s / b.cpu_s for a, b in zip(ours, bound, strict=True))
        yield Figure("read", f"{name}/train: processor time, read ÷ zstd alone", spent, "×")


def _compressed(images: np.ndarray) -> list[tuple[bytes, int]]:
    """Return the pixels as the pages of a table are compressed, each with its size before."""
    codec = pa.Codec("zstd", tables.COMPRESSION_LEVEL)
    raw = memoryview(images).cast("B")
    pieces = (raw[start : start + PAGE_BYTES] for start in range(0, len(raw), PAGE_BYTES))
    return [(codec.compress(piece, asbytes=True), len(piece)) for piece in pieces]


def _decompress(pages: list[tuple[bytes, int]]) -> None:
    def some(mine: list[tuple[bytes, int]]) -> None:
        codec = pa.Codec("zstd")
        for page, size in mine:
            codec.decompress(page, size)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(some, (pages[::2], pages[1::2])))


# ── 3 ── exports ────────────────────────────────────────────────────────────────────────────────


def exports(bench: Bench) -> Iterator[Figure]:
    for name in SOURCES:
        table, source = _table(bench, name), catalogue.load(CATALOGUE).sources[name]
        dataset = source.datasets[name]
        subject = Subject(source, dataset, (dataset.splits["train"],))
        works = {
            ("csv", 0.6): partial(memory.export, "csv", subject, table, bench.work / "train.csv"),
            ("lmdb", 0.4): partial(memory.export, "lmdb", subject, table, bench.work / "data.mdb"),
        }
        for (stage, target), times in zip(
            works, alternating(bench.repeats, *works.values()), strict=True
        ):
            waits = median(t.fsync_s for t in times)
            compute = median(t.wall_s - t.fsync_s for t in times)
            yield Figure("exports", f"{name}/train: {stage}", compute, "s", target)
            yield Figure("exports", "  and waiting for fsync", waits, "s")


def _table(bench: Bench, name: str) -> Path:
    """Return the training table of a dataset, made if it is not there."""
    path = bench.work / layout.table(name, "train")
    if not path.exists():
        declared = catalogue.load(CATALOGUE)
        source, dataset = declared.sources[name], declared.datasets[name]
        tables.write(source, dataset, dataset.splits["train"], bench.archives / name, path)
    return path


# ── 4 ── memory ─────────────────────────────────────────────────────────────────────────────────

SMALL, LARGE = 60_000, 700_000
GROWTH_MIB = 64


def peaks(bench: Bench) -> Iterator[Figure]:
    small, large = memory.peaks(bench.work, SMALL), memory.peaks(bench.work, LARGE)
    for stage in memory.STAGES:
        for kind in ("anonymous", "whole"):
            low, high = getattr(small[stage], kind), getattr(large[stage], kind)
            what = f"{stage}, {kind}: {SMALL // 1000}k {low:.0f}, {LARGE // 1000}k {high:.0f}"
            yield Figure("memory", f"{what}; growth", high - low, "MiB", GROWTH_MIB)


# ── 5 ── the command line, as people wait for it ────────────────────────────────────────────────


def commands(bench: Bench) -> Iterator[Figure]:
    """Run whole commands, a process each; the least of some runs, which is steadier."""
    variables = {**os.environ, "IMAGESETS_MIRROR": str(bench.archives), "IMAGESETS_OFFLINE": "1"}
    folder = bench.work / "commands"

    def run(*arguments: str) -> Time:
        command = [sys.executable, "-m", "assets", *arguments]
        if arguments[0] != "--help":
            command += ["--data", str(folder)]
        return timed(
            partial(subprocess.run, command, cwd=_root, env=variables, check=True, **_QUIET)
        )

    def fresh(*arguments: str) -> Time:
        shutil.rmtree(folder, ignore_errors=True)
        return run("build", *SOURCES, *arguments)

    run("build", *SOURCES)  # imports are compiled, and Dagster's databases were set up once
    rows: list[tuple[str, Callable[[], Time], float | None]] = [
        ("build --only statistics", partial(fresh, "--only", "statistics"), 3.2),
        ("build: everything", fresh, 4.8),
        ("build: nothing to do", partial(run, "build", *SOURCES), 1.0),
        ("list", partial(run, "list"), None),
        ("--help", partial(run, "--help"), None),
    ]
    for what, work, target in rows:
        found = [work() for _ in range(bench.repeats)]
        yield Figure("dagster", what, min(time.wall_s for time in found), "s", target)


_QUIET: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def _build(chosen: Settings) -> list[Outcome]:
    """Run the assets of both datasets; return what became of them."""
    from assets.running import runs
    from pipelines.progress import Display

    plan = chosen.plan()
    wanted = plan.assets(plan.of(plan.declared.select(SOURCES), STAGES))
    return runs.materialize(chosen, plan, wanted, Display())


# ── 6 ── lineage: what provenance costs, what verifying takes ─────────────────────────────────────

MOST_ROUNDS = 3  # of three builds each: more take minutes


def lineage_(bench: Bench) -> Iterator[Figure]:
    from assets.settings import Settings
    from pipelines.lineage import verify
    from pipelines.progress import Display

    mirror = str(bench.archives)
    makings: list[tuple[float, float]] = []
    building: list[tuple[float, float]] = []
    make = making.make

    def clocked_make(store: Any, artefact: Any, build: Callable[[Path], Any], run_id: Any) -> Any:
        def clocked_build(path: Path) -> Any:
            with _noted(building):
                return build(path)

        with _noted(makings):
            return make(store, artefact, clocked_build, run_id)

    look_through = hashing.look_through

    def clocked_look(*given: Any) -> Any:
        is_input = threading.current_thread().name.startswith("inputs")
        with _noted(looking if is_input else []):
            return look_through(*given)

    rounds = min(bench.repeats, MOST_ROUNDS)
    shares, with_inputs, built, shallow, deep, reference = [], [], [], [], [], []
    looking: list[tuple[float, float]] = []
    making.make, hashing.look_through = clocked_make, clocked_look
    try:
        for number in range(rounds + 1):  # the first one imports, and is thrown away
            chosen = Settings(data=bench.work / f"lineage{number}", mirror=mirror, offline=True)
            makings.clear()
            building.clear()
            build = timed(partial(_build, chosen))
            shares.append((_covered(makings) - _covered(building)) / build.wall_s)
            built.append(build)
            reference.append(timed(partial(sha256sum, artefacts(chosen.data))))
            for times, is_deep in ((shallow, False), (deep, True)):
                plan = chosen.plan()
                datasets = plan.declared.select(SOURCES)
                check = partial(
                    verify.verify, chosen.store, plan, datasets, Display(), deep=is_deep
                )
                times.append(timed(check))
            # Each input once: archives where only they are there, then tables where those are too.
            looking.clear()
            for gone in (("tables", "statistics", "exports"), ("statistics", "exports")):
                for folder in gone:
                    shutil.rmtree(chosen.data / folder)
                _build(chosen)
            with_inputs.append(shares[-1] + _covered(looking) / build.wall_s)
    finally:
        making.make, hashing.look_through = make, look_through
    size = sum(path.stat().st_size for path in artefacts(chosen.data))
    yield Figure(
        "lineage", "share of a build that provenance takes", 100 * median(shares[1:]), "%", 5
    )
    share = 100 * median(with_inputs[1:])
    yield Figure("lineage", "  and if every input is hashed anew", share, "%", 8)
    yield Figure("lineage", "verify", wall(shallow[1:]), "s")
    yield Figure("lineage", "  of", size / 2**20, "MiB")
    yield Figure("lineage", "sha256sum of the same files", wall(reference[1:]), "s")
    yield Figure("lineage", "verify ÷ sha256sum", ratio(shallow[1:], reference[1:]), "×", 1.25)
    yield Figure("lineage", "verify --deep", wall(deep[1:]), "s")
    yield Figure("lineage", "the build", wall(built[1:]), "s")
    yield Figure("lineage", "verify --deep ÷ the build", ratio(deep[1:], built[1:]), "×", 1.5)


@contextlib.contextmanager
def _noted(spans: list[tuple[float, float]]) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        spans.append((start, time.perf_counter()))


def _clocked(work: Callable[..., Any], spans: list[tuple[float, float]]) -> Callable[..., Any]:
    def clocked(*given: Any, **named: Any) -> Any:
        with _noted(spans):
            return work(*given, **named)

    return clocked


def _covered(spans: list[tuple[float, float]]) -> float:
    """Return the seconds in which at least one of some spans was under way: archives overlap."""
    covered = end = 0.0
    for start, stop in sorted(spans):
        covered += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return covered


def sha256sum(paths: list[Path]) -> None:
    subprocess.run(["sha256sum", *map(str, paths)], check=True, stdout=subprocess.DEVNULL)


def artefacts(data: Path) -> list[Path]:
    folders = ("archives", "tables", "statistics", "exports")
    found = (path for folder in folders for path in (data / folder).rglob("*"))
    return [path for path in found if path.is_file() and path.suffix != ".json"]


# ── 7 ── start-up: until something answers, until something is done ─────────────────────────────


def startup(bench: Bench) -> Iterator[Figure]:
    variables = {
        **os.environ,
        "IMAGESETS_MIRROR": str(bench.archives),
        "IMAGESETS_DATA": str(bench.work / "startup"),
        "IMAGESETS_OFFLINE": "1",
    }
    command = [sys.executable, "-m", "assets"]
    quietly = partial(
        subprocess.run, cwd=_root, env=variables, check=True, stdout=subprocess.DEVNULL
    )
    listing = [timed(partial(quietly, [*command, "list"])) for _ in range(bench.repeats)]
    yield Figure("startup", "python -m assets list", wall(listing), "s")
    answers, launches = [], []
    for _ in range(bench.repeats):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        start = time.perf_counter()
        ui = subprocess.Popen(
            [*command, "ui", "--port", str(port)],
            cwd=_root,
            env=variables,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            url = f"http://127.0.0.1:{port}/graphql"
            _until(lambda url=url: _ask(url, "{ workspaceOrError { __typename } }") is not None)
            answers.append(time.perf_counter() - start)
            launches.append(_first_step(url))
        finally:
            ui.terminate()
            ui.wait(60)
    yield Figure("startup", "python -m assets ui: until it answers", median(answers), "s", 5)
    what = "from a launch to the start of the first step"
    yield Figure("startup", what, median(launches), "s", 2)
    what = "a tick of the sensor declarative, of processor time"
    yield Figure("startup", what, _tick(bench), "s", 1)


def _first_step(url: str) -> float:
    """Launch the archives of a dataset in the UI; return the seconds until their step starts."""
    selector = {
        "repositoryLocationName": "imagesets",
        "repositoryName": "__repository__",
        "pipelineName": "archives",
        "assetSelection": [{"path": ["mnist", "archives"]}],
    }
    launched = time.time()
    answer = _ask(
        url,
        "mutation($p: ExecutionParams!) { launchRun(executionParams: $p) "
        "{ __typename ... on LaunchRunSuccess { run { runId } } } }",
        p={"selector": selector, "mode": "default"},
    )
    run = answer["launchRun"]["run"]["runId"]
    events = "{ logsForRun(runId: $r) { ... on EventConnection { events { __typename ... on "
    events += "MessageEvent { timestamp } } } } }"
    started: list[float] = []

    def is_started() -> bool:
        found = _ask(url, f"query($r: ID!) {events}", r=run)["logsForRun"]["events"]
        started.extend(
            float(event["timestamp"]) / 1000
            for event in found
            if event["__typename"] == "ExecutionStepStartEvent"
        )
        return bool(started)

    _until(is_started)
    return started[0] - launched


def _tick(bench: Bench) -> float:
    """Return the processor time of a tick with all datasets kept, and all of them known."""
    import dagster as dg

    from assets.definitions import automated
    from assets.running import runs
    from assets.settings import Settings
    from pipelines.stages import DEFAULT

    settings = Settings(bench.work / "ticks")
    plan, took, cursor = settings.plan(), list[float](), None
    settings = settings.with_({"datasets": tuple(one.name for one in plan.declared.by_default)})
    definitions = automated(settings)
    runs.home(settings)
    with runs.records(settings) as instance:
        for asset in plan.assets(plan.of(plan.declared.by_default, DEFAULT)):
            instance.report_runless_asset_event(dg.AssetMaterialization(dg.AssetKey(asset)))
        for _ in range(bench.repeats):
            start = time.process_time()
            found = dg.evaluate_automation_conditions(definitions, instance, cursor=cursor)
            took.append(time.process_time() - start)
            cursor = found.cursor
    return median(took)


def _ask(url: str, query: str, **variables: Any) -> Any:
    """Return the data of a GraphQL answer, or None where nobody answers yet."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)["data"]
    except OSError:
        return None


def _until(done: Callable[[], bool], patience_s: float = 60) -> None:
    end = time.monotonic() + patience_s
    while not done():
        if time.monotonic() > end:
            raise SystemExit(f"nothing happened in {patience_s:.0f} s")
        time.sleep(0.05)


class Neighbours:
    """How much of the cores other processes use from now on."""

    def __init__(self) -> None:
        self._start = self._read()

    def share(self) -> float:
        machine, own, total = (b - a for a, b in zip(self._start, self._read(), strict=True))
        return max(0.0, machine - own) / total if total else 0.0

    @staticmethod
    def _read() -> tuple[float, float, float]:
        """Return seconds so far: all cores busy, us and our children busy, all there were."""
        ticks = Path("/proc/stat").read_text("ascii").splitlines()[0].split()[1:9]
        seconds = [int(tick) / os.sysconf("SC_CLK_TCK") for tick in ticks]
        idle = seconds[3] + seconds[4]
        return sum(seconds) - idle, sum(os.times()[:4]), sum(seconds)


SECTIONS: dict[str, tuple[str, Callable[[Bench], Iterator[Figure]]]] = {
    "spine": ("verify, decode, 4 tables, statistics: MNIST + Fashion-MNIST", spine),
    "read": ("a split of 60,000 into numpy", read),
    "exports": ("60,000 × 785 values, seconds without fsync", exports),
    "memory": ("peak memory of a stage, above what is taken before it begins", peaks),
    "lineage": ("what provenance costs, and verifying takes", lineage_),
    "startup": ("until something answers", startup),
    "dagster": ("commands about mnist and fashion_mnist, from start to end", commands),
}


def facts() -> str:
    """Return the machine and the libraries, in a line."""
    versions = {"pyarrow": pa.__version__, "numpy": np.__version__}
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, " + (
        listed
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--mirror", type=Path, help="folder laid out <source>/<file>")
    options.add_argument("--only", choices=SECTIONS, action="append", help="run one section")
    options.add_argument("--repeats", type=int, default=7, help="7, unless told otherwise")
    options.add_argument("--json", type=Path, help="write the figures there too")
    given = options.parse_args()
    mirror = given.mirror or os.environ.get("IMAGESETS_MIRROR") or None
    print(facts(), flush=True)
    found: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="imagesets-benchmarks-") as work:
        bench = Bench(Path(mirror).absolute() if mirror else None, Path(work), given.repeats)
        for name in given.only or SECTIONS:
            title, section = SECTIONS[name]
            print(f"\n{name}: {title}", flush=True)
            neighbours = Neighbours()
            try:
                for figure in section(bench):
                    found.append(figure)
                    print(figure, flush=True)
                print(f"  (other processes used {neighbours.share():.0%} of the cores meanwhile)")
            except MissingMirror:
                print("  skipped: it needs the archives; give --mirror or IMAGESETS_MIRROR")
    if given.json:
        lines = {"machine": facts(), "figures": [asdict(figure) for figure in found]}
        given.json.write_text(json.dumps(lines, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
