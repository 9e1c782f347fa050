"""Targets: which artefact a person means, by its path, its name, or a copy of it anywhere.

Not here: reading any of its rows (`pipelines.lineage.trace`).
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
from ..errors import UnknownName, did_you_mean
from ..plan import Plan, Planned
from ..store import Store, layout


@dataclass(frozen=True, slots=True)
class Target:
    """An artefact that can be traced.

    copy: where it lies, if not at its place in the data folder.
    """

    planned: Planned
    copy: Path | None = None

    @property
    def what(self) -> str:
        """What it is, in one word: `archive`, `table`, `statistics`, `csv`, …."""
        if self.planned.is_archive:
            return "archive"
        return {"tables": "table"}.get(self.planned.stage, self.planned.stage)

    def at(self, store: Store) -> Path:
        """Return where it lies: at its place in a data folder, or as a copy elsewhere."""
        return self.copy or store.local(self.planned.path)


def find(plan: Plan, store: Store, text: str) -> tuple[Target, str | None]:
    """Return the artefact that is meant, and its row if one is.

    Raises:
        UnknownName: with the nearest name that exists.
    """
    known = {name: Target(planned) for name, planned in plan.named().items()}
    name, colon, row = text.rpartition(":")
    spellings = [(text, None), (name, row)] if colon else [(text, None)]
    for spelling, its_row in spellings:
        target = known.get(spelling.rstrip("/"))
        if target := target or _at(known, store, _expanded(spelling)):
            return target, its_row
    wanted = name or text
    path = _expanded(wanted)
    if any(map(os.path.isfile, _may_be(known, path))):
        raise UnknownName(
            f"{wanted} does not say what it is: Parquet files of ours do so in their metadata "
            f"(key {tables.METADATA_KEY.decode()!r}), CSV and LMDB in a file beside them "
            f"({layout.sidecar(Path(wanted).name)}). Name the artefact that it is a copy of."
        )
    raise UnknownName(
        f"There is no artefact {wanted!r}.{did_you_mean(wanted, known)} Name a split "
        f"(DATASET/SPLIT), or a file that `build` makes in {store.address('')}."
    )


def _expanded(text: str) -> Path:
    """Return a path; `~` is the home of a user, if there is one of that name."""
    with contextlib.suppress(RuntimeError):
        return Path(text).expanduser()
    return Path(text)


def _at(known: Mapping[str, Target], store: Store, path: Path) -> Target | None:
    """Return the artefact at a path: one in its place, or a copy that says what it is."""
    here, root = path.resolve(), store.place("").resolve()
    if here.is_relative_to(root) and (found := known.get(here.relative_to(root).as_posix())):
        return found
    for file in _may_be(known, here):
        if found := known.get(_told(file)):
            return replace(found, copy=file)
    return None


def _may_be(known: Mapping[str, Target], path: Path) -> list[Path]:
    """Return what a path may mean: itself, or of a folder the one file of an artefact in it."""
    if not os.path.isdir(path):
        return [path]
    names = {Path(target.planned.path).name for target in known.values()}
    return [path, *(path / name for name in sorted(names.intersection(os.listdir(path))))]


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
