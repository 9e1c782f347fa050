"""Changes: which records of one dataset are in another, and where, and as what.

Records are held against each other by their pixels: by 128 bits of BLAKE2b over all of them, which
no two pictures share but the same. Memory grows with the number of records, by some 100 bytes each,
and not with their pixels.

A picture may be several times on either side. Each record is matched with one of the other side at
most: first with the same picture at its own place (split and index), be its label another; then, in
their order, with one of the same split and label, then of the same label, then with any. What is
matched by none is added or removed: of k copies and m, |k - m| are.

Not here: whether the tables are up to date (`pipelines.lineage.diff`), or showing what was found.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .. import tables
from ..progress import Advance, silent
from ..records import Batch

KINDS = ("removed", "added", "relabelled", "moved")
DIGEST_BYTES = 16

_Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Record:
    """A record of a dataset: where it stands, and the name of its class (the coarse one, too).

    label: "" where its split has no labels.
    """

    split: str
    index: int
    label: str

    def __str__(self) -> str:
        """Return for example `train 4348 (Sandal)`."""
        return f"{self.split} {self.index}" + (f" ({self.label})" if self.label else "")


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a record; added ones were not there before, removed ones are not any more."""

    before: Record | None
    after: Record | None


@dataclass(frozen=True, slots=True)
class OfSplit:
    """What became of the records of a split; all but `after` and `added` are of those before.

    unchanged: the same picture with the same label at the same place.
    moved: with the same label elsewhere: at another index, or in another split.
    relabelled: with another label, at the same place or elsewhere.
    """

    split: str
    before: int
    after: int
    unchanged: int
    moved: int
    relabelled: int
    removed: int
    added: int


@dataclass(frozen=True, slots=True)
class Changes:
    """What became of the records of one dataset in another.

    splits: each that one of both has.
    across: (split before, split after) → how many records went from one into the other.
    totals: kind → how many changes there are.
    first: kind → the first of its changes, in the order of the records.
    """

    splits: tuple[OfSplit, ...]
    across: Mapping[tuple[str, str], int]
    totals: Mapping[str, int]
    first: Mapping[str, tuple[Change, ...]]

    @property
    def are_none(self) -> bool:
        """Whether both hold the same records, with the same labels, in the same order."""
        return not any(self.totals.values())


@dataclass(frozen=True, slots=True)
class _Side:
    """All records of a dataset, split after split.

    sizes: split → its records.
    digests: of each record's pixels, of shape (records, 2).
    labels: what the labels are called, and `label` which one each record has.
    """

    sizes: Mapping[str, int]
    digests: npt.NDArray[np.uint64]
    labels: tuple[str, ...]
    label: _Numbers


@dataclass(frozen=True, slots=True)
class _Records:
    """The records of one side, in terms of both: equal numbers stand for what is the same."""

    picture: _Numbers
    split: _Numbers
    index: _Numbers
    label: _Numbers

    def at(self, rows: _Numbers) -> _Records:
        """Return some of them."""
        return _Records(self.picture[rows], self.split[rows], self.index[rows], self.label[rows])


def between(
    before: Mapping[str, Sequence[Path]],
    after: Mapping[str, Sequence[Path]],
    show: int = 10,
    split: str | None = None,
    advance: Advance = silent,
) -> Changes:
    """Return what became of the records of one dataset in another, of images of the same shape.

    Args:
        before: split → its table, or those of its parts in order.
        after: the same of the other dataset.
        show: how many changes of each kind are named.
        split: only changes of records that are, or were, in it; the others are read as well, since
            a record may have gone there.
        advance: is told of records that were read.

    Raises:
        TableError: a path holds no table of ours.
    """
    sides = _read(before, advance), _read(after, advance)
    splits = tuple(dict.fromkeys(name for side in sides for name in side.sizes))
    labels = tuple(dict.fromkeys(name for side in sides for name in side.labels))
    one, other = _in_common(*sides, splits, labels)
    partner = _matched(one, other)

    rows = np.flatnonzero(partner >= 0)
    now = other.at(partner[rows])
    is_relabelled, is_elsewhere = np.zeros((2, len(partner)), bool)
    is_relabelled[rows] = one.label[rows] != now.label
    is_elsewhere[rows] = (one.split[rows] != now.split) | (one.index[rows] != now.index)
    became = np.select(
        [partner < 0, is_relabelled, is_elsewhere],
        [KINDS.index("removed"), KINDS.index("relabelled"), KINDS.index("moved")],
        len(KINDS),  # unchanged
    )
    is_added = np.ones(len(other.split), bool)
    is_added[partner[rows]] = False

    def record(side: _Records, row: int) -> Record:
        return Record(splits[side.split[row]], int(side.index[row]), labels[side.label[row]])

    def change(kind: str, row: int) -> Change:
        if kind == "added":
            return Change(None, record(other, row))
        its = int(partner[row])
        return Change(record(one, row), record(other, its) if its >= 0 else None)

    def of_split(number: int) -> OfSplit:
        here, there = one.split == number, other.split == number
        counts = np.bincount(became[here], minlength=len(KINDS) + 1).tolist()
        of_kind = dict(zip((*KINDS, "unchanged"), counts, strict=True))
        of_kind["added"] = int((is_added & there).sum())
        return OfSplit(splits[number], int(here.sum()), int(there.sum()), **of_kind)

    wanted = [number for number, name in enumerate(splits) if split in (None, name)]
    touches = np.isin(one.split, wanted)
    touches[rows] |= np.isin(now.split, wanted)
    gone = (one.split[rows] != now.split) & touches[rows]
    pairs = zip(one.split[rows][gone].tolist(), now.split[gone].tolist(), strict=True)
    across = Counter((splits[source], splits[goal]) for source, goal in pairs)
    found = {kind: np.flatnonzero((became == KINDS.index(kind)) & touches) for kind in KINDS}
    found["added"] = np.flatnonzero(is_added & np.isin(other.split, wanted))
    return Changes(
        tuple(map(of_split, wanted)),
        dict(across),
        {kind: len(these) for kind, these in found.items()},
        {k: tuple(change(k, row) for row in these[:show].tolist()) for k, these in found.items()},
    )


def _read(splits: Mapping[str, Sequence[Path]], advance: Advance) -> _Side:
    """Return the digests and labels of all records of some splits."""
    sizes, known = dict.fromkeys(splits, 0), dict[str, int]()
    digests, labels = bytearray(), [np.empty(0, np.int64)]
    for split, paths in splits.items():
        for path in paths:
            about = tables.info(path)
            for batch in tables.batches(path):
                for image in batch.images:
                    digests += hashlib.blake2b(image.tobytes(), digest_size=DIGEST_BYTES).digest()
                labels.append(_labels(about, batch, known))
                sizes[split] += len(batch)
                advance(len(batch))
    pairs = np.frombuffer(digests, np.uint64).reshape(-1, 2)
    return _Side(sizes, pairs, tuple(known), np.concatenate(labels))


def _labels(about: tables.Info, batch: Batch, known: dict[str, int]) -> _Numbers:
    """Return the number of each record's label in `known`, which takes those that are new.

    A label is called as its class, and as the coarse one where there is one.
    """
    if batch.known_labels is None:
        return np.full(len(batch), known.setdefault("", len(known)))
    coarse = batch.coarse_labels
    most = max(1, len(about.coarse_classes))
    both = batch.known_labels.astype(np.int64) * most + (0 if coarse is None else coarse)
    found, which = np.unique(both, return_inverse=True)
    names = [about.classes[number // most] for number in found.tolist()]
    if coarse is not None:
        above = [about.coarse_classes[number % most] for number in found.tolist()]
        names = [f"{name}, {over}" for name, over in zip(names, above, strict=True)]
    numbers = [known.setdefault(name, len(known)) for name in names]
    return np.array(numbers, np.int64)[which]


def _in_common(
    one: _Side, other: _Side, splits: Sequence[str], labels: Sequence[str]
) -> tuple[_Records, _Records]:
    pictures = _numbered(np.concatenate([one.digests, other.digests]))
    label_numbers = {name: number for number, name in enumerate(labels)}

    def records(side: _Side, picture: _Numbers) -> _Records:
        sizes = [*side.sizes.values()]
        numbers = [splits.index(name) for name in side.sizes]
        names = [label_numbers[name] for name in side.labels]
        return _Records(
            picture,
            np.repeat(np.array(numbers, np.int64), sizes),
            np.concatenate([np.empty(0, np.int64), *map(np.arange, sizes)]),
            np.array(names, np.int64)[side.label],
        )

    at = len(one.digests)
    return records(one, pictures[:at]), records(other, pictures[at:])


def _numbered(digests: npt.NDArray[np.uint64]) -> _Numbers:
    """Return a number for each digest, the same where they are."""
    order = np.lexsort((digests[:, 1], digests[:, 0]))
    is_new = (np.diff(digests[order], axis=0, prepend=digests[order[:1]]) != 0).any(axis=1)
    numbers = np.empty(len(digests), np.int64)
    numbers[order] = np.cumsum(is_new)
    return numbers


def _matched(one: _Records, other: _Records) -> _Numbers:
    """Return of each record of one side the row of the record that it is on the other, or -1."""
    partner = np.full(len(one.picture), -1, np.int64)
    is_free = np.ones(len(other.picture), bool)
    for same in (("split", "index"), ("split", "label"), ("label",), ()):
        rows, others = np.flatnonzero(partner < 0), np.flatnonzero(is_free)
        keys = np.concatenate([one.picture[rows], other.picture[others]])
        for column in same:
            values = np.concatenate([getattr(one, column)[rows], getattr(other, column)[others]])
            keys = _dense(keys) * (values.max(initial=0) + 1) + values
        found, of_other = _in_pairs(keys[: len(rows)], keys[len(rows) :])
        partner[rows[found]] = others[of_other]
        is_free[others[of_other]] = False
    return partner


def _dense(keys: _Numbers) -> _Numbers:
    """Return numbers from 0 for keys, the same where they are: small enough to be multiplied."""
    return np.unique(keys, return_inverse=True)[1]


def _in_pairs(keys: _Numbers, others: _Numbers) -> tuple[_Numbers, _Numbers]:
    """Return which rows go with which: the first of a key with the first of the same, and so on."""
    numbers = _dense(np.concatenate([keys, others]))
    most = len(numbers) + 1
    here, there = numbers[: len(keys)], numbers[len(keys) :]
    here, there = here * most + _rank(here), there * most + _rank(there)
    return np.intersect1d(here, there, assume_unique=True, return_indices=True)[1:]


def _rank(keys: _Numbers) -> _Numbers:
    """Return of each row how many before it have the same key."""
    order, rows = np.argsort(keys, kind="stable"), np.arange(len(keys))
    is_first = np.diff(keys[order], prepend=-1) != 0
    rank = np.empty_like(rows)
    rank[order] = rows - np.maximum.accumulate(np.where(is_first, rows, 0))
    return rank
