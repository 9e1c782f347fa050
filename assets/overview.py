"""What is here: every artefact of a dataset and whether it is up to date, without Dagster.

Not here: making anything.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from assets import checks
from assets.display import Display
from assets.settings import Settings
from pipelines import archives, croissant, files, lineage, statistics, tables, verification
from pipelines.catalogue import Catalogue, Dataset
from pipelines.exports import to_csv, to_lmdb
from pipelines.lineage import Artefact, Input, State
from pipelines.verification import Verdict

AssetPath = tuple[str, str]
"""The key of an asset, without Dagster."""


def artefacts(
    declared: Catalogue,
    dataset: Dataset,
    settings: Settings,
    sha256: Callable[[Artefact], str | None] | None = None,
) -> Iterator[tuple[AssetPath, Artefact]]:
    """Yield (asset, artefact) for all that is made of a dataset, in the order it is made.

    Args:
        declared: the catalogue.
        dataset: one of its datasets.
        settings: what was chosen.
        sha256: tells the SHA-256 of a table that others are made from, None where it has none.
            By default, a table that is out of date has none.
    """
    sha256 = sha256 or (lambda table: _up_to_date(settings.data, table))
    source = declared.source_of(dataset)
    for archive in source.archives.values():
        yield (source.name, "archives"), archives.artefact(source, archive)
    inputs: list[Input] = []
    for name, split in dataset.splits.items():
        table = tables.artefact(source, dataset, split, settings.compression_level)
        yield (dataset.name, name), table
        inputs.append(made_from := Input(table.path, sha256(table)))
        csv = to_csv.artefact(source, dataset, split, (made_from,), settings.csv_header)
        yield (dataset.name, f"{name}_csv"), csv
        yield (dataset.name, f"{name}_lmdb"), to_lmdb.artefact(source, dataset, split, (made_from,))
    yield (dataset.name, "statistics"), statistics.artefact(source, dataset, tuple(inputs))
    yield (dataset.name, "croissant"), croissant.artefact(source, dataset, tuple(inputs))


def _up_to_date(data: Path, table: Artefact) -> str | None:
    found = lineage.state(data, table)
    return found.record.sha256 if found.record and found.is_up_to_date else None


def versions(declared: Catalogue, settings: Settings) -> dict[AssetPath, str]:
    """Return asset → the version of what makes it: its code, and what is declared of its artefacts.

    Dagster is told so of a change in the catalogue or an option, as of a change of the code.
    """
    made: dict[AssetPath, list[Artefact]] = {}
    for dataset in declared.datasets.values():
        for asset, artefact in artefacts(declared, dataset, settings, lambda _table: None):
            made.setdefault(asset, []).append(artefact)

    def version(found: list[Artefact]) -> str:
        facts = sorted({a.path: [a.code_version, a.parameters] for a in found}.items())
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        return f"{found[0].code_version}-{digest[:8]}"

    return {asset: version(found) for asset, found in made.items()}


def states(declared: Catalogue, dataset: Dataset, settings: Settings) -> list[tuple[str, State]]:
    """Return (path, state) of every artefact of a dataset."""
    return [
        (artefact.path, lineage.state(settings.data, artefact))
        for _, artefact in artefacts(declared, dataset, settings)
    ]


def verdicts(
    declared: Catalogue,
    datasets: Sequence[Dataset],
    settings: Settings,
    display: Display,
    *,
    deep: bool = False,
) -> dict[AssetPath, list[Verdict]]:
    """Return asset → what became of those of its artefacts that were ever made, all hashed anew.

    With `deep`, all that was made from whole archives is compared with them, record by record.
    """
    data = settings.data
    paths = [a.path for d in datasets for _, a in artefacts(declared, d, settings)]
    paths = [path for path in dict.fromkeys(paths) if (data / path).is_file()]
    total = sum((data / path).stat().st_size for path in paths)
    with (display if paths else Display()).task("verify", total, "bytes") as advance:
        found = verification.digests(data, paths, advance)

    def sha256(table: Artefact) -> str | None:
        """What others must be made from: the table as recorded, or else as it is."""
        record = lineage.recorded(data, table.path)
        if record is None:
            return found.get(table.path)
        return None if lineage.moved_on(record, table) else record.sha256

    judged: dict[str, tuple[AssetPath, Verdict]] = {}
    for dataset in datasets:
        for asset, artefact in artefacts(declared, dataset, settings, sha256):
            if artefact.path not in found and not (data / files.lineage(artefact.path)).exists():
                continue  # it was never made
            verdict = verification.shallow(data, artefact, found.get(artefact.path))
            judged[artefact.path] = (asset, verdict)
    whole = {path for path, (_, verdict) in judged.items() if verdict.is_whole}
    for dataset in datasets if deep else ():
        source = declared.source_of(dataset)
        archived = [files.archive(source.name, name) for name in source.archives]
        mine = {artefact.path for _, artefact in artefacts(declared, dataset, settings)}
        if not whole.issuperset(archived) or not whole & mine.difference(archived):
            continue  # nothing to compare with, or nothing to compare: that is complained about
        records = sum(split.records for split in dataset.splits.values())
        with display.task(f"verify --deep {dataset.name}", records, "records") as advance:
            for verdict in verification.deep(
                data, source, dataset, whole, advance, csv_header=settings.csv_header
            ):
                judged[verdict.path] = (judged[verdict.path][0], verdict)
    grouped: dict[AssetPath, list[Verdict]] = {}
    for asset, verdict in judged.values():
        grouped.setdefault(asset, []).append(verdict)
    return grouped


def with_what_they_need(
    declared: Catalogue,
    datasets: Sequence[Dataset],
    settings: Settings,
    assets: Collection[AssetPath],
    whole: Collection[str],
) -> list[AssetPath]:
    """Return assets and, back to what is whole, those that they are made from, in that order."""
    made = {a.path: (asset, a) for d in datasets for asset, a in artefacts(declared, d, settings)}
    needed = dict.fromkeys(assets)
    for asset, artefact in reversed(made.values()):  # exports before tables before archives
        for path in [made_from.path for made_from in artefact.inputs] if asset in needed else ():
            if path not in whole:
                needed[made[path][0]] = None
    return [
        asset for asset in dict.fromkeys(asset for asset, _ in made.values()) if asset in needed
    ]


def lock(declared: Catalogue, dataset: Dataset, settings: Settings) -> str:
    """Return one line that stands for all bytes of a dataset: its name and a SHA-256.

    The digest is of a line `<SHA-256>  <path>` for each artefact, in the order of the paths: what
    `sha256sum` prints for them, hashed once more.

    Raises:
        StaleInput: an artefact is not up to date.
    """
    wanted = [artefact for _, artefact in artefacts(declared, dataset, settings)]
    made = sorted(lineage.inputs(settings.data, wanted), key=lambda one: one.path)
    lines = "".join(f"{one.sha256}  {one.path}\n" for one in made)
    return f"{dataset.name}  sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


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


def reasons(declared: Catalogue, dataset: Dataset, settings: Settings) -> dict[str, str]:
    """Return what is not as it should be of a dataset, path or check → why; empty if all is."""
    found = states(declared, dataset, settings)
    up_to_date = {path for path, state in found if state.is_up_to_date}
    failing = _failing_checks(dataset, settings, up_to_date)
    return {path: state.reason for path, state in found if state.reason} | {
        f"check {name} of {dataset.name}": "it failed" for name in failing
    }


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
