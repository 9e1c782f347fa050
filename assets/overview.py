"""What is here: every artefact of a dataset and whether it is up to date, without Dagster.

Not here: making anything.
"""

from __future__ import annotations

from collections.abc import Iterator

from assets import checks
from assets.settings import Settings
from pipelines import archives, files, lineage, statistics, tables
from pipelines.catalogue import Catalogue, Dataset
from pipelines.exports import to_csv, to_lmdb
from pipelines.lineage import Artefact, Input, State


def artefacts(declared: Catalogue, dataset: Dataset, settings: Settings) -> Iterator[Artefact]:
    """Yield every artefact of a dataset, in the order they are made."""
    source = declared.source_of(dataset)
    for archive in source.archives.values():
        yield archives.artefact(source, archive)
    inputs: list[Input] = []  # a table that is out of date counts as not there
    for split in dataset.splits.values():
        yield (table := tables.artefact(source, dataset, split))
        found = lineage.state(settings.data, table)
        sha256 = found.record.sha256 if found.record and found.is_up_to_date else None
        inputs.append(Input(table.path, sha256))
        yield to_csv.artefact(source, dataset, split, (inputs[-1],), settings.csv_header)
        yield to_lmdb.artefact(source, dataset, split, (inputs[-1],))
    yield statistics.artefact(source, dataset, tuple(inputs))


def states(declared: Catalogue, dataset: Dataset, settings: Settings) -> list[tuple[str, State]]:
    """Return (path, state) of every artefact of a dataset."""
    return [
        (artefact.path, lineage.state(settings.data, artefact))
        for artefact in artefacts(declared, dataset, settings)
    ]


def in_words(dataset: Dataset, settings: Settings, states: list[tuple[str, State]]) -> str:
    """Return one phrase for the states of a dataset's artefacts."""
    up_to_date = {path for path, state in states if state.is_up_to_date}
    if failing := _failing_checks(dataset, settings, up_to_date):
        return f"{', '.join(failing)} failed"
    if len(up_to_date) == len(states):
        return f"up to date ({len(states)} artefacts)"
    if not any(state.record for _, state in states):
        return "nothing yet"
    return f"{len(up_to_date)} of {len(states)} artefacts up to date"


def _failing_checks(dataset: Dataset, settings: Settings, up_to_date: set[str]) -> list[str]:
    """Return the blocking checks that the finished artefacts of a dataset do not pass, each once.

    What merely warns is no failure, and takes reading all pixels to know.
    """
    findings = []
    for split in dataset.splits.values():
        path = files.table(dataset.name, split.name)
        if path in up_to_date:
            findings += checks.of_table(settings.data / path, dataset, split)
    path = files.statistics(dataset.name)
    if path in up_to_date:
        findings += checks.of_statistics(settings.data / path, dataset)
    return list(dict.fromkeys(finding.check_name for finding in findings if not finding.passed))
