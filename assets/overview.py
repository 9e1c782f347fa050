"""What is here: every artefact of a dataset and whether it is up to date, without Dagster.

Not here: making anything.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import polars as pl

from assets.command_line.display import Display
from assets.settings import Settings
from pipelines import archives, statistics, tables
from pipelines.declarations import Catalogue, Dataset
from pipelines.descriptions import croissant
from pipelines.errors import MadeByNewer
from pipelines.exports import to_csv, to_lmdb
from pipelines.lineage import verification
from pipelines.lineage.verification import Verdict
from pipelines.statistics import expectations
from pipelines.store import layout, making, provenance, seen, state
from pipelines.store.hashing import Sight
from pipelines.store.provenance import Artefact, Input
from pipelines.store.state import State

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


def _paths(declared: Catalogue, dataset: Dataset, settings: Settings) -> list[str]:
    """Return the paths of all that is made of a dataset."""
    return [a.path for _, a in artefacts(declared, dataset, settings, lambda _table: None)]


def _up_to_date(data: Path, table: Artefact) -> str | None:
    found = state.decide(data, table)
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
        (artefact.path, state.decide(settings.data, artefact))
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
    paths = [path for d in datasets for path in _paths(declared, d, settings)]
    found = _look(data, paths, display)

    def sha256(table: Artefact) -> str | None:
        """What others must be made from: the table as recorded, or else as it is."""
        with contextlib.suppress(MadeByNewer):
            if record := provenance.recorded(data, table.path):
                return None if state.moved_on(record, table) else record.sha256
        return found[table.path].sha256 if table.path in found else None

    judged: dict[str, tuple[AssetPath, Verdict]] = {}
    for dataset in datasets:
        for asset, artefact in artefacts(declared, dataset, settings, sha256):
            if artefact.path not in found and not (data / layout.lineage(artefact.path)).exists():
                continue  # it was never made
            verdict = verification.verify(data, artefact, found.get(artefact.path))
            judged[artefact.path] = (asset, verdict)
    for dataset in datasets if deep else ():
        whole = {path for path, (_, verdict) in judged.items() if verdict.is_whole}
        for verdict in _deeply(declared, dataset, settings, display, whole):
            asset, before = judged[verdict.path]
            judged[verdict.path] = (asset, replace(verdict, sha256=before.sha256))
    grouped: dict[AssetPath, list[Verdict]] = {}
    for asset, verdict in judged.values():
        grouped.setdefault(asset, []).append(verdict)
    return grouped


def _look(data: Path, paths: Iterable[str], display: Display) -> dict[str, Sight]:
    """Read artefacts, whatever is known of them; return path → what was seen."""
    there = [path for path in dict.fromkeys(paths) if (data / path).is_file()]
    total = sum((data / path).stat().st_size for path in there)
    with (display if there else Display()).task("verify", total, "bytes") as advance:
        return verification.hash_files(data, there, advance)


def _deeply(
    declared: Catalogue, dataset: Dataset, settings: Settings, display: Display, whole: set[str]
) -> Iterator[Verdict]:
    """Yield verdicts of what was made of a dataset, compared with the archives and the catalogue.

    `whole` are the artefacts that are whole by their hashes.
    """
    data, source = settings.data, declared.source_of(dataset)
    archived = [layout.archive(source.name, name) for name in source.archives]
    mine = set(_paths(declared, dataset, settings))
    to_compare = sorted(whole & mine.difference(archived))
    if missing := [path for path in archived if path not in whole]:
        lacking = f"not all of its archives are here and whole: {', '.join(missing)}"
        yield from (Verdict(path, "uncompared", lacking) for path in to_compare)
        return
    if not to_compare:
        return
    records = sum(split.records for split in dataset.splits.values())
    with display.task(f"verify --deep {dataset.name}", records, "records") as advance:
        found = verification.verify_deeply(
            data, source, dataset, whole, advance, csv_header=settings.csv_header
        )
    failing = _failing_checks(dataset, settings, {v.path for v in found if v.is_whole})
    for verdict in found:
        why = [f"check {f.check_name} failed: {f}" for f in failing.get(verdict.path, ())]
        yield replace(verdict, condition="undeclared", why="; ".join(why)) if why else verdict


def to_mend(
    declared: Catalogue, settings: Settings, found: Mapping[AssetPath, Sequence[Verdict]]
) -> list[AssetPath]:
    """Return the assets to make so that all is whole again, in the order in which they are made.

    Those with artefacts that are not whole; what was made from bytes that have changed since; and,
    back to what is whole, what all of these are made from.
    """
    made = {
        artefact.path: (asset, artefact)
        for dataset in declared.datasets.values()
        for asset, artefact in artefacts(declared, dataset, settings, lambda _table: None)
    }
    verdicts = [verdict for them in found.values() for verdict in them]
    whole = {verdict.path for verdict in verdicts if verdict.is_whole}
    paths = {verdict.path for verdict in verdicts if not verdict.is_whole}
    for verdict in verdicts:
        if verdict.condition == "changed" and (
            record := provenance.recorded(settings.data, verdict.path)
        ):
            paths |= {one.path for one in making.made_since(settings.data, record)} & made.keys()
    needed = {made[path][0] for path in paths}
    for asset, artefact in reversed(made.values()):  # exports before tables before archives
        if asset in needed:
            needed |= {made[one.path][0] for one in artefact.inputs if one.path not in whole}
    return [
        asset for asset in dict.fromkeys(asset for asset, _ in made.values()) if asset in needed
    ]


def lock(declared: Catalogue, dataset: Dataset, settings: Settings) -> str:
    """Return one line that stands for all bytes of a dataset: its name and a SHA-256.

    The digest is of a line `<SHA-256>  <path>` for each artefact, in the order of the paths: what
    `sha256sum` prints for them, hashed once more.

    Every file is read for it, whatever is known of it.

    Raises:
        StaleInput: an artefact is not up to date.
    """
    _look(settings.data, _paths(declared, dataset, settings), Display())
    wanted = [artefact for _, artefact in artefacts(declared, dataset, settings)]
    made = sorted(state.inputs(settings.data, wanted), key=lambda one: one.path)
    lines = "".join(f"{one.sha256}  {one.path}\n" for one in made)
    return f"{dataset.name}  sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def in_words(dataset: Dataset, settings: Settings, states: list[tuple[str, State]]) -> str:
    """Return one phrase for the states of a dataset's artefacts."""
    up_to_date = {path for path, state in states if state.is_up_to_date}
    if failing := _names(_failing_checks(dataset, settings, up_to_date)):
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
    failing = _names(_failing_checks(dataset, settings, up_to_date))
    return {path: state.reason for path, state in found if state.reason} | {
        f"check {name} of {dataset.name}": "it failed" for name in failing
    }


def _failing_checks(
    dataset: Dataset, settings: Settings, among: set[str]
) -> dict[str, list[expectations.Finding]]:
    """Return path → the blocking checks that a finished artefact does not pass, of some artefacts.

    What merely warns is no failure, and takes reading all pixels to know.
    """
    judges: dict[str, Callable[[Path], list[expectations.Finding]]] = {
        layout.table(dataset.name, split.name): partial(
            expectations.of_table, dataset=dataset, split=split
        )
        for split in dataset.splits.values()
    }
    judges[layout.statistics(dataset.name)] = partial(expectations.of_statistics, dataset=dataset)
    failing = {}
    for path, judge in judges.items():
        if path not in among:
            continue
        try:
            found = [finding for finding in judge(settings.data / path) if not finding.passed]
        except (OSError, pl.exceptions.PolarsError) as error:
            found = [expectations.Finding("readable", False, "a whole file", str(error))]
        if found:
            failing[path] = found
            with contextlib.suppress(OSError):
                seen.look_anew(settings.data, path)  # so that the next build knows if it rotted
    return failing


def _names(failing: Mapping[str, Sequence[expectations.Finding]]) -> list[str]:
    """Return the names of failing checks, each once."""
    return list(dict.fromkeys(f.check_name for findings in failing.values() for f in findings))
