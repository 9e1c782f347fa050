"""How fast each format turns bytes into records, beside what no format can do without.

    python -m benchmarks.formats                    # two minutes; everything is made up, in memory
    python -m benchmarks.formats --only mat5 text

Columns: megabytes of images that come out in a second of processor time, of one thread; the same of
the floor; how many times the floor that takes; and records in a second of wall time. The floor of a
format is to read the members' bytes into memory; of `mat5`, to unpack them with isal; of `images`,
what a bare Pillow takes that opens each file and gives its pixels, nothing checked; of `text`,
which is told in megabytes that go in, there is none, but 20 MB/s is expected. Memory is what a
process takes beyond its start while it reads the largest splits that such sources have: 2.8 GB of
STL-10's, 1.6 GB of SVHN's.
"""

from __future__ import annotations

import argparse
import json
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from isal import isal_zlib

from benchmarks import memory
from pipelines import formats
from pipelines.declarations import Dataset, Image, Member, Numbers, Split
from pipelines.reading import batch_records

CLASSES = tuple("0123456789")
REPEATS = 5


class Stream:
    """A member in memory."""

    def __init__(self, name: str, data: bytes) -> None:
        self.name = name
        self._file = BytesIO(data)

    def readinto(self, buffer: memoryview, /) -> int:
        return self._file.readinto(buffer)


@dataclass(frozen=True)
class Opener:
    """Opens members in memory, and lists those of an archive."""

    members: dict[str, bytes]

    def __call__(self, member):
        return Stream(str(member), self.members[str(member)])

    def below(self, folder):
        names = sorted(name for name in self.members if name.startswith(f"{folder}/"))
        return [Member(*name.split("/", 1)) for name in names]


@dataclass(frozen=True)
class Case:
    """A split in memory, and what its floor is."""

    dataset: Dataset
    split: Split
    members: dict[str, bytes]
    floor: Callable[[], object]
    counted: int  # bytes


def case(form, members, roles, records, shape, floor=None, counted=None, **dataset) -> Case:
    split = Split(
        records=records,
        name="train",
        labelled=bool({"labels", "lines", "batches", "files"} & {*roles}),
        counts=dataset.pop("counts", ()),
        members={
            role: tuple(Member(*name.split("/", 1)) for name in names)
            for role, names in roles.items()
        },
    )
    made = Dataset(
        title="made up",
        format=form,
        image=Image(*shape),
        classes=CLASSES,
        splits={"train": split},
        name="made_up",
        **dataset,
    )
    counted = records * made.image.size_bytes if counted is None else counted
    return Case(made, split, members, floor or (lambda: read(members)), counted)


def read(members) -> None:
    """What every format has to do: bring bytes into arrays that are new each time."""
    for name, data in members.items():
        stream = Stream(name, data)
        while stream.readinto(np.empty(4 << 20, np.uint8).data):
            pass


def decode(one: Case) -> int:
    rows = batch_records(one.dataset.image.size_bytes)
    return sum(map(len, formats.decoded(Opener(one.members), one.dataset, one.split, rows)))


def photographs(records: int, height: int, width: int, channels: int) -> np.ndarray:
    """Images that pack about as well as photographs: smooth, with noise."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 200, (records, height // 8, width // 8, channels), np.uint8)
    smooth = coarse.repeat(8, axis=1).repeat(8, axis=2)
    return smooth + random.integers(0, 40, smooth.shape, np.uint8)


def idx(records=60_000) -> Case:
    pixels, labels = np.zeros((records, 28, 28), np.uint8), np.zeros(records, np.uint8)
    members = {
        "images": bytes([0, 0, 8, 3]) + struct.pack(">3I", *pixels.shape) + pixels.tobytes(),
        "labels": bytes([0, 0, 8, 1]) + struct.pack(">I", records) + labels.tobytes(),
    }
    roles = {"images": ["images"], "labels": ["labels"]}
    return case("idx", members, roles, records, (28, 28, 1))


def columns(records=60_000) -> Case:
    one, rows = idx(records), np.zeros((records, 8), ">i4")
    header = bytes([0, 0, 12, 2]) + struct.pack(">2I", *rows.shape)
    names = dict.fromkeys(["label", *"abcdefg"], "made up")
    members = {**one.members, "labels": header + rows.tobytes()}
    roles = {"images": ["images"], "labels": ["labels"]}
    return case("idx", members, roles, records, (28, 28, 1), columns=names)


def cifar(records=50_000) -> Case:
    data = bytes(records * 3073)
    return case("cifar", {"batch": data}, {"batches": ["batch"]}, records, (32, 32, 3))


def saved(array) -> bytes:
    file = BytesIO()
    np.save(file, array)
    return file.getvalue()


def npy(records=60_000) -> Case:
    names, some = [f"{name}.npy" for name in CLASSES], np.zeros((records // 10, 784), np.uint8)
    members = dict.fromkeys(names, saved(some))
    counts = (records // 10,) * 10
    return case("npy", members, {"arrays": names}, records, (28, 28, 1), counts=counts)


def numpy(records=60_000) -> Case:
    members = {
        "images": saved(np.zeros((records, 28, 28, 3), np.uint8)),
        "labels": saved(np.zeros(records, np.int64)),
    }
    roles = {"images": ["images"], "labels": ["labels"]}
    return case("numpy", members, roles, records, (28, 28, 3))


def planes(records=8_000) -> Case:
    members = {"images": bytes(records * 27_648), "labels": bytes([1]) * records}
    roles = {"images": ["images"], "labels": ["labels"]}
    said = {"orientation": "transposed", "first_label": 1}
    return case("planes", members, roles, records, (96, 96, 3), **said)


def matrix(name: bytes, kind: int, shape: tuple[int, ...], values: bytes) -> list[bytes]:
    """What stands in a MATLAB file of a variable, around its values."""
    dimensions = struct.pack(f"<{len(shape)}i", *shape)
    dimensions = struct.pack("<2I", 5, len(dimensions)) + dimensions + bytes(-len(dimensions) % 8)
    head = struct.pack("<4I", 6, 8, kind, 0) + dimensions
    head += struct.pack("<HH4s", 1, len(name), name) + struct.pack("<2I", 2, len(values))
    padding = bytes(-len(values) % 8)
    return [struct.pack("<2I", 14, len(head) + len(values) + len(padding)) + head, values, padding]


def mat5(records=73_257) -> Case:
    block = photographs(records // 9 + 1, 32, 32, 3)  # made once: this packs for long
    stored = np.concatenate([block] * 9)[:records].transpose(0, 3, 2, 1).tobytes()
    of_x = zlib.compress(b"".join(matrix(b"X", 9, (32, 32, 3, records), stored)), 3)
    of_y = zlib.compress(b"".join(matrix(b"y", 9, (records, 1), bytes([1]) * records)))
    data = b"MATLAB 5.0 MAT-file, made up".ljust(124) + b"\0\1IM"
    data += struct.pack("<2I", 15, len(of_x)) + of_x + struct.pack("<2I", 15, len(of_y)) + of_y

    def floor() -> None:
        inflate, at = isal_zlib.decompressobj(15), 0
        while not inflate.eof:
            packed = inflate.unconsumed_tail or of_x[at : (at := at + (1 << 18))]
            inflate.decompress(packed, 4 << 20)

    roles = {"images": ["data.mat"], "labels": ["data.mat"]}
    return case("mat5", {"data.mat": data}, roles, records, (32, 32, 3), floor)


def usps(records=7_291) -> Case:
    values = np.random.default_rng(0).random((records, 256)) * 2 - 1
    lines = "".join(
        f"{1 + number % 10} " + "".join(f"{at}:{v:.6f} " for at, v in enumerate(row, 1)) + "\n"
        for number, row in enumerate(values.tolist())
    )
    return text(lines.encode(), records, Numbers("libsvm", "cut", -1, 1), first_label=1)


def semeion(records=7_291) -> Case:
    ink = np.random.default_rng(0).integers(0, 2, (records, 256))
    lines = "".join(
        "".join(f"{v}.0000 " for v in row) + " ".join("0100000000") + " \r\n"
        for row in ink.tolist()
    )
    return text(lines.encode(), records, Numbers("one_hot", "exact"))


def text(data: bytes, records: int, numbers: Numbers, **said) -> Case:
    roles = {"lines": ["lines"]}
    counted = len(data)
    return case(
        "text", {"lines": data}, roles, records, (16, 16, 1), None, counted, numbers=numbers, **said
    )


def files(kind: str, suffix: str, mode: str, shape: tuple[int, int, int]) -> Case:
    """A file for each image: photographs as EuroSAT's, or ink on paper as Omniglot's."""
    from PIL import Image as Pillow

    records = 5_000
    some = photographs(records, *shape)
    members = {}
    for number, pixels in enumerate(some):
        file = BytesIO()
        Pillow.fromarray(pixels.squeeze()).convert(mode).save(file, kind)
        members[f"a.zip/all/{CLASSES[number % 10]}/{number:05}.{suffix}"] = file.getvalue()

    def floor() -> None:
        for data in members.values():
            with Pillow.open(BytesIO(data)) as image:
                np.asarray(image.convert("L" if shape[2] == 1 else "RGB"))

    return case("images", members, {"files": ["a.zip/all"]}, records, shape, floor)


CASES = {
    "images, jpeg": lambda: files("JPEG", "jpg", "RGB", (64, 64, 3)),
    "images, png": lambda: files("PNG", "png", "1", (104, 104, 1)),
    "idx": idx,
    "idx, 8 columns": columns,
    "cifar": cifar,
    "npy": npy,
    "numpy": numpy,
    "planes": planes,
    "mat5": mat5,
    "text, libsvm": usps,
    "text, one_hot": semeion,
}


def seconds(work: Callable[[], object]) -> float:
    """Return the processor time that work takes, the least of several times."""
    found = []
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


class Endless:
    """A member of zeros, as long as it is asked for."""

    name = "zeros"

    def __init__(self, size: int) -> None:
        self._left = size

    def readinto(self, buffer: memoryview, /) -> int:
        got = min(len(buffer), self._left)
        buffer[:got] = bytes(got)
        self._left -= got
        return got


def stl10() -> None:
    """Read as many images as STL-10 has without labels."""
    one = case("planes", {}, {"images": ["X"]}, 100_000, (96, 96, 3), orientation="transposed")
    rows = batch_records(27_648)
    size = 100_000 * 27_648
    _use(formats.decoded(lambda _: Endless(size), one.dataset, one.split, rows), 100_000)


def svhn() -> None:
    """Read as many images as SVHN's extra has, though they pack better."""
    records = 531_131
    head, _, _ = matrix(b"X", 9, (32, 32, 3, records), b"")
    size = records * 3_072
    head = head[:4] + struct.pack("<I", len(head) - 8 + size) + head[8:-4] + struct.pack("<I", size)
    deflate = isal_zlib.compressobj(1, wbits=15)
    parts = [deflate.compress(head)]
    for start in range(0, size, 1 << 22):
        parts.append(deflate.compress(bytes(min(1 << 22, size - start))))
    of_x = b"".join([*parts, deflate.flush()])
    of_y = zlib.compress(b"".join(matrix(b"y", 9, (records, 1), bytes(records))))
    data = bytes(124) + b"\0\1IM" + struct.pack("<2I", 15, len(of_x)) + of_x
    data += struct.pack("<2I", 15, len(of_y)) + of_y
    roles = {"images": ["a"], "labels": ["a"]}
    one = case("mat5", {"a": data}, roles, records, (32, 32, 3))
    rows = batch_records(3_072)
    _use(formats.decoded(lambda _: Stream("a", data), one.dataset, one.split, rows), records)


def _use(batches, records: int) -> None:
    if (found := sum(len(batch) for batch in batches)) != records:
        raise SystemExit(f"expected {records:,} records, found {found:,}")


LARGE = {"planes, 2.8 GB": stl10, "mat5, 1.6 GB": svhn}


def _peak(name: str) -> dict[str, float]:
    """Return the memory that reading a large split takes, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.formats", "--memory-of", name],
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--only", nargs="+", metavar="FORMAT", help="these formats alone")
    options.add_argument("--memory-of", choices=LARGE, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.memory_of:
        peak = memory.measured(LARGE[given.memory_of])
        print(json.dumps({"anonymous": peak.anonymous, "whole": peak.whole}))
        return

    def wanted(name: str) -> bool:
        return not given.only or name.partition(",")[0] in given.only

    print(f"{'format':16} {'MB/s':>8} {'floor':>8} {'times':>6} {'records/s':>11}")
    for name, made in CASES.items():
        if wanted(name):
            one = made()
            mine, floor = seconds(lambda one=one: decode(one)), seconds(one.floor)
            speed, of_floor = (one.counted / 1e6 / max(s, 1e-9) for s in (mine, floor))
            begin = time.perf_counter()
            rate = decode(one) / (time.perf_counter() - begin)
            times = mine / max(floor, 1e-9)
            print(f"{name:16} {speed:8,.0f} {of_floor:8,.0f} {times:6.2f} {rate:11,.0f}")
    print(f"\n{'memory':16} {'MiB':>8}")
    for name in LARGE:
        if wanted(name):
            print(f"{name:16} {_peak(name)['anonymous']:8,.0f}")


if __name__ == "__main__":
    main()
