"""Tables: a split as one Parquet file, one row per record, and back as numpy or Arrow.

    index     uint32                          position of the record in its split, from 0
    label     uint8                           0 is classes[0]
    class     dictionary<string>              what the label means
    coarse_label, coarse_class                the same for coarse classes, where there are any
    pixels    fixed_size_binary[h·w·c]        upright, row by row, channels last (HWC)

The bytes of `pixels` are the array: no list, no image codec. Not here: where records come from
(`pipelines.formats`), what is computed from them (`pipelines.statistics`).

Everything streams. A batch of about 4 MiB of pixels becomes a row group, so memory does not grow
with the number of records. The key `imagesets` of the file's metadata holds a JSON object with
the dataset, split, shape, dtype, layout, classes, source, and MD5 and SHA-256 of every input.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from .. import formats
from ..archives import members
from ..declarations import Dataset, Source, Split
from ..errors import TableError
from ..progress import Advance, silent
from ..records import Batch, Labels, Pixels
from ..store import layout, writing
from ..store.provenance import Artefact, Input
from ..threads import WORKERS, prefetched, side_by_side

CODE_VERSION = "2"  # raise when the bytes of a table can change

COLUMNS = {
    "index": "Position of the record in its split, from 0.",
    "label": "Number of the class, from 0.",
    "class": "What the label means.",
    "coarse_label": "Number of the coarse class, from 0.",
    "coarse_class": "What the coarse label means.",
    "pixels": "Intensities, 0–255, one byte each: upright, row by row, channels last (HWC).",
}
METADATA_KEY = b"imagesets"
BATCH_BYTES = 4 << 20  # pixels of a row group
BATCH_RECORDS = 1 << 16  # and no more records than this, however small the images
UNDECLARED_BYTES = 64 << 20  # readmes and the like, that nobody reads, in an archive

# zstd's. Level −1 reads an eighth to a third faster than level 1, and takes 5 to 11 % more room.
COMPRESSION_LEVEL = -1

_READ_RECORDS = 1024  # decoded at once while reading: small enough to stay in the cache


@dataclass(frozen=True, slots=True)
class Info:
    """What a table says of itself.

    shape: (height, width, channels) of one image.
    inputs: path of each archive → its MD5.
    """

    dataset: str
    split: str
    records: int
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    coarse_classes: tuple[str, ...]
    inputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def record_bytes(self) -> int:
        """Bytes of one image."""
        return self.shape[0] * self.shape[1] * self.shape[2]


def code_version(dataset: Dataset) -> str:
    """Return the version of the code that makes a dataset's tables, its format's included."""
    return f"{CODE_VERSION}.{formats.named(dataset.format).code_version}"


def artefact(
    source: Source, dataset: Dataset, split: Split, compression_level: int = COMPRESSION_LEVEL
) -> Artefact:
    """Return the table of a split as an artefact."""
    parameters = description(source, dataset, split) | {
        "format": dataset.format,
        "orientation": dataset.orientation,
        "first_label": dataset.first_label,
        "members": {role: [asdict(m) for m in part] for role, part in split.members.items()},
        "compression": {"compression": "zstd", "compression_level": compression_level},
    }
    inputs = tuple(
        Input(layout.archive(source.name, a.name), a.sha256, a.size_bytes, a.md5)
        for a in map(source.archives.__getitem__, split.archives)
    )
    return Artefact(
        layout.table(dataset.name, split.name), "tables", code_version(dataset), parameters, inputs
    )


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

    Args:
        source: whose archives they are.
        dataset: what they hold.
        split: which part of it.
        archives: folder of the archives.
        goal: where the table goes.
        advance: is told how many records were written.
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
        contextlib.closing(decoded(source, dataset, split, archives)) as found,
        contextlib.closing(prefetched(found) if decode_ahead else found) as upcoming,
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
            writer.write_batch(_to_arrow(batch, records, schema, dataset), row_group_size=rows)
            if observe is not None:
                observe(batch)
            records += len(batch)
            advance(len(batch))
    return records


def decoded(source: Source, dataset: Dataset, split: Split, archives: Path) -> Generator[Batch]:
    """Yield the batches of a split as they become its table, from the archives in a folder.

    Raises:
        MemberError, FormatError: the archives don't hold what the catalogue declares.
    """
    decode = formats.named(dataset.format).decode
    rows = batch_records(dataset.image.size_bytes)
    with (
        members.opened(archives, most_bytes(source)) as open_member,
        contextlib.closing(decode(open_member, dataset, split, rows)) as batches,
    ):
        yield from batches


def batch_records(record_bytes: int) -> int:
    """Return how many records make a batch: about 4 MiB of pixels."""
    return max(1, min(BATCH_RECORDS, BATCH_BYTES // record_bytes))


def most_bytes(source: Source) -> int:
    """Return more than all decompressed members of a source can have together."""
    declared = sum(
        split.records * (dataset.image.size_bytes + 2)
        for dataset in source.datasets.values()
        for split in dataset.splits.values()
    )
    return declared + UNDECLARED_BYTES


def arrow_schema(source: Source, dataset: Dataset, split: Split) -> pa.Schema:
    """Return the columns of a split's table, with what the table says of itself."""
    types = _types(declared(source, dataset, split))
    return pa.schema(
        [pa.field(name, kind, nullable=False) for name, kind in types.items()],
        {
            METADATA_KEY: json.dumps(
                description(source, dataset, split), ensure_ascii=False
            ).encode()
        },
    )


def declared(source: Source, dataset: Dataset, split: Split) -> Info:
    """Return what the table of a split must say of itself."""
    return Info(
        dataset.name,
        split.name,
        split.records,
        dataset.image.shape,
        dataset.classes,
        dataset.coarse_classes,
        {layout.archive(source.name, name): source.archives[name].md5 for name in split.archives},
    )


def info(path: Path) -> Info:
    """Return what the table at `path` says of itself.

    Raises:
        TableError: there is no such file, or it is no table of ours.
    """
    return _opened(path)[1]


def read(path: Path, start: int = 0, stop: int | None = None) -> Batch:
    """Read records `start` to `stop` (a split's all, by default) into numpy arrays.

    Returns:
        images, uint8 of shape (records, height, width, channels); labels, uint8 of shape
        (records,); coarse labels likewise or None. The arrays are the caller's own.

    Raises:
        TableError: no table of ours, or it has no such rows.
    """
    file, about = _opened(path)
    start, stop = _range(about, start, stop)
    images = np.empty((stop - start, *about.shape), np.uint8)
    labels = np.empty(stop - start, np.uint8)
    coarse = np.empty(stop - start, np.uint8) if about.coarse_classes else None
    groups = _groups(file.metadata, start, stop)

    def fill(worker: int, workers: int) -> None:
        mine = groups[len(groups) * worker // workers : len(groups) * (worker + 1) // workers]
        for first, batch in _batches(path, mine, about, _READ_RECORDS, start, stop):
            there = slice(first - start, first - start + len(batch))
            images[there] = batch.images
            labels[there] = batch.labels
            if coarse is not None and batch.coarse_labels is not None:
                coarse[there] = batch.coarse_labels

    side_by_side(fill, max(1, min(WORKERS, len(groups))))
    return Batch(images, labels, coarse)


def batches(path: Path, start: int = 0, stop: int | None = None) -> Generator[Batch]:
    """Stream records `start` to `stop`, a row group at a time; the next is read meanwhile.

    A row group that is larger than ours, in a table that something else wrote again, comes in
    pieces. The arrays are views of Arrow's memory: not copied, and not writable.

    Raises:
        TableError: no table of ours, or it has no such rows.
    """
    file, about = _opened(path)
    start, stop = _range(about, start, stop)
    groups = _groups(file.metadata, start, stop)
    rows = batch_records(about.record_bytes)
    for _, batch in prefetched(_batches(path, groups, about, rows, start, stop)):
        yield batch


def to_arrow(path: Path, start: int = 0, stop: int | None = None) -> pa.Table:
    """Read records as an Arrow table in which `pixels` has become `image`.

    `image` is Arrow's canonical extension type `fixed_shape_tensor<uint8>[height, width, channels]`
    over the very bytes that Parquet gave: nothing is copied.

    Raises:
        TableError: no table of ours, or it has no such rows.
    """
    file, about = _opened(path)
    start, stop = _range(about, start, stop)
    groups = _groups(file.metadata, start, stop)
    with _damage_named(path):
        table = file.read_row_groups([number for number, _ in groups])
    first = groups[0][1] if groups else start
    table = table.slice(start - first, stop - start)
    for name in _types(about):
        _refuse_nulls(path, name, table[name])
    tensor = pa.fixed_shape_tensor(pa.uint8(), about.shape)
    images = pa.chunked_array(
        [_as_tensor(chunk, tensor, about.record_bytes) for chunk in table["pixels"].chunks], tensor
    )
    at = table.schema.get_field_index("pixels")
    return table.set_column(at, pa.field("image", tensor, nullable=False), images)


def description(source: Source, dataset: Dataset, split: Split) -> dict[str, Any]:
    """Return what a table says of itself in its metadata."""
    return {
        "dataset": dataset.name,
        "split": split.name,
        "title": dataset.title,
        "records": split.records,
        "shape": dataset.image.shape,
        "dtype": "uint8",
        "layout": "HWC",
        "classes": dataset.classes,
        "coarse_classes": dataset.coarse_classes,
        "source": {
            key: getattr(source, key) for key in ("title", "homepage", "licence", "citation")
        },
        "inputs": {
            layout.archive(source.name, name): {
                "md5": source.archives[name].md5,
                "sha256": source.archives[name].sha256,
            }
            for name in split.archives
        },
    }


def _to_arrow(batch: Batch, start: int, schema: pa.Schema, dataset: Dataset) -> pa.RecordBatch:
    records = len(batch)
    columns = {
        "index": pa.array(np.arange(start, start + records, dtype=np.uint32)),
        **_label_columns("", batch.labels, dataset.classes),
        "pixels": pa.Array.from_buffers(
            schema.field("pixels").type, records, [None, pa.py_buffer(batch.images)]
        ),
    }
    if batch.coarse_labels is not None:
        columns |= _label_columns("coarse_", batch.coarse_labels, dataset.coarse_classes)
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def _label_columns(prefix: str, labels: Labels, classes: tuple[str, ...]) -> dict[str, pa.Array]:
    meaning = pa.DictionaryArray.from_arrays(pa.array(labels.astype(np.int32)), pa.array(classes))
    return {f"{prefix}label": pa.array(labels), f"{prefix}class": meaning}


_STRICT = ConfigDict(strict=True)
_Pixels = Annotated[int, Field(ge=1, le=2**31 - 1)]


@checked(frozen=True, slots=True, config=_STRICT)
class _MadeFrom:
    """What a table's metadata says of an archive."""

    md5: str


@checked(frozen=True, slots=True, config=_STRICT)
class _Description:
    """What a table's metadata says of the table, as far as readers rely on it."""

    dataset: str
    split: str
    shape: tuple[_Pixels, _Pixels, _Pixels]
    classes: Annotated[tuple[str, ...], Field(min_length=1, max_length=256)]
    coarse_classes: Annotated[tuple[str, ...], Field(max_length=256)]
    inputs: dict[str, _MadeFrom]


_DESCRIPTION = TypeAdapter(_Description)


def _opened(path: Path) -> tuple[pq.ParquetFile, Info]:
    try:
        file = pq.ParquetFile(path, pre_buffer=False)  # not mapped: that counts as ours in memory
        schema = file.schema_arrow
        said = _DESCRIPTION.validate_json((schema.metadata or {})[METADATA_KEY])
    except FileNotFoundError:
        raise TableError(f"{path} is not there. Build the tables stage of this dataset.") from None
    except ValidationError as error:
        finding = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, finding["loc"]))
        raise TableError(
            f"{path} is not a table of ours: what its metadata says under "
            f"{METADATA_KEY.decode()!r} can't be true ({f'{where}: ' * bool(where)}"
            f"{finding['msg']}). {_AGAIN}"
        ) from error
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise TableError(
            f"{path} is not a table of ours: it is not Parquet, or its metadata has no "
            f"{METADATA_KEY.decode()!r} ({type(error).__name__}: {error})."
        ) from error
    footer = file.metadata
    about = Info(
        said.dataset,
        said.split,
        footer.num_rows,
        said.shape,
        said.classes,
        said.coarse_classes,
        {name: known.md5 for name, known in said.inputs.items()},
    )
    held = sum(footer.row_group(number).num_rows for number in range(footer.num_row_groups))
    if held != about.records:
        raise TableError(
            f"{path} is damaged: expected {about.records:,} records, its row groups hold "
            f"{held:,}. {_AGAIN}"
        )
    _hold_types(path, schema, about)
    return file, about


_AGAIN = "Delete it and build the tables stage again."


def _types(about: Info) -> dict[str, pa.DataType]:
    """Return the columns of a table, in order, and their types."""
    number, text = pa.uint8(), pa.dictionary(pa.int32(), pa.string())
    coarse = {"coarse_label": number, "coarse_class": text} if about.coarse_classes else {}
    pixels = pa.binary(about.record_bytes)
    return {"index": pa.uint32(), "label": number, "class": text, **coarse, "pixels": pixels}


def _hold_types(path: Path, schema: pa.Schema, about: Info) -> None:
    """Refuse columns of other types than ours: their bytes would be taken for what they are not.

    A class may be any kind of text. Libraries that write a table again choose another, and it is
    read by its meaning, never as bytes.
    """
    for name, expected in _types(about).items():
        found = [schema.field(at).type for at in schema.get_all_field_indices(name)]
        is_class = pa.types.is_dictionary(expected)
        if len(found) != 1 or not (_is_text(found[0]) if is_class else found[0] == expected):
            kind = "dictionary<string>" if is_class else expected
            raise TableError(
                f"{path} is not a table of ours: expected one column {name!r} of {kind}, "
                f"found {' and '.join(map(str, found)) or 'none'}. Something else wrote it. "
                f"{_AGAIN}"
            )


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return str(kind) in ("string", "large_string", "string_view")


def _refuse_nulls(path: Path, name: str, column: pa.Array) -> None:
    if column.null_count:
        raise TableError(
            f"{path} is not a table of ours: expected a value in every row of column {name!r}, "
            f"found {column.null_count:,} without one. Something else wrote it. {_AGAIN}"
        )


@contextlib.contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise TableError(f"{path} is damaged ({error}). {_AGAIN}") from error


def _range(about: Info, start: int, stop: int | None) -> tuple[int, int]:
    stop = about.records if stop is None else stop
    if not 0 <= start <= stop <= about.records:
        raise TableError(
            f"{about.dataset}/{about.split} has records 0 to {about.records - 1:,}; rows {start:,} "
            f"to {stop:,} were asked for."
        )
    return start, stop


def _groups(metadata: pq.FileMetaData, start: int, stop: int) -> list[tuple[int, int]]:
    """Return (number, first record) of each row group that holds some of the records."""
    groups, first = [], 0
    for number in range(metadata.num_row_groups):
        rows = metadata.row_group(number).num_rows
        if max(first, start) < min(first + rows, stop):
            groups.append((number, first))
        first += rows
    return groups


def _batches(
    path: Path, groups: list[tuple[int, int]], about: Info, most: int, start: int, stop: int
) -> Iterator[tuple[int, Batch]]:
    """Yield (first record, batch) of those of records `start` to `stop` that some groups hold.

    The row groups are read by a reader of their own, `most` records at a time.
    """
    columns = ["label", *(["coarse_label"] if about.coarse_classes else []), "pixels"]
    file, _ = _opened(path)
    for number, first in groups:
        at, end = first, min(stop, first + file.metadata.row_group(number).num_rows)
        parts = file.iter_batches(most, [number], columns, use_threads=False)
        while at < end:
            with _damage_named(path):
                part = next(parts, None)
            if part is None:
                raise TableError(f"{path} is damaged: row group {number} ends early. {_AGAIN}")
            low, high = max(at, start), min(at + len(part), stop)
            if low < high:
                wanted = part.slice(low - at, high - low)
                for name in columns:
                    _refuse_nulls(path, name, wanted[name])
                coarse = _bytes(wanted["coarse_label"], 1) if about.coarse_classes else None
                images = _bytes(wanted["pixels"], about.record_bytes).reshape(-1, *about.shape)
                yield low, Batch(images, _bytes(wanted["label"], 1), coarse)
            at += len(part)


def _bytes(array: pa.Array, width: int) -> Pixels:
    """Return the bytes of an array of `width`-byte values: a view."""
    values = array.buffers()[1]
    view = memoryview(values).toreadonly()  # Arrow's own buffers may be writable
    return np.frombuffer(view, np.uint8, len(array) * width, array.offset * width)


def _as_tensor(pixels: pa.Array, tensor: pa.DataType, width: int) -> pa.Array:
    values = pixels.buffers()[1].slice(pixels.offset * width, len(pixels) * width)
    whole = pa.Array.from_buffers(pa.uint8(), values.size, [None, values])
    return pa.ExtensionArray.from_storage(tensor, pa.FixedSizeListArray.from_arrays(whole, width))
