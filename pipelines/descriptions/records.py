"""Records: a browser of all records of a split, as a page that opens from disk.

    index.html        the page: records by class, by index, nearest to and farthest from the mean of
                      their class, and of each the archive, the member and the bytes it comes from
    records.js        of each record its label, its distance, and where it stands
    000.png, …        the images, side by side: 2,000 of 28×28 pixels in each file

A page that was opened from disk may load scripts and pictures that lie beside it, and neither
fetch nor read anything else; so the data is a script, and pictures are drawn and never read.
`#train:1234` behind the address leads to a record.

The distance of a record is the Euclidean one between its pixels and the mean of its class in this
split, intensities being 0–255: the root of a sum of squares, which is computed from whole numbers
alone but for its last step, so that it is the same on every machine.

A split of more than 100,000 records shows so many of them: sorted by class, and within it by index,
every so-manieth; so each class keeps its share, and nothing is drawn at random. The page says so,
and the means are still those of all records. What the page looks like and does stands in
`pages/records.*`. Not here: tracing a record (`pipelines.lineage.trace`), whose places these are.
"""

from __future__ import annotations

import base64
import functools
import itertools
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import formats, wording
from ..archives import members
from ..declarations import Dataset, Member, Split
from ..products import Choices, Inputs, Product, Subject
from ..progress import Advance
from ..records import Members, Place
from ..store import Facts, layout, writing

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ..records import Labels, Pixels
    from ..statistics import Sums

    Indices = npt.NDArray[np.uint32]
    Distances = npt.NDArray[np.float32]

MOST = 100_000  # records that a page shows: on a screen of those farthest from all means, each may
# stand on another sheet, and more sheets than these come to hold too much memory
_LEVEL = 3  # of isal
_ARRAYS = {"uint8": "Uint8Array", "uint16": "Uint16Array"}  # of numpy and of the page's script
_WORDS = {"pixels": "image", "label": "label", "coarse_label": "coarse label"}

Json = dict[str, Any]


def write(inputs: Inputs, goal: Path, _chosen: Choices, advance: Advance) -> Facts:
    """Write the browser of a split's records into a folder.

    Raises:
        MemberError: the archives do not hold what the catalogue declares.
        TableError: no table of ours.
        StorageError: the folder can't be written to.
    """
    import numpy as np

    from .. import statistics, tables
    from ..records import label_type
    from . import _pages, _sheets

    subject, table = inputs.subject, inputs.table
    labels = tables.labels(table)
    shown = sample(labels["label"], MOST)
    sums, first = statistics.summarise(table), 0
    distances = []
    with writing.storage_errors(goal):
        sheets = _sheets.Writer(goal, subject.dataset.image.shape)
        for batch in tables.batches(table):
            among = (first <= shown) & (shown < first + len(batch))
            rows = shown[among] - first
            images = batch.images if len(rows) == len(batch) else batch.images[rows]
            distances.append(to_mean(images, batch.labels[rows], sums))
            sheets.add(images)
            first += len(batch)
            advance(len(batch))
        sheets.end()
        data = {
            "dataset": subject.dataset.name,
            "split": subject.split.name,
            "records": subject.records,
            "image": subject.dataset.image.shape,
            "sheet": (sheets.layout.across, sheets.layout.down),
            "classes": subject.dataset.classes,
            "coarse_classes": subject.dataset.coarse_classes,
            **_where(inputs, shown),
            "indices": None if len(shown) == subject.records else _packed(shown),
            **{name: _packed(column[shown]) for name, column in labels.items()},
            "distances": _packed(np.concatenate(distances)),
        }
        script = f"const RECORDS = {json.dumps(data, indent=0)};\n"
        (goal / "records.js").write_text(script, encoding="utf-8")
        page = _pages.render(
            "records.html",
            policy=_pages.WITH_FILES,
            source=subject.source,
            terms=wording.terms(subject.source, subject.dataset),
            dataset=subject.dataset,
            split=subject.split,
            shown=len(shown),
            label_arrays=[
                _ARRAYS[label_type(len(known)).name]
                for known in (subject.dataset.classes, subject.dataset.coarse_classes)
            ],
            counts=np.bincount(labels["label"][shown], minlength=len(subject.dataset.classes)),
        )
        (goal / "index.html").write_text(page, encoding="utf-8")
    return {}


def sample(labels: Labels, most: int) -> Indices:
    """Return the indices of up to `most` records: evenly spaced, after sorting them by class."""
    import numpy as np

    records = len(labels)
    if records <= most:
        return np.arange(records, dtype=np.uint32)
    order = np.argsort(labels, kind="stable")
    return np.sort(order[np.arange(most) * records // most]).astype(np.uint32)


def to_mean(images: Pixels, labels: Labels, sums: Sums) -> Distances:
    """Return how far images, of shape (records, height, width, channels), are from class means."""
    import numpy as np

    pixels = images.reshape(len(images), -1).astype(np.float64)
    # Sums of whole numbers below 2**53, which are exact in whatever order they are added up.
    squares = np.einsum("ij,ij->i", pixels, pixels)
    for label in np.unique(labels).tolist():
        mine, total = labels == label, sums.sum[label].reshape(-1).astype(np.float64)
        records = float(sums.records[label])
        of_mean = math.fsum((total / records) ** 2)
        squares[mine] += of_mean - 2 * (pixels[mine] @ total) / records
    found: Distances = np.sqrt(np.maximum(squares, 0)).astype(np.float32)
    return found


def places(
    dataset: Dataset, split: Split, indices: Iterable[int], known: Members
) -> tuple[list[Member], list[Json]]:
    """Return where records stand: the members, and runs of records for which one rule holds.

    A run says at which index it begins, and of each part of a record: what it is, in which member
    it stands, from which byte on for the first record, how many bytes later for the next index, and
    how many bytes it has. Where no rule holds, a record is a run of its own.
    """
    form = formats.named(dataset.format)
    there = {*_WORDS} if dataset.coarse_classes else {*_WORDS} - {"coarse_label"}
    stored = [(index, *formats.stored_at(dataset, split, index, known)) for index in indices]
    found = [(index, form.locate(dataset, whole, at, known)) for index, whole, at in stored]
    among: dict[Member, int] = {}
    runs: list[Json] = []
    for kind, group in itertools.groupby(found, lambda one: [*map(_kind, one[1])]):
        some = [(index, [place.start for place in places]) for index, places in group]
        steps = _steps(some)
        for index, starts in some if steps is None else some[:1]:
            parts = [
                {
                    "what": ", ".join(
                        _WORDS[part] for part in form.roles[role].holds if part in there
                    ),
                    "member": among.setdefault(member, len(among)),
                    "start": start,
                    "step": step,
                    "bytes": size,
                }
                for (role, member, size), start, step in zip(
                    kind, starts, steps or [0] * len(starts), strict=True
                )
            ]
            runs.append({"index": index, "parts": parts})
    return list(among), runs


def _kind(place: Place) -> tuple[str, Member, int]:
    return place.role, place.member, place.stop - place.start


def _steps(some: list[tuple[int, list[int]]]) -> list[int] | None:
    """Return how much later parts begin from one index to the next; None where that is no rule."""
    (first, begin), (last, end) = some[0], some[-1]
    steps = [(e - b) // max(1, last - first) for b, e in zip(begin, end, strict=True)]
    for index, starts in some:
        if starts != [b + step * (index - first) for b, step in zip(begin, steps, strict=True)]:
            return None
    return steps


def _where(inputs: Inputs, shown: Indices) -> Json:
    """Return the members that records stand in, and the rules by which they do."""
    from .. import tables

    subject = inputs.subject
    [folder] = {found.parent for path, found in inputs.paths.items() if layout.is_archive(path)}
    with members.opened(folder, tables.most_bytes(subject.source)) as open_member:
        sizes = functools.cache(functools.partial(members.size_bytes, open_member))
        known = Members(open_member, sizes, below=open_member.below)
        found, runs = places(subject.dataset, subject.split, shown.tolist(), known)
    named = [{"archive": member.archive, "path": member.path} for member in found]
    return {"members": named, "runs": runs}


def _packed(values: npt.NDArray[Any]) -> str:
    """Return numbers, little end first, deflated, as letters."""
    from isal import isal_zlib

    plain = values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
    return base64.b64encode(isal_zlib.compress(plain, _LEVEL)).decode()


def _parameters(subject: Subject, _chosen: Choices) -> Json:
    """Return what the page shows of the declaration, and how it looks."""
    from . import _pages

    source, dataset, split = subject.source, subject.dataset, subject.split
    return {
        "title": dataset.title,
        "classes": [*dataset.classes],
        "coarse_classes": [*dataset.coarse_classes],
        "homepage": source.homepage,
        "licence": wording.terms(source, dataset),
        "format": [dataset.format, formats.named(dataset.format).code_version],
        "members": {role: [*map(str, some)] for role, some in split.members.items()},
        "looks": _pages.looks("records.html", "records.css", "records.js"),
    }


DESCRIPTION = Product(
    name="records",
    title="as a page to browse its records: by class, by index, nearest to and farthest from the "
    "mean of their class, each with the bytes of the archive that it comes from.",
    scope="split",
    files="descriptions/{dataset}/{split}_records/",
    code_version="1",
    write=write,
    needs=("archives", "tables"),
    of_parts=False,
    parameters=_parameters,
    room=lambda image: image,
    reproducible="same libraries",
    kind="html",
    libraries=("isal", "jinja2", "numpy"),
    extra="cards",
    requires=("jinja2",),
)
