"""Which artefacts of a project are right, said by somebody who shares no code with the product.

Two builds of the same publisher make the same bytes (`test_reproducible.py`). So there is one build
in a folder of its own, every value of which is read with other libraries' readers and held against
the arrays that the publisher made: with pyarrow, csv, LMDB, Google's protobuf and plain numpy. What
lies in the project's data folder is right where it has those bytes, whatever else was done to it.
Damaged files are only ever compared, never parsed: LMDB's library may end the process over one.

Not here: provenance, sidecars, Dagster's databases.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tests import caffe
from tests.assets.project import Project
from tests.builders import Array

State = Literal["right", "missing", "wrong"]

KEY_DIGITS = {"idx": 8, "cifar": 5}  # as Caffe's convert_mnist_data.cpp and convert_cifar_data.cpp
PRECISION = 1e-12

_known: dict[str, dict[str, bytes]] = {}


def states(project: Project, *, csv_header: bool = False) -> dict[str, State]:
    """Path → state of everything that a whole build of this publisher makes.

    Whoever publishes other arrays (`Project.republish`) puts them into `publisher.splits` too.
    """
    return {
        path: _state(project.data / path, expected)
        for path, expected in bytes_of(project, csv_header=csv_header).items()
    }


def bytes_of(project: Project, *, csv_header: bool = False) -> dict[str, bytes]:
    """Path → the only right bytes of everything that a whole build of this publisher makes.

    Raises:
        AssertionError: a build makes something else than what the publisher's arrays say.
    """
    key = _fingerprint(project, csv_header)
    if key not in _known:
        with tempfile.TemporaryDirectory(dir=os.environ.get("PYTEST_DEBUG_TEMPROOT")) as folder:
            pristine = Project(project.publisher, Path(folder) / "data")
            outcomes = pristine.build(csv_header=csv_header)
            assert all(outcome.is_good for outcome in outcomes.values()), outcomes
            for source in _sources(project):
                source.hold(pristine, csv_header)
            paths = [path for source in _sources(project) for path in source.paths()]
            _known[key] = {path: (pristine.data / path).read_bytes() for path in paths}
    return _known[key]


def _state(path: Path, expected: bytes) -> State:
    if not os.path.lexists(path):
        return "missing"
    try:
        # A pipe is never opened, and nothing that is longer than it should be is read.
        is_right = (
            path.is_file()
            and path.stat().st_size == len(expected)
            and path.read_bytes() == expected
        )
    except OSError:
        return "wrong"
    return "right" if is_right else "wrong"


def _fingerprint(project: Project, csv_header: bool) -> str:
    """What stands for everything that decides the right bytes."""
    publisher = project.publisher
    digest = hashlib.sha256(repr(csv_header).encode())
    for folder in (publisher.catalogue, publisher.mirror):
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            name, data = path.relative_to(folder).as_posix(), path.read_bytes()
            digest.update(f"{name} {len(data)} ".encode() + data)
    for key, arrays in sorted(publisher.splits.items()):
        digest.update(repr(key).encode())
        for array in arrays:
            digest.update(b"None" if array is None else repr(array.shape).encode() + bytes(array))
    return digest.hexdigest()


def _sources(project: Project) -> Iterator[_Source]:
    for toml in sorted(project.publisher.catalogue.glob("*.toml")):
        said = tomllib.loads(toml.read_text("utf-8"))
        yield _Source(toml.stem, said)


@dataclass(frozen=True)
class _Source:
    """One TOML file, as `tomllib` reads it."""

    name: str
    said: Mapping[str, Any]

    def datasets(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for name, dataset in self.said["datasets"].items():
            yield name, {**self.said.get("defaults", {}), **dataset}

    def paths(self) -> Iterator[str]:
        yield from (f"archives/{self.name}/{name}" for name in self.said["archives"])
        for name, dataset in self.datasets():
            for split in dataset["splits"]:
                yield f"tables/{name}/{split}.parquet"
                yield f"exports/{name}/{split}.csv"
                yield f"exports/{name}/{split}_lmdb/data.mdb"
            yield f"statistics/{name}.parquet"
            yield f"lineage/{name}/croissant.json"

    def hold(self, project: Project, csv_header: bool) -> None:
        """Hold everything that was made of this source against what was published."""
        data, splits = project.data, project.publisher.splits
        for name in self.said["archives"]:
            published = project.publisher.archive(self.name, name).read_bytes()
            assert (data / f"archives/{self.name}/{name}").read_bytes() == published, name
        for name, dataset in self.datasets():
            for split in dataset["splits"]:
                arrays = splits[name, split]
                about = self._about(project, name, dataset, split)
                hold_table(data / f"tables/{name}/{split}.parquet", dataset, about, *arrays)
                images, labels, _ = arrays
                hold_csv(data / f"exports/{name}/{split}.csv", images, labels, csv_header)
                digits = KEY_DIGITS[dataset["format"]]
                hold_lmdb(data / f"exports/{name}/{split}_lmdb", images, labels, digits)
            mine = {split: splits[name, split][:2] for split in dataset["splits"]}
            hold_statistics(data / f"statistics/{name}.parquet", name, dataset["classes"], mine)
            hold_croissant(data, name, dataset["splits"])

    def _about(
        self, project: Project, name: str, dataset: Mapping[str, Any], split: str
    ) -> dict[str, Any]:
        """What the metadata of a table must say."""
        members = dataset["splits"][split]
        named = [members[role] for role in ("images", "labels") if role in members]
        named += members.get("batches", [])
        inputs = {}
        for archive in dict.fromkeys(member.partition("/")[0] for member in named):
            published = project.publisher.archive(self.name, archive).read_bytes()
            inputs[f"archives/{self.name}/{archive}"] = {
                "md5": hashlib.md5(published).hexdigest(),
                "sha256": hashlib.sha256(published).hexdigest(),
            }
        image = dataset["image"]
        return {
            "dataset": name,
            "split": split,
            "title": dataset["title"],
            "records": members["records"],
            "shape": [image["height"], image["width"], image["channels"]],
            "dtype": "uint8",
            "layout": "HWC",
            "classes": dataset["classes"],
            "coarse_classes": dataset.get("coarse_classes", []),
            "source": {key: self.said[key] for key in ("title", "homepage", "licence", "citation")},
            "inputs": inputs,
        }


def hold_table(
    path: Path,
    dataset: Mapping[str, Any],
    about: Mapping[str, Any],
    images: Array,
    labels: Array,
    coarse: Array | None,
) -> None:
    """A table has exactly these columns, of these types, with these values."""
    found = pq.read_table(path)
    meaning = pa.dictionary(pa.int32(), pa.string())
    expected: dict[str, tuple[pa.DataType, list[Any]]] = {
        "index": (pa.uint32(), list(range(len(labels)))),
        "label": (pa.uint8(), labels.tolist()),
        "class": (meaning, [dataset["classes"][label] for label in labels]),
    }
    if coarse is not None:
        names = dataset["coarse_classes"]
        expected["coarse_label"] = (pa.uint8(), coarse.tolist())
        expected["coarse_class"] = (meaning, [names[label] for label in coarse])
    size = images[0].size
    expected["pixels"] = (pa.binary(size), [image.tobytes() for image in images])
    assert found.schema.names == [*expected], path
    for name, (kind, values) in expected.items():
        assert found.schema.field(name).type == kind, (path, name)
        assert found[name].to_pylist() == values, (path, name)
    assert json.loads(found.schema.metadata[b"imagesets"]) == about, path


def hold_csv(path: Path, images: Array, labels: Array, header: bool) -> None:
    """A CSV is what Python's own writer makes of the arrays, and what its reader reads."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    flat = images.reshape(len(images), -1)
    if header:
        writer.writerow(["label", *(f"pixel{n}" for n in range(1, flat.shape[1] + 1))])
    for label, pixels in zip(labels.tolist(), flat.tolist(), strict=True):
        writer.writerow([label, *pixels])
    assert path.read_bytes() == text.getvalue().encode("ascii"), path
    with path.open(newline="", encoding="ascii") as file:
        rows = [[int(field) for field in row] for row in list(csv.reader(file))[header:]]
    assert rows == np.column_stack([labels, flat]).tolist(), path


def hold_lmdb(folder: Path, images: Array, labels: Array, digits: int) -> None:
    """A database holds a Datum for each record, in order, under its number."""
    keys, found_images, found_labels = caffe.read(folder)
    assert keys == [str(number).zfill(digits) for number in range(len(labels))], folder
    assert np.array_equal(found_images, images), folder
    assert found_labels == labels.tolist(), folder


def hold_statistics(
    path: Path,
    dataset: str,
    classes: list[str],
    splits: Mapping[str, tuple[Array, Array]],
) -> None:
    """Statistics are what plain numpy computes, for each class of a split and for all of them."""
    found = pq.read_table(path)
    images, _ = next(iter(splits.values()))
    channels, size = images.shape[-1], images[0].size
    kinds = {
        "mean_intensity": pa.float64(),
        "std_intensity": pa.float64(),
        "min_intensity": pa.uint8(),
        "max_intensity": pa.uint8(),
    }
    types = {
        "dataset": pa.string(),
        "split": pa.string(),
        "label": pa.uint8(),
        "class": pa.string(),
        "records": pa.uint64(),
        "share": pa.float64(),
        **kinds,
        "nonzero_share": pa.float64(),
        **{f"channel_{name}": pa.list_(kind, channels) for name, kind in kinds.items()},
        "mean_image": pa.list_(pa.float32(), size),
    }
    assert [(field.name, field.type) for field in found.schema] == [*types.items()], path
    expected = [
        {"dataset": dataset, "split": split, "label": label, "class": meaning}
        | _figures(chosen, len(labels))
        for split, (images, labels) in splits.items()
        for label, meaning, chosen in [
            *((n, name, images[labels == n]) for n, name in enumerate(classes)),
            (None, None, images),
        ]
    ]
    rows = found.to_pylist()
    assert len(rows) == len(expected), path
    for row, wanted in zip(rows, expected, strict=True):
        assert row.keys() == wanted.keys(), path
        for name, value in wanted.items():
            where = (path, row["split"], row["class"], name)
            assert _is_close(row[name], value, name), (*where, row[name], value)


def _figures(images: Array, of_records: int) -> dict[str, Any]:
    """All figures of some images; null where there are none."""
    counted = {"records": len(images), "share": len(images) / of_records}
    parts = {"": images, **{f"channel_{c}": images[..., c] for c in range(images.shape[-1])}}
    by_part = {name: _four(part) for name, part in parts.items()}
    each = [by_part[name] for name in parts if name]
    if not len(images):
        empty = {"nonzero_share": None, "mean_image": None}
        return counted | by_part[""] | {f"channel_{name}": None for name in each[0]} | empty
    return (
        counted
        | by_part[""]
        | {f"channel_{name}": [four[name] for four in each] for name in each[0]}
        | {
            "nonzero_share": float((images != 0).mean(dtype=np.float64)),
            # float64's nearest quotient, and float32's nearest to that
            "mean_image": (images.astype(np.int64).sum(axis=0) / len(images)).astype(np.float32),
        }
    )


def _four(values: npt.NDArray[np.uint8]) -> dict[str, float | int | None]:
    names = ("mean_intensity", "std_intensity", "min_intensity", "max_intensity")
    if not values.size:
        return dict.fromkeys(names)
    wide = values.astype(np.float64)
    figures = (float(wide.mean()), float(wide.std()), int(values.min()), int(values.max()))
    return dict(zip(names, figures, strict=True))


def _is_close(found: Any, expected: Any, name: str) -> bool:
    if expected is None or isinstance(expected, str):
        return bool(found == expected)
    if name == "mean_image":
        return found is not None and np.array_equal(np.float32(found), expected.ravel())
    if found is None or np.shape(found) != np.shape(expected):
        return False
    return np.allclose(found, expected, rtol=PRECISION, atol=0.0)


def hold_croissant(data: Path, dataset: str, splits: Mapping[str, Any]) -> None:
    """A Croissant document names the tables that lie there, with their sizes and hashes."""
    said = json.loads((data / f"lineage/{dataset}/croissant.json").read_text("utf-8"))
    named = {one["@id"]: one for one in said["distribution"] if one["@id"].startswith("tables/")}
    assert [*named] == [f"tables/{dataset}/{split}.parquet" for split in splits], dataset
    for path, one in named.items():
        table = (data / path).read_bytes()
        assert one["contentSize"] == f"{len(table)} B", path
        assert one["sha256"] == hashlib.sha256(table).hexdigest(), path
    assert said["alternateName"] == dataset, dataset
