"""The library beside its peers, in one run and from the same bytes: MNIST and Fashion-MNIST.

    .venv-readers/bin/python -m benchmarks.peers --mirror FOLDER      (laid out <source>/<file>)

It runs where `make test-readers` has installed the peers. Every load is a process of its own on a
cache of its own; the peers take turns, round after round, and medians are shown. What each figure
means is written in `benchmarks/README.md`. Not here: our own speed by itself (`speed.py`).
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gzip
import hashlib
import http.server
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DATASETS = ("mnist", "fashion_mnist")
TITLES = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}
ENOUGH_S = 8.0  # a peer that took so long for loading a dataset is not asked again


@dataclass(frozen=True, slots=True)
class Peer:
    """Somebody who loads a training split.

    imports: what a person writes first, whose seconds are those of importing.
    load: defines `load`, which returns images and labels as arrays. `DATASET`, `CACHE` (an empty
        folder at first), `SERVER` (archives, at <source>/<file>) and `FILES` (a folder) are given.
    kept: what the next load reads, below the cache; none where nothing is fetched.
    verifies, keeps: in words, for the table.
    """

    name: str
    imports: str
    load: str
    kept: str = ""
    verifies: str = ""
    keeps: str = ""
    packages: tuple[str, ...] = ()


# The registries' builds of torchvision are for CUDA. Beside a torch without, these two operators
# must exist for its import to go through; datasets never call them.
TORCHVISION = """
import torch
from torch import library
if torch.version.cuda is None:
    operators = library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
import torchvision.datasets
"""
IMAGESETS = """
def load():
    found = imagesets.load(DATASET, "train"{more})
    return found.images, found.labels
"""
PEERS = (
    Peer(
        "imagesets",
        "import imagesets",
        IMAGESETS.format(more=""),
        "data/tables/*/train.parquet",
        "size, MD5, SHA-256 of what is fetched; of the table that nobody wrote to it",
        "archives, Parquet",
    ),
    Peer(
        "imagesets, `verify=True`",
        "import imagesets",
        IMAGESETS.format(more=", verify=True"),
        "data/tables/*/train.parquet",
        "the same, and the SHA-256 of the table",
        "archives, Parquet",
    ),
    Peer(
        "torchvision",
        TORCHVISION,
        """
kind = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}[DATASET]
kind = getattr(torchvision.datasets, kind)
kind.mirrors = [f"{SERVER}/{DATASET}/"]
def load():
    made = kind(CACHE, train=True, download=True)
    return made.data.numpy(), made.targets.numpy()
""",
        "*/raw/train-images-idx3-ubyte",
        "MD5 of what is fetched; nothing of what it unpacked",
        "archives, raw IDX",
        ("torchvision", "torch"),
    ),
    Peer(
        "keras.datasets",
        "import keras",
        """
from keras.src.datasets import fashion_mnist, mnist
def here(fname, origin, get_file=mnist.get_file, **more):
    name = origin.rpartition("/")[2]
    if name == "mnist.npz":  # made anew: but for dates in it, the one that is published
        more["file_hash"] = open(f"{FILES}/keras/mnist.npz.sha256").read()
    folder = "keras" if name == "mnist.npz" else DATASET
    return get_file(fname, origin=f"{SERVER}/{folder}/{name}", **more)
mnist.get_file = fashion_mnist.get_file = here
def load():
    return getattr(keras.datasets, DATASET).load_data()[0]
""",
        ".keras/datasets/**/*[nt][pr]*[za]*",
        "MNIST: SHA-256, each time; Fashion-MNIST: nothing",
        "MNIST: npz; Fashion-MNIST: archives",
        ("keras", "tensorflow-cpu"),
    ),
    Peer(
        "datasets",
        "import datasets",
        """
def load():
    found = datasets.load_dataset(f"{FILES}/huggingface/{DATASET}", cache_dir=CACHE, split="train")
    found = found.with_format("numpy")
    return found["image"][:], found["label"][:]
""",
        "**/*-train.arrow",
        "the number of records, and that a PNG can be read",
        "Arrow of PNGs",
        ("datasets",),
    ),
    Peer(
        "datasets, PNGs not decoded",
        "import datasets",
        """
def load():
    found = datasets.load_dataset(f"{FILES}/huggingface/{DATASET}", cache_dir=CACHE, split="train")
    return found.data["image"], found.data["label"]
""",
        "**/*-train.arrow",
        "the number of records, and that a PNG can be read",
        "Arrow of PNGs",
        ("datasets",),
    ),
    Peer(
        "tensorflow_datasets",
        "import tensorflow_datasets as tfds",
        """
import importlib.resources.abc, sys
sys.modules["importlib_resources"] = importlib.resources  # it takes that, and asks for it nowhere
from tensorflow_datasets.core.download import downloader
from tensorflow_datasets.core.utils import gcs_utils
gcs_utils._is_gcs_disabled = True
def here(url, open_url=downloader._open_with_requests, **more):
    return open_url(f"{SERVER}/{DATASET}/{url.rpartition('/')[2]}", **more)
downloader._open_with_requests = here
def load():
    return tfds.as_numpy(
        tfds.load(DATASET, data_dir=CACHE, split="train", batch_size=-1, as_supervised=True)
    )
""",
        "*/*/*-train.tfrecord-*",
        "SHA-256 of what is fetched; CRC-32C of each record",
        "archives, unpacked, TFRecord of PNGs",
        ("tensorflow-datasets",),
    ),
    Peer(
        "mnist",
        "import mnist",
        """
mnist.datasets_url = f"{SERVER}/{DATASET}/"
mnist.temporary_dir = lambda: CACHE
def load():
    return mnist.train_images(), mnist.train_labels()
""",
        "train-images-idx3-ubyte.gz",
        "nothing but gzip's CRC-32",
        "archives",
        ("mnist",),
    ),
    Peer(
        "python-mnist",
        "import sys; sys.path.insert(0, f'{sys.prefix}/python-mnist'); import mnist",
        """
def load():
    return mnist.MNIST(f"{FILES}/raw/{DATASET}", return_type="numpy").load_training()
""",
        "",
        "nothing",
        "reads raw IDX that you put there",
        ("python-mnist",),
    ),
    Peer(
        "numpy.load of a `.npy`",
        "import numpy",
        """
def load():
    return numpy.load(f"{FILES}/npy/{DATASET}.npy"), numpy.load(f"{FILES}/npy/{DATASET}-labels.npy")
""",
        "",
        "nothing",
        "nobody reads faster",
        ("numpy",),
    ),
)
GIVEN = """
import os, time
CACHE, SERVER, FILES, DATASET = (
    os.environ[name] for name in ("CACHE", "SERVER", "FILES", "DATASET")
)
begun, before = time.perf_counter(), time.process_time()
"""
IMPORTED = "imported = time.perf_counter() - begun, time.process_time() - before"
AGAIN = """
import json, statistics
took = []
for _ in range(9):
    begun, before = time.perf_counter(), time.process_time()
    images, labels = load()
    took.append((time.perf_counter() - begun, time.process_time() - before))
    if sum(one[0] for one in took) > 2:
        break
again = [statistics.median(part) for part in zip(*took)]
print(json.dumps({"import": imported, "again": again, "peak": [peak, peak]}))
"""
PEAK = """
peak = int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0]) / 1024
"""
RIGHT = """
import numpy
images, labels = numpy.asarray(images).reshape(-1, 784), numpy.asarray(labels)
right = int(images.sum(dtype="u8")), int((labels * numpy.arange(60000)).sum())
print("right" if right == tuple(map(int, os.environ["RIGHT"].split(","))) else "wrong")
"""


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds of a process, from its start to its end: on the clock, and of processors."""

    wall: float
    cpu: float


@dataclass(slots=True)
class Found:
    """What was measured of a peer and a dataset.

    first, cold: whole processes, on an empty cache and on what the first one kept.
    inside: of one more process, seconds of importing and of loading again, and its peak in MiB;
        of each what the clock says, and what processors do.
    """

    first: list[Took] = field(default_factory=list)
    cold: list[Took] = field(default_factory=list)
    inside: list[dict[str, list[float]]] = field(default_factory=list)

    def median(self, what: str, of: int) -> float | None:
        if what in ("import", "again", "peak"):
            return median(one[what][of] for one in self.inside)
        took = self.first if what == "first" else self.cold
        return median((one.wall, one.cpu)[of] for one in took) if took else None


class Bench:
    """Archives, a server of them, and a folder to work in."""

    def __init__(self, mirror: Path, work: Path, server: str) -> None:
        self.mirror, self.work, self.server, self.files = mirror, work, server, work / "files"
        self._caches = 0
        self.kept: dict[str, Path] = {}  # of each peer, the cache in which MNIST was loaded last

    def cache(self) -> Path:
        self._caches += 1
        made = self.work / f"cache-{self._caches}"
        made.mkdir()
        return made

    def run(
        self, peer: Peer, dataset: str, cache: Path, code: str, **more: str
    ) -> tuple[Took, subprocess.CompletedProcess[str]]:
        """Run what a peer does, and some lines more, in a process of its own."""
        variables = self.variables(cache) | {"DATASET": dataset} | more
        lines = [GIVEN, peer.imports, IMPORTED, peer.load, code]
        before, begun = os.times(), time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", "\n".join(lines)],
            env=variables,
            cwd=cache,
            capture_output=True,
            text=True,
            check=False,
        )
        wall, after = time.perf_counter() - begun, os.times()
        cpu = after[2] + after[3] - before[2] - before[3]
        return Took(wall, cpu), done

    def must(self, *given: Any, **more: str) -> tuple[Took, str]:
        took, done = self.run(*given, **more)
        if done.returncode:
            raise SystemExit(f"{given[0].name}, {given[1]}:\n{done.stderr[-3000:]}")
        return took, done.stdout

    def variables(self, cache: Path) -> dict[str, str]:
        path = os.pathsep.join([str(self.work / "site"), os.environ.get("PYTHONPATH", "")])
        return os.environ | {
            "CACHE": str(cache),
            "SERVER": self.server,
            "FILES": str(self.files),
            "HOME": str(cache),
            "KERAS_HOME": str(cache / ".keras"),
            "HF_HOME": str(cache / "hub"),
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "CUDA_VISIBLE_DEVICES": "",
            "IMAGESETS_DATA": str(cache / "data"),
            "IMAGESETS_MIRROR": self.server,
            "PYTHONPATH": path,
        }


# ── what the peers read ─────────────────────────────────────────────────────────────────────────


def prepare(bench: Bench, *, for_the_hub: bool) -> dict[str, str]:
    """Lay out what is not fetched; return of each dataset what its right records add up to."""
    import numpy as np

    (bench.work / "site").mkdir()
    (bench.work / "site/imagesets").symlink_to(ROOT / "pipelines")
    for folder in ("keras", "npy", "raw", "huggingface"):
        (bench.files / folder).mkdir(parents=True, exist_ok=True)
    right = {}
    for dataset in DATASETS:
        arrays = {}
        raw = bench.files / "raw" / dataset
        raw.mkdir()
        for path in (bench.mirror / dataset).glob("*.gz"):
            data = gzip.decompress(path.read_bytes())
            (raw / path.stem).write_bytes(data)
            kind = "y" if "labels" in path.name else "x"
            header = 8 if kind == "y" else 16
            found = np.frombuffer(data, np.uint8, offset=header)
            split = "train" if path.name.startswith("train") else "test"
            arrays[f"{kind}_{split}"] = found if kind == "y" else found.reshape(-1, 28, 28)
        np.save(bench.files / f"npy/{dataset}.npy", arrays["x_train"])
        np.save(bench.files / f"npy/{dataset}-labels.npy", arrays["y_train"])
        pixels = int(arrays["x_train"].sum(dtype="u8"))
        right[dataset] = f"{pixels},{int((arrays['y_train'] * np.arange(60000)).sum())}"
        if dataset == "mnist":
            np.savez_compressed(bench.files / "keras/mnist.npz", **arrays)
            digest = hashlib.sha256((bench.files / "keras/mnist.npz").read_bytes()).hexdigest()
            (bench.files / "keras/mnist.npz.sha256").write_text(digest)
        if for_the_hub:
            _for_the_hub(bench, dataset)
    swapped = bench.files / "swapped"  # Fashion-MNIST under MNIST's names
    for folder in ("keras", "huggingface"):
        (swapped / folder).mkdir(parents=True)
    (swapped / "mnist").symlink_to(bench.mirror / "fashion_mnist")
    (swapped / "huggingface/mnist").symlink_to(bench.files / "huggingface/fashion_mnist")
    np.savez_compressed(swapped / "keras/mnist.npz", **arrays)  # the last dataset's
    shutil.copy(bench.files / "keras/mnist.npz.sha256", swapped / "keras")
    for dataset in DATASETS:
        (bench.files / dataset).symlink_to(bench.mirror / dataset)
    return right


def _for_the_hub(bench: Bench, dataset: str) -> None:
    """Make the folder that `datasets` opens: Parquet of PNGs, with a card, as on the Hub."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    from pipelines import plan, stages
    from pipelines.building import Web, Workshop
    from pipelines.store import Folder

    options = {name: option.default for name, option in stages.options().items()}
    everything = plan.of(plan.load(ROOT / "assets/catalogue"), options)
    data = bench.work / "exports"
    workshop = Workshop(Folder(data), everything, Web(str(bench.mirror), True), warns=False)
    for asset in ("archives", "train", "test", "huggingface"):
        workshop.make((dataset, asset))
    made = data / "exports" / dataset / "huggingface"
    (bench.files / "huggingface" / dataset).symlink_to(made)


class Quiet(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def handle(self) -> None:
        """Bear those who ask, and then don't listen, as torchvision does first."""
        with contextlib.suppress(OSError):
            super().handle()


def serve(folder: str) -> None:
    """Serve a folder on loopback; say on which port."""
    handler = functools.partial(Quiet, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    print(server.server_address[1], flush=True)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    server.serve_forever()


# ── loading ─────────────────────────────────────────────────────────────────────────────────────


def loads(bench: Bench, peers: Sequence[Peer], rounds: int) -> dict[tuple[str, str], Found]:
    """Have every peer load every dataset: on an empty cache, from it, and again."""
    for peer in peers:  # Python compiles what they import
        bench.run(peer, "mnist", bench.work, "")
    found = {(peer.name, dataset): Found() for peer in peers for dataset in DATASETS}
    for number in range(rounds):
        for dataset in DATASETS:
            for peer in peers[:: -1 if number % 2 else 1]:
                one = found[peer.name, dataset]
                if sum(took.wall for took in one.first + one.cold) < ENOUGH_S:
                    _load(bench, peer, dataset, one)
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    return found


def _load(bench: Bench, peer: Peer, dataset: str, found: Found) -> None:
    """Load once, from the cache, and in one more process again and again."""
    cache = bench.cache()
    load = "images, labels = load()\nassert len(images) == len(labels) == 60000\n"
    if peer.kept:
        found.first.append(bench.must(peer, dataset, cache, load)[0])
    found.cold.append(bench.must(peer, dataset, cache, load)[0])
    _, said = bench.must(peer, dataset, cache, load + PEAK + AGAIN)
    found.inside.append(json.loads(said.splitlines()[-1]))
    if dataset == "mnist":
        bench.kept[peer.name], cache = cache, bench.kept.get(peer.name, bench.cache())
    shutil.rmtree(cache)


# ── what is noticed ─────────────────────────────────────────────────────────────────────────────


def trust(bench: Bench, peer: Peer, right: dict[str, str]) -> tuple[str, str]:
    """Return what becomes of Fashion-MNIST's files under MNIST's names, and of changed bits."""
    load = "images, labels = load()\n" + RIGHT
    words = {"right": "mended", "wrong": "taken", None: "refused"}

    def said(cache: Path, **more: str) -> str:
        _, done = bench.run(peer, "mnist", cache, load, RIGHT=right["mnist"], **more)
        lines = done.stdout.splitlines()
        return words[None if done.returncode else lines[-1]]

    cache, swapped = bench.cache(), f"{bench.server}/swapped"
    files = str(bench.files / "swapped")
    ours = {
        "IMAGESETS_MIRROR": files,
        "IMAGESETS_OFFLINE": "1",
    }  # else it goes on to another mirror
    served = said(cache, SERVER=swapped, FILES=files, **ours)
    shutil.rmtree(cache)
    if not (cache := bench.kept.get(peer.name)):
        bench.must(peer, "mnist", cache := bench.cache(), "load()")
    changed = max(cache.glob(peer.kept), key=lambda path: path.stat().st_size)
    with changed.open("r+b") as file:
        for part in range(1, 21):  # some may hit bytes that nobody needs
            file.seek(at := changed.stat().st_size * part // 21)
            [byte] = file.read(1)
            file.seek(at)
            file.write(bytes([byte ^ 1]))
    kept = said(cache)
    shutil.rmtree(cache)
    return served, kept


# ── an epoch ────────────────────────────────────────────────────────────────────────────────────

EPOCHS = (
    GIVEN
    + TORCHVISION
    + """
import json, pickle
import datasets, imagesets.torch, torchvision.transforms
from torch.utils.data import DataLoader, Dataset, TensorDataset

class Nothing(Dataset):
    def __len__(self):
        return 60000
    def __getitem__(self, index):
        return 0

def imagesets_whole():
    made = imagesets.torch.dataset("mnist", "train")
    return made, made.collate

def torchvision_mnist():
    kind = torchvision.datasets.MNIST
    kind.mirrors = [f"{SERVER}/mnist/"]
    return kind(CACHE, download=True, transform=torchvision.transforms.PILToTensor()), None

def memory():
    found = imagesets.load("mnist", "train")
    images = torch.from_numpy(found.images).permute(0, 3, 1, 2).contiguous()
    return TensorDataset(images, torch.from_numpy(found.labels).long()), None

def hub():
    found = datasets.load_dataset(f"{FILES}/huggingface/mnist", cache_dir=CACHE, split="train")
    return found.with_format("torch"), None

MADE = {
    "imagesets.torch, `collate_fn=train.collate`": imagesets_whole(),
    "imagesets.torch": (imagesets_whole()[0], None),
    "TensorDataset, in memory": memory(),
    "torchvision.datasets.MNIST, `PILToTensor()`": torchvision_mnist(),
    "datasets, `with_format(\\"torch\\")`": hub(),
}

def loader(made, workers, **more):
    dataset, collate = made
    return DataLoader(
        dataset, 256, shuffle=True, num_workers=workers, collate_fn=collate, **more
    )

def epoch(made, workers):
    begun, before = time.perf_counter(), os.times()
    count = 0
    for batch in loader(made, workers):
        count += len(batch["label"] if isinstance(batch, dict) else batch[1])
    assert count == 60000
    after = os.times()
    return time.perf_counter() - begun, sum(after[:4]) - sum(before[:4])

def own(made):
    batches = iter(loader(made, 2, multiprocessing_context="fork"))
    for _ in range(150):
        next(batches)
    sizes = []
    for worker in batches._workers:
        lines = open(f"/proc/{worker.pid}/smaps_rollup").read().splitlines()
        sizes += [int(line.split()[1]) / 1024 for line in lines if line.startswith("Private_Dirty")]
    del batches
    return sum(sizes) / len(sizes)

if __name__ == "__main__":
    told = {name: {"0": [], "2": []} for name in MADE}
    for number in range(int(os.environ["ROUNDS"])):
        for name, made in MADE.items():
            for workers in (0, 2):
                took = told[name][str(workers)]
                if sum(one[0] for one in took) < float(os.environ["ENOUGH_S"]):
                    took.append(epoch(made, workers))
    nothing = own((Nothing(), None))
    for name, made in MADE.items():
        told[name]["own"] = max(0, own(made) - nothing)
        told[name]["pickle"] = len(pickle.dumps(made[0]))
    print(json.dumps(told))
"""
)


def epochs(bench: Bench, rounds: int) -> dict[str, dict[str, Any]]:
    """Return seconds of an epoch for each way to have one, and what a worker takes."""
    cache = bench.cache()
    script = bench.work / "epochs.py"
    script.write_text(EPOCHS)
    done = subprocess.run(
        [sys.executable, str(script)],
        env=bench.variables(cache)
        | {"DATASET": "mnist", "ROUNDS": str(rounds)}
        | {"ENOUGH_S": str(ENOUGH_S)},
        cwd=cache,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"epochs:\n{done.stderr[-3000:]}")
    shutil.rmtree(cache)
    return dict(json.loads(done.stdout.splitlines()[-1]))


# ── the tables ──────────────────────────────────────────────────────────────────────────────────


def seconds(value: float) -> str:
    return f"{value:.2f} s" if value < 0.995 else f"{value:.1f} s"


def milliseconds(value: float) -> str:
    return f"{1000 * value:.0f} ms" if value < 0.995 else seconds(value)


def of_both(found: Sequence[Found], what: str, of: int) -> str:
    """Say the medians of both datasets; of importing and of memory, of the first."""
    said = []
    for one in found[: 1 if what in ("import", "peak") else None]:
        value = one.median(what, of)
        if value is None:
            said.append("–")
        elif what == "peak":
            said.append(f"{value:.0f} MiB")
        else:
            said.append((seconds if what in ("first", "cold") else milliseconds)(value))
    if {*said} == {"–"}:
        return "–"
    if len({one.rpartition(" ")[2] for one in said}) == 1:  # the same unit, once
        said[:-1] = [one.rpartition(" ")[0] for one in said[:-1]]
    return " / ".join(said)


def loading_table(
    peers: Sequence[Peer], found: dict[tuple[str, str], Found], of: int
) -> Iterator[str]:
    head = ("import", "first load", "from its cache", "again", "peak memory")
    yield "| a training split, MNIST / Fashion-MNIST | " + " | ".join(head) + " |"
    yield "|---" * (len(head) + 1) + "|"
    for peer in peers:
        both = [found[peer.name, dataset] for dataset in DATASETS]
        cells = (of_both(both, what, of) for what in ("import", "first", "cold", "again", "peak"))
        yield f"| {peer.name} | " + " | ".join(cells) + " |"


def trust_table(peers: Sequence[Peer], found: dict[str, tuple[str, str]]) -> Iterator[str]:
    yield "| | verifies | keeps | Fashion-MNIST served as MNIST | bits changed in what it kept |"
    yield "|---" * 5 + "|"
    for peer in peers:
        if peer.name in found:
            cells = (peer.verifies, peer.keeps, *found[peer.name])
            yield f"| {peer.name} | " + " | ".join(cells) + " |"


def epochs_table(found: dict[str, dict[str, Any]], of: int) -> Iterator[str]:
    head = ("0 workers", "2 workers", "a worker's own memory", "pickled")
    yield "| an epoch of MNIST, shuffled, batches of 256 | " + " | ".join(head) + " |"
    yield "|---" * (len(head) + 1) + "|"
    for name, told in found.items():
        cells = [seconds(median(took[of] for took in told[workers])) for workers in ("0", "2")]
        size = told["pickle"]
        cells += [f"{told['own']:.0f} MiB", f"{size} B" if size < 1e4 else f"{size / 1e6:.0f} MB"]
        yield f"| {name} | " + " | ".join(cells) + " |"


def facts(peers: Sequence[Peer]) -> str:
    """Return the machine and the versions of all that ran, in a line."""
    packages = dict.fromkeys(name for peer in peers for name in peer.packages)
    python = [str(Path(sys.prefix) / "python-mnist")]
    found = []
    for package in ("pyarrow", *packages):
        where = python if package == "python-mnist" else sys.path
        version = next(iter(importlib.metadata.distributions(name=package, path=where)), None)
        found.append(f"{package} {version.version if version else '?'}")
    return (
        f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}, "
        f"Python {platform.python_version()}, " + ", ".join(found)
    )


def busy() -> tuple[float, float]:
    """Return seconds so far: all cores busy, all there were."""
    ticks = Path("/proc/stat").read_text("ascii").splitlines()[0].split()[1:9]
    counted = [int(tick) / os.sysconf("SC_CLK_TCK") for tick in ticks]
    return sum(counted) - counted[3] - counted[4], sum(counted)


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder, by a process of its own; give its address."""
    command = [sys.executable, "-c", f"from benchmarks.peers import serve; serve({str(folder)!r})"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.communicate()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--mirror", type=Path, help="folder laid out <source>/<file>")
    options.add_argument("--rounds", type=int, default=3, help="3, unless told otherwise")
    options.add_argument("--peers", help="only those whose names begin so, separated by commas")
    options.add_argument("--only", choices=("loads", "trust", "epochs"), action="append")
    options.add_argument(
        "--cpu", action="store_true", help="show seconds of processors: for a busy machine"
    )
    options.add_argument("--markdown", action="store_true", help="nothing but the tables")
    options.add_argument("--json", type=Path, help="write every figure there, of processors too")
    given = options.parse_args()
    mirror = given.mirror or os.environ.get("IMAGESETS_MIRROR")
    if not mirror:
        raise SystemExit("it needs the archives: give --mirror FOLDER or IMAGESETS_MIRROR")
    names = tuple((given.peers or "").split(","))
    peers = tuple(peer for peer in PEERS if peer.name.startswith(names))
    only = given.only or ("loads", "trust", "epochs")
    of = int(given.cpu)
    figures: dict[str, Any] = {"machine": facts(peers)}
    tables: list[Iterator[str]] = []
    with tempfile.TemporaryDirectory(prefix="imagesets-peers-") as work:
        (files := Path(work) / "files").mkdir()
        with served(files) as server:
            bench = Bench(Path(mirror).absolute(), Path(work), server)
            everything = "epochs" in only or any(peer.name.startswith("datasets") for peer in peers)
            right = prepare(bench, for_the_hub=everything)
            own, (before, total) = sum(os.times()[:4]), busy()
            if "loads" in only:
                loaded = loads(bench, peers, given.rounds)
                figures["loads"] = {" ".join(key): asdict(one) for key, one in loaded.items()}
                tables.append(loading_table(peers, loaded, of))
            if "trust" in only:
                asked = (peer for peer in peers if peer.kept and "not decoded" not in peer.name)
                trusted = {peer.name: trust(bench, peer, right) for peer in asked}
                figures["trust"] = trusted
                tables.append(trust_table(peers, trusted))
            if "epochs" in only:
                figures["epochs"] = epochs(bench, given.rounds)
                tables.append(epochs_table(figures["epochs"], of))
            own, (after, until) = sum(os.times()[:4]) - own, busy()
    if not given.markdown:
        others = max(0.0, after - before - own) / (until - total)
        print(f"{figures['machine']}\n(others used {others:.0%} of the cores meanwhile)\n")
    print("\n\n".join("\n".join(table) for table in tables))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
