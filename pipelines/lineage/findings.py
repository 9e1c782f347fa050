"""What the expectations found of a table or of statistics, kept so that it is judged only once.

    data/lineage/checks/tables/mnist/train.parquet.json

A note counts for the very bytes that were judged, what they were made from, what is declared of the
dataset, and this version of the expectations. Where any of these moved on, or the note is damaged,
the artefact is judged anew. What a note says is believed of the bytes that it names, so whoever
asks makes sure that they are the ones that are there (`status.states`).

Not here: what is expected (`pipelines.statistics.expectations`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import MutableMapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from .. import advice
from ..declarations import Dataset, Split
from ..errors import StaleInput, StorageError, TableError
from ..statistics import expectations
from ..statistics.expectations import Finding
from ..store import Provenance, Store, hashing, layout, provenance, seen, writing

if TYPE_CHECKING:
    from ..statistics.fingerprints import Fingerprints


def of(
    store: Store,
    dataset: Dataset,
    known: Provenance,
    prints: MutableMapping[str, Fingerprints] | None = None,
) -> list[Finding]:
    """Return what the expectations find of an artefact: as it was kept, or judged and kept.

    Args:
        store: where everything lies.
        dataset: what the artefact is of.
        known: its provenance; nothing is expected of anything but tables and statistics.
        prints: SHA-256 of a table → fingerprints, where somebody has them; those that had to be
            computed are added.

    Raises:
        StaleInput: its bytes, or those of a table that it is made from, are not those recorded.
        OSError, TableError: it can't be read.
    """
    found = kept(store, dataset, known)
    if found is None:
        found = _judged(store, dataset, known, {} if prints is None else prints)
        _keep(store, dataset, known, found)
    return found


def kept(store: Store, dataset: Dataset, known: Provenance) -> list[Finding] | None:
    """Return what was found of an artefact; None where that must be judged anew."""
    if known.stage not in ("tables", "statistics"):
        return []
    try:
        said: Any = json.loads(store.read(layout.judged(known.path)) or b"")
        judged, digest = said["judged"], said["digest"]
        if (judged, digest) != (_judged_of(dataset, known), _digest(judged, said["findings"])):
            return None
        return [Finding(**one | {"rows": tuple(one["rows"])}) for one in said["findings"]]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def judged(dataset: Dataset) -> list[str]:
    """Return the paths of all that something is expected of."""
    tables = [layout.table(dataset.name, piece.name) for piece in dataset.pieces]
    return [*tables, layout.statistics(dataset.name)]


def blocking(store: Store, dataset: Dataset, path: str) -> list[Finding]:
    """Judge an artefact anew by those expectations that block; what merely warns takes long.

    Raises:
        OSError, TableError: it can't be read.
    """
    from .. import tables

    try:
        if path == layout.statistics(dataset.name):
            return expectations.of_statistics(store.local(path), dataset)
        for piece in dataset.pieces:
            if path == layout.table(dataset.name, piece.name):
                tables.info(store.local(path))  # its columns are what can be judged
                return expectations.of_table(store.local(path), dataset, piece)
    except pa.ArrowException as error:
        raise TableError(str(error)) from error
    return []


def _judged(
    store: Store, dataset: Dataset, known: Provenance, prints: MutableMapping[str, Fingerprints]
) -> list[Finding]:
    from ..statistics import fingerprints

    if dataset.is_in_parts:
        return _judged_in_parts(store, dataset, known)
    is_table = known.stage == "tables"
    made_of = [known] if is_table else known.inputs
    _make_sure(store, known.path, known.sha256)
    tables = {str(one.sha256): one.path for one in made_of}
    for sha256, path in tables.items():
        if sha256 not in prints:
            _make_sure(store, path, sha256)
            prints[sha256] = fingerprints.of_table(store.local(path))
    mine = {store.local(path): prints[sha256] for sha256, path in tables.items()}
    found = blocking(store, dataset, known.path)
    if is_table:
        [(table, its_prints)] = mine.items()
        return [*found, expectations.duplicates_within(table, its_prints)]
    apart = {store.local(layout.table(dataset.name, split.name)) for split in dataset.apart}
    return [*found, *expectations.leaks([path for path in mine if path in apart], mine)]


def _judged_in_parts(store: Store, dataset: Dataset, known: Provenance) -> list[Finding]:
    """Judge a part's table, or statistics: then all parts are looked through for duplicates."""
    from ..statistics import fingerprints

    _make_sure(store, known.path, known.sha256)
    found = blocking(store, dataset, known.path)
    if known.stage == "tables":
        return found
    here = {made_from.path: str(made_from.sha256) for made_from in known.inputs}
    parts = []
    for piece in dataset.pieces:
        table, sums = layout.table(dataset.name, piece.name), layout.sums(dataset.name, piece.name)
        if sums in here:
            _make_sure(store, sums, here[sums])
            parts.append((store.local(table), store.local(sums) / fingerprints.FILE))
    return [*found, *expectations.duplicates_in_parts(parts, len(dataset.apart))]


def _make_sure(store: Store, path: str, sha256: str) -> None:
    """Read a file again unless this process just did: what is kept is kept of these bytes."""
    found = hashing.remembered(store.local(path)) or seen.look_anew(store, path)
    if found.sha256 != sha256:
        raise StaleInput(
            f"{path} changed since it was made: expected SHA-256 {sha256}, found {found.sha256}. "
            f"{advice.AGAIN}: what changed is made anew first."
        )


def _keep(store: Store, dataset: Dataset, known: Provenance, found: list[Finding]) -> None:
    """Keep what was found, where the data folder can be written to."""
    judged, findings = _judged_of(dataset, known), [asdict(finding) for finding in found]
    said = {"judged": judged, "findings": findings, "digest": _digest(judged, findings)}
    note = json.dumps(said, indent=1, ensure_ascii=False) + "\n"
    path = layout.judged(known.path)
    with contextlib.suppress(OSError, StorageError):  # without, it is just judged again
        writing.sweep(store.place(path))
        store.swap(path, store.read(path), note.encode(), lasting=False)


def _judged_of(dataset: Dataset, known: Provenance) -> dict[str, Any]:
    """Return all that findings depend on."""
    name = known.path.removeprefix(layout.tables(dataset.name)).removesuffix(".parquet")
    part = next((one for one in dataset.pieces if one.name == name and one.is_part), None)
    said = provenance.as_dict(replace(dataset, splits={}))
    said["splits"] = {
        split.name: _declared(split) for split in ([part] if part else dataset.splits.values())
    }
    del said["readers"], said["reported"]  # they decide nothing of a table
    for name in ("class_labels", "columns"):  # of most datasets there are none
        if not said[name]:
            del said[name]
    declared = json.dumps(said, sort_keys=True, default=str)
    return {
        "path": known.path,
        "sha256": known.sha256,
        "inputs": {one.path: one.sha256 for one in known.inputs},
        "declared": hashlib.sha256(declared.encode()).hexdigest(),
        "version": expectations.VERSION,
    }


def _declared(split: Split) -> dict[str, Any]:
    """Return what is declared of a split or a part, but for what is so of most of them."""
    said = provenance.as_dict(replace(split, divided=()))
    usual = {"parts": None, "divided": (), "whole": "", "key": "", "first": 0, "skip": 0}
    usual |= {"labelled": True, "rows": None}
    return {key: said[key] for key in said if key not in usual or said[key] != usual[key]}


def _digest(*said: Any) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
