"""A whole build of each dataset: records, bytes, seconds of processor, and the peak of memory.

    python -m benchmarks.builds                          # all that is made on request, whole
    python -m benchmarks.builds usps stl10 --share 0.1   # a tenth of their records

The archives are stand-ins: made-up records, laid out as the catalogue declares those of the
publisher, in as many records. They compress as photographs do, or drawings on black: neither better
nor worse than the real ones by much. Each is fetched from a folder, verified, decoded, written, and
counted, and the default exports are made, in a process of its own. All of them take an hour and
more, and 40 GB of disk at a time.
"""

from __future__ import annotations

import argparse
import bz2
import functools
import gzip
import hashlib
import io
import json
import lzma
import multiprocessing
import shutil
import struct
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

if (_root := str(Path(__file__).resolve().parent.parent)) not in sys.path:
    sys.path.insert(0, _root)

from assets.settings import BUILT_IN_CATALOGUE
from benchmarks.parts import _measured
from pipelines import plan, stages
from pipelines.building import Ahead, Web, Workshop
from pipelines.declarations import Catalogue, Dataset, Image, Member, Split
from pipelines.store import Folder

POOL = 2_000  # images that a stand-in is put together from; a number in one corner tells them apart
FOLD = "listed"

Array = npt.NDArray[Any]


# --- stand-ins ------------------------------------------------------------------------------------


def pool(image: Image, *, is_text: bool) -> Array:
    """Return made-up images: strokes on black where they are grey, smooth noise where coloured."""
    random = np.random.default_rng(0)
    shape = (POOL, *image.shape)
    if is_text:
        return np.uint8(255) * (random.random(shape) < 0.3)
    if image.channels == 1:
        strokes = (random.random(shape) < 0.15) * random.integers(64, 256, shape)
        return strokes.astype(np.uint8)
    coarse = random.integers(0, 256, (POOL, -(-image.height // 4), -(-image.width // 4), 3))
    smooth = coarse.repeat(4, axis=1).repeat(4, axis=2)[:, : image.height, : image.width]
    return np.clip(smooth + random.integers(-6, 7, shape), 0, 255).astype(np.uint8)


def images(dataset: Dataset, records: int, first: int = 0) -> Iterator[Array]:
    """Yield so many made-up images, some at a time."""
    known = pool(dataset.image, is_text=dataset.format == "text")
    for start in range(0, records, POOL):
        some = known[: min(POOL, records - start)].copy()
        if dataset.format != "text":
            numbers = np.arange(start + first, start + first + len(some), dtype="<u4")
            some.reshape(len(some), -1)[:, :4] = numbers.view(np.uint8).reshape(-1, 4)
        yield some


def labels(dataset: Dataset, records: int) -> Array:
    """Return labels as the publisher writes them."""
    known = dataset.class_labels or range(
        dataset.first_label, dataset.first_label + len(dataset.classes)
    )
    return np.resize(np.array(known), records)


def npy_header(kind: str, shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    said = {"descr": kind, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, said)
    return file.getvalue()


def idx(dataset: Dataset, role: str, records: int) -> Iterator[bytes]:
    if role == "images":
        shape = records, dataset.image.height, dataset.image.width
        yield struct.pack(">4B3I", 0, 0, 8, 3, *shape)
        yield from (some.tobytes() for some in images(dataset, records))
    elif dataset.columns:
        rows = np.zeros((records, len(dataset.columns)), ">i4")
        rows[:, [*dataset.columns].index("label")] = labels(dataset, records)
        yield struct.pack(">4B2I", 0, 0, 12, 2, *rows.shape) + rows.tobytes()
    else:
        written = labels(dataset, records).astype(np.uint8)
        yield struct.pack(">4BI", 0, 0, 8, 1, records) + written.tobytes()


def numpys(dataset: Dataset, role: str, records: int) -> Iterator[bytes]:
    if role == "images":
        height, width, channels = dataset.image.shape
        shape = (records, height, width, channels)[: 3 + (channels > 1)]
        yield npy_header("|u1", shape)
        yield from (some.tobytes() for some in images(dataset, records))
    else:
        yield npy_header("|u1", (records, 1)) + labels(dataset, records).astype("u1").tobytes()


def planes(dataset: Dataset, role: str, records: int) -> Iterator[bytes]:
    if role == "images":
        for some in images(dataset, records):
            yield np.ascontiguousarray(some.transpose(0, 3, 2, 1)).tobytes()
    else:
        yield labels(dataset, records).astype(np.uint8).tobytes()


def text(dataset: Dataset, _role: str, records: int) -> Iterator[bytes]:
    form, said = dataset.numbers, labels(dataset, records)
    assert form is not None
    first = 0
    for some in images(dataset, records):
        lines = []
        for label, row in enumerate(some.reshape(len(some), -1), first):
            on = (row > 0).tolist()
            if form.layout == "libsvm":
                body = " ".join(f"{at}:{1 if one else -0.731562}" for at, one in enumerate(on, 1))
                lines.append(f"{said[label]} {body} \n")
            else:
                body = " ".join("1.0000" if one else "0.0000" for one in on)
                hot = " ".join(str(int(one == said[label])) for one in range(len(dataset.classes)))
                lines.append(f"{body} {hot} \r\n")
        first += len(some)
        yield "".join(lines).encode()


def mat5(dataset: Dataset, _role: str, records: int) -> Iterator[bytes]:
    """Yield a file of X and y, each packed by zlib, as MATLAB writes them."""

    def array(name: bytes, shape: tuple[int, ...], values: Iterator[bytes]) -> Iterator[bytes]:
        dimensions = np.array(shape, "<i4").tobytes()
        padded = dimensions + bytes(-len(dimensions) % 8)
        size = int(np.prod(shape))
        inner = struct.pack("<6I", 6, 8, 9, 0, 5, len(dimensions))[:24] + padded
        inner += struct.pack("<HH4s", 1, len(name), name.ljust(4, b"\0"))
        inner += struct.pack("<2I", 2, size)
        yield struct.pack("<2I", 14, len(inner) + size + -size % 8) + inner
        yield from values
        yield bytes(-size % 8)

    height, width, channels = dataset.image.shape
    of_images = (some.transpose(0, 3, 2, 1).tobytes() for some in images(dataset, records))
    of_labels = iter([labels(dataset, records).astype(np.uint8).tobytes()])
    yield b"MATLAB 5.0 MAT-file, a stand-in".ljust(124) + b"\x00\x01IM"
    for parts in (
        array(b"X", (height, width, channels, records), of_images),
        array(b"y", (records, 1), of_labels),
    ):
        press = zlib.compressobj(1)
        with tempfile.TemporaryFile() as file:
            for part in parts:
                file.write(press.compress(part))
            file.write(press.flush())
            yield struct.pack("<2I", 15, file.tell())
            file.seek(0)
            yield from iter(functools.partial(file.read, 1 << 20), b"")


def files(dataset: Dataset, splits: dict[str, Split], folder: Path) -> None:
    """Write a zip of a file for each image, and of files of labels, as a publisher would."""
    from PIL import Image as Pillow

    kind, suffix = ("PNG", "png") if dataset.image.channels == 1 else ("JPEG", "jpg")
    known = []
    for pixels in pool(dataset.image, is_text=False):
        file = io.BytesIO()
        image = Pillow.fromarray(pixels.squeeze())
        (image.convert("1") if kind == "PNG" else image).save(file, kind)
        known.append(file.getvalue())
    classes = dataset.folders or dataset.classes
    [archive] = {
        member.archive for s in splits.values() for some in s.members.values() for member in some
    }
    with zipfile.ZipFile(folder / archive, "w") as zipped:
        for split in splits.values():
            [root], lines = split.members["files"], []
            for number in range(split.records):
                called, path = classes[number % len(classes)], f"{number:06}.{suffix}"
                lines.append(f"{path}\t{called}\n")
                if split.labelled and "labels" not in split.members:
                    path = f"{called}/{path}"
                zipped.writestr(f"{root.path}/{path}", known[number % POOL])
            for member in split.members.get("labels", ()):
                zipped.writestr(member.path, "".join(lines))


WRITTEN: dict[str, Callable[[Dataset, str, int], Iterator[bytes]]] = {
    "idx": idx,
    "mat5": mat5,
    "numpy": numpys,
    "planes": planes,
    "text": text,
}


def publish(dataset: Dataset, folder: Path, share: float) -> Dataset:
    """Write stand-ins of all that a dataset is read from; return it as it then is declared."""
    splits = {name: _of_share(split, share) for name, split in dataset.splits.items()}
    if dataset.format == "images":
        files(dataset, splits, folder)
        return replace(dataset, splits=splits, mean=(), std=())
    held: dict[Member, tuple[str, int]] = {}  # member → its role, and the records in it
    lists: dict[Member, dict[int, int]] = {}
    for split in splits.values():
        whole = split.rows.of if split.rows else split.records
        for role, members in split.members.items():
            held |= dict.fromkeys(members, (role, whole))
        if split.rows and split.rows.member and split.rows.line:
            lists.setdefault(split.rows.member, {})[split.rows.line] = split.records
            held[split.rows.member] = FOLD, whole
    archives: dict[str, list[Member]] = {}
    for member in held:
        archives.setdefault(member.archive, []).append(member)

    def chunks(member: Member) -> Iterator[bytes]:
        role, whole = held[member]
        if role != FOLD:
            yield from WRITTEN[dataset.format](dataset, role, whole)
            return
        random = np.random.default_rng(1)
        for line in sorted(lists[member]):
            rows = np.sort(random.choice(whole, lists[member][line], replace=False))
            yield (" ".join(map(str, rows)) + " \n").encode()

    for name, members in archives.items():
        _pack(folder / name, members, chunks)
    return replace(dataset, splits=splits, mean=(), std=())


def _of_share(split: Split, share: float) -> Split:
    def some(records: int) -> int:
        return max(10, int(records * share))

    rows = split.rows
    if rows:
        first = None if rows.first is None else int(rows.first * share)
        rows = replace(rows, of=some(rows.of), first=first)
    return replace(split, records=some(split.records), counts=(), rows=rows)


def _pack(goal: Path, members: list[Member], chunks: Callable[[Member], Iterator[bytes]]) -> None:
    if not members[0].path:
        opener: dict[str, Callable[[], Any]] = {
            ".gz": functools.partial(gzip.open, goal, "wb", compresslevel=1),
            ".bz2": functools.partial(bz2.open, goal, "wb", compresslevel=9),
            ".xz": functools.partial(lzma.open, goal, "wb", preset=0),
        }
        with opener.get(goal.suffix, functools.partial(goal.open, "wb"))() as file:
            for chunk in chunks(members[0]):
                file.write(chunk)
    elif goal.suffix in (".zip", ".npz"):
        with zipfile.ZipFile(goal, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as zipped:
            for member in members:
                with zipped.open(member.path, "w", force_zip64=True) as file:
                    for chunk in chunks(member):
                        file.write(chunk)
    else:
        pressed = {} if goal.suffix == ".tar" else {"compresslevel": 1}
        with tarfile.open(goal, "w:gz" if pressed else "w", **pressed) as tar:  # type: ignore[call-overload]
            for member in members:
                with tempfile.TemporaryFile(dir=goal.parent) as file:
                    for chunk in chunks(member):
                        file.write(chunk)
                    info = tarfile.TarInfo(member.path)
                    info.size = file.tell()
                    file.seek(0)
                    tar.addfile(info, file)


# --- a build --------------------------------------------------------------------------------------


def build(folder: Path) -> None:
    """Make all that a default build makes of the stand-ins in a folder."""
    everything, store = _planned(folder), Folder(folder / "data")
    wanted = everything.of(everything.declared.datasets.values(), stages.DEFAULT)
    workshop = Workshop(
        store, everything, Web(str(folder / "mirror")), wanted={one.path for one in wanted}
    )
    steps = list(dict.fromkeys(one.step for one in wanted))
    with Ahead(workshop, steps) as ahead:
        for asset, part in steps:
            assert ahead.take(asset, [part])


def _planned(folder: Path) -> plan.Plan:
    """Return the plan of what was published in a folder."""
    said = json.loads((folder / "said.json").read_text())
    known = plan.load(BUILT_IN_CATALOGUE)
    dataset = known.datasets[said["dataset"]]
    source = known.source_of(dataset)
    splits = {name: _of_share(split, said["share"]) for name, split in dataset.splits.items()}
    small = replace(dataset, splits=splits, mean=(), std=())
    archives = {
        name: replace(source.archives[name], **facts) for name, facts in said["archives"].items()
    }
    made = replace(source, archives=archives, datasets={dataset.name: small})
    options = {name: option.default for name, option in stages.options().items()}
    return plan.of(Catalogue({source.name: made}), options)


def _facts(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        md5 = hashlib.file_digest(file, functools.partial(hashlib.md5, usedforsecurity=False))
        file.seek(0)
        sha256 = hashlib.file_digest(file, "sha256")
    size = path.stat().st_size
    hashes = {"md5": md5.hexdigest(), "sha256": sha256.hexdigest(), "git_blob": None}
    return {"size_bytes": size, **hashes}


def main() -> None:
    """Publish and build each, and print a line of it."""
    known = plan.load(BUILT_IN_CATALOGUE)
    on_request = [
        one.name
        for one in known.datasets.values()
        if (one.format in WRITTEN or one.format == "images")
        and known.source_of(one).on_request
        and "@" not in one.name
    ]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("datasets", nargs="*", default=on_request, choices=[*on_request, []])
    parser.add_argument("--share", type=float, default=1.0, help="of the records of each split")
    given = parser.parse_args()
    head = ("splits", "records", "archives MB", "made MB", "s", "CPU s", "MB/s", "MiB")
    print(f"{'dataset':20}" + "".join(f"{name:>12}" for name in head), flush=True)
    for name in given.datasets:
        folder = Path(tempfile.mkdtemp(prefix="imagesets-builds-"))
        try:
            dataset = known.datasets[name]
            mirror = folder / "mirror" / dataset.source
            mirror.mkdir(parents=True)
            small = publish(dataset, mirror, given.share)
            facts = {path.name: _facts(path) for path in sorted(mirror.iterdir())}
            said = {"dataset": name, "share": given.share, "archives": facts}
            (folder / "said.json").write_text(json.dumps(said))
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                wall, cpu, peak = pool.apply(_measured, (build, folder))
            fetched = sum(one["size_bytes"] for one in facts.values())
            made = sum(one.stat().st_size for one in (folder / "data").rglob("*") if one.is_file())
            records = sum(split.records for split in small.splits.values())
            pixels = records * dataset.image.size_bytes
            figures = f"{len(small.splits):>12}{records:>12,}{fetched / 1e6:>12,.1f}"
            figures += f"{(made - fetched) / 1e6:>12,.1f}{wall:>12.1f}{cpu:>12.1f}"
            print(f"{name:20}{figures}{pixels / 1e6 / wall:>12.1f}{peak:>12.0f}", flush=True)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
