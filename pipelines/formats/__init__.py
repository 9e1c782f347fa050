"""Bytes → records: one module per format, and the way back. No disk, no network, no Parquet.

A new format is a module here with a `FORMAT`, found because it lies here; nothing else changes. A
module whose name begins with an underscore helps the others. `tests/formats/test_<name>.py` gives
the contract's tests splits to try it on.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import pkgutil
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Literal

from ..declarations import Dataset, Split
from ..records import Batch, ByteStream, Members, OpenMember, Place
from . import _rows
from ._rows import stored_at

__all__ = ["Format", "Part", "Role", "decoded", "divided", "known", "named", "stored_at"]

Part = Literal["label", "coarse_label", "pixels"]

_MADE_FROM = {"index": "pixels", "class": "label", "coarse_class": "coarse_label"}


@dataclass(frozen=True, slots=True)
class Role:
    """What members are to a format.

    holds: which parts of a record stand in them, by the names of a table's columns.
    several: whether a split names a list of them, read one after the other, or a single one.
    is_folder: whether each is a folder of an archive, whose files are read.
    is_optional: whether a split may do without, though it has labels.
    """

    holds: tuple[Part, ...]
    several: bool = False
    is_folder: bool = False
    is_optional: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Format:
    """How the bytes of members encode records.

    name: what the catalogue calls it, and the name of its module.
    roles: role → what its members hold. Every role is a key of a split in TOML. A split without
        labels has no members of a role that holds nothing else.
    code_version: raise it when the records can change.
    decode: `(open_member, dataset, split, batch_records)` opens the members that the split
        declares, in order, holds what their headers promise against the declaration, and yields
        batches of at most `batch_records` records: upright, channels last, labels counted from 0.
        Batches of a split that is not `labelled` have no labels, and those of a dataset with
        `columns` have its `extras`. Whatever the bytes break, it raises `FormatError`; a member
        that ends early or goes on too long is never cut to fit.
    locate: `(dataset, split, index, members)` says between which bytes of which members a record
        stands. It opens members, or asks for their sizes, only where no declaration says enough,
        because going through a compressed member takes time.
    assemble: `(dataset, split, places, parts)` turns the bytes at those places, in their order,
        into that record, or raises `FormatError` where a label stands for no class.
    refuses: says, a sentence each, why a dataset can't be of this format.
    unpacked: `(stream)` returns a member's bytes as places count them, for formats that pack what
        is inside of a member: as they would be, were nothing packed.
    by_member: `(dataset, split)` returns the split that each of its members would be if it were
        alone, with its records and counts, in the order of the records; for formats that can tell
        before anything is fetched.
    libraries: those that decide the records, whose versions a table's provenance tells, too. Where
        they differ, deep verification calls no slight difference of pixels a change.
    """

    name: str
    roles: Mapping[str, Role]
    code_version: str
    decode: Callable[[OpenMember, Dataset, Split, int], Generator[Batch]]
    locate: Callable[[Dataset, Split, int, Members], list[Place]]
    assemble: Callable[[Dataset, Split, Sequence[Place], Sequence[bytes]], Batch]
    refuses: Callable[[Dataset], Iterable[str]] = lambda _dataset: ()
    unpacked: Callable[[ByteStream], ByteStream] | None = None
    by_member: Callable[[Dataset, Split], Sequence[Split]] | None = None
    libraries: tuple[str, ...] = ()

    @property
    def label_roles(self) -> set[str]:
        """The roles of members that hold labels alone."""
        return {name for name, role in self.roles.items() if "pixels" not in role.holds}

    def roles_of(self, column: str) -> tuple[str, ...]:
        """Return the roles of the members that a column of a table comes from.

        What stands beside the labels comes with them.
        """
        part = _MADE_FROM.get(column, column)
        part = part if part in ("pixels", "coarse_label") else "label"
        return tuple(name for name, role in self.roles.items() if part in role.holds)


@functools.cache
def known() -> Mapping[str, Format]:
    """Return every format by its name.

    Raises:
        TypeError: a module of this room declares none.
    """
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return MappingProxyType({name: _declared(name) for name in names if not name.startswith("_")})


def named(name: str) -> Format:
    """Return the format of this name, which the catalogue checked."""
    return known()[name]


def decoded(
    open_member: OpenMember, dataset: Dataset, split: Split, batch_records: int
) -> Generator[Batch]:
    """Yield the records of a split, or of a part of one, in its order.

    Those are what a format decodes, or the rows of it that the split has.

    Raises:
        MemberError, FormatError: the members don't hold what the catalogue declares.
    """
    decode = named(dataset.format).decode
    return _rows.decoded(decode, open_member, dataset, split, batch_records)


def divided(dataset: Dataset, split: Split) -> tuple[Split, ...]:
    """Return the parts that a split comes in, in order; none where it comes in one.

    They are known before anything is fetched: a part's first index is the sum of the records before
    it. A part of so many records has the split's own members, and begins somewhere within.
    """
    if split.parts is None:
        return ()
    if split.parts == "members":
        by_member = named(dataset.format).by_member
        if by_member is None:
            raise TypeError(f"format {dataset.format} does not tell what each member holds")
        found = tuple(by_member(dataset, split))
        skips = [0] * len(found)
        keys = [_key(part) for part in found]
    else:
        skips = [*range(0, split.records, split.parts)]
        sizes = [min(split.parts, split.records - first) for first in skips]
        found = tuple(replace(split, records=n, counts=(), coarse_counts=()) for n in sizes)
        keys = [f"{number:05}" for number in range(len(found))]
    ends = itertools.accumulate(part.records for part in found)
    firsts = [end - part.records for part, end in zip(found, ends, strict=True)]
    return tuple(
        replace(
            part,
            parts=None,
            name=f"{split.name}/part-{number:05}",
            whole=split.name,
            key=key,
            first=first,
            skip=skip,
        )
        for number, (part, key, first, skip) in enumerate(
            zip(found, keys, firsts, skips, strict=True)
        )
    )


def _key(part: Split) -> str:
    """Return what a part is called that one member is: as its file, `cat`."""
    [member] = [member for of_role in part.members.values() for member in of_role]
    return PurePosixPath(str(member)).stem


def _declared(name: str) -> Format:
    found = getattr(importlib.import_module(f".{name}", __name__), "FORMAT", None)
    if isinstance(found, Format) and found.name == name:
        if taken := found.roles.keys() & {field.name for field in fields(Split)}:
            raise TypeError(f"format {name}: a split has {taken.pop()!r} already; rename the role.")
        return found
    what = f"its FORMAT is {found!r:.80}" if found else "it declares no FORMAT"
    raise TypeError(
        f"{__name__}.{name} is no format: {what}. Expected FORMAT = Format(name={name!r}, …). If "
        f"it only helps other formats, call it _{name}."
    )
