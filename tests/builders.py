"""Small real things for the tests: IDX and CIFAR members, gzip, zip and tar archives, catalogues.

Everything is made from arrays with a seed; nothing of a publisher is in here.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import hypothesis.extra.numpy as hnp
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import strategies as st

from pipelines import catalogue, declarations, formats, products, tables
from pipelines.declarations import Member
from pipelines.products import Product
from pipelines.records import label_type

Array = npt.NDArray[Any]


def idx(array: Array) -> bytes:
    """An array as IDX writes it."""
    header = bytes([0, 0, 0x08, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def gz(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def zipped(members: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def tarred(members: Mapping[str, bytes]) -> bytes:
    """A tar.gz with the members in the order given; the same bytes each time."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return gz(file.getvalue())


def images(
    records: int, height: int = 4, width: int = 3, channels: int = 1, seed: int = 0
) -> Array:
    """Random images of shape (records, height, width, channels), half of the intensities zero."""
    random = np.random.default_rng(seed)
    shape = (records, height, width, channels)
    return random.integers(0, 256, shape, np.uint8) * random.integers(0, 2, shape, np.uint8)


def labels(records: int, classes: int, seed: int = 0) -> Array:
    """Random labels 0 … classes - 1."""
    kind = label_type(classes).type
    return np.random.default_rng(seed + 1).integers(0, classes, records, kind)


def cifar(pixels: Array, *label_columns: Array) -> bytes:
    """CIFAR's binary records: labels (coarse first, if any), then the planes."""
    planes = pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1)
    return np.column_stack([*label_columns, planes]).astype(np.uint8).tobytes()


@dataclass(frozen=True)
class Publisher:
    """A made-up publisher: a catalogue folder, a mirror folder, and the arrays behind them.

    splits: (dataset, split) → (images upright HWC, labels from 0, coarse labels or None).
    """

    catalogue: Path
    mirror: Path
    splits: Mapping[tuple[str, str], tuple[Array, Array, Array | None]]

    def toml(self, source: str) -> Path:
        return self.catalogue / f"{source}.toml"

    def archive(self, source: str, name: str) -> Path:
        return self.mirror / source / name


def declare(archives: Mapping[str, bytes], **source: str) -> str:
    """The beginning of a source's TOML: everything but its datasets."""
    facts: dict[str, Any] = {
        "title": "Tiny",
        "homepage": "https://example.org/",
        "citation": "@misc{tiny}",
        "licence": "not stated",
        "acknowledgements": "Made up.",
    } | source
    lines = [f'{key} = "{value}"' for key, value in facts.items()]
    lines += ["mirrors = []", "", "[archives]"]
    for name, data in archives.items():
        md5, sha256 = hashlib.md5(data).hexdigest(), hashlib.sha256(data).hexdigest()
        lines.append(f'"{name}" = {{ bytes = {len(data)}, md5 = "{md5}", sha256 = "{sha256}" }}')
    return "\n".join(lines) + "\n"


def add_version(
    publisher: Publisher, version: str, splits: Mapping[str, tuple[Array, Array]], more: str = ""
) -> None:
    """Publish another version of tiny_digits: split → (images, labels). It says what differs."""
    source = f"tiny_digits@{version}"
    archives, toml = dict[str, bytes](), "\n[datasets.tiny_digits]\n" + more
    for split, (pixels, values) in splits.items():
        archives[f"{split}-images.gz"] = gz(idx(pixels[..., 0]))
        archives[f"{split}-labels.gz"] = gz(idx(values))
        toml += f"""
[datasets.tiny_digits.splits.{split}]
records = {len(values)}
counts = {counts(values, 3)}
images = "{split}-images.gz"
labels = "{split}-labels.gz"
"""
    (publisher.mirror / source).mkdir()
    for name, data in archives.items():
        publisher.archive(source, name).write_bytes(data)
    of_bytes = declare(archives)
    publisher.toml(source).write_text(of_bytes[of_bytes.index("mirrors") :] + toml)


def npy(array: npt.NDArray[Any], version: tuple[int, int] = (1, 0)) -> bytes:
    """An array as NumPy writes it."""
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version, allow_pickle=False)
    return file.getvalue()


def counts(values: Array, classes: int) -> list[int]:
    return np.bincount(values, minlength=classes).tolist()


def publish(folder: Path, train: int = 30, test: int = 12, digits: int | None = None) -> Publisher:
    """Publish three tiny sources under `folder`: what MNIST, EMNIST and CIFAR-100 look like.

    `digits` is how many records of tiny_digits are for training, if not as many as of the others.

    tiny_digits: four gzipped IDX archives, 3 classes, 4×3 pixels.
    tiny_letters: one zip of gzipped IDX members, transposed, labels from 1, 4 classes, 5×5 pixels.
    tiny_colours: one tar.gz of CIFAR batches (train in two, stored in the other order), fine and
        coarse labels, 6 and 2 classes, 4×4×3 pixels.
    """
    catalogue, mirror = folder / "catalogue", folder / "mirror"
    catalogue.mkdir(parents=True)
    splits: dict[tuple[str, str], tuple[Array, Array, Array | None]] = {}
    sizes = {"train": train, "test": test}

    def write(source: str, archives: Mapping[str, bytes], toml: str) -> None:
        (mirror / source).mkdir(parents=True)
        for name, data in archives.items():
            (mirror / source / name).write_bytes(data)
        (catalogue / f"{source}.toml").write_text(declare(archives) + toml)

    archives, toml = {}, ""
    of_digits = sizes if digits is None else {**sizes, "train": digits}
    for seed, (split, records) in enumerate(of_digits.items()):
        pixels, values = images(records, 4, 3, seed=seed), labels(records, 3, seed)
        splits["tiny_digits", split] = (pixels, values, None)
        archives[f"{split}-images.gz"] = gz(idx(pixels[..., 0]))
        archives[f"{split}-labels.gz"] = gz(idx(values))
        toml += f"""
[datasets.tiny_digits.splits.{split}]
records = {records}
counts = {counts(values, 3)}
images = "{split}-images.gz"
labels = "{split}-labels.gz"
"""
    head = """
[datasets.tiny_digits]
title = "Tiny digits"
format = "idx"
image = { height = 4, width = 3, channels = 1 }
classes = ["zero", "one", "two"]
"""
    write("tiny_digits", archives, head + toml)

    members, toml = {}, ""
    for seed, (split, records) in enumerate(sizes.items(), start=10):
        pixels, values = images(records, 5, 5, seed=seed), labels(records, 4, seed)
        splits["tiny_letters", split] = (pixels, values, None)
        stored = np.ascontiguousarray(pixels[..., 0].transpose(0, 2, 1))
        members[f"gzip/{split}-images.gz"] = gz(idx(stored))
        members[f"gzip/{split}-labels.gz"] = gz(idx(values + 1))
        toml += f"""
[datasets.tiny_letters.splits.{split}]
records = {records}
counts = {counts(values, 4)}
images = "letters.zip/gzip/{split}-images.gz"
labels = "letters.zip/gzip/{split}-labels.gz"
"""
    for name, data in members.items():
        digest = hashlib.sha256(data).hexdigest()
        toml += f'\n[members."letters.zip/{name}"]\nbytes = {len(data)}\nsha256 = "{digest}"\n'
    head = """
[defaults]
format = "idx"
image = { height = 5, width = 5, channels = 1 }
orientation = "transposed"

[datasets.tiny_letters]
title = "Tiny letters"
first_label = 1
classes = ["A", "B", "C", "D"]
"""
    write("tiny_letters", {"letters.zip": zipped(members)}, head + toml)

    members, toml = {}, ""
    for seed, (split, records) in enumerate(sizes.items(), start=20):
        pixels, fine = images(records, 4, 4, 3, seed=seed), labels(records, 6, seed)
        coarse = (fine // 3).astype(np.uint8)
        splits["tiny_colours", split] = (pixels, fine, coarse)
        half = records // 2
        parts = {f"{split}_1": slice(0, half), f"{split}_2": slice(half, records)}
        for name, rows in reversed(parts.items()):
            members[f"bin/{name}.bin"] = cifar(pixels[rows], coarse[rows], fine[rows])
        batches = [f"colours.tar.gz/bin/{name}.bin" for name in parts]
        toml += f"""
[datasets.tiny_colours.splits.{split}]
records = {records}
counts = {counts(fine, 6)}
coarse_counts = {counts(coarse, 2)}
batches = {batches}
"""
    head = """
[datasets.tiny_colours]
title = "Tiny colours"
format = "cifar"
image = { height = 4, width = 4, channels = 3 }
classes = ["rose", "ruby", "rust", "sky", "sea", "steel"]
coarse_classes = ["red", "blue"]
"""
    write("tiny_colours", {"colours.tar.gz": tarred({"README": b"hello", **members})}, head + toml)
    return Publisher(catalogue, mirror, splits)


def newer_code(patch: pytest.MonkeyPatch, product: str) -> None:
    """Let an export or a description be made by a newer version of its code."""
    found = cast(dict[str, Product], products.known())
    patch.setitem(found, product, replace(found[product], code_version="newer"))


def newer_format(patch: pytest.MonkeyPatch, name: str) -> None:
    """Let members of a format be decoded by a newer version of its code."""
    known = formats.known()
    newer = {**known, name: replace(known[name], code_version="newer")}
    patch.setattr(formats, "known", lambda: newer)


@dataclass(frozen=True)
class Tiny:
    """One split on its own: its declaration, its members in memory, and the folder they lie in."""

    source: declarations.Source
    dataset: declarations.Dataset
    split: declarations.Split
    members: Mapping[str, bytes]
    archives: Path

    def table(self, goal: Path) -> Path:
        tables.write(self.source, self.dataset, self.split, self.archives, goal)
        return goal


def tiny(
    folder: Path,
    pixels: Array,
    values: Array,
    coarse: Array | None = None,
    classes: int = 5,
    coarse_classes: int = 3,
    **dataset: Any,
) -> Tiny:
    """Publish arrays as one split of one dataset, its members lying about as plain files.

    Grey images without coarse labels are IDX (`images`, `labels`), all others CIFAR (`batch.bin`);
    of more classes than a byte tells apart, NPY (`class 0.npy`, …), for which labels rise.
    `dataset` adds keys to the declaration; `orientation` and `first_label` change the members too.
    """
    first = dataset.get("first_label", 0)
    _, height, width, channels = pixels.shape
    facts: dict[str, Any] = {
        "title": "Tiny",
        "format": "idx",
        "image": {"height": height, "width": width, "channels": channels},
        "classes": [f"class {number}" for number in range(classes)],
    }
    split: dict[str, Any] = {"records": len(values), "counts": counts(values, classes)}
    facts |= {"format": "npy"} if classes > 256 else {}
    stored = (values + np.uint8(first)).astype(np.uint8)
    if "npy" in (facts["format"], dataset.get("format")):
        assert (np.diff(values.astype(int)) >= 0).all()
        rows = pixels.reshape(len(pixels), -1)
        members = {f"{name}.npy": npy(rows[values == n]) for n, name in enumerate(facts["classes"])}
        split |= {"arrays": [*members]}
    elif channels == 1 and coarse is None:
        planes = pixels[..., 0]
        if dataset.get("orientation") == "transposed":
            planes = planes.transpose(0, 2, 1)
        members = {"images": idx(np.ascontiguousarray(planes)), "labels": idx(stored)}
        split |= {"images": "images", "labels": "labels"}
    else:
        facts["format"] = "cifar"
        columns = [stored] if coarse is None else [coarse, stored]
        members = {"batch.bin": cifar(pixels, *columns)}
        split |= {"batches": ["batch.bin"]}
    if coarse is not None:
        facts["coarse_classes"] = [f"group {number}" for number in range(coarse_classes)]
        split["coarse_counts"] = counts(coarse, coarse_classes)
    return published(folder, members, facts | dataset, split)


def published(
    folder: Path, members: Mapping[str, bytes], dataset: Mapping[str, Any], split: Mapping[str, Any]
) -> Tiny:
    """Publish members, which lie about as plain files, and declare them as one split."""
    toml = declare(members) + "[datasets.tiny]\n" + as_toml(dataset)
    toml += "[datasets.tiny.splits.train]\n" + as_toml(split)
    declared, archives = folder / "catalogue", folder / "archives"
    for place in (declared, archives):
        place.mkdir(parents=True, exist_ok=True)
    for name, data in members.items():
        (archives / name).write_bytes(data)
    (declared / "tiny.toml").write_text(toml)
    source = catalogue.load(declared).sources["tiny"]
    made = source.datasets["tiny"]
    return Tiny(source, made, made.splits["train"], members, archives)


def as_toml(facts: Mapping[str, Any]) -> str:
    return "".join(f"{key} = {_value(value)}\n" for key, value in facts.items())


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(part)}" for key, part in value.items()) + " }"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value)  # Python writes these numbers, texts and lists as TOML does


class Bytes:
    """A member in memory, given in pieces of at most `piece` bytes as a stream may be."""

    def __init__(self, name: str, data: bytes, piece: int) -> None:
        self.name = name
        self._file = io.BytesIO(data)
        self._piece = piece

    def readinto(self, buffer: memoryview, /) -> int:
        return self._file.readinto(buffer[: self._piece])


def opener(members: Mapping[str, bytes], piece: int = 1 << 20) -> Any:
    """What a format opens its members with."""
    return Opener(members, piece)


@dataclass(frozen=True)
class Opener:
    """Opens members in memory, and lists those of an archive."""

    members: Mapping[str, bytes]
    piece: int = 1 << 20

    def __call__(self, member: Member) -> Bytes:
        return Bytes(str(member), self.members[str(member)], self.piece)

    def below(self, folder: Member) -> list[Member]:
        found = sorted(name for name in self.members if name.startswith(f"{folder}/"))
        return [Member(*name.split("/", 1)) for name in found]


def unpacked(form: formats.Format, member: bytes) -> bytes:
    """A member as it would be, were nothing packed inside of it."""
    assert form.unpacked is not None
    stream = form.unpacked(Bytes("member", member, 1 << 20))
    found, piece = bytearray(), memoryview(bytearray(99))
    while got := stream.readinto(piece):
        found += piece[:got]
    return bytes(found)


@st.composite
def some_records(draw: st.DrawFn, channels: int = 1, classes: int = 5) -> tuple[Array, Array]:
    """Strategy: images of shape (records, height, width, channels), and labels 0 … classes - 1."""
    records, height, width = (draw(st.integers(1, most)) for most in (9, 5, 5))
    pixels = draw(hnp.arrays(np.uint8, (records, height, width, channels)))
    values = draw(hnp.arrays(np.uint8, records, elements=st.integers(0, classes - 1)))
    return pixels, values


def files_under(folder: Path) -> list[str]:
    """Every file under a folder, hidden and half-written ones too."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir())
