"""Making: fetches, verifies and decodes what somebody loads for the first time.

It takes a moment to import, which those who have a table do not wait for. Not here: reading what
was made (`loading`), or any of the work (`pipelines.building`).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from .. import __version__, advice, products, stages
from .. import plan as planning
from ..building import Web, Workshop
from ..declarations import Catalogue, Dataset
from ..errors import MadeByNewer, TableError, UnknownName, did_you_mean
from ..lineage.shallow import Verdict
from ..plan import AssetPath, Plan, Planned
from ..products import Subject
from ..store import Artefact, Input, hashing, layout, provenance, state
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
    return known.dataset(name)


def _subject(everything: Plan, dataset: str, split: str) -> Subject:
    found = dataset_of(everything.declared, dataset)
    whole, slash, key = split.partition("/")
    if whole not in found.splits:
        near = did_you_mean(split, found.splits)
        known = ", ".join(found.splits)
        raise UnknownName(f"{dataset} has no split {split!r}.{near} Known: {known}.")
    chosen = found.splits[whole]
    if slash:
        parts = {piece.key: piece for piece in chosen.divided}
        if key not in parts:
            names = ", ".join(itertools.islice(parts, 3))
            has = (
                f"{dataset}/{whole} has {len(parts):,} parts, {names}, …"
                if parts
                else (f"{dataset}/{whole} comes in one piece: leave {slash}{key!s:.40} out")
            )
            raise UnknownName(f"There is no part {split!r:.80}.{did_you_mean(key, parts)} {has}.")
        chosen = parts[key]
    return Subject(everything.declared.source_of(found), found, (chosen,))


def table(dataset: str, split: str, *, verify: bool) -> tuple[str, Sight]:
    """Have the right table of a split in its place; return its path, and what was seen of it.

    One that is whole and was made of the declared archives stays, whichever version made it. Of a
    split in parts all parts are made; `split/part` is one of them.

    Raises:
        UnknownName: there is no such dataset or split.
        MadeByNewer: a newer version made it, of other archives than are declared here.
        ImagesetsError: it can't be made.
    """
    everything = plan(dataset)
    chosen = _subject(everything, dataset, split).split
    if not chosen.divided:
        path = layout.table(dataset, chosen.name)
        return path, _table(everything, path, verify=verify)
    paths = [layout.table(dataset, piece.name) for piece in chosen.divided]
    tables = [everything.artefacts[path] for path in paths]
    lacking = [one for one in tables if not _right(one.path, one.artefact(), verify=verify)]
    manifest = everything.artefacts[layout.manifest(dataset, chosen.name)]
    return manifest.path, _make(everything, [*lacking, manifest], {}, verify=verify)


def _table(everything: Plan, path: str, *, verify: bool) -> Sight:
    wanted = everything.artefacts[path]
    sight = _right(wanted.path, wanted.artefact(), verify=verify)
    return sight or _make(everything, [wanted], {}, verify=verify)


def arrays(dataset: str, split: str, *, verify: bool) -> tuple[str, Sight]:
    """Have the NPY files of a split in their place; return their folder, and what was seen of it.

    Those that are whole and were made of the right table stay, whichever version made them.

    Raises:
        UnknownName: there is no such dataset or split.
        MadeByNewer: a newer version made them otherwise than they are made here.
        ImagesetsError: they can't be made.
    """
    everything = plan(dataset)
    subject = _subject(everything, dataset, split)
    if subject.split.divided:
        raise TableError(
            f"{dataset}/{split} comes in {len(subject.split.divided):,} parts, each with arrays of "
            f'its own. Name one: "{split}/{subject.split.divided[0].key}".'
        )
    path = products.known()[ARRAYS].path(subject)
    wanted = everything.artefacts[path]
    [table] = wanted.needs
    seen_of_table = _table(everything, table, verify=verify)
    made_from = Input(table, seen_of_table.sha256, seen_of_table.identity.size_bytes)
    sight = _right(wanted.path, wanted.made_from((made_from,)), verify=verify)
    return path, sight or _make(everything, [wanted], {table: made_from}, verify=verify)


def _make(
    everything: Plan, wanted: Sequence[Planned], right: Mapping[str, Input], *, verify: bool
) -> Sight:
    """Bring artefacts up to date, with all they need; return what was seen of the last one.

    What is `right` already is taken as it is, whichever version made it.
    """
    store = place.store()
    hashing.forget()  # what it is made from is read now
    paths = {one.path for one in wanted} if right else everything.needed(wanted)
    workshop = Workshop(
        store, everything, web(), terminal.display(), warns=False, wanted=paths, right=right
    )
    needed: dict[AssetPath, list[str]] = {}
    for one in everything.artefacts.values():
        if one.path in paths:
            needed.setdefault(one.asset, []).append(one.part)
    for asset, parts in needed.items():
        made = workshop.make(asset, parts)
        for finding in (found for one in made for found in one.findings if found.blocks):
            raise TableError(
                f"{wanted[-1].path}: the check {finding.check_name} expected {finding.expected}, "
                f"and found {finding.found}. It is not what the catalogue declares: report it, or "
                "correct the declaration."
            )
    return store.look(wanted[-1].path, anew=verify)


def web() -> Web:
    """Return where archives come from: `IMAGESETS_MIRROR` first; nowhere if `IMAGESETS_OFFLINE`."""
    offline = os.environ.get("IMAGESETS_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    return Web(os.environ.get("IMAGESETS_MIRROR") or None, offline)


def _right(path: str, wanted: Artefact, *, verify: bool) -> Sight | None:
    """Return what was seen of an artefact that is there, whole, and holds what is wanted.

    One that a newer version made of the same, by the same options, is right, too: it knows better.

    Args:
        path: of the artefact.
        wanted: how it would be made here.
        verify: whether all of it is read.

    Raises:
        MadeByNewer: it is whole, made by a newer version, and nothing that can be taken here.
    """
    store = place.store()
    try:
        sight = store.look(path, anew=verify)
    except OSError:
        return None
    known = provenance.latest(store, path)
    if known is None or not provenance.is_of(known, sight):
        return None
    is_of_same = not state.other_inputs(known, wanted)
    found, expected = _parts(known.parameters), _parts(provenance.as_json(wanted.parameters))
    options, content = (one == other for one, other in zip(found, expected, strict=True))
    if is_of_same and options and (content or known.is_newer):
        return sight
    if known.is_newer:
        raise MadeByNewer(
            f"{store.address(path)} was made by Imagesets {known.run.versions['imagesets']}, from "
            f"other files or by other options than {__version__} would, so it is left as it is. "
            f"Use that version for this data folder, or {advice.ELSEWHERE}."
        )
    return None


def _parts(parameters: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options of an export, and what decides the records in it, or in a table."""
    about = parameters.get("about")  # of an export: what the table says
    options = {} if about is None else {k: v for k, v in parameters.items() if k != "about"}
    said = parameters if about is None else about
    return options, {key: said.get(key) for key in _CONTENT}


def whole(verdict: Verdict) -> Verdict:
    """Return a verdict; what a newer version made is as it should be, though not made as here."""
    known = None
    if verdict.condition == "stale":
        known = provenance.latest(place.store(), verdict.path)
    return replace(verdict, condition="whole", why="") if known and known.is_newer else verdict
