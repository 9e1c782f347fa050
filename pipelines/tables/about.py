"""What a table is and what it says of itself: its columns, its metadata, its declaration.

    index     uint32                          position of the record in its split, from 0
    label     uint8                           0 is classes[0]
    class     dictionary<string>              what the label means
    coarse_label, coarse_class                the same for coarse classes, where there are any
    pixels    fixed_size_binary[h·w·c]        upright, row by row, channels last (HWC)

The bytes of `pixels` are the array: no list, no image codec. The key `imagesets` of the file's
metadata holds a JSON object with the dataset, split, shape, dtype, layout, classes, source, and
MD5 and SHA-256 of every input. Not here: reading or writing rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from .. import formats
from ..declarations import Dataset, Source, Split
from ..errors import TableError
from ..stages import COMPRESSION
from ..store import Artefact, Input, layout

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
AGAIN = "Delete it and build the tables stage again."

BATCH_BYTES = 4 << 20  # pixels of a row group
BATCH_RECORDS = 1 << 16  # and no more records than this, however small the images

COMPRESSION_LEVEL = int(COMPRESSION.default)


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


def batch_records(record_bytes: int) -> int:
    """Return how many records make a batch: about 4 MiB of pixels."""
    return max(1, min(BATCH_RECORDS, BATCH_BYTES // record_bytes))


def arrow_schema(source: Source, dataset: Dataset, split: Split) -> pa.Schema:
    """Return the columns of a split's table, with what the table says of itself."""
    columns = types(declared(source, dataset, split))
    return pa.schema(
        [pa.field(name, kind, nullable=False) for name, kind in columns.items()],
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
    return opened(path).about


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
        said = _DESCRIPTION.validate_json((schema.metadata or {})[METADATA_KEY])
    except FileNotFoundError:
        raise TableError(f"{path} is not there. Build the tables stage of this dataset.") from None
    except ValidationError as error:
        finding = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, finding["loc"]))
        raise TableError(
            f"{path} is not a table of ours: what its metadata says under "
            f"{METADATA_KEY.decode()!r} can't be true ({f'{where}: ' * bool(where)}"
            f"{finding['msg']}). {AGAIN}"
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
            f"{held:,}. {AGAIN}"
        )
    _hold_types(path, schema, about)
    return Opened(path, source, file, about)


def types(about: Info) -> dict[str, pa.DataType]:
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
    for name, expected in types(about).items():
        found = [schema.field(at).type for at in schema.get_all_field_indices(name)]
        is_class = pa.types.is_dictionary(expected)
        if len(found) != 1 or not (_is_text(found[0]) if is_class else found[0] == expected):
            kind = "dictionary<string>" if is_class else expected
            raise TableError(
                f"{path} is not a table of ours: expected one column {name!r} of {kind}, "
                f"found {' and '.join(map(str, found)) or 'none'}. Something else wrote it. "
                f"{AGAIN}"
            )


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return str(kind) in ("string", "large_string", "string_view")
