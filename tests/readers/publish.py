"""Small copies of the official sources: their declarations, with a few made-up records.

Everything that readers go by (names of files, of members and of classes, shapes, orientation, first
label) is what `assets/catalogue` declares; only records, and so sizes and hashes, are of our own.
Runs where Imagesets does, not among the readers:

    python -m tests.readers.publish FOLDER
"""

from __future__ import annotations

import datetime
import hashlib
import json
import pickle
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests import builders

ROOT = Path(__file__).parents[2]
DATASETS = ("mnist", "fashion_mnist", "emnist_letters", "cifar10", "cifar100")
RECORDS = {"train": 230, "test": 110}  # every class at least once


def publish(folder: Path) -> None:
    """Write `catalogue/<source>.toml` and `mirror/<source>/<archive>`."""
    for source in ("mnist", "fashion_mnist", "emnist", "cifar10", "cifar100"):
        said = tomllib.loads((ROOT / "assets" / "catalogue" / f"{source}.toml").read_text("utf-8"))
        said["datasets"] = {name: of for name, of in said["datasets"].items() if name in DATASETS}
        members: dict[str, bytes] = {}
        for seed, dataset in enumerate(said["datasets"].values()):
            members |= _records(said.get("defaults", {}) | dataset, dataset, seed)
        for archive, facts in said["archives"].items():
            for path, listed in facts.get("members", {}).items():
                data = members[f"{archive}/{path}"] = members.pop(path.rpartition("/")[2])
                listed |= {key: _fact(key, data) for key in listed}
        archives = _archives(said["archives"], members)
        said["members"] = {
            name: {key: _fact(key, members[name]) for key in facts}
            for name, facts in said.get("members", {}).items()
            if name in members
        }
        said["archives"] = {
            name: facts | {key: _fact(key, archives[name]) for key in ("bytes", "md5", "sha256")}
            for name, facts in said["archives"].items()
        }
        said["mirrors"] = []
        (folder / "mirror" / source).mkdir(parents=True)
        for name, data in archives.items():
            (folder / "mirror" / source / name).write_bytes(data)
        (folder / "catalogue").mkdir(exist_ok=True)
        lines = [f"{json.dumps(key)} = {_toml(value)}\n" for key, value in said.items()]
        (folder / "catalogue" / f"{source}.toml").write_text("".join(lines), "utf-8")


def _records(facts: Mapping[str, Any], declared: dict[str, Any], seed: int) -> dict[str, bytes]:
    """Make up every split of a dataset; return its members, and correct what is declared of it.

    CIFAR's pickled batches come along, by the last part of their names.
    """
    members: dict[str, bytes] = {}
    for key in ("mean", "std"):
        declared.pop(key, None)
    for name, split in declared["splits"].items():
        records, classes = RECORDS[name], len(facts["classes"])
        pixels = builders.images(records, **facts["image"], seed=seed + 2 * (name == "test"))
        labels = np.random.default_rng(seed).permutation(np.arange(records) % classes)
        labels = labels.astype(np.uint8)
        split |= {"records": records, "counts": builders.counts(labels, classes)}
        if facts["format"] == "idx":
            stored = pixels[..., 0]
            if facts.get("orientation") == "transposed":
                stored = np.ascontiguousarray(stored.transpose(0, 2, 1))
            first = np.uint8(facts.get("first_label", 0))
            members[split["images"]] = builders.gz(builders.idx(stored))
            members[split["labels"]] = builders.gz(builders.idx(labels + first))
            continue
        columns = [labels]
        if coarse := facts.get("coarse_classes"):
            columns.insert(0, labels % np.uint8(len(coarse)))
            split["coarse_counts"] = builders.counts(columns[0], len(coarse))
        parts = np.array_split(np.arange(records), len(split["batches"]))
        for member, rows in zip(split["batches"], parts, strict=True):
            found = [column[rows] for column in columns]
            members[member] = builders.cifar(pixels[rows], *found)
            batch = {"data": pixels[rows].transpose(0, 3, 1, 2).reshape(len(rows), -1)}
            keys = ["labels"] if len(found) == 1 else ["coarse_labels", "fine_labels"]
            batch |= {key: column.tolist() for key, column in zip(keys, found, strict=True)}
            members[Path(member).stem] = pickle.dumps(batch, protocol=2)
    if facts["format"] == "cifar":
        ten = {"label_names": facts["classes"]}
        meta = {"fine_label_names": facts["classes"]} if "coarse_classes" in facts else ten
        members["batches.meta" if meta is ten else "meta"] = pickle.dumps(meta, protocol=2)
    return members


def _archives(declared: Mapping[str, Any], members: dict[str, bytes]) -> dict[str, bytes]:
    """Pack members into their archives."""
    packed = {}
    for archive in declared:
        inside = {
            name.removeprefix(f"{archive}/"): data
            for name, data in members.items()
            if name.startswith(f"{archive}/")
        }
        if archive.endswith(".zip"):
            packed[archive] = builders.zipped(inside)
        elif archive.endswith(".tar.gz"):
            packed[archive] = builders.tarred(inside)
        else:
            packed[archive] = members[archive]
    return packed


def _fact(name: str, data: bytes) -> int | str:
    if name == "bytes":
        return len(data)
    return hashlib.new(name, data, usedforsecurity=False).hexdigest()


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        pairs = (f"{json.dumps(key)} = {_toml(part)}" for key, part in value.items())
        return "{ " + ", ".join(pairs) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, datetime.date):
        return value.isoformat()
    return json.dumps(value, ensure_ascii=False)  # texts, numbers, true and false: as TOML has them


if __name__ == "__main__":
    publish(Path(sys.argv[1]))
