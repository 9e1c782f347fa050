"""Hops: the steps of the way back from an artefact, and all that finding them takes.

Not here: which steps there are (`trace_record`, `trace_whole`, `trace_figures`).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import archives, tables
from ..archives import members
from ..declarations import Dataset, Source, Split
from ..errors import ArchiveError, ArtefactError, StorageError
from ..plan import Plan
from ..records import OpenMember, Pixels
from ..store import Store, layout, provenance
from .targets import Target

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


@dataclass(frozen=True, slots=True, repr=False)
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

    def __repr__(self) -> str:
        """Return for example `<mnist/test:1234: 7 hops, all hold>`: no pixels."""
        failed = sum(not hop.holds for hop in self.hops)
        said = f"{failed} of them broken" if failed else "all hold"
        return f"<{self.artefact}: {len(self.hops)} hops, {said}>"


@dataclass(frozen=True, slots=True)
class Way:
    """Where everything lies that the way back from an artefact leads over."""

    plan: Plan
    store: Store
    target: Target
    source: Source
    dataset: Dataset
    splits: tuple[Split, ...]

    @property
    def here(self) -> Path:
        """Where what is traced lies."""
        return self.target.at(self.store)

    @property
    def folder(self) -> Path:
        """Where the archives lie."""
        return self.store.local(layout.archives(self.source.name))

    @property
    def leads_over_tables(self) -> bool:
        """Whether what is traced was made from tables, not straight from archives."""
        planned = self.target.planned
        needs_more = not all(map(layout.is_archive, planned.needs))
        return planned.product is None or planned.is_of_whole or needs_more

    @property
    def needed_archives(self) -> list[str]:
        """The archives that an export or a description is itself made from."""
        planned = self.target.planned
        paths = filter(layout.is_archive, planned.needs if planned.product else ())
        return [path.rpartition("/")[2] for path in paths]

    def opened(self) -> contextlib.AbstractContextManager[OpenMember]:
        """Give a function that opens members of the archives."""
        return members.opened(self.folder, tables.most_bytes(self.source))

    def table(self, split: Split) -> Target:
        """Return the table of a split."""
        if self.target.planned.stage == "tables":
            return self.target
        return Target(self.plan.artefacts[layout.table(self.dataset.name, split.name)])

    def archives(self, names: Iterable[str]) -> list[Hop]:
        """Follow each archive to where it came from."""
        return [
            hop
            for name in dict.fromkeys(names)
            for hop in archive(self.plan, self.store, self.source, name)
        ]


Found = tuple[Facts, Pixels | None, tuple[Hop, ...]]
"""The facts, the image and the hops of a chain."""


def hop_of(what: str, target: Target, row: int | None = None) -> Hop:
    """Return the hop of an artefact, or of a row of it, of which nothing is known yet."""
    return Hop(what, str(target.copy or target.planned.path), row)


def blamed(hop: Hop, *problems: str) -> Hop:
    """Return the hop with some more problems; none of them may be one."""
    return replace(hop, problem="; ".join(filter(None, [hop.problem, *problems])))


def number_of(text: str, what: str, rows: int) -> int:
    """Return the number of a row.

    Raises:
        ArtefactError: there is no such row.
    """
    if not re.fullmatch("[0-9]{1,18}", text) or int(text) >= rows:
        raise ArtefactError(f"{what} 0 to {rows - 1:,}; {text or 'nothing'!s:.40} was asked for.")
    return int(text)


def archive(plan: Plan, store: Store, source: Source, name: str) -> tuple[Hop, Hop]:
    """Hold an archive against the catalogue, and say where it came from, and when."""
    archive, path = source.archive(name), layout.archive(source.name, name)
    hop = Hop("archive", path)
    try:
        found = archives.verify(store.local(path), archive, plan.declared.identify)
        hop = replace(hop, hashes={"md5": found.md5, "sha256": found.sha256})
    except FileNotFoundError:
        hop = blamed(hop, f"{store.address(path)} is not there. {plan.artefacts[path].remedy}")
    except (ArchiveError, StorageError, OSError) as error:
        hop = blamed(hop, str(error))
    known = provenance.latest(store, path)
    if known is None or "origin" not in known.facts:
        problem = f"no provenance says where it came from: expected {layout.lineage(path)}"
        return hop, blamed(Hop("origin", ""), problem)
    came = Hop("origin", str(known.facts["origin"]))
    if "retrieved" in known.facts:
        came = replace(came, facts={"retrieved": known.facts["retrieved"]})
    declared, measured = archive.sha256, hop.hashes.get("sha256")
    if known.sha256 != (wanted := declared or measured or known.sha256):
        said = "as declared" if declared else "as it has"
        came = blamed(came, f"expected SHA-256 {wanted}, {said}; {known.sha256} was recorded")
    return hop, came
