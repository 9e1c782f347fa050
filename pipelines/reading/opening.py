"""A table that is opened: what it says of itself, held against its columns.

Not here: what a table of ours has to say (`pipelines.tables.about`), or reading its rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from .. import advice
from ..advice import TABLE_AGAIN
from ..errors import TableError
from ..records import MOST_CLASSES, label_type

METADATA_KEY = b"imagesets"
_HASHES = ("md5", "sha256", "git_blob")

BATCH_BYTES = 4 << 20  # pixels of a row group
BATCH_RECORDS = 1 << 16  # and no more records than this, however small the images

_MOST_PIXELS = 2**31 - 1  # of a side


@dataclass(frozen=True, slots=True)
class Info:
    """What a table says of itself.

    shape: (height, width, channels) of one image.
    inputs: path of each archive → its MD5, or the next of its hashes that is declared.
    first: the index of its first record: of a part of a split, how many stand before it.
    labelled: whether its records have labels; where not, `label` and `class` are null throughout.
    extras: the columns that it has beside labels and pixels, int32.
    """

    dataset: str
    split: str
    records: int
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    coarse_classes: tuple[str, ...]
    inputs: Mapping[str, str] = field(default_factory=dict)
    first: int = 0
    labelled: bool = True
    extras: tuple[str, ...] = ()

    @property
    def record_bytes(self) -> int:
        """Bytes of one image."""
        return self.shape[0] * self.shape[1] * self.shape[2]


def batch_records(record_bytes: int) -> int:
    """Return how many records make a batch: about 4 MiB of pixels."""
    return max(1, min(BATCH_RECORDS, BATCH_BYTES // record_bytes))


class Group(NamedTuple):
    """A row group of a table; `first` is the index of its first record."""

    number: int
    first: int
    records: int


class Opened(NamedTuple):
    """A table to read from; `source` and `file` are one and the same file, whatever replaces it."""

    path: Path
    source: pa.NativeFile
    file: pq.ParquetFile
    about: Info


def opened(path: Path) -> Opened:
    """Open the table at `path`, and hold its columns against what it says of itself.

    Raises:
        TableError: there is no such file, or it is no table of ours.
    """
    try:
        source = pa.OSFile(str(path))  # not mapped: that counts as ours in memory
        file = pq.ParquetFile(source, pre_buffer=False)
        schema = file.schema_arrow
        said = _said((schema.metadata or {})[METADATA_KEY])
    except FileNotFoundError:
        raise TableError(f"{path} is not there. {advice.TABLE_FIRST}") from None
    except _Untrue as error:
        raise TableError(
            f"{path} is not a table of ours: what its metadata says under "
            f"{METADATA_KEY.decode()!r} can't be true ({error}). {TABLE_AGAIN}"
        ) from error
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise TableError(
            f"{path} is not a table of ours: it is not Parquet, or its metadata has no "
            f"{METADATA_KEY.decode()!r} ({type(error).__name__}: {error})."
        ) from error
    footer = file.metadata
    about = Info(records=footer.num_rows, **said)
    held = sum(footer.row_group(number).num_rows for number in range(footer.num_row_groups))
    if held != about.records:
        raise TableError(
            f"{path} is damaged: expected {about.records:,} records, its row groups hold "
            f"{held:,}. {TABLE_AGAIN}"
        )
    _hold_types(path, schema, about)
    return Opened(path, source, file, about)


class _Untrue(Exception):
    """A table's metadata says what can't be true; where and why."""


def _said(text: bytes) -> dict[str, Any]:
    """Return what a table's metadata says of the table, as far as readers rely on it.

    Raises:
        _Untrue: it can't be true.
        ValueError: it is no JSON.
    """
    said = json.loads(text)
    _hold(isinstance(said, dict), "", "it is no object")
    for name in ("dataset", "split", "shape", "classes", "coarse_classes", "inputs"):
        _hold(name in said, name, "it is missing")
    for name in ("dataset", "split"):
        _hold(isinstance(said[name], str), name, "it is no text")
    shape = said["shape"]
    _hold(isinstance(shape, list) and len(shape) == 3, "shape", "it is no list of three numbers")
    for at, side in enumerate(shape):
        is_side = type(side) is int and 1 <= side <= _MOST_PIXELS
        _hold(is_side, f"shape.{at}", f"it is no number from 1 to {_MOST_PIXELS:,}")
    for name in ("classes", "coarse_classes"):
        least, found = int(name == "classes"), said[name]
        is_list = isinstance(found, list) and least <= len(found) <= MOST_CLASSES
        _hold(is_list, name, f"it is no list of {least} to {MOST_CLASSES:,} names")
        for at, one in enumerate(found):
            _hold(isinstance(one, str), f"{name}.{at}", "it is no text")
    _hold(isinstance(said["inputs"], dict), "inputs", "it is no object")
    _hold(isinstance(said.get("part", {}), dict), "part", "it is no object")
    inputs = dict[str, str]()
    for path, one in said["inputs"].items():
        hashes = [one.get(key) for key in _HASHES] if isinstance(one, dict) else []
        texts = [found for found in hashes if isinstance(found, str)]
        _hold(bool(texts), f"inputs.{path}", f"it has none of {', '.join(_HASHES)}")
        inputs[path] = texts[0]
    columns = said.get("columns", {})
    is_named = isinstance(columns, dict) and ("label" in columns or not columns)
    _hold(is_named, "columns", "they name no label")
    _hold(type(said.get("labelled", True)) is bool, "labelled", "it is neither true nor false")
    first = said.get("part", {}).get("first", 0)
    _hold(type(first) is int and 0 <= first < 1 << 32, "part.first", "it is no index")
    return {
        "first": first,
        "labelled": said.get("labelled", True),
        "extras": tuple(name for name in columns if name != "label"),
        "dataset": said["dataset"],
        "split": said["split"],
        "shape": tuple(shape),
        "classes": tuple(said["classes"]),
        "coarse_classes": tuple(said["coarse_classes"]),
        "inputs": inputs,
    }


def _hold(holds: bool, where: str, otherwise: str) -> None:
    if not holds:
        raise _Untrue(f"{where}: {otherwise}" if where else otherwise)


def types(about: Info) -> dict[str, pa.DataType]:
    """Return the columns of a table, in order, and their types."""
    found = {"index": pa.uint32()}
    for prefix, classes in (("", about.classes), ("coarse_", about.coarse_classes)):
        if classes:
            found[f"{prefix}label"] = pa.from_numpy_dtype(label_type(len(classes)))
            found[f"{prefix}class"] = pa.dictionary(pa.int32(), pa.string())
    found |= dict.fromkeys(about.extras, pa.int32())
    return {**found, "pixels": pa.binary(about.record_bytes)}


def _hold_types(path: Path, schema: pa.Schema, about: Info) -> None:
    """Refuse columns of other types than ours: their bytes would be taken for what they are not.

    A class may be any kind of text. Libraries that write a table again choose another, and it is
    read by its meaning, never as bytes.
    """
    for name, expected in types(about).items():
        found = [schema.field(at).type for at in schema.get_all_field_indices(name)]
        is_class = pa.types.is_dictionary(expected)
        if len(found) != 1 or not (_is_text(found[0]) if is_class else found[0] == expected):
            kind = "dictionary<string>" if is_class else expected
            raise TableError(
                f"{path} is not a table of ours: expected one column {name!r} of {kind}, "
                f"found {' and '.join(map(str, found)) or 'none'}. Something else wrote it. "
                f"{TABLE_AGAIN}"
            )


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return str(kind) in ("string", "large_string", "string_view")
