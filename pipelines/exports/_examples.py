"""What TensorFlow Datasets keeps in a folder, whatever its records are filed in.

    <name>/[<config>/]<version>/
        dataset_info.json, features.json, label.labels.txt, coarse_label.labels.txt
        <name>-<split>.<format>-00000-of-00001

Each record is a `tf.train.Example`, a protobuf message of named features: `image` as PNG, `label`,
and where a dataset has them `coarse_label` and `id`. They are written here as protobuf's
deterministic serialization writes them, by their names in order.

Source: tensorflow/core/example/{example,feature}.proto; TFDS 4.9.10 (`core/dataset_info.py`,
`core/features`). Not here: the files that hold records (`tfds`, `array_record`).
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import count, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import wording
from ..declarations import Dataset, Source, Split
from ..errors import ArtefactError
from ..products import Choices, Column, Inputs, Option, Subject
from ..progress import Advance
from ..store import Facts, writing
from ._folders import within
from ._protobuf import content, read_varint, varint

if TYPE_CHECKING:
    from ..records import Batch

NAMES: Mapping[str, type] = {
    "name": str,
    "config": str,
    "version": str,
    "id": bool,
    "as_published": bool,
}
"""What TFDS insists on: the folders that it looks into, and what its own preparation does."""

SHARD_RECORDS = Option(
    "shard_records", 200_000, "records of a file; a larger split has several", 1, 999_999_999
)
COLUMNS = (
    Column(
        "image", "PNG", "The image; EMNIST's as published: on its side.", "pixels", "transformed"
    ),
    Column("label", "int64", "Number of the class; EMNIST's as published.", "label"),
    Column("coarse_label", "int64", of="coarse_label"),
    Column("id", "string", "The split and the record's position in it.", "index", "transformed"),
)

_FEATURES = "tensorflow_datasets.core.features"
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"


@dataclass(frozen=True, slots=True)
class Form:
    """How TFDS calls a dataset, and how the records stand in it.

    has_id: whether each has an `id`.
    transposed, first_label: whether images stand on their side, and the label of the first class.
    """

    name: str
    config: str
    version: str
    has_id: bool
    transposed: bool
    first_label: int

    @staticmethod
    def of(dataset: Dataset) -> Form:
        """Return that of a dataset: what its readers insist on, or else its own name."""
        said = dataset.readers.get("tfds", {})
        as_published = bool(said.get("as_published"))
        return Form(
            str(said.get("name", re.sub("[^a-z0-9_]", "_", dataset.name))),  # all that TFDS allows
            str(said.get("config", "")),
            str(said.get("version", "1.0.0")),
            bool(said.get("id")),
            as_published and dataset.orientation == "transposed",
            dataset.first_label if as_published else 0,
        )

    @property
    def folder(self) -> str:
        """The folder of its files, in the data_dir of TFDS."""
        return "/".join(part for part in (self.name, self.config, self.version) if part)

    def shape(self, dataset: Dataset) -> tuple[int, int, int]:
        """Return the shape of an image as it is stored."""
        height, width, channels = dataset.image.shape
        return (width, height, channels) if self.transposed else (height, width, channels)


Append = Callable[[list[bytes]], object]
"""Writes some records at the end of a file."""


def write(
    inputs: Inputs,
    goal: Path,
    chosen: Choices,
    advance: Advance,
    file_format: str,
    open_file: Callable[[Path], AbstractContextManager[Append]],
) -> Facts:
    """Write a dataset's tables into the empty folder `goal`.

    Args:
        inputs: the tables.
        goal: the data_dir of TFDS.
        chosen: how many records a file has.
        advance: is told of records.
        file_format: what TFDS calls the format of files.
        open_file: gives a context in which to append records to a new file.

    Raises:
        TableError: what it is made from is no table of ours.
        StorageError: `goal` can't be written.
    """
    subject, form = inputs.subject, Form.of(inputs.subject.dataset)
    sizes = {}
    with writing.storage_errors(goal):
        folder = within(goal, form.folder)
        for split in subject.splits:
            shards = shard_lengths(split, chosen["shard_records"])
            files = [
                (folder / _file_name(form, split, file_format, number, len(shards)), length)
                for number, length in enumerate(shards)
            ]
            with contextlib.closing(messages(inputs.tables[split.name], split, form)) as records:
                sizes[split.name] = _filed(records, files, open_file, advance)
        for name, text in _about(subject, form, file_format, sizes, chosen).items():
            (folder / name).write_text(text, "utf-8")
    return {"records": subject.records}


def _filed(
    records: Iterator[list[bytes]],
    files: list[tuple[Path, int]],
    open_file: Callable[[Path], AbstractContextManager[Append]],
    advance: Advance,
) -> int:
    """Write records into files of so many each; return how many bytes all records have."""
    size, ready = 0, list[bytes]()
    for path, length in files:
        left = length
        with open_file(path) as append:
            while left:
                ready = ready or next(records)
                now, ready = ready[:left], ready[left:]
                append(now)
                advance(len(now))
                size += sum(map(len, now))
                left -= len(now)
    return size


def shard_lengths(split: Split, most: int) -> list[int]:
    """Return how many records each file of a split has: all but the last as many as may be."""
    whole, rest = divmod(split.records, most)
    return [most] * whole + [rest] * bool(rest)


def _file_name(form: Form, split: Split, file_format: str, number: int, shards: int) -> str:
    return f"{form.name}-{split.name}.{file_format}-{number:05d}-of-{shards:05d}"


def find(
    path: Path, subject: Subject, form: Form, file_format: str, start: int, stop: int
) -> Iterator[tuple[str, int, int, int]]:
    """Yield where records `start` to `stop` are: (file, from, to, first record of the file).

    Raises:
        ArtefactError: the folder does not say so, or says that there are fewer.
    """
    split, first = subject.split, 0
    info = path / form.folder / "dataset_info.json"
    try:
        said = json.loads(info.read_text("utf-8"))
        [lengths] = [s["shardLengths"] for s in said["splits"] if s["name"] == split.name]
        shards = [int(length) for length in lengths]
    except FileNotFoundError:
        raise
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ArtefactError(
            f"{info}: expected how many records each file of {split.name} has ({error!r:.80})."
        ) from error
    if stop > sum(shards):
        raise ArtefactError(
            f"{info}: expected {stop:,} records or more of {split.name}, found {sum(shards):,}."
        )
    for number, length in enumerate(shards):
        low, high = max(start, first) - first, min(stop, first + length) - first
        if low < high:
            name = _file_name(form, split, file_format, number, len(shards))
            yield f"{form.folder}/{name}", low, high, first
        first += length


def parameters(subject: Subject, chosen: Choices) -> dict[str, Any]:
    """Return what decides the bytes beside the tables."""
    source, dataset = subject.source, subject.dataset
    form = Form.of(dataset)
    return {
        "folder": form.folder,
        "id": form.has_id,
        "transposed": form.transposed,
        "first_label": form.first_label,
        "shard_records": chosen["shard_records"],
        "shape": dataset.image.shape,
        "splits": {split.name: split.records for split in subject.splits},
        "classes": dataset.classes,
        "coarse_classes": dataset.coarse_classes,
        "about": _told(source, dataset),
    }


def _told(source: Source, dataset: Dataset) -> dict[str, str]:
    return {
        "description": dataset.description or dataset.title,
        "citation": source.citation,
        "homepage": source.homepage,
        "licence": wording.terms(source, dataset),
    }


def _about(
    subject: Subject, form: Form, file_format: str, sizes: Mapping[str, int], chosen: Choices
) -> dict[str, str]:
    """Return the files that tell TFDS of a dataset, by their names."""
    dataset = subject.dataset
    told = _told(subject.source, dataset)
    info = {
        "name": form.name,
        **({"configName": form.config} if form.config else {}),
        "version": form.version,
        "description": told["description"],
        "citation": told["citation"],
        "location": {"urls": [told["homepage"]]},
        "redistributionInfo": {"license": told["licence"]},
        "fileFormat": file_format,
        "splits": [
            {
                "name": split.name,
                "numBytes": str(sizes[split.name]),
                "shardLengths": [str(n) for n in shard_lengths(split, chosen["shard_records"])],
                "filepathTemplate": _TEMPLATE,
            }
            for split in subject.splits
        ],
        "supervisedKeys": {"tuple": {"items": [{"featureKey": "image"}, {"featureKey": "label"}]}},
        "disableShuffling": True,
    }
    classes = {"label": dataset.classes, "coarse_label": dataset.coarse_classes}
    features: dict[str, Any] = {
        "image": {
            "pythonClassName": f"{_FEATURES}.image_feature.Image",
            "image": {
                "shape": {"dimensions": [str(side) for side in form.shape(dataset)]},
                "dtype": "uint8",
                "encodingFormat": "png",
            },
        }
    }
    if form.has_id:
        features["id"] = {"pythonClassName": f"{_FEATURES}.text_feature.Text", "text": {}}
    for key, names in classes.items():
        first = form.first_label if key == "label" else 0
        if names:
            features[key] = {
                "pythonClassName": f"{_FEATURES}.class_label_feature.ClassLabel",
                "classLabel": {"numClasses": str(first + len(names))},
            }
    files = {
        "dataset_info.json": _json(info),
        "features.json": _json(
            {
                "pythonClassName": f"{_FEATURES}.features_dict.FeaturesDict",
                "featuresDict": {"features": dict(sorted(features.items()))},
            }
        ),
    }
    # TFDS takes only as many names as it declares classes itself: 37 of EMNIST's letters, where
    # there are 26. It has no names for those, and is given none.
    for key, names in classes.items():
        if names and not (key == "label" and form.first_label):
            files[f"{key}.labels.txt"] = "".join(f"{name}\n" for name in names)
    return files


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


# --- Records as messages --------------------------------------------------------------------------


def messages(table: Path, split: Split, form: Form) -> Generator[list[bytes]]:
    """Yield the records of a table as Examples, in lists.

    Raises:
        TableError: what it is made from is no table of ours.
    """
    from . import _png

    encode, first = encoder(split.name, form.has_id), 0
    with contextlib.closing(_png.of_table(table, transposed=form.transposed)) as runs:
        for run, pngs in runs:
            labels = [label + form.first_label for label in run.labels.tolist()]
            coarse = repeat(None) if run.coarse_labels is None else run.coarse_labels.tolist()
            yield list(map(encode, count(first), pngs, labels, coarse))
            first += len(run)


def encoder(split: str, has_id: bool) -> Callable[[int, bytes, int, int | None], bytes]:
    """Return a function (index, PNG, label, coarse label or None) → Example."""
    as_label = functools.cache(functools.partial(_number, "label"))
    as_coarse = functools.cache(functools.partial(_number, "coarse_label"))

    @functools.lru_cache(1 << 14)
    def before(size: int) -> bytes:
        """Return what stands before an image's PNG of some size."""
        return _entry("image", _IN_BYTES, bytes(size))[:-size]

    def encode(index: int, png: bytes, label: int, coarse: int | None) -> bytes:
        group = b"" if coarse is None else as_coarse(coarse)
        name = _entry("id", _IN_BYTES, f"{split}_{index:05d}".encode()) if has_id else b""
        features = b"".join((group, name, before(len(png)), png, as_label(label)))
        return content(1, features)

    return encode


def decoder(split: Split, form: Form, dataset: Dataset) -> Callable[[int, bytes, str], Batch]:
    """Return a function (index, Example, where it is) → record, upright, with labels from 0.

    It raises `ArtefactError` for what is no Example as it is written here.
    """
    import numpy as np

    from ..records import Batch, label_type
    from . import _png

    encode, shape = encoder(split.name, form.has_id), form.shape(dataset)
    classes, groups = len(dataset.classes), len(dataset.coarse_classes)

    def decode(index: int, data: bytes, where: str) -> Batch:
        try:
            values = _values(data)
            png, number = values[b"image"], read_varint(values[b"label"], 0)[0]
            group = read_varint(values[b"coarse_label"], 0)[0] if groups else None
            label = number - form.first_label
            if not 0 <= label < classes or not 0 <= (group or 0) < max(groups, 1):
                raise ValueError(f"label {number}, coarse label {group}")
            if encode(index, png, number, group) != data:
                raise ValueError("other features, or others in their places")
        except (ValueError, LookupError) as error:
            raise ArtefactError(
                f"{where}: expected an Example with a PNG of {shape} (height, width, channels) and "
                f"the label of one of {classes} classes, found {error}."
            ) from error
        image = _png.decode(png, shape, where)
        if form.transposed:
            image = np.ascontiguousarray(image.transpose(0, 2, 1, 3))
        coarse = None if group is None else np.array([group], label_type(groups))
        return Batch(image, np.array([label], label_type(classes)), coarse)

    return decode


# A Feature holds a list of bytes in field 1, or one of numbers in field 3.
_IN_BYTES, _IN_NUMBERS = 1, 3


def _entry(key: str, kind: int, value: bytes) -> bytes:
    """Return an entry of an Example's features: a key, and a Feature with a list of one value."""
    feature = content(kind, content(1, value))
    return content(1, content(1, key.encode()) + content(2, feature))


def _number(key: str, value: int) -> bytes:
    return _entry(key, _IN_NUMBERS, varint(value))


def _values(data: bytes) -> dict[bytes, bytes]:
    """Return key → the value in its Feature's list, of an Example.

    Raises:
        ValueError, IndexError: it is none.
    """
    found = {}
    [features] = _contents(data)
    for entry in _contents(features):
        key, feature = _contents(entry)
        [values] = _contents(feature)
        [found[key]] = _contents(values)
    return found


def _contents(data: bytes) -> Iterator[bytes]:
    """Yield the contents of the fields of a message; whatever they are called."""
    at = 0
    while at < len(data):
        size, at = read_varint(data, at + 1)
        yield data[at : at + size]
        at += size
