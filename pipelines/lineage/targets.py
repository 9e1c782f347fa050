"""Targets: which artefact a person means, by its path, its name, or a copy of it anywhere.

Not here: reading any of its rows (`pipelines.trace`).
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .. import tables
from ..declarations import Catalogue, Dataset, Source, Split
from ..errors import UnknownName, did_you_mean
from ..store import layout


@dataclass(frozen=True, slots=True)
class Target:
    """An artefact that can be traced.

    kind: `archive`, `table`, `statistics`, `csv` or `lmdb`.
    path: relative to the data folder.
    dataset, splits: what it holds records of; nothing for an archive.
    copy: where it lies, if not at its place in the data folder.
    """

    kind: str
    path: str
    source: Source
    dataset: Dataset | None = None
    splits: tuple[Split, ...] = ()
    copy: Path | None = None

    def at(self, data: Path) -> Path:
        """Return where it lies: at its place in a data folder, or as a copy elsewhere."""
        return self.copy or data / self.path

    @property
    def remedy(self) -> str:
        """How to have it."""
        if self.dataset is None:
            return f"Fetch it: python -m assets fetch {self.source.name}"
        stage = "tables" if self.kind == "table" else self.kind
        return f"Build it: python -m assets build {self.dataset.name} --only {stage}"


def known(declared: Catalogue) -> dict[str, Target]:
    """Return everything that can be traced, by its path and by its name in the graph of assets."""
    found: dict[str, Target] = {}
    for dataset in declared.datasets.values():
        name, source = dataset.name, declared.source_of(dataset)
        for split in dataset.splits.values():
            lmdb = layout.lmdb(name, split.name)
            for kind, path, *others in (
                ("table", layout.table(name, split.name), f"{name}/{split.name}"),
                ("csv", layout.csv(name, split.name), f"{name}/{split.name}_csv"),
                ("lmdb", lmdb, lmdb.rpartition("/")[0], f"{name}/{split.name}_lmdb"),
            ):
                target = Target(kind, path, source, dataset, (split,))
                found |= dict.fromkeys([path, *others], target)
        path = layout.statistics(name)
        target = Target("statistics", path, source, dataset, tuple(dataset.splits.values()))
        found |= dict.fromkeys([path, f"{name}/statistics"], target)
    for source in declared.sources.values():
        for name in source.archives:
            path = layout.archive(source.name, name)
            found[path] = Target("archive", path, source)
    return found


def find(declared: Catalogue, data: Path, text: str) -> tuple[Target, str | None]:
    """Return the artefact that is meant, and its row if one is.

    Raises:
        UnknownName: with the nearest name that exists.
    """
    artefacts = known(declared)
    name, colon, row = text.rpartition(":")
    spellings = [(text, None), (name, row)] if colon else [(text, None)]
    for spelling, its_row in spellings:
        target = artefacts.get(spelling.rstrip("/"))
        if target := target or _at(artefacts, data, _expanded(spelling)):
            return target, its_row
    wanted = name or text
    path = _expanded(wanted)
    if os.path.isfile(path) or os.path.isfile(path / "data.mdb"):
        raise UnknownName(
            f"{wanted} does not say what it is: Parquet files of ours do so in their metadata "
            f"(key {tables.METADATA_KEY.decode()!r}), CSV and LMDB in a file beside them "
            f"({layout.sidecar(Path(wanted).name)}). Name the artefact that it is a copy of."
        )
    raise UnknownName(
        f"There is no artefact {wanted!r}.{did_you_mean(wanted, artefacts)} Name a split "
        f"(DATASET/SPLIT), or a file that `build` makes in {data}."
    )


def _expanded(text: str) -> Path:
    """Return a path; `~` is the home of a user, if there is one of that name."""
    with contextlib.suppress(RuntimeError):
        return Path(text).expanduser()
    return Path(text)


def _at(artefacts: Mapping[str, Target], data: Path, path: Path) -> Target | None:
    """Return the artefact at a path: one in its place, or a copy that says what it is."""
    here, root = path.resolve(), data.resolve()
    if here.is_relative_to(root) and (found := artefacts.get(here.relative_to(root).as_posix())):
        return found
    if os.path.isdir(here):
        here /= "data.mdb"
    found = artefacts.get(_told(here))
    return replace(found, copy=here) if found else None


def _told(copy: Path) -> str:
    """Return where in a data folder a copy belongs, as it or the file beside it tells."""
    if said := sidecar(copy):
        found: str = said["path"]
        return found
    with contextlib.suppress(
        OSError, pa.ArrowException, KeyError, TypeError, ValueError, RecursionError
    ):
        if not os.path.isfile(copy):
            return ""  # a pipe would be waited for
        about = json.loads((pq.read_schema(copy).metadata or {})[tables.METADATA_KEY])
        if "split" in about:
            return layout.table(about["dataset"], about["split"])
        return layout.statistics(about["dataset"])
    return ""


def sidecar(copy: Path) -> dict[str, Any]:
    """Return what the file beside a copy says of it: path, sha256 and inputs, if there is one."""
    try:
        said = json.loads(copy.with_name(layout.sidecar(copy.name)).read_bytes())
        inputs = [{key: str(made[key]) for key in ("path", "sha256")} for made in said["inputs"]]
        return {"path": str(said["path"]), "sha256": str(said["sha256"]), "inputs": inputs}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
