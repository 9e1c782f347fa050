"""`pin`: what is not declared and was measured, as TOML to paste into the catalogue."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from assets.command_line import options
from assets.command_line.declaring import Commands
from assets.command_line.display import say
from assets.commands._datasets import selected
from assets.settings import Settings
from pipelines.declarations import Dataset, Source, Split, base
from pipelines.errors import ArchiveError

if TYPE_CHECKING:  # numpy and Arrow take long to import
    from pipelines.plan import Plan

ORDER = 5


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add(
        "pin",
        run,
        help="print what the catalogue does not say yet, as TOML",
        description="Print what is not declared of the named datasets or sources (of all, if none "
        "is named) and can be measured here. That is bytes, MD5 and SHA-256 of archives, each held "
        "against the hash that is declared, and the records of each class, counted in the tables. "
        "It is TOML: add the keys under the same headings in the source's file. What is not here "
        "is named on stderr, with what to run. Nothing is changed; the exit code is 0 where "
        "nothing is left to measure.",
        examples={"pin kannada_mnist": "what its TOML lacks, to paste"},
    )
    options.add_folders(parser)
    options.add_datasets(parser)


def run(settings: Settings, given: argparse.Namespace) -> int:
    """Print the keys of each source; say what could not be measured."""
    plan = settings.plan(given.datasets)
    datasets = selected(plan.declared, given.datasets)
    lacking = _Lacking(settings, plan)
    for name in dict.fromkeys(dataset.source for dataset in datasets):
        source = plan.declared.sources[name]
        of_it = [dataset for dataset in datasets if dataset.source == name]
        tables = [*lacking.of_archives(source, of_it)]
        tables += [table for dataset in of_it for table in lacking.of_splits(dataset)]
        if tables:
            say("\n".join([f"# {source.file}: add these keys under these headings.", "", *tables]))
    for said in lacking.not_here:
        say(said, error=True)
    if not (lacking.found or lacking.not_here):
        say("Nothing to pin: everything that can be measured is declared.", error=True)
    return 1 if lacking.not_here else 0


class _Lacking:
    """Finds what is not declared.

    found: how many tables of TOML were made of it.
    not_here: what could not be measured, why, and what to run.
    """

    def __init__(self, settings: Settings, plan: Plan) -> None:
        self._store, self._plan = settings.store, plan
        self.found, self.not_here = 0, list[str]()

    def of_archives(self, source: Source, datasets: Sequence[Dataset]) -> Iterator[str]:
        """Yield what is not declared of the archives of some datasets, and of optional ones."""
        from pipelines import archives
        from pipelines.archives import pinning
        from pipelines.store import layout

        splits = (split for dataset in datasets for split in dataset.splits.values())
        names = dict.fromkeys(name for split in splits for name in split.archives)
        for archive in map(source.archive, [*names, *source.optional_archives]):
            if not pinning.lacking(archive):
                continue
            path = layout.archive(source.name, archive.name)
            if self._store.stat(path) is None:
                remedy = self._plan.artefacts[path].remedy
                self.not_here.append(f"{path} is not here. {remedy}")
                continue
            try:
                found = archives.verify(
                    self._store.local(path), archive, self._plan.declared.identify
                )
            except (ArchiveError, OSError) as error:
                self.not_here.append(f"error: {path}: {error}")
                continue
            yield self._table(f'archives."{archive.name}"', pinning.missing(archive, found))

    def of_splits(self, dataset: Dataset) -> Iterator[str]:
        """Yield the records of each class of splits of which they are not declared."""
        for split in dataset.splits.values():
            columns = {"counts": ("label", dataset.classes, split.counts)}
            columns["coarse_counts"] = ("coarse_label", dataset.coarse_classes, split.coarse_counts)
            wanted = {
                key: (column, len(classes))
                for key, (column, classes, counts) in columns.items()
                if split.labelled and classes and not counts
            }
            if wanted and self._is_built(dataset, split):
                lines = [
                    f"{key} = {self._counted(dataset, split, column, classes)}"
                    for key, (column, classes) in wanted.items()
                ]
                yield self._table(f"datasets.{base(dataset.name)}.splits.{split.name}", lines)

    def _is_built(self, dataset: Dataset, split: Split) -> bool:
        """Return whether the tables of a split are there and up to date; say so where not."""
        from pipelines.lineage import status
        from pipelines.store import layout

        for piece in split.pieces:
            planned = self._plan.artefacts[layout.table(dataset.name, piece.name)]
            [state] = status.states(self._store, [planned]).values()
            if not state.is_up_to_date:
                said = f"{planned.path}: {state.reason}. {planned.remedy}"
                self.not_here.append(said)
                return False
        return True

    def _counted(self, dataset: Dataset, split: Split, column: str, classes: int) -> list[int]:
        """Return the records of each class in the tables of a split."""
        import numpy as np
        import pyarrow.parquet as pq

        from pipelines.store import layout

        counts = np.zeros(classes, np.int64)
        for piece in split.pieces:
            path = self._store.local(layout.table(dataset.name, piece.name))
            labels = pq.read_table(path, columns=[column])[column].to_numpy()
            counts += np.bincount(labels, minlength=classes)
        return counts.tolist()

    def _table(self, heading: str, lines: Sequence[str]) -> str:
        self.found += 1
        return "\n".join([f"[{heading}]", *lines, ""])
