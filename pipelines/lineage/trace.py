"""Trace: from a row of any artefact back to the publisher's bytes, every hop verified by reading.

Not here: making anything, or showing what was found (`assets.tracing`).

A record stands in several places: in an export, in the table, in members of archives. The
publisher's bytes decide: where the archives are those declared, every place is held against what
their members say, otherwise against the table. So the hop that does not hold is the one to blame.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .. import archives, formats, statistics, tables
from ..archives import members
from ..declarations import Catalogue, Dataset, Member, Source, Split
from ..errors import (
    ArchiveError,
    ArtefactError,
    FormatError,
    MemberError,
    TableError,
    UnknownName,
    did_you_mean,
)
from ..exports import records
from ..records import Batch, Members, OpenMember, Pixels, Place
from ..store import hashing, layout, provenance
from . import targets
from .targets import Target

EXPORTS = ("csv", "lmdb")

Facts = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Hop:
    """One step of the way back.

    what: `csv`, `lmdb`, `statistics`, `table`, `member`, `archive` or `origin`.
    path: relative to the data folder, where it lies there; of a member, its own after that of its
        archive; of an origin, the place that the archive came from.
    row: index of the record; of statistics, of the row.
    bytes: the first and the last (exclusive), of a member decompressed, or of a CSV.
    hashes: of the whole file, as found.
    facts: what else is worth telling, in JSON's types.
    problem: what was expected and what was found, where the hop does not hold.
    """

    what: str
    path: str
    row: int | None = None
    bytes: tuple[int, int] | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""

    @property
    def holds(self) -> bool:
        """Whether there stands what should."""
        return not self.problem


@dataclass(frozen=True, slots=True)
class Chain:
    """The way back from an artefact, or from one row of it: the nearest hop first.

    artefact: as it was asked for.
    facts: dataset, split, index, label, class, … of what was traced, in JSON's types.
    image: uint8 array of shape (height, width, channels): the record, or the mean of a class.
    """

    artefact: str
    facts: Mapping[str, Any]
    image: Pixels | None
    hops: tuple[Hop, ...]

    @property
    def holds(self) -> bool:
        """Whether every hop does."""
        return all(hop.holds for hop in self.hops)


def trace(declared: Catalogue, data: Path, text: str) -> Chain:
    """Trace `ARTEFACT` or `ARTEFACT:ROW`.

    Args:
        declared: the catalogue.
        data: the data folder.
        text: a path below the data folder, a name such as `mnist/train`, or the path of a copy.

    Raises:
        UnknownName: there is no such artefact.
        ArtefactError: the artefact is not there, or has no such row.
    """
    target, row = targets.find(declared, data, text)
    here = target.at(data)
    if not here.is_file():
        raise ArtefactError(f"{here} is not there. {target.remedy}")
    if target.dataset is None:
        if row is not None:
            raise ArtefactError(
                f"An archive has no rows; {row!r} was asked for. Name a record, DATASET/SPLIT:INDEX"
            )
        name = target.path.rpartition("/")[2]
        origin = _archive(declared, data, target.source, name)
        return Chain(text, {"source": target.source.name}, None, origin)
    way = _Way(declared, data, target, target.dataset)
    if target.kind == "statistics":
        facts, image, hops = _statistics(way, row)
    else:
        facts, image, hops = _whole(way) if row is None else _record(way, row)
    return Chain(text, {"dataset": target.dataset.name} | facts, image, hops)


@dataclass(frozen=True, slots=True)
class _Way:
    """Where everything lies that the way back from an artefact leads over."""

    declared: Catalogue
    data: Path
    target: Target
    dataset: Dataset

    @property
    def source(self) -> Source:
        return self.target.source

    @property
    def split(self) -> Split:
        return self.target.splits[0]

    @property
    def here(self) -> Path:
        return self.target.at(self.data)

    @property
    def folder(self) -> Path:
        """Where the archives lie."""
        return self.data / layout.archives(self.source.name)

    def opened(self) -> contextlib.AbstractContextManager[OpenMember]:
        """Give a function that opens members of the archives."""
        return members.opened(self.folder, tables.most_bytes(self.source))

    def table(self, split: Split) -> Target:
        """Return the table of a split."""
        if self.target.kind == "table":
            return self.target
        path = layout.table(self.dataset.name, split.name)
        return Target("table", path, self.source, self.dataset, (split,))

    def archives(self, names: Iterable[str]) -> list[Hop]:
        """Follow each archive to where it came from."""
        return [
            hop
            for name in dict.fromkeys(names)
            for hop in _archive(self.declared, self.data, self.source, name)
        ]


_Found = tuple[Facts, Pixels | None, tuple[Hop, ...]]
"""The facts, the image and the hops of a chain."""


def _hop(what: str, target: Target, row: int | None = None) -> Hop:
    return Hop(what, str(target.copy or target.path), row)


def _blamed(hop: Hop, *problems: str) -> Hop:
    """Return the hop with some more problems; none of them may be one."""
    return replace(hop, problem="; ".join(filter(None, [hop.problem, *problems])))


# --- One record -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Copy:
    """A place where a record stands, and which of its parts stand there."""

    hop: Hop
    record: Batch | None = None
    parts: tuple[str, ...] = ("label", "coarse_label", "pixels")


def _record(way: _Way, row: str) -> _Found:
    """Trace one record of a split."""
    dataset, split = way.dataset, way.split
    index = _number(row, f"{dataset.name}/{split.name} has records", split.records)
    exported = [_exported(way, index)] if way.target.kind in EXPORTS else []
    table = _row(way, index)
    parts, whole, names = _stored(way, index)
    sources = way.archives(names)
    order = [table.record, whole, *(copy.record for copy in exported)]
    if all(hop.holds for hop in sources):
        order.insert(0, whole)
    record = next((record for record in order if record is not None), None)
    hops = (_held(copy, record) for copy in [*exported, table, *parts])
    facts = {"split": split.name, "index": index}
    if record is None:
        return facts, None, (*hops, *sources)
    return facts | _meaning(dataset, record), record.images[0], (*hops, *sources)


def _meaning(dataset: Dataset, record: Batch) -> Facts:
    """Return the labels of a record and what they stand for."""
    label = int(record.labels[0])
    facts: Facts = {"label": label, "class": _class(dataset.classes, label)}
    if record.coarse_labels is not None:
        label = int(record.coarse_labels[0])
        facts |= {"coarse_label": label, "coarse_class": _class(dataset.coarse_classes, label)}
    return facts


def _class(classes: Sequence[str], label: int) -> str | None:
    return classes[label] if label < len(classes) else None


def _number(text: str, what: str, rows: int) -> int:
    """Return the number of a row.

    Raises:
        ArtefactError: there is no such row.
    """
    if not re.fullmatch("[0-9]{1,18}", text) or int(text) >= rows:
        raise ArtefactError(f"{what} 0 to {rows - 1:,}; {text or 'nothing'!s:.40} was asked for.")
    return int(text)


def _exported(way: _Way, index: int) -> _Copy:
    """Read a record of an export."""
    hop, shape = _hop(way.target.kind, way.target, index), way.dataset.image.shape
    try:
        if hop.what == "csv":
            record, start, stop = records.from_csv(way.here, index, shape)
            return _Copy(replace(hop, bytes=(start, stop)), record)
        record, key, start, stop = records.from_lmdb(way.here, index, shape)
        return _Copy(replace(hop, bytes=(start, stop), facts={"key": key}), record)
    except (ArtefactError, OSError) as error:
        return _Copy(_blamed(hop, str(error)))


def _row(way: _Way, index: int) -> _Copy:
    """Read a row of the table, all its columns."""
    target = way.table(way.split)
    hop, path = _hop("table", target, index), target.at(way.data)
    if not path.is_file():
        return _Copy(_blamed(hop, f"{path} is not there. {target.remedy}"))
    try:
        hop = _blamed(hop, _mistaken(way, way.split))
        if tables.info(path).shape != way.dataset.image.shape:
            return _Copy(hop)
        found = tables.to_arrow(path, index, index + 1)
        [columns] = found.drop_columns(["image"]).to_pylist()
        names = ["label", "coarse_label"] if way.dataset.coarse_classes else ["label"]
        labels = (np.array([columns[name]], np.uint8) for name in names)
        record = Batch(found["image"].chunk(0).to_numpy_ndarray(), *labels)
    except TableError as error:
        return _Copy(_blamed(hop, str(error)))
    except (LookupError, TypeError, ValueError, pa.ArrowException) as error:
        return _Copy(_blamed(hop, f"damaged ({type(error).__name__}: {error})"))
    expected = {"index": index} | _meaning(way.dataset, record)
    problems = [
        f"{name}: expected {wanted!r}, found {columns.get(name)!r}"
        for name, wanted in expected.items()
        if columns.get(name) != wanted
    ]
    return _Copy(_blamed(replace(hop, facts=columns), *problems), record)


def _mistaken(way: _Way, split: Split) -> str:
    """Hold what a table says of itself against the catalogue; return what is wrong.

    Raises:
        TableError: it is no table of ours.
    """
    found = asdict(tables.info(way.table(split).at(way.data)))
    declared = asdict(tables.declared(way.source, way.dataset, split))
    return "; ".join(
        f"{name}: the catalogue declares {wanted}, found {found[name]}"
        for name, wanted in declared.items()
        if found[name] != wanted
    )


def _stored(way: _Way, index: int) -> tuple[list[_Copy], Batch | None, list[str]]:
    """Read a record in its members: the parts, the record if they are all there, the archives."""
    dataset, split, form = way.dataset, way.split, formats.named(way.dataset.format)
    try:
        with way.opened() as open_member:
            sizes = partial(members.size_bytes, open_member)
            places = form.locate(dataset, split, index, Members(open_member, sizes))
    except (MemberError, FormatError) as error:  # where the record begins can't be told
        [role, (member, *_)] = next(iter(split.members.items()))
        first = _member(way, member, role)
        return [_Copy(_blamed(first, str(error)))], None, list(split.archives)
    read = [_part(way, place) for place in places]
    parts, problems = [part for part, _ in read], [problem for _, problem in read]
    # What can't be read is filled with something harmless, and never looked at.
    fillers = [bytes([dataset.first_label]) * (place.stop - place.start) for place in places]
    record = None
    if any(parts):
        try:
            record = form.assemble(dataset, _filled(parts, fillers))
        except FormatError as error:  # a label stands for no class
            guilty = [form.roles[place.role].holds != ("pixels",) for place in places]
            parts = [b"" if bad else part for part, bad in zip(parts, guilty, strict=True)]
            problems = [str(error) if bad else p for p, bad in zip(problems, guilty, strict=True)]
            if any(parts):
                record = form.assemble(dataset, _filled(parts, fillers))
    copies = []
    for place, part, problem in zip(places, parts, problems, strict=True):
        hop = replace(_member(way, place.member, place.role), bytes=(place.start, place.stop))
        copies.append(
            _Copy(_blamed(hop, problem), record if part else None, form.roles[place.role].holds)
        )
    return copies, record if all(parts) else None, [place.member.archive for place in places]


def _filled(parts: list[bytes], fillers: list[bytes]) -> list[bytes]:
    return [part or filler for part, filler in zip(parts, fillers, strict=True)]


def _part(way: _Way, place: Place) -> tuple[bytes, str]:
    """Return the bytes at a place, or why they can't be had."""
    try:
        with way.opened() as open_member:
            return members.read_range(open_member(place.member), place.start, place.stop), ""
    except MemberError as error:
        return b"", str(error)


def _member(way: _Way, member: Member, role: str) -> Hop:
    return Hop("member", layout.archive(way.source.name, str(member)), facts={"role": role})


def _held(copy: _Copy, record: Batch | None) -> Hop:
    """Hold the parts of a record that stand at a place against the record."""
    if copy.record is None or record is None:
        return copy.hop
    problems = (text for part, text in _differences(copy.record, record) if part in copy.parts)
    return _blamed(copy.hop, *problems)


def _differences(found: Batch, expected: Batch) -> Iterator[tuple[str, str]]:
    """Yield (part, what was expected and what was found) of a record that should be another."""
    for part, one, other in (
        ("label", found.labels, expected.labels),
        ("coarse_label", found.coarse_labels, expected.coarse_labels),
    ):
        if one is not None and other is not None and one[0] != other[0]:
            yield part, f"{part.replace('_', ' ')}: expected {other[0]}, found {one[0]}"
    wrong = found.images[0] != expected.images[0]
    if wrong.any():
        at = tuple(int(number) for number in np.argwhere(wrong)[0])
        axes = ("row", "column", "channel")[: 2 + (wrong.shape[-1] > 1)]
        where = ", ".join(f"{axis} {number}" for axis, number in zip(axes, at, strict=False))
        yield (
            "pixels",
            f"pixel in {where}: expected intensity {expected.images[0][at]}, found "
            f"{found.images[0][at]} ({wrong.sum():,} of {wrong.size:,} differ)",
        )


# --- Whole artefacts ------------------------------------------------------------------------------


def _whole(way: _Way) -> _Found:
    """Trace a table or an export as a whole."""
    split, sources = way.split, way.archives(way.split.archives)
    exported = [_file(way, way.target)] if way.target.kind in EXPORTS else []
    facts = {"split": split.name, "records": split.records}
    return facts, None, (*exported, *_table(way, split), *sources)


def _table(way: _Way, split: Split) -> list[Hop]:
    """Verify the table of a split, and its members, as wholes."""
    target = way.table(split)
    table = _file(way, target)
    if table.hashes:
        try:
            table = _blamed(table, _mistaken(way, split))
        except TableError as error:
            table = _blamed(table, str(error))
    return [
        table,
        *(_read(way, m, role) for role, part in split.members.items() for m in part),
    ]


def _file(way: _Way, target: Target) -> Hop:
    """Hold the bytes of an artefact, and of what it was made from, against what was recorded."""
    hop, path = _hop(target.kind, target), target.at(way.data)
    if not path.is_file():
        return _blamed(hop, f"{path} is not there. {target.remedy}")
    try:
        found = hashing.sha256(path)
    except OSError as error:
        return _blamed(hop, str(error))
    hop = replace(hop, hashes={"sha256": found})
    record = provenance.recorded(way.data, target.path)
    said = targets.sidecar(target.copy) if target.copy else {}
    if record is not None and not said:
        said = asdict(record)
    if not said:
        record_path = way.data / layout.lineage(target.path)
        return _blamed(hop, f"nothing says which bytes to expect: {record_path} is not there")
    problems, known = [], targets.known(way.declared)
    if said["sha256"] != found:
        problems.append(f"expected SHA-256 {said['sha256']}, as recorded; found {found}")
    for made_from in said["inputs"]:
        name, sha256 = made_from["path"], made_from["sha256"]
        if name not in known:  # whatever a file claims: nothing else is opened
            problems.append(f"made from {name!r:.80}, which the catalogue does not know")
            continue
        now = provenance.recorded(way.data, name)
        if now is not None and now.sha256 != sha256:
            problems.append(
                f"made from {name} when its SHA-256 was {sha256}; now {now.sha256} is recorded"
            )
    return _blamed(hop, *problems)


def _read(way: _Way, member: Member, role: str) -> Hop:
    """Read a member to its end: its checksums and what is declared of it are held on the way."""
    hop = _member(way, member, role)
    try:
        with way.opened() as open_member:
            hop = replace(hop, bytes=(0, members.pass_by(open_member(member))))
    except MemberError as error:
        hop = _blamed(hop, str(error))
    return hop


# --- Statistics -----------------------------------------------------------------------------------


def _statistics(way: _Way, row: str | None) -> _Found:
    """Trace statistics, or a row of them, by adding up the records again."""
    classes, splits = way.dataset.classes, way.target.splits
    layout = [(split, at) for split in splits for at in range(len(classes) + 1)]
    if row is None:
        wanted, hop = range(len(layout)), _file(way, way.target)
    else:
        number = _row_number(way, row)
        wanted, hop = range(number, number + 1), _hop("statistics", way.target, number)
    facts: Facts = {}
    image, hops, problems = None, [], []
    try:
        found = pq.read_table(way.here).to_pylist()
    except (OSError, pa.ArrowException, ValueError) as error:
        found, problems = [], [f"not readable as Parquet: {error}"]
    split_rows = {split.name: [n for n in wanted if layout[n][0] is split] for split in splits}
    needed = [split for split in splits if split_rows[split.name]]
    sources = way.archives(name for split in needed for name in split.archives)
    for split in needed:
        table, *stored = _table(way, split)
        try:
            if table.holds or not all(source.holds for source in sources):
                batches = tables.batches(way.table(split).at(way.data))
            else:
                batches = tables.decoded(way.source, way.dataset, split, way.folder)
            with contextlib.closing(batches):
                rows, spans = _added_up(way, split, batches)
        except (TableError, MemberError, FormatError, IndexError) as error:
            problems.append(f"the records of {split.name} can't be added up again: {error}")
        else:
            for number in split_rows[split.name]:
                at = layout[number][1]
                problems.append(_figures(found, number, rows[at]))
                if row is not None:
                    table = replace(table, facts=spans[at])
                    hop = replace(hop, facts=_some_figures(found, number))
                    facts = {k: rows[at][k] for k in ("split", "label", "class", "records")}
                    image = _mean_image(way.dataset, rows[at])
        hops += [table, *stored]
    return facts, image, (_blamed(hop, *problems), *hops, *sources)


def _added_up(way: _Way, split: Split, batches: Iterable[Batch]) -> tuple[list[Facts], list[Facts]]:
    """Return the rows of a split's statistics, and of which records each of them tells."""
    dataset = way.dataset
    shape, records = dataset.image.shape, 0
    sums = statistics.nothing(len(dataset.classes), shape)
    spans: list[Facts] = [{} for _ in dataset.classes]
    for batch in batches:
        statistics.add(sums, batch)
        for label in np.unique(batch.labels):
            [at] = np.nonzero(batch.labels == label)
            spans[label].setdefault("first", records + int(at[0]))
            spans[label]["last"] = records + int(at[-1])
        records += len(batch)
    about = tables.declared(way.source, dataset, split)
    rows = statistics.rows(about, sums).to_pylist()
    spans.append({"first": 0, "last": records - 1})
    return rows, [{"records": r["records"]} | span for r, span in zip(rows, spans, strict=True)]


def _some_figures(found: list[Facts], number: int) -> Facts:
    """Return the figures of a row that are worth showing, as they stand there."""
    row = found[number] if number < len(found) else {}
    names = ("records", "mean_intensity", "std_intensity")
    return {name: row[name] for name in names if row.get(name) is not None}


def _mean_image(dataset: Dataset, row: Facts) -> Pixels | None:
    if row["mean_image"] is None:
        return None
    means = np.array(row["mean_image"], np.float32).reshape(dataset.image.shape)
    return np.rint(means).astype(np.uint8)


def _row_number(way: _Way, text: str) -> int:
    """Return which row is meant by its number, or by `SPLIT/LABEL`, `SPLIT/CLASS`, `SPLIT/total`.

    Raises:
        ArtefactError: there is no such row.
        UnknownName: there is no such split or class.
    """
    classes = way.dataset.classes
    splits = [split.name for split in way.target.splits]
    size = len(classes) + 1
    name, slash, which = text.partition("/")
    if not slash and name not in splits:
        return _number(text, f"{way.dataset.name}/statistics has rows", len(splits) * size)
    if name not in splits:
        raise UnknownName(
            f"{way.dataset.name} has no split {name!r}.{did_you_mean(name, splits)} "
            f"Known: {', '.join(splits)}."
        )
    known = {str(label): label for label in range(len(classes))}
    known |= {name: label for label, name in enumerate(classes) if name not in known}
    known |= {"": len(classes), "total": len(classes)}
    if which not in known:
        raise UnknownName(
            f"{way.dataset.name} has no class {which!r}.{did_you_mean(which, known)} Name one, its "
            f"label 0 to {len(classes) - 1}, or total."
        )
    return splits.index(name) * size + known[which]


def _figures(found: list[Facts], number: int, expected: Facts) -> str:
    """Return where a row of statistics differs from what it should be."""
    row = found[number] if number < len(found) else {}
    wrong = [
        f"{name}: expected {figure!s:.40}, found {row.get(name)!s:.40}"
        for name, figure in expected.items()
        if row.get(name) != figure
    ]
    return f"row {number}, {', '.join(wrong)}" if wrong else ""


# --- Archives -------------------------------------------------------------------------------------


def _archive(declared: Catalogue, data: Path, source: Source, name: str) -> tuple[Hop, Hop]:
    """Hold an archive against the catalogue, and say where it came from, and when."""
    archive, path = source.archives[name], layout.archive(source.name, name)
    hop = Hop("archive", path)
    try:
        archives.verify(data / path, archive, declared.identify)
        hop = replace(hop, hashes={"md5": archive.md5, "sha256": archive.sha256})
    except FileNotFoundError:
        hop = _blamed(hop, f"{data / path} is not there. {Target('archive', path, source).remedy}")
    except (ArchiveError, OSError) as error:
        hop = _blamed(hop, str(error))
    record = provenance.recorded(data, path)
    if record is None or "origin" not in record.facts:
        problem = f"no record says where it came from: expected {layout.lineage(path)}"
        return hop, _blamed(Hop("origin", ""), problem)
    came = Hop("origin", str(record.facts["origin"]))
    if "retrieved" in record.facts:
        came = replace(came, facts={"retrieved": record.facts["retrieved"]})
    if record.sha256 != archive.sha256:
        came = _blamed(
            came, f"expected SHA-256 {archive.sha256}, as declared; {record.sha256} was recorded"
        )
    return hop, came
