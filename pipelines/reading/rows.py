"""Reading a table back: whole into numpy, streamed by row group, or as Arrow.

Not here: what a table says of itself (`opening`), how its pages hold pixels (`pages`).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..advice import TABLE_AGAIN
from ..errors import NoLabels, TableError
from ..records import Batch, Labels, Pixels
from ..threads import WORKERS, prefetched, side_by_side
from . import pages, parts
from .opening import Group, Info, Opened, batch_records, opened, types

_HUGE_PAGE_BYTES = 2 << 20


def read(path: Path, start: int = 0, stop: int | None = None) -> Batch:
    """Read records `start` to `stop` (a split's all, by default) into numpy arrays.

    `path` is that of a table or, of a split in parts, of its manifest.

    Returns:
        images, uint8 of shape (records, height, width, channels); labels, of `label_type`, of
        shape (records,); coarse labels likewise or None. The arrays are the caller's own.

    Raises:
        TableError: no table of ours, or it has no such rows.
    """
    about, start, stop, tables = _tables(path, start, stop)
    images = _room((stop - start, *about.shape))
    found, at = list[Batch](), 0
    for table, low, high in tables:
        found.append(_read(table, low, high, images[at : at + high - low]))
        at += high - low
    return found[0] if len(found) == 1 else Batch.joined(found, images)


def _read(table: Opened, start: int, stop: int, images: Pixels) -> Batch:
    """Read records into an array of images that is there, and labels."""
    groups = _groups(table, start, stop)
    columns: dict[str, npt.NDArray[Any]] = {}
    fill = pages.filler(images, table, groups, start)

    def work(worker: int, _workers: int) -> bool:
        if worker == 0 and (names := _small_columns(table.about)):
            rows = _rows(table, groups, start, stop, names)
            columns.update((name, numbers(rows[name])) for name in rows.column_names)
        return fill()

    if not all(side_by_side(work, max(1, min(WORKERS, len(groups))))):
        at = 0
        for batch in prefetched(_batches(table, groups, start, stop)):
            images[at : at + len(batch)] = batch.images
            at += len(batch)
    return _batch(table.about, images, columns)


def _batch(about: Info, images: Pixels, columns: Mapping[str, npt.NDArray[Any]]) -> Batch:
    labels, coarse = columns.get("label"), columns.get("coarse_label")
    return Batch(images, labels, coarse, extras={name: columns[name] for name in about.extras})


def labels(path: Path) -> dict[str, Labels]:
    """Read the labels of all records without their pixels: `label`, `coarse_label` if there is one.

    Raises:
        TableError: no table of ours.
        NoLabels: the split has none.
    """
    about, _, _, tables = _tables(path, 0, None)
    if not (names := _label_columns(about)):
        raise NoLabels(f"{about.dataset}/{about.split} has no labels: its publisher gives none.")
    found = [
        _rows(table, _groups(table, start, stop), start, stop, names)
        for table, start, stop in tables
    ]
    return {name: np.concatenate([numbers(rows[name]) for rows in found]) for name in names}


def numbers(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """Return a column of numbers as an array, which is the caller's own.

    Arrow's `to_numpy` does the same, and imports pandas wherever that is installed: longer than
    reading all of a split.
    """
    if column.null_count:
        return np.array(column.to_numpy())
    parts = [np.from_dlpack(chunk) for chunk in column.chunks]
    return np.concatenate(parts) if parts else np.array(column.to_numpy())


def batches(path: Path, start: int = 0, stop: int | None = None) -> Generator[Batch]:
    """Stream records `start` to `stop`, a row group at a time; the next is read meanwhile.

    A row group that is larger than ours, in a table that something else wrote again, comes in
    pieces. The arrays are views of Arrow's memory: not copied, and not writable.

    Raises:
        TableError: no table of ours, or it has no such rows.
    """
    for table, low, high in _tables(path, start, stop)[-1]:
        yield from prefetched(_batches(table, _groups(table, low, high), low, high))


def to_arrow(path: Path, start: int = 0, stop: int | None = None) -> pa.Table:
    """Read records as an Arrow table in which `pixels` has become `image`.

    `image` is Arrow's canonical extension type `fixed_shape_tensor<uint8>[height, width, channels]`
    over the very bytes that Parquet gave: nothing is copied.

    Raises:
        TableError: no table of ours, or it has no such rows.
    """
    found = [_to_arrow(*one) for one in _tables(path, start, stop)[-1]]
    if len(found) == 1:
        return found[0]
    return pa.concat_tables([rows.replace_schema_metadata(None) for rows in found])


def _to_arrow(table: Opened, start: int, stop: int) -> pa.Table:
    rows = _rows(table, _groups(table, start, stop), start, stop)
    tensor, width = pa.fixed_shape_tensor(pa.uint8(), table.about.shape), table.about.record_bytes
    images = pa.chunked_array(
        [_as_tensor(chunk, tensor, width) for chunk in rows["pixels"].chunks], tensor
    )
    at = rows.schema.get_field_index("pixels")
    return rows.set_column(at, pa.field("image", tensor, nullable=False), images)


def tables(path: Path) -> Iterator[Opened]:
    """Yield the table at a path, opened; of a split in parts, that of each part in turn.

    Raises:
        TableError: no table of ours, or a part is missing, or another than the one that is listed.
    """
    return (table for table, _, _ in _tables(path, 0, None)[-1])


def _tables(
    path: Path, start: int, stop: int | None
) -> tuple[Info, int, int, Iterator[tuple[Opened, int, int]]]:
    """Return what there is to know of a split, and the tables that hold some of its records.

    Returns:
        about, start, stop; and of each table that is opened, which of its rows are wanted: of one
        at least, be it none of them.

    Raises:
        TableError: no table of ours, or it has no such rows.
    """
    if not parts.is_whole(path):
        table = opened(path)
        start, stop = _range(table.about, start, stop)
        return table.about, start, stop, iter([(table, start, stop)])
    whole = parts.whole(path)
    start, stop = _range(whole.about, start, stop)
    wanted = whole.between(start, stop) or [(part, 0, 0) for part in whole.parts[:1]]
    tables = ((parts.opened(whole, part), low, high) for part, low, high in wanted)
    return whole.about, start, stop, tables


def _range(about: Info, start: int, stop: int | None) -> tuple[int, int]:
    stop = about.records if stop is None else stop
    if not 0 <= start <= stop <= about.records:
        raise TableError(
            f"{about.dataset}/{about.split} has records 0 to {about.records - 1:,}; rows {start:,} "
            f"to {stop:,} were asked for."
        )
    return start, stop


def _groups(table: Opened, start: int, stop: int) -> list[Group]:
    """Return the row groups that hold some of the records."""
    groups, first = [], 0
    for number in range(table.file.metadata.num_row_groups):
        rows = table.file.metadata.row_group(number).num_rows
        if max(first, start) < min(first + rows, stop):
            groups.append(Group(number, first, rows))
        first += rows
    return groups


def _label_columns(about: Info) -> list[str]:
    """Return the columns of labels that hold any."""
    if not about.labelled:
        return []
    return ["label", "coarse_label"] if about.coarse_classes else ["label"]


def _small_columns(about: Info) -> list[str]:
    """Return all that a batch has of a table beside the pixels."""
    return [*_label_columns(about), *about.extras]


def _rows(
    table: Opened, groups: list[Group], start: int, stop: int, columns: list[str] | None = None
) -> pa.Table:
    """Return records `start` to `stop`, which these row groups hold; all columns by default."""
    with _damage_named(table.path):
        found = table.file.read_row_groups(
            [group.number for group in groups], columns, use_threads=columns is None
        )
    found = found.slice(start - groups[0].first if groups else 0, stop - start)
    for name in columns or types(table.about):
        _hold_nulls(table, name, found[name])
    if len(found) != stop - start:
        raise TableError(f"{table.path} is damaged: its row groups end early. {TABLE_AGAIN}")
    return found


def _batches(table: Opened, groups: list[Group], start: int, stop: int) -> Iterator[Batch]:
    """Yield those of records `start` to `stop` that some row groups hold, in small batches."""
    names, kinds = _small_columns(table.about), types(table.about)
    columns = [*names, "pixels"]
    most = batch_records(table.about.record_bytes)
    for group in groups:
        at, end = group.first, min(stop, group.first + group.records)
        parts = table.file.iter_batches(most, [group.number], columns, use_threads=False)
        while at < end:
            with _damage_named(table.path):
                part = next(parts, None)
            if part is None:
                raise TableError(
                    f"{table.path} is damaged: row group {group.number} ends early. {TABLE_AGAIN}"
                )
            low, high = max(at, start), min(at + len(part), stop)
            if low < high:
                wanted = part.slice(low - at, high - low)
                for name in columns:
                    _hold_nulls(table, name, wanted[name])
                found = {name: _view(wanted[name], kinds[name].to_pandas_dtype()) for name in names}
                images = _view(wanted["pixels"], np.uint8)
                yield _batch(table.about, images.reshape(-1, *table.about.shape), found)
            at += len(part)


def _view(array: pa.Array, kind: type[Any]) -> npt.NDArray[Any]:
    """Return the memory of an array of values of one width as numbers of a type: a view."""
    width = array.type.byte_width
    view = memoryview(array.buffers()[1]).toreadonly()  # Arrow's own buffers may be writable
    count = len(array) * width // np.dtype(kind).itemsize
    return np.frombuffer(view, kind, count, array.offset * width)


def _as_tensor(pixels: pa.Array, tensor: pa.DataType, width: int) -> pa.Array:
    values = pixels.buffers()[1].slice(pixels.offset * width, len(pixels) * width)
    whole = pa.Array.from_buffers(pa.uint8(), values.size, [None, values])
    return pa.ExtensionArray.from_storage(tensor, pa.FixedSizeListArray.from_arrays(whole, width))


def _hold_nulls(table: Opened, name: str, column: pa.Array) -> None:
    """Refuse a row without a value; and one with a label in a split that has none."""
    missing = len(column) if name in ("label", "class") and not table.about.labelled else 0
    if column.null_count != missing:
        expected = "no value in any" if missing else "a value in every"
        raise TableError(
            f"{table.path} is not a table of ours: expected {expected} row of column {name!r}, "
            f"found {column.null_count:,} without one. Something else wrote it. {TABLE_AGAIN}"
        )


@contextlib.contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise TableError(f"{path} is damaged ({error}). {TABLE_AGAIN}") from error


def _room(shape: tuple[int, int, int, int]) -> Pixels:
    """Return an array to be filled that, where it is large, begins on a huge page of Linux.

    It is then cleared by the kernel in few pieces: up to a tenth less time for 60,000 records.
    """
    size = math.prod(shape)
    if size < 2 * _HUGE_PAGE_BYTES:
        return np.empty(shape, np.uint8)
    room = np.empty(size + _HUGE_PAGE_BYTES, np.uint8)
    at = -room.ctypes.data % _HUGE_PAGE_BYTES
    return room[at : at + size].reshape(shape)
