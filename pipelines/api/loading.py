"""Loading: a split as arrays, from its table; whoever has it pays for reading it and no more.

That a table is the right one is decided once (`making`), and noted with the SHA-256 of its bytes
and of all declarations. While these and the version of this code stand, and nobody wrote to the
file, the note holds, and nothing of the catalogue is read. Not here: making what is not there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__, reading
from ..errors import NoLabels
from ..records import Batch, Integers, Labels, Pixels
from ..store import layout, seen
from . import place

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True, eq=False)
class Records:
    """A split in memory; the arrays are the caller's own.

    images: uint8 array of shape (records, height, width, channels), upright, 0–255.
    labels: uint8 array of shape (records,), uint16 of more than 256 classes; 0 is `classes[0]`.
        Of a split without labels, `known_labels` is None, and asking for `labels` raises.
    classes: what each label means.
    coarse_labels: the same for `coarse_classes`; None where a dataset has none.
    extras: what else a publisher says of each record, by name: int32 arrays of shape (records,).
    """

    dataset: str
    split: str
    images: Pixels
    known_labels: Labels | None
    classes: tuple[str, ...]
    coarse_labels: Labels | None
    coarse_classes: tuple[str, ...]
    extras: Mapping[str, Integers] = field(default_factory=dict)

    @property
    def labels(self) -> Labels:
        """Labels, array of shape (records,); 0 is `classes[0]`.

        Raises:
            NoLabels: the split has none.
        """
        if self.known_labels is None:
            raise NoLabels(f"{self.dataset}/{self.split} has no labels: its publisher gives none.")
        return self.known_labels

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.images)

    def __repr__(self) -> str:
        """Return for example `<mnist/train: 60,000 records of 28×28×1, 10 classes>`."""
        shape = "×".join(map(str, self.images.shape[1:]))
        what = f"{len(self):,} records of {shape}, {len(self.classes)} classes"
        return f"<{self.dataset}/{self.split}: {what}>"


def load(dataset: str, split: str = "train", *, verify: bool = False) -> Records:
    """Return a split, fetched, verified and decoded when it is asked for the first time.

    Args:
        dataset: one of `names()`.
        split: `train` or `test`; of one that comes in parts, `train/cat` is one of these.
        verify: read all bytes of the table, and hold their SHA-256 against the one recorded when
            it was made; otherwise only what tells that nobody wrote to it since is looked at.

    Raises:
        UnknownName: there is no such dataset or split.
        ArchiveUnavailable: no place has what is missing.
        ImagesetsError: whatever else keeps it from being made or read, with what to do next.

    Example:
        >>> train = imagesets.load("mnist", "train")
        >>> train.images.shape, train.labels[:3], train.classes[5]
        ((60000, 28, 28, 1), array([5, 0, 4], dtype=uint8), '5')
    """
    table = path(dataset, split, verify=verify)
    batch = reading.read(table)
    about = reading.info(table)
    return Records(
        dataset,
        split,
        batch.images,
        batch.known_labels,
        about.classes,
        batch.coarse_labels,
        about.coarse_classes,
        batch.extras,
    )


def path(dataset: str, split: str = "train", *, verify: bool = False) -> Path:
    """Return where the Parquet table of a split lies, made when it is asked for the first time.

    Args:
        dataset: one of `names()`.
        split: `train` or `test`; of one that comes in parts, `train/cat` is one of these.
        verify: read all bytes, as `load` does.

    Raises:
        As `load` does.

    Example:
        >>> imagesets.path("mnist", "test").name
        'test.parquet'
    """
    return _made(layout.table(dataset, split), "table", dataset, split, verify=verify)


def arrays(dataset: str, split: str = "train", *, verify: bool = False) -> Path:
    """Return the folder of a split's `images.npy` and `labels.npy`, made when first asked for.

    They are not compressed, so that `numpy.load(…, mmap_mode="r")` maps them: many processes share
    one copy in memory. `images.npy` is uint8 of shape (records, height, width), with another axis
    for the channels where there are several; `labels.npy` is uint8 of shape (records,).

    Args:
        dataset: one of `names()`.
        split: `train` or `test`; of one that comes in parts, `train/cat` is one of these.
        verify: read all bytes, as `load` does.

    Raises:
        As `load` does.

    Example:
        >>> folder = imagesets.arrays("mnist", "test")
        >>> images = numpy.load(folder / "images.npy", mmap_mode="r")
        >>> images.shape, images.dtype
        ((10000, 28, 28), dtype('uint8'))
    """
    path = f"exports/{dataset}/{split}_npy"
    return _made(path, "arrays", dataset, split, verify=verify)


def _made(path: str, how: str, dataset: str, split: str, *, verify: bool) -> Path:
    """Return where an artefact lies, made by a function of `making` if it is not known to be."""
    store = place.store()
    if _is_settled(path, verify=verify):
        return store.place(path)
    from . import making

    make = {"table": making.table, "arrays": making.arrays}[how]
    path, sight = make(dataset, split, verify=verify)
    note(path, sight.sha256)
    local = store.local(path)
    if reading.is_whole(local) and not store.is_folder:
        for part in reading.whole(local).parts:
            store.local(f"{layout.tables(dataset)}{part.path.relative_to(local.parent).as_posix()}")
    return local


def table(dataset: str, split: str = "train") -> pa.Table:
    """Return a split as an Arrow table, as it lies: polars and DuckDB take it as it is.

    `index` uint32, `label` uint8 (uint16 of more than 256 classes), `class` dictionary<string>,
    `pixels` fixed_size_binary of height·width·channels bytes (upright, row by row, channels last);
    for datasets with coarse classes `coarse_label` and `coarse_class`, too.

    Args:
        dataset: one of `names()`.
        split: `train` or `test`; of one that comes in parts, `train/cat` is one of these.

    Raises:
        As `load` does.

    Example:
        >>> records = imagesets.table("mnist", "test")
        >>> records.num_rows, records.column_names
        (10000, ['index', 'label', 'class', 'pixels'])
    """
    found = [table.file.read() for table in reading.tables(path(dataset, split))]
    return found[0] if len(found) == 1 else _joined(found)


def _joined(tables: list[pa.Table]) -> pa.Table:
    """Return the tables of all parts of a split as one."""
    import pyarrow as pa

    return pa.concat_tables([table.replace_schema_metadata(None) for table in tables])


def batches(dataset: str, split: str = "train", *, records: int = 1024) -> Generator[Batch]:
    """Yield a split in its order, some records at a time, in little memory; the last may be fewer.

    Args:
        dataset: one of `names()`.
        split: `train` or `test`; of one that comes in parts, `train/cat` is one of these.
        records: how many at a time.

    Yields:
        images, uint8 of shape (records, height, width, channels), labels of shape (records,), uint8
        or uint16 of more than 256 classes, and coarse_labels likewise or None: perhaps not
        writable.

    Raises:
        ValueError: fewer than one record at a time.
        As `load` does.

    Example:
        >>> [len(batch) for batch in imagesets.batches("mnist", "test", records=4000)]
        [4000, 4000, 2000]
    """
    if records < 1:
        raise ValueError(f"records is {records}; it must be 1 or more")
    return _regrouped(reading.batches(path(dataset, split)), records)


def _regrouped(stream: Generator[Batch], records: int) -> Generator[Batch]:
    """Yield the same records, so many at a time."""
    waiting: list[Batch] = []
    held = 0

    def taken(count: int) -> Batch:
        nonlocal waiting, held
        parts, missing = [], count
        while missing:
            batch = waiting.pop(0)
            parts.append(batch.between(0, missing))
            if len(batch) > missing:
                waiting.insert(0, batch.between(missing, len(batch)))
            missing -= len(parts[-1])
        held -= count
        return Batch.joined(parts)

    with contextlib.closing(stream):
        for batch in stream:
            waiting.append(batch)
            held += len(batch)
            while held >= records:
                yield taken(records)
        if held:
            yield taken(held)


# --- what was decided -----------------------------------------------------------------------------


def note(path: str, sha256: str) -> None:
    """Keep that a table with these bytes is the one that the declarations of now ask for."""
    seen.keep(place.store(), layout.decided(path), _decision(sha256))


def _is_settled(table: str, *, verify: bool) -> bool:
    """Whether a table is known to be the right one, and nobody wrote to it since."""
    store = place.store()
    try:
        sight = seen.look_anew(store, table) if verify else seen.look(store, table)
    except OSError:
        return False
    return _decision(sight.sha256) in seen.kept(store, layout.decided(table))


def _decision(sha256: str) -> dict[str, Any]:
    return {"sha256": sha256, "version": __version__, "declarations": place.declarations()}
