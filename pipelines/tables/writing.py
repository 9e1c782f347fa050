"""Writing a table: batches of records into one Parquet file, a row group each.

Everything streams: memory does not grow with the number of records. Not here: where records come
from (`pipelines.formats`), what is computed from them (`pipelines.statistics`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from .. import formats
from ..archives import members
from ..declarations import Dataset, Source, Split
from ..progress import Advance, silent
from ..reading import batch_records
from ..records import Batch, Labels, label_type
from ..store import writing
from ..threads import prefetched
from .about import COMPRESSION_LEVEL, arrow_schema

UNDECLARED_BYTES = 64 << 20  # readmes and the like, that nobody reads, in an archive


def write(
    source: Source,
    dataset: Dataset,
    split: Split,
    archives: Path,
    goal: Path,
    advance: Advance = silent,
    observe: Callable[[Batch], object] | None = None,
    *,
    compression_level: int = COMPRESSION_LEVEL,
    decode_ahead: bool = True,
) -> int:
    """Decode a split from the archives in a folder and write its table; return the records.

    Of a part of a split, that is the table of this part: its index goes on where the part before
    ends.

    Args:
        source: whose archives they are.
        dataset: what they hold.
        split: which split of it, or part of one.
        archives: folder of the archives.
        goal: where the table goes.
        advance: called with how many records were written.
        observe: is shown every batch once, in order; it must not keep the arrays.
        compression_level: zstd's, -7 to 22.
        decode_ahead: decode in a second thread. Without, a split takes one thread: best where as
            many splits as there are cores are written side by side.

    Raises:
        MemberError, FormatError: the archives don't hold what the catalogue declares.
        StorageError: `goal` can't be written.
    """
    schema = arrow_schema(source, dataset, split)
    rows = batch_records(dataset.image.size_bytes)
    records = 0
    with (
        writing.atomic(goal) as partial,
        contextlib.closing(decoded(source, dataset, split, archives)) as batches,
        contextlib.closing(prefetched(batches) if decode_ahead else batches) as upcoming,
        pq.ParquetWriter(
            partial,
            schema,
            use_dictionary=["label", "class", "coarse_label", "coarse_class"],
            column_encoding={"index": "DELTA_BINARY_PACKED", "pixels": "PLAIN"},
            write_statistics=["index", "label", "coarse_label"],
            compression="zstd",
            compression_level=compression_level,
        ) as writer,
    ):
        for batch in upcoming:
            found = _to_arrow(batch, split.first + records, schema, dataset)
            writer.write_batch(found, row_group_size=rows)
            if observe is not None:
                observe(batch)
            records += len(batch)
            advance(len(batch))
    return records


def decoded(source: Source, dataset: Dataset, split: Split, archives: Path) -> Generator[Batch]:
    """Yield the batches of a split as they become its table, from the archives in a folder.

    A part that begins within its members is reached by decoding what stands before it.

    Raises:
        MemberError, FormatError: the archives don't hold what the catalogue declares.
    """
    rows = batch_records(dataset.image.size_bytes)
    with (
        members.opened(archives, most_bytes(source)) as open_member,
        contextlib.closing(formats.decoded(open_member, dataset, split, rows)) as batches,
    ):
        yield from batches


def most_bytes(source: Source) -> int:
    """Return more than all decompressed members of a source can have together."""
    declared = sum(
        (split.rows.of if split.rows else split.records) * (dataset.image.size_bytes + 2)
        for dataset in source.datasets.values()
        for split in dataset.splits.values()
    )
    return declared + UNDECLARED_BYTES


def _to_arrow(batch: Batch, start: int, schema: pa.Schema, dataset: Dataset) -> pa.RecordBatch:
    records = len(batch)
    columns = {
        "index": _values(pa.uint32(), np.arange(start, start + records, dtype=np.uint32)),
        **_label_columns("", batch.known_labels, dataset.classes, records),
        "pixels": _values(schema.field("pixels").type, batch.images),
    }
    columns |= {name: _values(pa.int32(), values) for name, values in batch.extras.items()}
    if batch.coarse_labels is not None:
        coarse = dataset.coarse_classes
        columns |= _label_columns("coarse_", batch.coarse_labels, coarse, records)
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def _label_columns(
    prefix: str, labels: Labels | None, classes: tuple[str, ...], records: int
) -> dict[str, pa.Array]:
    kind = label_type(len(classes))
    label, meaning = pa.from_numpy_dtype(kind), pa.dictionary(pa.int32(), pa.string())
    if labels is None:
        return {
            f"{prefix}label": pa.nulls(records, label),
            f"{prefix}class": pa.nulls(records, meaning),
        }
    numbers = _values(pa.int32(), labels.astype(np.int32))
    names = pa.DictionaryArray.from_arrays(numbers, _texts(classes))
    return {
        f"{prefix}label": _values(label, labels.astype(kind, copy=False)),
        f"{prefix}class": names,
    }


# `pa.array` does the same, and imports pandas wherever that is installed: it takes as long as all
# else that a first load does.


def _values(kind: pa.DataType, values: npt.NDArray[Any]) -> pa.Array:
    """Return an array's memory as values of a type."""
    memory = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(kind, len(values), [None, memory])


def _texts(names: tuple[str, ...]) -> pa.Array:
    """Return names as Arrow has them: where each begins and ends, and all of them in a row."""
    encoded = [name.encode() for name in names]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(names), buffers)
