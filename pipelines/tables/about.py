"""What a table is and what it says of itself: its columns, its metadata, its declaration.

    index     uint32                          position of the record in its split, from 0
    label     uint8                           0 is classes[0]; uint16 for more than 256 classes
    class     dictionary<string>              what the label means
    coarse_label, coarse_class                the same for coarse classes, where there are any
    …         int32                           what else a publisher says of each record, if anything
    pixels    fixed_size_binary[h·w·c]        upright, row by row, channels last (HWC)

The bytes of `pixels` are the array: no list, no image codec. `label` and `class` are null in a
split without labels. The key `imagesets` of the file's metadata holds a JSON object with the
dataset, split, shape, dtype, layout, classes, source, and the declared hashes of every input, MD5
and SHA-256. Not here: writing rows, or reading them (`pipelines.reading`).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from .. import formats, wording
from ..declarations import Dataset, Member, Source, Split
from ..reading import METADATA_KEY, Info, types
from ..stages import COMPRESSION
from ..store import Artefact, Input, layout
from ..store.artefacts import LIBRARIES

CODE_VERSION = "2"  # raise when the bytes of a table can change

COLUMNS = {
    "index": "Position of the record in its split, from 0.",
    "label": "Number of the class, from 0.",
    "class": "What the label means.",
    "coarse_label": "Number of the coarse class, from 0.",
    "coarse_class": "What the coarse label means.",
    "pixels": "Intensities, 0–255, one byte each: upright, row by row, channels last (HWC).",
}
COMPRESSION_LEVEL = int(COMPRESSION.default)


def meaning(column: str, dataset: Dataset) -> str:
    """Return what a column of a dataset's tables holds."""
    return COLUMNS.get(column) or dataset.columns[column]


def code_version(dataset: Dataset) -> str:
    """Return the version of the code that makes a dataset's tables, its format's included."""
    return f"{CODE_VERSION}.{formats.named(dataset.format).code_version}"


def artefact(
    source: Source, dataset: Dataset, split: Split, compression_level: int = COMPRESSION_LEVEL
) -> Artefact:
    """Return the table of a split, or of a part of one, as an artefact."""
    parameters = description(source, dataset, split) | {
        "format": dataset.format,
        "orientation": dataset.orientation,
        "first_label": dataset.first_label,
        **_besides(dataset, split),
        "members": {role: [*map(_said_of, part)] for role, part in split.members.items()},
        "compression": {"compression": "zstd", "compression_level": compression_level},
    }
    inputs = tuple(
        Input(layout.archive(source.name, a.name), a.sha256, a.size_bytes, a.md5)
        for a in map(source.archives.__getitem__, split.archives)
    )
    return Artefact(
        layout.table(dataset.name, split.name),
        "tables",
        code_version(dataset),
        parameters,
        inputs,
        libraries=(*LIBRARIES, *formats.named(dataset.format).libraries),
    )


def _besides(dataset: Dataset, split: Split) -> dict[str, Any]:
    """Return what decides the records of some splits, and of most does not exist."""
    said: dict[str, Any] = {"class_labels": dataset.class_labels} if dataset.class_labels else {}
    said |= {"folders": dataset.folders} if dataset.folders else {}
    said |= {"grey": dataset.grey} if dataset.grey else {}
    if dataset.numbers is not None:
        said["numbers"] = asdict(dataset.numbers)
    if (rows := split.rows) is not None:
        listed = {"listed": rows.listed, "line": rows.line} if rows.listed else {}
        said["rows"] = {"of": rows.of, **(listed or {"first": rows.first})}
    return said


def _said_of(member: Member) -> dict[str, Any]:
    """Return a member as a dictionary: as `asdict` does, in a tenth of the time."""
    facts = None if member.facts is None else asdict(member.facts)
    return {"archive": member.archive, "path": member.path, "facts": facts}


def arrow_schema(source: Source, dataset: Dataset, split: Split) -> pa.Schema:
    """Return the columns of a split's table, with what the table says of itself."""
    about = declared(source, dataset, split)
    columns, without = types(about), () if about.labelled else ("label", "class")
    return pa.schema(
        [pa.field(*column, nullable=column[0] in without) for column in columns.items()],
        {
            METADATA_KEY: json.dumps(
                description(source, dataset, split), ensure_ascii=False
            ).encode()
        },
    )


def declared(source: Source, dataset: Dataset, split: Split) -> Info:
    """Return what the table of a split must say of itself."""
    archives = map(source.archives.__getitem__, split.archives)
    return Info(
        dataset.name,
        split.name,
        split.records,
        dataset.image.shape,
        dataset.classes,
        dataset.coarse_classes,
        {layout.archive(source.name, a.name): next(iter(a.hashes.values())) for a in archives},
        split.first,
        split.labelled,
        dataset.extras,
    )


def description(source: Source, dataset: Dataset, split: Split) -> dict[str, Any]:
    """Return what a table says of itself in its metadata; of a part, where in its split it is."""
    forbids = wording.restriction(source, dataset)
    part = {"of": split.whole, "key": split.key, "first": split.first}
    return {
        "dataset": dataset.name,
        "split": split.name,
        **({"part": part} if split.is_part else {}),
        **({} if split.labelled else {"labelled": False}),
        **({"columns": dict(dataset.columns)} if dataset.columns else {}),
        "title": dataset.title,
        "records": split.records,
        "shape": dataset.image.shape,
        "dtype": "uint8",
        "layout": "HWC",
        "classes": dataset.classes,
        "coarse_classes": dataset.coarse_classes,
        "source": {
            **{key: getattr(source, key) for key in ("title", "homepage", "licence", "citation")},
            **({"restriction": forbids} if forbids else {}),
        },
        "inputs": {
            layout.archive(source.name, name): source.archives[name].hashes
            for name in split.archives
        },
    }
