"""What assets are given to work with: the store they write to, the web they fetch from.

Not here: any decision about an artefact (`pipelines`), or what people see (`display`, `metadata`).
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import dagster as dg
import pyarrow.parquet as pq
from pydantic import Field, PrivateAttr, create_model, field_validator

from assets.settings import Settings
from pipelines import archives, plan, stages
from pipelines.archives import Identify
from pipelines.declarations import Archive, Catalogue, Dataset, Source
from pipelines.errors import ArchiveUnavailable, ImagesetsError
from pipelines.lineage import findings, openlineage, status
from pipelines.lineage.openlineage import Making, Outbox
from pipelines.plan import Plan, Planned
from pipelines.progress import Display, Unit, Watch, size
from pipelines.statistics import Sums
from pipelines.statistics.duplicates import Fingerprints
from pipelines.statistics.expectations import Finding
from pipelines.store import (
    Artefact,
    Facts,
    Folder,
    Input,
    Provenance,
    clock,
    hashing,
    layout,
    making,
)

logger = logging.getLogger("pipelines.storage")  # to the person, as the warnings of the pipelines


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of tables in this process, by their SHA-256, so that nobody reads them again.

    sums: of those written just now.
    fingerprints: of those looked through for duplicates.
    """

    sums: dict[str, Sums] = field(default_factory=dict)
    fingerprints: dict[str, Fingerprints] = field(default_factory=dict)


Build = Callable[[Path, Watch], Facts]
"""Writes an artefact to a path, telling how far it is; returns what it found out."""


@dataclass(frozen=True, slots=True)
class Made:
    """An artefact that is up to date now; `because` is None where it was so before.

    path: where it lies.
    looked: when its bytes were last read, or written: UTC, ISO 8601.
    begun_s, ended_s: on the clock of `time.perf_counter`.
    """

    record: Provenance
    path: Path
    because: str | None
    looked: str
    begun_s: float
    ended_s: float


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Let our own errors reach people as they are, and be retried only where that may help.

    Whether it is retried is for the asset's retry policy; without one, nothing is.
    """
    try:
        yield
    except ImagesetsError as error:
        may_pass = isinstance(error, ArchiveUnavailable) and error.may_pass
        facts: dict[str, Any] = {"error": type(error).__name__, "may_pass": may_pass}
        raise dg.Failure(str(error), facts, allow_retries=may_pass) from error


class Store(dg.ConfigurableResource[Any]):
    """The data folder; what is made there is told to a target of OpenLineage events.

    The target's address may hold a password, and Dagster records and shows all the fields of a
    resource like this one: so it is none.
    """

    data: str
    _target: openlineage.Target = PrivateAttr(default=openlineage.Target())
    _run_id: str | None = PrivateAttr(default=None)
    _outbox: Outbox | None = PrivateAttr(default=None)

    @staticmethod
    def telling(target: openlineage.Target, data: str) -> Store:
        """Return a store that tells a target, which Dagster's copies of it know too."""

        class Telling(Store):
            _target: openlineage.Target = PrivateAttr(default=target)

        return Telling(data=data)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Learn which run this is: records of artefacts tell it."""
        self._run_id = context.run.run_id if context.run else None
        hashing.forget()  # what a run is made from is read in that run
        self._outbox = self._target.open()

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Tell what is still to be told."""
        if self._outbox:
            self._outbox.close()

    @property
    def folder(self) -> Folder:
        """The data folder, as the pipelines know it."""
        return Folder(Path(self.data))

    def path(self, relative: str) -> Path:
        """Return where an artefact lies."""
        return self.folder.local(relative)

    def warn_of_little_space(self, source: Source) -> None:
        """Tell the person when everything that can be made of a source may not fit."""
        missing = [a for a in source.archives.values() if not self._has(source, a)]
        needed = sum(a.size_bytes for a in missing) + plan.room_bytes(source)
        data = Path(self.data)
        folder = next(path for path in (data, *data.parents) if path.exists())
        free = shutil.disk_usage(folder).free
        if missing and free < needed:
            logger.warning(
                "%s: %s are free; archives, tables and exports of %s may take up to %s",
                self.data,
                size(free),
                source.name,
                size(needed),
            )

    def _has(self, source: Source, archive: Archive) -> bool:
        return self.path(layout.archive(source.name, archive.name)).exists()

    def inputs(self, plan: Plan, planned: Planned) -> tuple[Input, ...]:
        """Return what an artefact is made from; refuse what is stale."""
        with refusals():
            return status.inputs(self.folder, plan, planned)

    def make(
        self, artefact: Artefact, display: Display, total: int, unit: Unit, build: Build
    ) -> Made:
        """Bring an artefact up to date; if that takes `build`, show how far it is of `total`."""
        start = time.perf_counter()
        begun: list[Making] = []  # where nothing is made, nothing is told

        def build_on_display(goal: Path) -> Facts:
            begun.append(Making(Path(self.data), artefact, clock.now(), self._run_id))
            self._tell(partial(openlineage.started, begun[0]))
            with display.task(artefact.path, total, unit) as watch:
                return build(goal, watch)

        with refusals():
            try:
                record, before = making.make(self.folder, artefact, build_on_display, self._run_id)
            except BaseException as error:
                for one in begun:
                    self._tell(partial(openlineage.failed, one, error, clock.now()))
                raise
        for one in begun:
            self._tell(partial(self._completed, one, record))
        path = self.path(artefact.path)
        looked = before.sight.looked if before.is_up_to_date and before.sight else record.run.ended
        return Made(record, path, before.reason, looked, start, time.perf_counter())

    @contextlib.contextmanager
    def judging(
        self, made: Made, dataset: Dataset, prints: dict[str, Fingerprints]
    ) -> Iterator[list[Finding]]:
        """Give what checks find of an artefact; where that or its use is trouble, read it anew.

        Raises:
            Failure: its bytes are no longer those recorded, so nothing that was found counts.
        """
        try:
            found = findings.of(self.folder, dataset, made.record, prints)
            yield found
        except Exception:
            self._read_again(made)
            raise
        if any(finding.blocks for finding in found):
            self._read_again(made)

    def _read_again(self, made: Made) -> None:
        with refusals():
            making.read_again(self.folder, made.record)

    def _tell(self, event: Callable[[], Any]) -> None:
        if self._outbox:
            self._outbox.put(event)

    def _completed(self, making: Making, record: Provenance) -> Any:
        path = self.path(record.path)
        footer = pq.read_metadata(path) if path.suffix == ".parquet" else None
        return openlineage.completed(making, record, footer)


class Options(dg.ConfigurableResource[Any]):
    """What a run may be told in the launchpad; without that, the settings hold.

    An artefact made with other options than the settings' counts as out of date for the next run
    that goes by the settings.
    """

    exports: list[str] = Field(default=[])

    @field_validator("exports")
    @classmethod
    def _known(cls, kinds: list[str]) -> list[str]:
        known = stages.exports()
        if unknown := set(kinds) - set(known):
            raise ValueError(f"exports are {', '.join(known)}, not {', '.join(sorted(unknown))}")
        return kinds

    @staticmethod
    def by(settings: Settings) -> Options:
        """Return the options with the settings as their defaults, which the launchpad shows."""
        fields: dict[str, Any] = {
            name: (
                Literal[option.choices] if option.choices else type(option.default),
                Field(
                    default=settings.chosen[name],
                    description=f"{option.help[0].upper()}{option.help[1:]}.",
                    ge=None if isinstance(option.default, bool | str) else option.low,
                    le=None if isinstance(option.default, bool | str) else option.high,
                ),
            )
            for name, option in stages.options().items()
        }
        known = stages.exports()
        said = f"The exports that the run makes, of those selected: {', '.join(known)}."
        fields["exports"] = (list[str], Field(default=known, description=said))
        chosen: type[Options] = create_model("Chosen", __base__=Options, **fields)
        return chosen()

    @property
    def chosen(self) -> dict[str, Any]:
        """What was chosen of every option, by its name."""
        return {name: getattr(self, name) for name in stages.options()}


class Plans:
    """The plan of a catalogue, by the options of a run."""

    def __init__(self, declared: Catalogue) -> None:
        """Plan nothing yet."""
        self._declared = declared
        self._made: dict[str, Plan] = {}

    def by(self, options: Options) -> Plan:
        """Return the plan that a run goes by."""
        key = repr(sorted(options.chosen.items()))
        if key not in self._made:
            self._made[key] = plan.of(self._declared, options.chosen)
        return self._made[key]


@dataclass(frozen=True, slots=True)
class Web:
    """Where archives come from.

    A plain Python object: the mirror's address may hold a password, and Dagster records and shows
    all that a ConfigurableResource holds.
    """

    mirror: str | None = field(default=None, repr=False)
    offline: bool = False

    def obtain(
        self,
        source: Source,
        archive: Archive,
        identify: Identify,
        goal: Path,
        staged: Path,
        watch: Watch,
    ) -> Facts:
        """Make sure that an archive is at `goal`, or else at `staged`; say where it came from."""
        places = archives.places(source, archive, self.mirror, self.offline)
        origin = archives.receive(
            archive, goal, staged, places, identify, watch, offline=self.offline
        )
        if origin == archives.ALREADY_THERE:
            return {"origin": origin}
        return {"origin": origin, "retrieved": clock.now()}
