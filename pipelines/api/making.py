"""Making: fetches, verifies and decodes what somebody loads for the first time.

It takes a moment to import, which those who have a table do not wait for. Not here: reading what
was made (`loading`), or any of the work (`pipelines.building`).
"""

from __future__ import annotations

import os
from typing import Any

from .. import plan as planning
from .. import products, stages
from ..building import Web, Workshop
from ..declarations import Catalogue, Dataset
from ..errors import TableError, UnknownName, did_you_mean
from ..plan import Plan, Planned
from ..products import Subject
from ..store import Artefact, Provenance, hashing, layout, provenance, seen
from ..store.hashing import Sight
from . import place, terminal

ARRAYS = "npy"  # the export that the library maps into memory

# Parameters of a table that decide its records, and not how it is compressed or titled.
_CONTENT = (
    *("records", "shape", "dtype", "layout", "classes", "coarse_classes"),
    *("format", "orientation", "first_label", "members"),
)


def plan(dataset: str | None = None) -> Plan:
    """Return all there can be of the catalogue, or of one of its datasets.

    Raises:
        UnknownName: there is no such dataset.
    """
    options = {name: option.default for name, option in stages.options().items()}
    known = declared()
    return planning.of(known, options, None if dataset is None else dataset_of(known, dataset))


def declared() -> Catalogue:
    """Return the catalogue."""
    return planning.load(place.catalogue())


def dataset_of(known: Catalogue, name: str) -> Dataset:
    """Return a dataset by its name.

    Raises:
        UnknownName: there is none; with the nearest name that exists.
    """
    datasets = known.datasets
    if name not in datasets:
        near = did_you_mean(name, datasets)
        raise UnknownName(f"There is no dataset {name!r}.{near} Known: {', '.join(datasets)}.")
    return datasets[name]


def _subject(everything: Plan, dataset: str, split: str) -> Subject:
    found = dataset_of(everything.declared, dataset)
    if split not in found.splits:
        near = did_you_mean(split, found.splits)
        known = ", ".join(found.splits)
        raise UnknownName(f"{dataset} has no split {split!r}.{near} Known: {known}.")
    return Subject(everything.declared.source_of(found), found, (found.splits[split],))


def table(dataset: str, split: str, *, verify: bool) -> Sight:
    """Have the right table of a split in its place; return what was seen of it.

    One that is whole and was made of the declared archives stays, whichever version made it.

    Raises:
        UnknownName: there is no such dataset or split.
        ImagesetsError: it can't be made.
    """
    store, everything = place.store(), plan(dataset)
    _subject(everything, dataset, split)
    wanted = everything.artefacts[layout.table(dataset, split)]
    try:
        sight = seen.look_anew(store, wanted.path) if verify else seen.look(store, wanted.path)
    except OSError:
        sight = None
    known = provenance.latest(store, wanted.path) if sight else None
    if sight and known and _is_right(known, sight, wanted.artefact()):
        return sight
    return _make(everything, wanted, verify=verify)


def arrays(dataset: str, split: str, *, verify: bool) -> Sight:
    """Have the NPY files of a split in their place; return what was seen of their folder.

    Raises:
        UnknownName: there is no such dataset or split.
        ImagesetsError: they can't be made.
    """
    everything = plan(dataset)
    path = products.known()[ARRAYS].path(_subject(everything, dataset, split))
    return _make(everything, everything.artefacts[path], verify=verify)


def _make(everything: Plan, wanted: Planned, *, verify: bool) -> Sight:
    """Bring an artefact up to date, with all that it needs; return what was seen of it."""
    store = place.store()
    hashing.forget()  # what it is made from is read now
    paths = everything.needed([wanted])
    workshop = Workshop(store, everything, web(), terminal.display(), warns=False, wanted=paths)
    needed = dict.fromkeys(one.asset for one in everything.artefacts.values() if one.path in paths)
    for asset in needed:
        made = workshop.make(asset)
        for finding in (found for one in made for found in one.findings if found.blocks):
            raise TableError(
                f"{wanted.path}: the check {finding.check_name} expected {finding.expected}, and "
                f"found {finding.found}. It is not what the catalogue declares: report it, or "
                "correct the declaration."
            )
    return seen.look_anew(store, wanted.path) if verify else seen.look(store, wanted.path)


def web() -> Web:
    """Return where archives come from: `IMAGESETS_MIRROR` first; nowhere if `IMAGESETS_OFFLINE`."""
    offline = os.environ.get("IMAGESETS_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    return Web(os.environ.get("IMAGESETS_MIRROR") or None, offline)


def _is_right(known: Provenance, sight: Sight, wanted: Artefact) -> bool:
    """Whether a table holds what was recorded, and that is what is declared now."""
    if not provenance.is_of(known, sight):
        return False
    made_from = {one.path: one.sha256 for one in known.inputs}
    declared = {one.path: one.sha256 for one in wanted.inputs}
    return made_from == declared and _of_content(known.parameters) == _of_content(
        provenance.as_json(wanted.parameters)
    )


def _of_content(parameters: dict[str, Any]) -> dict[str, Any]:
    return {key: parameters.get(key) for key in _CONTENT}
