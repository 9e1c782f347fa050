"""Manifest: which parts of a split are here, in their order, as JSON.

Readers go by it: it is made last, and names each part by its SHA-256, so that parts of different
builds are never taken for one table. Not here: reading by it (`pipelines.reading.parts`).
"""

from __future__ import annotations

import json
from pathlib import Path

from .. import tables
from ..errors import ArtefactError
from ..products import Choices, Inputs, Product, Subject
from ..progress import Advance
from ..reading import parts
from ..store import Facts, layout, writing


def write(inputs: Inputs, goal: Path, _chosen: Choices, _advance: Advance) -> Facts:
    """Write the manifest of the parts that are here.

    Raises:
        ArtefactError: none is.
        StorageError: it can't be written.
    """
    subject = inputs.subject
    here = {made_from.path: made_from for made_from in inputs.known}
    found = []
    for piece in subject.split.divided:
        path = layout.table(subject.dataset.name, piece.name)
        if (known := here.get(path)) is not None:
            part = {
                "path": Path(path).relative_to(f"tables/{subject.dataset.name}").as_posix(),
                "key": piece.key,
                "first": piece.first,
                "records": piece.records,
                "bytes": known.size_bytes,
                "sha256": known.sha256,
            }
            found.append(part)
    if not found:
        raise ArtefactError(parts.none_of(subject.dataset.name))
    about = _about(subject) | {"parts_declared": len(subject.split.divided), "parts": found}
    text = json.dumps({"format": parts.FORMAT, **about}, indent=1, ensure_ascii=False)
    with writing.storage_errors(goal):
        goal.write_text(f"{text}\n", "utf-8")
    return {"records": sum(int(str(part["records"])) for part in found), "parts": len(found)}


def _about(subject: Subject) -> dict[str, object]:
    said = tables.description(subject.source, subject.dataset, subject.split)
    return {key: value for key, value in said.items() if key != "inputs"}


PART = Product(
    name="manifest",
    title="in parts: a list of the tables that make it up, by which readers go.",
    scope="whole",
    needs_labels=False,
    files="tables/{dataset}/{split}.json",
    code_version="1",
    write=write,
    needs=(),
    uses=("tables",),
    applies=lambda dataset: dataset.is_in_parts,
    of_parts=True,
    parameters=lambda subject, _chosen: {"about": _about(subject)},
    kind="json",
)
