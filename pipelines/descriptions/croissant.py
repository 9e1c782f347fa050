"""Croissant: a dataset described for machine-learning catalogues, as JSON-LD.

    data/lineage/<dataset>/croissant.json     Croissant 1.0: http://mlcommons.org/croissant/1.0

The words are the catalogue's, the sizes and hashes those of the files. A reader that opens the
document where it lies, `mlcroissant` for one, reads the tables beside it and fetches nothing: the
publisher's archives are named, but no record is read from them.

Each split is a record set of its own. One over all of them would have to come from a set of files,
which mlcroissant (1.1) reads from archives and git repositories, not from Parquet files on disk.

Not here: reading or hashing a table.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from .. import wording
from ..declarations import Dataset, Source, Split
from ..products import Choices, Inputs, Product, Subject
from ..progress import Advance
from ..store import Facts, Input, layout, writing

Json = dict[str, Any]

_UP = "../.."  # from a document to the data folder
_MEDIA_TYPES = {".gz": "application/gzip", ".tar": "application/x-tar", ".zip": "application/zip"}
_MEDIA_TYPES |= {".bz2": "application/x-bzip2", ".xz": "application/x-xz"}
_MEDIA_TYPES |= {".npz": "application/zip"}
_UNKNOWN_TYPE = "application/octet-stream"
_NUMBERS = {"uint8": "cr:UInt8", "uint16": "cr:UInt16"}
_SPLITS = {
    "train": "cr:TrainingSplit",
    "validation": "cr:ValidationSplit",
    "test": "cr:TestSplit",
}

# Appendix 1 of the specification, and two terms that mlcroissant misses in it.
_TERMS = (
    "citeAs column equivalentProperty extract field fileObject fileProperty fileSet format "
    "includes isLiveDataset jsonPath key md5 parentField path recordSet references regex repeated "
    "replace samplingRate separator source subField transform"
)
_CONTEXT: Json = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{term: f"cr:{term}" for term in _TERMS.split()},
}


def write(inputs: Inputs, goal: Path, _chosen: Choices, advance: Advance) -> Facts:
    """Write the Croissant document of a dataset.

    Raises:
        StorageError: `goal` can't be written.
    """
    subject = inputs.subject
    with writing.atomic(goal) as partial:
        partial.write_bytes(text(subject.source, subject.dataset, inputs.known).encode())
    advance(subject.records)
    return {}


def _parameters(subject: Subject, _chosen: Choices) -> dict[str, Any]:
    """Return the document itself, as far as it is known before there is any table."""
    found = document(subject.source, subject.dataset)
    return {key: value for key, value in found.items() if key != "@context"}


def text(source: Source, dataset: Dataset, inputs: Sequence[Input]) -> str:
    """Return the Croissant document of a dataset as it is written."""
    described = document(source, dataset, inputs)
    return json.dumps(described, indent=2, ensure_ascii=False) + "\n"


def document(source: Source, dataset: Dataset, inputs: Sequence[Input] = ()) -> Json:
    """Return the Croissant document of a dataset whose tables have these sizes and hashes."""
    known = {table.path: table for table in inputs}
    splits = dataset.splits.values()
    archives = dict.fromkeys(name for split in splits for name in split.archives)
    enumerations = {"classes": dataset.classes, "coarse_classes": dataset.coarse_classes}
    described = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": dataset.title,
        "alternateName": dataset.name,
        "description": _description(source, dataset),
        "url": source.homepage,
        "creator": [{"@type": "sc:Person", "name": name} for name in source.creators],
        "datePublished": source.published and source.published.isoformat(),
        "version": _version(inputs) if inputs else None,
        "license": _licence(source, dataset),
        "citeAs": source.citation.strip(),
        "distribution": [
            *(_archive(source, name) for name in archives if _can_be_held(source, name)),
            *(
                _table(source, dataset, piece, known.get(path))
                for piece in dataset.pieces
                for path in [layout.table(dataset.name, piece.name)]
                if path in known or not piece.is_part
            ),
            *(_parts(dataset, split, known) for split in splits if split.divided),
        ],
        "recordSet": [
            _split_names(dataset),
            *(_enumeration(name, classes) for name, classes in enumerations.items() if classes),
            *(_records(dataset, split) for split in splits),
        ],
    }
    return {key: value for key, value in described.items() if value}


def _description(source: Source, dataset: Dataset) -> str:
    return f"{wording.summary(dataset)} {source.acknowledgements.strip()}"


def _licence(source: Source, dataset: Dataset) -> Json:
    """Return the publisher's words. A licence is required, so its absence is one in words too."""
    silent = source.licence == wording.NOT_STATED
    said = (
        "The publisher states no licence." if silent else "The licence, in the publisher's words."
    )
    return {
        "@type": "sc:CreativeWork",
        "name": source.licence,
        "description": f"{said} {wording.restriction(source, dataset)}".rstrip(),
        "url": source.homepage,
    }


def _version(inputs: Iterable[Input]) -> str:
    """Return a semantic version whose build part stands for the bytes of the tables.

    Publishers do not number these datasets. Equal versions are equal tables.
    """
    digests = "".join(str(table.sha256) for table in inputs)
    return f"1.0.0+{hashlib.sha256(digests.encode()).hexdigest()[:12]}"


def _can_be_held(source: Source, name: str) -> bool:
    """Whether an archive has a hash that Croissant knows, without which it may not be named."""
    return bool({"md5", "sha256"} & source.archives[name].hashes.keys())


def _archive(source: Source, name: str) -> Json:
    archive = source.archives[name]
    path = layout.archive(source.name, name)
    place = source.mirrors[0] + quote(name) if source.mirrors else f"{_UP}/{quote(path)}"
    return {
        "@type": "cr:FileObject",
        "@id": quote(path),
        "name": name,
        "description": "A file as its publisher serves it.",
        "contentUrl": place,
        **({} if archive.size_bytes is None else {"contentSize": f"{archive.size_bytes} B"}),
        "encodingFormat": _MEDIA_TYPES.get(PurePosixPath(name).suffix, _UNKNOWN_TYPE),
        **{key: fact for key, fact in archive.hashes.items() if key in ("md5", "sha256")},
    }


def _table(source: Source, dataset: Dataset, split: Split, known: Input | None) -> Json:
    path = layout.table(dataset.name, split.name)
    made = {"contentSize": f"{known.size_bytes} B", "sha256": known.sha256} if known else {}
    return {
        "@type": "cr:FileObject",
        "@id": quote(path),
        "name": PurePosixPath(path).name,
        "description": f"The {split.name} split, one row per record, decoded from "
        f"{', '.join(split.archives)}.",
        "contentUrl": f"{_UP}/{quote(path)}",
        "encodingFormat": "application/x-parquet",
        **made,
    }


def _parts(dataset: Dataset, split: Split, known: Collection[str]) -> Json:
    """Return the tables of a split that comes in parts: however many of them are there."""
    tables = [layout.table(dataset.name, piece.name) for piece in split.divided]
    folder = f"{layout.tables(dataset.name)}{split.name}"
    return {
        "@type": "cr:FileSet",
        "@id": quote(folder),
        "name": folder,
        "description": f"The {split.name} split in {len(split.divided):,} parts, a file each, one "
        "row per record.",
        "containedIn": [{"@id": quote(table)} for table in tables if table in known],
        "includes": "*.parquet",
        "encodingFormat": "application/x-parquet",
    }


def _split_names(dataset: Dataset) -> Json:
    """Return the record set of a dataset's splits, with what each is for where that is known."""
    kinds = {name: _SPLITS[name] for name in dataset.splits if name in _SPLITS}
    columns: dict[str, Sequence[Any]] = {"name": list(dataset.splits)}
    types: dict[str, Any] = {"name": "sc:Text"}
    if len(kinds) == len(dataset.splits):
        columns["url"] = list(kinds.values())
        types["url"] = ["sc:URL", "cr:Split"]
    return _inline("splits", "The splits of the dataset.", "cr:Split", "name", types, columns)


def _enumeration(name: str, classes: Sequence[str]) -> Json:
    return _inline(
        name,
        "What each label means.",
        "sc:Enumeration",
        "label",
        {"label": "sc:Integer", "name": "sc:Text"},
        {"label": range(len(classes)), "name": classes},
    )


def _inline(
    name: str,
    description: str,
    kind: str,
    key: str,
    types: dict[str, Any],
    columns: dict[str, Sequence[Any]],
) -> Json:
    """Return a record set that holds its records itself."""
    rows = zip(*columns.values(), strict=True)
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": description,
        "dataType": kind,
        "key": {"@id": f"{name}/{key}"},
        "field": [
            {"@type": "cr:Field", "@id": f"{name}/{column}", "name": column, "dataType": type_}
            for column, type_ in types.items()
        ],
        "data": [
            {f"{name}/{column}": value for column, value in zip(columns, row, strict=True)}
            for row in rows
        ],
    }


def _records(dataset: Dataset, split: Split) -> Json:
    """Return the record set of a split, read from its table."""
    from .. import tables
    from ..records import label_type

    table = {"fileObject": {"@id": quote(layout.table(dataset.name, split.name))}}
    if split.divided:
        table = {"fileSet": {"@id": quote(f"{layout.tables(dataset.name)}{split.name}")}}

    def field(
        name: str, description: str, kinds: Sequence[str], means: str = "", **more: Any
    ) -> Json:
        return {
            "@type": "cr:Field",
            "@id": f"{split.name}/{name}",
            "name": name,
            "description": description,
            "dataType": kinds,
            "source": {**table, "extract": {"column": name}},
            **({"references": {"field": {"@id": means}}} if means else {}),
            **more,
        }

    # mlcroissant applies the pattern twice where a field refers to another: to the name of the
    # file, and then to what that gave.
    pattern = {
        "extract": {"fileProperty": "fullpath" if split.divided else "filename"},
        "transform": {"regex": rf".*/({split.name})/" if split.divided else rf"^({split.name})\b"},
    }
    fields = [
        field("split", "The split.", ["sc:Text"], "splits/name", source=table | pattern),
        field("index", tables.COLUMNS["index"], ["sc:Integer", "cr:UInt32"]),
    ]
    for prefix, classes in (("", dataset.classes), ("coarse_", dataset.coarse_classes)):
        if classes:
            label, name = f"{prefix}label", f"{prefix}class"
            number = ["sc:Integer", _NUMBERS[label_type(len(classes)).name], "cr:Label"]
            fields += [
                field(label, tables.COLUMNS[label], number, f"{prefix}classes/label"),
                field(name, tables.COLUMNS[name], ["sc:Text"], f"{prefix}classes/name"),
            ]
    number = ["sc:Integer", "cr:Int32"]
    fields += [field(name, tables.meaning(name, dataset), number) for name in dataset.extras]
    height, width, channels = dataset.image.shape
    shape = f" Here {height} rows of {width} pixels of {channels} channel(s)."
    pixels = tables.COLUMNS["pixels"] + shape
    fields.append(field("pixels", pixels, ["sc:Integer", "cr:UInt8"], repeated=True))
    return {
        "@type": "cr:RecordSet",
        "@id": split.name,
        "name": split.name,
        "description": f"The {split.records:,} records of the {split.name} split, in their order.",
        "key": [{"@id": f"{split.name}/{name}"} for name in ("split", "index")],
        "field": fields,
    }


DESCRIPTION = Product(
    name="croissant",
    title="as Croissant 1.0: words, files and record sets, for machine-learning catalogues.",
    scope="dataset",
    needs_labels=False,
    files="lineage/{dataset}/croissant.json",
    code_version="1",
    write=write,
    parameters=_parameters,
    of_parts=True,
    kind="json",
)
