"""A workshop: makes one asset of a plan at a time, and judges it.

Archives are fetched, tables are decoded from them, the rest is made from tables. Not here: what is
made before what (`ahead`, or Dagster).
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow.parquet as pq

from .. import plan, statistics, tables, wording
from ..archives import pinning
from ..declarations import Archive, Source
from ..errors import Conflict
from ..lineage import findings, openlineage, parts, status
from ..lineage.openlineage import Making, Outbox
from ..plan import AssetPath, Plan, Planned
from ..products import Product, Subject
from ..progress import Advance, Display, Unit, Watch, size
from ..stages import COMPRESSION, DEFAULT
from ..statistics import Sums
from ..statistics.expectations import Finding
from ..store import Artefact, Facts, Input, Provenance, Store, clock, layout, making, provenance
from .archives import Web, side_by_side

if TYPE_CHECKING:  # polars takes long to import
    from ..statistics.fingerprints import Fingerprints

logger = logging.getLogger("pipelines.storage")  # to the person, as the warnings of the store

T = TypeVar("T")
Build = Callable[[Path, Watch], Facts]
"""Writes an artefact to a path, telling how far it is; returns what it found out."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of tables in this process, by their SHA-256, so that nobody reads them again.

    sums: of those written just now.
    fingerprints: of those looked through for duplicates.
    warned: the sources of which people were told that they may not fit, and what licences forbid
        that they were told; once is enough.
    """

    sums: dict[str, Sums] = field(default_factory=dict)
    fingerprints: dict[str, Fingerprints] = field(default_factory=dict)
    warned: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Made:
    """An artefact that is up to date now.

    store: where it lies.
    because: why it was made; None where it was up to date before.
    looked: when its bytes were last read, or written: UTC, ISO 8601.
    begun_s, ended_s: on the clock of `time.perf_counter`.
    findings: what the expectations found of it.
    """

    store: Store
    provenance: Provenance
    because: str | None
    looked: str
    begun_s: float
    ended_s: float
    findings: tuple[Finding, ...] = ()

    @property
    def path(self) -> Path:
        """Where it can be read."""
        return self.store.local(self.provenance.path)

    @property
    def is_sound(self) -> bool:
        """Whether nothing was found that blocks what is made from it."""
        return not any(finding.blocks for finding in self.findings)


@dataclass(frozen=True, slots=True)
class Workshop:
    """What it takes to make the assets of a plan in one run.

    store: where they lie.
    run_id: of the Dagster run, for their provenance.
    outbox: takes what is told to a lineage catalogue.
    warns: whether what merely warns is looked for, too: duplicates, which takes a while.
    wanted: the paths of all that is to be made; None for whatever there can be. Other archives of a
        source are not fetched, and for statistics nobody asks for nothing is added up.
    right: path → what is taken as it is, whichever version made it.
    """

    store: Store
    plan: Plan
    web: Web = field(default_factory=Web)
    display: Display = field(default_factory=Display)
    known: Known = field(default_factory=Known)
    run_id: str | None = None
    outbox: Outbox | None = None
    warns: bool = True
    wanted: Collection[str] | None = None
    right: Mapping[str, Input] = field(default_factory=dict)

    def make(self, asset: AssetPath, parts: Collection[str] | None = None) -> list[Made]:
        """Bring the artefacts of an asset up to date, and judge them.

        Of an asset of parts, that is of those `parts` of the split that are named, or else of all.

        Raises:
            ImagesetsError: one can't be made, or is not what was recorded of it.
        """
        mine = self.plan.of_asset(asset)
        mine = [one for one in mine if parts is None or one.part in parts]
        if mine and mine[0].is_archive:
            return self._archives(mine[0].source, mine)
        return [self._made(one) for one in mine if not one.part or self._is_wanted(one.path)]

    def _made(self, planned: Planned) -> Made:
        """Bring an artefact up to date that is made here, and judge it."""
        if planned.product is not None:
            made = self._product(planned, planned.product)
        elif planned.subject is None:
            raise TypeError("an archive is fetched")
        elif planned.stage == "tables":
            made = self._table(planned, planned.subject)
        else:
            made = self._statistics(planned, planned.subject)
        with self.doubting([made]):
            prints = self.known.fingerprints
            dataset = planned.subject.dataset if planned.subject else None
            if dataset is None:
                found = []
            elif self.warns:
                found = findings.of(self.store, dataset, made.provenance, prints)
            else:
                found = findings.blocking(self.store, dataset, made.provenance.path)
        if planned.stage == "statistics":
            for table in made.provenance.inputs:
                prints.pop(str(table.sha256), None)  # nobody else needs them
        made = replace(made, findings=tuple(found))
        if not made.is_sound:
            making.read_again(self.store, made.provenance)
        return made

    @contextlib.contextmanager
    def doubting(self, made: list[Made]) -> Iterator[None]:
        """Read artefacts again where the block, which uses them, fails: perhaps they rotted.

        Raises:
            StaleInput: the bytes of one are no longer those recorded.
        """
        try:
            yield
        except Exception:
            for one in made:
                making.read_again(self.store, one.provenance)
            raise

    def _archives(self, source: Source, parts: list[Planned]) -> list[Made]:
        wanted = (one for one in parts if self._is_wanted(one.path))
        by_name = {Path(one.path).name: one.artefact() for one in wanted}

        def make(archive: Archive) -> Made:
            artefact = by_name[archive.name]
            goal = self.store.place(artefact.path)
            obtain = partial(self.web.obtain, source, archive, self.plan.declared.identify, goal)
            return self._make(artefact, archive.size_bytes or 0, "bytes", obtain)

        self._warn_of_restrictions(source, by_name)
        if parts[0].stage in DEFAULT:
            self._warn_of_little_space(source, by_name if parts[0].part else None)
        made = side_by_side(make, map(source.archive, by_name))
        for one in made:
            archive = source.archive(PurePosixPath(one.provenance.path).name)
            if one.because and (said := pinning.told(source, archive, one.provenance)):
                logging.getLogger(__name__).info("%s", said)
        return made

    def _table(self, planned: Planned, subject: Subject) -> Made:
        """Bring a table up to date; keep what was added up on the way, for its statistics."""
        source, dataset, split = subject.source, subject.dataset, subject.split
        about = tables.declared(source, dataset, split)
        found = statistics.nothing_of(about)
        # Of a part, what is added up lies beside it (`pipelines.parts.sums`).
        is_counted = not split.is_part and self._is_wanted(layout.statistics(dataset.name))

        def build(goal: Path, advance: Advance) -> Facts:
            nonlocal found
            # It may be called again, where another machine was faster.
            found = statistics.nothing_of(about)
            add = partial(statistics.add, found) if is_counted else None
            status.inputs(self.store, self.plan, planned)
            folder = self.store.local(layout.archives(source.name))
            level = self.plan.options[COMPRESSION.name]
            records = tables.write(
                source, dataset, split, folder, goal, advance, add, compression_level=level
            )
            return {"records": records}

        made = self._make(self._measured(planned.artefact()), split.records, "records", build)
        if made.because and is_counted:
            self.known.sums[made.provenance.sha256] = found
        return made

    def _measured(self, artefact: Artefact) -> Artefact:
        """Return an artefact that says of its archives, too, what is not declared but measured."""

        def measured(one: Input) -> Input:
            if None not in (one.sha256, one.size_bytes, one.md5):
                return one  # all is declared: nothing of it need be read
            return pinning.measured(one, provenance.latest(self.store, one.path))

        return replace(artefact, inputs=tuple(map(measured, artefact.inputs)))

    def _statistics(self, planned: Planned, subject: Subject) -> Made:
        inputs = status.inputs(self.store, self.plan, planned)
        artefact = planned.made_from(inputs)
        sums = _taken(self.known.sums, (str(table.sha256) for table in inputs))

        here = {made_from.path for made_from in inputs}

        def build(goal: Path, advance: Advance) -> Facts:
            if subject.dataset.is_in_parts:
                found = parts.sums(self.store, subject, here)
                return {"records": statistics.write_of_parts(found, goal, advance, artefact)}
            paths = {str(table.sha256): self.store.local(table.path) for table in inputs}
            known = {paths[sha256]: found for sha256, found in sums.items()}
            return {"records": statistics.write(paths.values(), goal, advance, known, artefact)}

        return self._make(artefact, parts.records(subject, here), "records", build)

    def _product(self, planned: Planned, product: Product) -> Made:
        inputs = status.inputs(self.store, self.plan, planned, self.right)
        subject = planned.subject
        here = {made_from.path for made_from in inputs}
        records = sum(parts.records(one, here) for one in planned.subjects)

        def build(goal: Path, advance: Advance) -> Facts:
            of_splits = {} if subject is None else self._tables(subject)
            opened = planned.opened(self.store, inputs, of_splits)
            return product.write(opened, goal, product.chosen(self.plan.options), advance)

        return self._make(planned.made_from(inputs), records, "records", build)

    def _tables(self, subject: Subject) -> dict[str, Path]:
        """Return split → where its table lies; of one that comes in parts, its manifest."""
        names = {
            split.name: (layout.manifest if split.divided else layout.table)(
                subject.dataset.name, split.name
            )
            for split in subject.splits
        }
        return {split: self.store.local(path) for split, path in names.items()}

    def _make(self, artefact: Artefact, total: int, unit: Unit, build: Build) -> Made:
        """Bring an artefact up to date; if that takes `build`, show how far it is of `total`."""
        start = time.perf_counter()
        begun: list[Making] = []  # where nothing is made, nothing is told

        def build_on_display(goal: Path) -> Facts:
            begun.append(Making(self.store.address(""), artefact, clock.now(), self.run_id))
            self._tell(partial(openlineage.started, begun[0]))
            with self.display.task(artefact.path, total, unit) as watch:
                return build(goal, watch)

        try:
            known, before = making.make(self.store, artefact, build_on_display, self.run_id)
        except BaseException as error:
            for one in begun:
                self._tell(partial(openlineage.failed, one, error, clock.now()))
            raise
        # Where another machine was faster, only what was made last is there, or nothing of ours.
        lasting = begun[-1:] if before.reason else []
        for one in begun:
            if one in lasting:
                self._tell(partial(self._completed, one, known))
            else:
                beaten = Conflict(f"{artefact.path} was made by another machine meanwhile.")
                self._tell(partial(openlineage.failed, one, beaten, clock.now()))
        looked = before.sight.looked if before.is_up_to_date and before.sight else known.run.ended
        return Made(self.store, known, before.reason, looked, start, time.perf_counter())

    def _tell(self, event: Callable[[], Any]) -> None:
        if self.outbox:
            self.outbox.put(event)

    def _completed(self, begun: Making, known: Provenance) -> Any:
        path = self.store.place(known.path)
        footer = pq.read_metadata(path) if path.suffix == ".parquet" else None
        return openlineage.completed(begun, known, footer)

    def _warn_of_restrictions(self, source: Source, names: Collection[str]) -> None:
        """Tell the person what a licence forbids, before anything of a dataset is first fetched."""
        if not wording.restrictions(source, source.datasets.values()):
            return
        there = self.store.names(f"{layout.LINEAGE}/{layout.archives(source.name)}")
        new = []
        for dataset in source.datasets.values():
            own = {name for split in dataset.splits.values() for name in split.archives}
            known = {layout.lineage(layout.archive(source.name, name)) for name in own}
            if own & {*names} and not known & {*there}:
                new.append(dataset)
        for forbids in wording.restrictions(source, new):
            if forbids not in self.known.warned:
                self.known.warned.add(forbids)
                logger.warning("%s", forbids)

    def _warn_of_little_space(self, source: Source, names: Collection[str] | None) -> None:
        """Tell the person when everything that can be made of a source may not fit.

        Or all that is made from some archives, where each is of a part of a split.
        """
        if source.name in self.known.warned:
            return
        some = source.archives.values() if names is None else map(source.archive, names)
        missing = [a for a in some if not self._has(source, a)]
        needed = sum(a.size_bytes or a.image_bytes for a in missing) + plan.room_bytes(
            source, names
        )
        data = self.store.place("")
        folder = next(path for path in (data, *data.parents) if path.exists())
        free = shutil.disk_usage(folder).free
        if missing and free < needed:
            self.known.warned.add(source.name)
            logger.warning(
                "%s: %s are free; archives, tables and exports of %s may take up to %s",
                data,
                size(free),
                source.name,
                size(needed),
            )

    def _is_wanted(self, path: str) -> bool:
        return self.wanted is None or path in self.wanted

    def _has(self, source: Source, archive: Archive) -> bool:
        return self.store.stat(layout.archive(source.name, archive.name)) is not None


def _taken(found: dict[str, T], tables: Iterable[str]) -> dict[str, T]:
    """Take what is known of some tables out of `found`, where nobody else needs it."""
    return {sha256: found.pop(sha256) for sha256 in tables if sha256 in found}
