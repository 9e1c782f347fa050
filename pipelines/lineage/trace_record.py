"""Trace: one record of a split, in every place where it stands.

Not here: artefacts as wholes (`trace_whole`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa

from .. import advice, formats, tables
from ..archives import members
from ..declarations import Dataset, Member, Split
from ..errors import (
    ArtefactError,
    FormatError,
    MemberError,
    TableError,
    UnknownName,
    did_you_mean,
)
from ..products import Subject
from ..records import Batch, ByteStream, Members, Place, label_type
from ..store import layout, provenance
from . import differences
from .hops import Facts, Found, Hop, Way, blamed, hop_of, number_of
from .targets import Target
from .trace_whole import member_hop, mistaken


@dataclass(frozen=True, slots=True)
class _Copy:
    """A place where a record stands, and which of its parts stand there.

    elsewhere: why its pixels may be others though nobody changed them.
    """

    hop: Hop
    record: Batch | None = None
    parts: tuple[str, ...] = ("label", "coarse_label", "pixels")
    elsewhere: str = ""


def record(way: Way, row: str) -> Found:
    """Trace one record of a split: `INDEX`, or `SPLIT/INDEX` where an artefact holds several."""
    dataset, (split, text) = way.dataset, _split_of(way, row)
    index = number_of(text, f"{dataset.name}/{split.name} has records", split.records)
    if split.divided:
        return _in_part(way, split, index)
    one = _Record(way, split, index)
    exported = [_exported(one)] if way.target.planned.product else []
    rows = [_row(one)] if way.leads_over_tables else []
    parts, whole, names = _stored(one)
    sources = way.archives([*names, *way.needed_archives])
    order = [*(copy.record for copy in rows), whole, *(copy.record for copy in exported)]
    if all(hop.holds for hop in sources):
        order.insert(0, whole)
    found = next((record for record in order if record is not None), None)
    hops = (_held(copy, found) for copy in [*exported, *rows, *parts])
    facts = {"split": split.split, "index": split.first + index}
    if split.is_part:
        facts["part"] = split.key
    if found is None:
        return facts, None, (*hops, *sources)
    return facts | _meaning(dataset, found), found.images[0], (*hops, *sources)


def _in_part(way: Way, split: Split, index: int) -> Found:
    """Trace a record of a split that comes in parts: it stands in the table of one of them."""
    part = next(one for one in split.divided if one.first <= index < one.first + one.records)
    table = Target(way.plan.artefacts[layout.table(way.dataset.name, part.name)])
    return record(replace(way, target=table, splits=(part,)), str(index - part.first))


@dataclass(frozen=True, slots=True)
class _Record:
    """Which record is traced.

    index: of its row in the table; of a part of a split, counted from the part's first record.
    """

    way: Way
    split: Split
    index: int


def _split_of(way: Way, row: str) -> tuple[Split, str]:
    """Return the split that a row is of, and what is left of its name.

    Raises:
        UnknownName: there is no such split.
    """
    name, slash, index = row.rpartition("/")
    known = {split.name: split for split in way.splits}
    if len(known) == 1 and not slash:
        return way.splits[0], row
    if name not in known:
        wrong = f"{way.dataset.name} has no split {name!r}.{did_you_mean(name, known)}"
        if not slash:
            wrong = f"{way.dataset.name} has several splits; {row[:40]!r} names none."
        raise UnknownName(f"{wrong} Name a record as SPLIT/INDEX. Known: {', '.join(known)}.")
    return known[name], index


def _meaning(dataset: Dataset, record: Batch) -> Facts:
    """Return the labels of a record and what they stand for."""
    facts: Facts = {"label": None, "class": None}
    if record.known_labels is not None:
        label = int(record.labels[0])
        facts = {"label": label, "class": _class(dataset.classes, label)}
    if record.coarse_labels is not None:
        label = int(record.coarse_labels[0])
        facts |= {"coarse_label": label, "coarse_class": _class(dataset.coarse_classes, label)}
    return facts | {name: int(values[0]) for name, values in record.extras.items()}


def _class(classes: Sequence[str], label: int) -> str | None:
    return classes[label] if label < len(classes) else None


def _exported(one: _Record) -> _Copy:
    """Read a record of an export."""
    way, product = one.way, one.way.target.planned.product
    hop = hop_of(way.target.what, way.target, one.index)
    if product is None or product.read is None:
        return _Copy(blamed(hop, "no single record can be read back from it"))
    subject = Subject(way.source, way.dataset, (one.split,))
    try:
        product.require()
        stored = next(product.read(way.here, subject, one.index, one.index + 1))
    except ModuleNotFoundError as error:
        return _Copy(blamed(hop, advice.how_to_install(error)))
    except (ArtefactError, OSError) as error:
        return _Copy(blamed(hop, str(error)))
    path = f"{hop.path}/{stored.file}" if stored.file else hop.path
    hop = replace(hop, path=path, bytes=(stored.start, stored.stop), facts=stored.facts)
    return _Copy(hop, stored.record)


def _row(one: _Record) -> _Copy:
    """Read a row of the table, all its columns."""
    way, index, target = one.way, one.index, one.way.table(one.split)
    hop, path = hop_of("table", target, index), target.at(way.store)
    if not path.is_file():
        return _Copy(blamed(hop, f"{path} is not there. {target.planned.remedy}"))
    try:
        hop = blamed(hop, mistaken(way, one.split))
        if tables.info(path).shape != way.dataset.image.shape:
            return _Copy(hop)
        found = tables.to_arrow(path, index, index + 1)
        [columns] = found.drop_columns(["image"]).to_pylist()
        classes = {"label": way.dataset.classes, "coarse_label": way.dataset.coarse_classes}
        kinds = {name: label_type(len(known)) for name, known in classes.items() if known}
        if not one.split.labelled:
            kinds.clear()
        labels = {name: np.array([columns[name]], kind) for name, kind in kinds.items()}
        extras = {name: np.array([columns[name]], np.int32) for name in way.dataset.extras}
        image = found["image"].chunk(0).to_numpy_ndarray()
        record = Batch(image, labels.get("label"), labels.get("coarse_label"), extras=extras)
    except TableError as error:
        return _Copy(blamed(hop, str(error)))
    except (LookupError, TypeError, ValueError, pa.ArrowException) as error:
        return _Copy(blamed(hop, f"damaged ({type(error).__name__}: {error})"))
    expected = {"index": one.split.first + index} | _meaning(way.dataset, record)
    problems = [
        f"{name}: expected {wanted!r}, found {columns.get(name)!r}"
        for name, wanted in expected.items()
        if columns.get(name) != wanted
    ]
    made = provenance.latest(way.store, target.planned.path)
    elsewhere = differences.of_decoders(made, way.dataset) if made else ""
    hop = blamed(replace(hop, facts=columns), *problems)
    return _Copy(hop, record, elsewhere=elsewhere)


def _stored(one: _Record) -> tuple[list[_Copy], Batch | None, list[str]]:
    """Read a record in its members: the parts, the record if they are all there, the archives."""
    way, dataset, split = one.way, one.way.dataset, one.split
    form = formats.named(dataset.format)
    asked: list[Member] = []
    try:
        with way.opened() as open_member:

            def asking(member: Member) -> ByteStream:
                asked.append(member)
                return open_member(member)

            def listing(folder: Member) -> Sequence[Member]:
                asked.append(folder)
                return open_member.below(folder)

            known = Members(asking, partial(members.size_bytes, asking), below=listing)
            split, index = formats.stored_at(dataset, split, one.index, known)
            places = form.locate(dataset, split, index, known)
    except (MemberError, FormatError) as error:  # where the record begins can't be told
        roles = {member: role for role, part in split.members.items() for member in part}
        if split.rows and split.rows.member:
            roles[split.rows.member] = "rows"
        guilty = asked[-1] if asked else next(iter(roles))
        # A file below a folder has the role of that.
        role = roles.get(guilty) or next(iter(roles.values()))
        hop = blamed(member_hop(way, guilty, role), str(error))
        return (
            [_Copy(hop)],
            None,
            list(dict.fromkeys(member.archive for member in [*asked, guilty])),
        )
    read = [_part(way, form, place) for place in places]
    parts, problems = [part for part, _ in read], [problem for _, problem in read]
    # What can't be read is filled with something harmless, and never looked at.
    label = (dataset.class_labels or (dataset.first_label,))[0]
    fillers = [bytes([label]) * (place.stop - place.start) for place in places]
    record = None
    if any(parts):
        try:
            record = form.assemble(dataset, split, places, _filled(parts, fillers))
        except FormatError as error:  # a label stands for no class
            wrong = [form.roles[place.role].holds != ("pixels",) for place in places]
            parts = [b"" if bad else part for part, bad in zip(parts, wrong, strict=True)]
            problems = [str(error) if bad else p for p, bad in zip(problems, wrong, strict=True)]
            if any(parts):
                with contextlib.suppress(FormatError):  # labels of several bytes can't be filled in
                    record = form.assemble(dataset, split, places, _filled(parts, fillers))
    copies = []
    for place, part, problem in zip(places, parts, problems, strict=True):
        hop = replace(member_hop(way, place.member, place.role), bytes=(place.start, place.stop))
        copies.append(
            _Copy(blamed(hop, problem), record if part else None, form.roles[place.role].holds)
        )
    return copies, record if all(parts) else None, [place.member.archive for place in places]


def _filled(parts: list[bytes], fillers: list[bytes]) -> list[bytes]:
    return [part or filler for part, filler in zip(parts, fillers, strict=True)]


def _part(way: Way, form: formats.Format, place: Place) -> tuple[bytes, str]:
    """Return the bytes at a place, or why they can't be had."""
    try:
        with way.opened() as open_member:
            stream = open_member(place.member)
            stream = form.unpacked(stream) if form.unpacked else stream
            return members.read_range(stream, place.start, place.stop), ""
    except (MemberError, FormatError) as error:
        return b"", str(error)


def _held(copy: _Copy, record: Batch | None) -> Hop:
    """Hold the parts of a record that stand at a place against the record."""
    if copy.record is None or record is None:
        return copy.hop
    problems = (
        f"{text}: {copy.elsewhere}" if part == "pixels" and copy.elsewhere else text
        for part, text in differences.of_record(copy.record, record)
        if part in copy.parts
    )
    return blamed(copy.hop, *problems)
