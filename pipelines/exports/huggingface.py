r"""Hugging Face: a folder that `load_dataset` opens, Parquet with pictures and class names.

    README.md                                     the card: columns, classes, splits
    mnist/train-00000-of-00001.parquet            mnist/test-00000-of-00001.parquet

Columns: `image`, a struct of a PNG (`bytes`) and nothing (`path`); `label`, int64; `coarse_label`
where there is one. The catalogue says where the Hub's own dataset has other names
(`[datasets.cifar10.readers.huggingface]`: `img`). The metadata of each file says which columns are
pictures and classes, so single files open too. Class names are the publisher's.

Row groups are small enough for the Hub's viewer; pages have an index and checksums. Source:
https://huggingface.co/docs/hub/datasets-cards, and `datasets` 5.2.0, by running it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import wording
from ..declarations import Dataset, Split
from ..errors import ArtefactError
from ..products import Choices, Column, Inputs, Product, Reader, Stored, Subject
from ..progress import Advance
from ..store import Facts, writing

if TYPE_CHECKING:
    import pyarrow as pa

    from ..records import Batch

_GROUP_RECORDS, _GROUP_BYTES = 10_000, 32 << 20  # records of a row group, and their pixels
_LABEL_BYTES = 8
_COLUMNS = ("image", "label", "coarse_label")


def write(inputs: Inputs, goal: Path, _chosen: Choices, advance: Advance) -> Facts:
    """Write a dataset's tables as Parquet with PNGs, and a card, into a folder.

    Raises:
        TableError: what it is made from is no table of ours.
        StorageError: the folder can't be written to.
    """
    subject = inputs.subject
    sizes = {}
    for split in subject.splits:
        path = goal / _file(subject.dataset, split)
        with writing.storage_errors(path):
            path.parent.mkdir(exist_ok=True)
            held = _write_split(inputs.tables[split.name], path, subject.dataset, advance)
            sizes[split.name] = _Sizes(held, path.stat().st_size)
    with writing.storage_errors(goal):
        (goal / "README.md").write_bytes(_card(subject, sizes).encode())
    return {"records": subject.records}


class _Sizes(NamedTuple):
    """Bytes of a split: of its PNGs and labels together, and of its file."""

    held: int = 0
    file: int = 0


def _file(dataset: Dataset, split: Split) -> str:
    return f"{dataset.name}/{split.name}-00000-of-00001.parquet"


def _names(dataset: Dataset) -> list[str]:
    """Return what the columns are called: the image, the label, the coarse label."""
    given = dataset.readers.get("huggingface", {})
    here = _COLUMNS if dataset.coarse_classes else _COLUMNS[:2]
    return [str(given.get(name, name)) for name in here]


def _classes(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    """Return label column → what its numbers mean."""
    _, *labels = _names(dataset)
    return dict(zip(labels, (dataset.classes, dataset.coarse_classes), strict=False))


# --- Parquet --------------------------------------------------------------------------------------


def _write_split(table: Path, path: Path, dataset: Dataset, advance: Advance) -> int:
    """Write the records of a table; return the bytes of their PNGs and labels."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from . import _png

    schema, labels = _schema(dataset), list(_classes(dataset))
    group = max(1, min(_GROUP_RECORDS, _GROUP_BYTES // dataset.image.size_bytes))
    waiting, held = schema.empty_table(), 0
    with pq.ParquetWriter(
        path,
        schema,
        use_dictionary=labels,
        write_statistics=labels,
        compression="zstd",
        compression_level=1,  # level 6 takes five times as long, for 1 % less
        write_page_index=True,
        write_page_checksum=True,
    ) as writer:
        for batch, files in _png.of_table(table):
            waiting = pa.concat_tables([waiting, _rows(schema, batch, files)])
            held += sum(map(len, files)) + len(labels) * _LABEL_BYTES * len(batch)
            while len(waiting) >= group:
                writer.write_table(waiting.slice(0, group), row_group_size=group)
                waiting = waiting.slice(group)
            advance(len(batch))
        if len(waiting):
            writer.write_table(waiting, row_group_size=group)
    return held


def _schema(dataset: Dataset) -> pa.Schema:
    """Return the columns of a file, and what `datasets` is told of them."""
    import pyarrow as pa

    image, classes = _names(dataset)[0], _classes(dataset)
    features: dict[str, Any] = {image: {"_type": "Image"}}
    features |= {name: {"names": known, "_type": "ClassLabel"} for name, known in classes.items()}
    about = json.dumps({"info": {"features": features}}, ensure_ascii=False)
    picture = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    types = {image: picture} | dict.fromkeys(classes, pa.int64())
    return pa.schema(types, {"huggingface": about})


def _rows(schema: pa.Schema, batch: Batch, files: list[bytes]) -> pa.Table:
    import numpy as np
    import pyarrow as pa

    found = [batch.labels] if batch.coarse_labels is None else [batch.labels, batch.coarse_labels]
    parts = [pa.array(files, pa.binary()), pa.nulls(len(files), pa.string())]
    pictures = pa.StructArray.from_arrays(parts, fields=list(schema.field(0).type))
    numbers = [pa.array(labels.astype(np.int64)) for labels in found]
    return pa.Table.from_arrays([pictures, *numbers], schema=schema)


def read(path: Path, subject: Subject, start: int, stop: int) -> Iterator[Stored]:
    """Yield records `start` to `stop`.

    A single PNG has no place of its own in Parquet: what is told is where the chunk begins and ends
    that packs those of its row group.

    Raises:
        ArtefactError: a record is not there, or not as it is written here.
        FileNotFoundError: there is no such file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    name, schema = _file(subject.dataset, subject.split), _schema(subject.dataset)
    at, first = start, 0
    try:
        with pq.ParquetFile(path / name, page_checksum_verification=True) as file:
            if file.schema_arrow != schema:
                raise ArtefactError(
                    f"{path / name}: expected columns {_told(schema)}; found "
                    f"{_told(file.schema_arrow)}."
                )
            for number in range(file.num_row_groups):
                group = file.metadata.row_group(number)
                if first <= at < min(stop, first + group.num_rows):
                    rows = file.read_row_group(number)
                    chunk = group.column(0)  # of the PNGs
                    begin = chunk.data_page_offset
                    for row in range(at - first, min(stop - first, len(rows))):
                        facts = {"row_group": number, "row": row, "column": chunk.path_in_schema}
                        record = _record(rows, row, subject.dataset, f"{path / name}, row {at:,}")
                        end = begin + chunk.total_compressed_size
                        yield Stored(record, begin, end, facts, name)
                        at += 1
                first += group.num_rows
    except (OSError, ValueError, pa.ArrowException) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ArtefactError(f"{path / name} is damaged: {error}") from error
    if at < stop:
        raise ArtefactError(f"{path / name} ends before record {at:,}.")


def _told(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} of {field.type}" for field in schema)


def _record(rows: pa.Table, row: int, dataset: Dataset, where: str) -> Batch:
    import numpy as np

    from ..records import Batch, label_type
    from . import _png

    picture, *labels = (column[row].as_py() for column in rows.columns)
    if not isinstance(picture, dict) or picture["path"] is not None or picture["bytes"] is None:
        raise ArtefactError(f"{where}: expected the bytes of a PNG, and no path.")
    kinds = [label_type(len(known)) for known in _classes(dataset).values()]
    for label, kind in zip(labels, kinds, strict=True):
        most = np.iinfo(kind).max
        if label is None or not 0 <= label <= most:
            raise ArtefactError(f"{where}: expected labels 0 to {most}, found {labels}.")
    pixels = _png.decode(picture["bytes"], dataset.image.shape, where)
    numbers = (np.array([one], kind) for one, kind in zip(labels, kinds, strict=True))
    return Batch(pixels, *numbers)


# --- The card -------------------------------------------------------------------------------------


def _card(subject: Subject, sizes: Mapping[str, _Sizes]) -> str:
    """Return the README: what programs are told, in YAML, and what people are told."""
    front = "".join(f"{key}: {_yaml(value)}\n" for key, value in _front(subject, sizes).items())
    return f"---\n{front}---\n\n" + "\n".join(_prose(subject))


def _front(subject: Subject, sizes: Mapping[str, _Sizes]) -> dict[str, Any]:
    dataset, silent = subject.dataset, subject.source.licence == wording.NOT_STATED
    name, image = dataset.name, _names(dataset)[0]
    labels = [
        {
            "name": label,
            "dtype": {"class_label": {"names": {str(n): c for n, c in enumerate(known)}}},
        }
        for label, known in _classes(dataset).items()
    ]
    splits = [
        {
            "name": split.name,
            "num_bytes": sizes.get(split.name, _Sizes()).held,
            "num_examples": split.records,
        }
        for split in subject.splits
    ]
    files = [{"split": split.name, "path": f"{name}/{split.name}-*"} for split in subject.splits]
    return {
        "pretty_name": dataset.title,
        "license": "unknown" if silent else "other",
        **({} if silent else {"license_name": subject.source.licence}),
        "task_categories": ["image-classification"],
        "size_categories": [_size_category(subject.records)],
        "dataset_info": {
            "config_name": name,
            "features": [{"name": image, "dtype": "image"}, *labels],
            "splits": splits,
            "download_size": sum(size.file for size in sizes.values()),
            "dataset_size": sum(size.held for size in sizes.values()),
        },
        "configs": [{"config_name": name, "default": True, "data_files": files}],
    }


def _size_category(records: int) -> str:
    names = ["1", "1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B"]
    above = sum(records >= 10 ** (3 + power) for power in range(len(names) - 1))
    return f"{names[above]}<n<{names[above + 1]}" if above else "n<1K"


def _yaml(value: Any) -> str:
    """Return a value as YAML of one line, in which every text stands in quotes."""
    match value:
        case dict():
            return "{" + ", ".join(f"{_yaml(key)}: {_yaml(v)}" for key, v in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_yaml, value)) + "]"
        case str():
            return '"' + "".join(map(_yaml_character, value)) + '"'
    return str(value).lower()  # a number, true or false


def _yaml_character(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    return character if character.isprintable() else f"\\U{ord(character):08X}"


def _prose(subject: Subject) -> Iterator[str]:
    source, dataset = subject.source, subject.dataset
    image, *labels = _names(dataset)
    yield f"# {dataset.title}\n"
    if dataset.description:
        yield f"{dataset.description.strip()}\n"
    yield "| split | records |\n|---|---|"
    yield "".join(f"| {split.name} | {split.records:,} |\n" for split in subject.splits)
    yield f"- `{image}`: {dataset.image} pixels, upright, as PNG."
    yield f"- `{labels[0]}`: the number of the class, from 0; the names are the publisher's."
    yield from (f"- `{label}`: the same for coarse classes." for label in labels[1:])
    yield from (f"- {quirk}" for quirk in wording.quirks(dataset))
    yield (
        f"\nPublisher: <{source.homepage}>. Licence: {wording.licence(source, dataset)}. "
        f"{source.acknowledgements.strip()}"
    )
    yield f"\n{wording.fenced(source.citation, 'bibtex')}\n"


def _parameters(subject: Subject, _chosen: Choices) -> dict[str, Any]:
    return {"card": _card(subject, {})}


EXPORT = Product(
    name="huggingface",
    title="as Hugging Face has it: Parquet with PNGs, and a card.",
    scope="dataset",
    files="exports/{dataset}/huggingface/",
    code_version="1",
    write=write,
    read=read,
    columns=(
        Column(
            "image",
            "struct<bytes: binary, path: string>",
            "A PNG, and no path; `img` for CIFAR, as on the Hub.",
            of="pixels",
            how="transformed",
        ),
        Column(
            "label",
            "int64",
            "Number of the class, from 0; `fine_label` for CIFAR-100, as on the Hub.",
            of="label",
        ),
        Column(
            "coarse_label",
            "int64",
            "Number of the coarse class, from 0, where there are any.",
            of="coarse_label",
        ),
    ),
    parameters=_parameters,
    room=lambda image: image + 100,
    reproducible="same libraries",
    sidecar=True,
    libraries=("pyarrow", "zlib"),
    names=dict.fromkeys(_COLUMNS, str),
    measured=(13.9, 1.11),
    read_by=(
        Reader(
            "datasets 5.2.0",
            ("datasets==5.2.0", "pillow==13.0.0"),
            """\
import datasets
records = datasets.load_dataset("{path}", split="{split}")
""",
            "With streaming=True it opens without a copy in the cache.",
        ),
        Reader(
            "pandas 3.1.1",
            ("pandas==3.1.1", "pyarrow==26.0.1"),
            """\
import pandas
frame = pandas.read_parquet("{path}/{dataset}/{split}-00000-of-00001.parquet")
""",
            'frame["image"] (or "img") holds dictionaries; their "bytes" are a PNG.',
        ),
        Reader(
            "polars 2.1.0",
            ("polars==2.1.0",),
            """\
import polars
frame = polars.read_parquet("{path}/{dataset}/{split}-*.parquet")
""",
        ),
        Reader(
            "duckdb 2.0.0",
            ("duckdb==2.0.0",),
            """\
import duckdb
rows = duckdb.sql("SELECT * FROM '{path}/{dataset}/{split}-*.parquet'").fetchall()
""",
        ),
    ),
)
