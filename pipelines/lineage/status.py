"""Status: which artefacts are up to date, without Dagster.

Not here: reading again what nobody wrote to since it was read (`pipelines.lineage.shallow` does).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType

from ..declarations import Catalogue, Dataset, Source
from ..errors import StaleInput, TableError
from ..plan import AssetPath, Plan, Planned
from ..stages import DEFAULT
from ..statistics.expectations import Finding
from ..store import Artefact, Input, Store, layout, provenance, state
from ..store.state import State
from . import findings


def states(store: Store, wanted: Iterable[Planned]) -> dict[str, State]:
    """Return path → state of some artefacts, in the order of a plan.

    What is made from something that is out of date is so too.

    Raises:
        MadeByNewer: the provenance of one can only be read by a newer Imagesets.
    """
    found: dict[str, State] = {}

    def sha256(path: str) -> str | None:
        known = found.get(path)
        return (
            known.provenance.sha256 if known and known.provenance and known.is_up_to_date else None
        )

    wanted = list(wanted)
    store = store.at_once([planned.path for planned in wanted])
    for planned in wanted:
        found[planned.path] = state.decide(store, planned.artefact(sha256))
    return found


def ever_made(store: Store, wanted: Iterable[Planned]) -> list[Planned]:
    """Return those artefacts that are here, or were, as their provenance says."""
    there, past = store.names(layout.LINEAGE), f"{layout.past_lineages()}/"
    were = {name.removeprefix(past).rpartition("/")[0] for name in there if name.startswith(past)}
    return [
        one
        for one in wanted
        if layout.lineage(one.path) in there
        or one.path in were
        or (store.is_folder and store.stat(one.path))
    ]


def never_asked(store: Store, declared: Catalogue, named: Collection[str]) -> set[str]:
    """Return the sources that are made on request, and that nobody ever asked for.

    That is neither now, where it or one of its datasets is `named`, nor before, where an archive or
    a table of it has provenance.
    """
    unnamed = [
        source
        for source in declared.sources.values()
        if source.on_request and not {source.name, source.group, *source.datasets} & {*named}
    ]
    # To look into a folder that is not there costs nothing; every look into a bucket is a request.
    there = store.names(layout.LINEAGE) if unnamed and not store.is_folder else {}

    def is_begun(path: str) -> bool:
        begin = f"{layout.LINEAGE}/{path}"
        if store.is_folder:
            return bool(store.names(begin))
        return any(name.startswith(f"{begin}/") for name in there)

    return {source.name for source in unnamed if not any(map(is_begun, _folders(source)))}


def _folders(source: Source) -> list[str]:
    tables = (layout.tables(dataset).rstrip("/") for dataset in source.datasets)
    return [layout.archives(source.name), *tables]


def asked_for(
    store: Store, plan: Plan, datasets: Iterable[Dataset], stages: Collection[str] | None = None
) -> tuple[Planned, ...]:
    """Return what there can be of datasets, of some stages (or all), with all that it needs.

    Of a split that comes in parts, that is of those of which anything was ever made here: that
    nobody asked for the others is no trouble.
    """
    datasets = list(datasets)
    wanted = plan.of(datasets, stages)
    if not any(one.part for one in wanted):
        return wanted
    in_parts = [one for one in plan.of(datasets) if one.part]
    there = {one.path for one in ever_made(store, in_parts)}
    asked, archives = set[tuple[str, str]](), set[str]()
    for one in in_parts:
        own = {path for path in one.needs if plan.artefacts[path].is_archive} & there
        if one.subject and (one.path in there or own):
            asked.add((one.subject.dataset.name, one.subject.split.name))
            archives.update(one.needs)
    return tuple(
        one
        for one in wanted
        if not one.part
        or one.path in archives
        or (one.subject and (one.subject.dataset.name, one.subject.split.name) in asked)
    )


def parts_in_words(wanted: Iterable[Planned], dataset: Dataset) -> str:
    """Return how many parts of a dataset some artefacts are of; nothing if of none."""
    here = {
        one.subject.split.name
        for one in wanted
        if one.part and one.subject and one.subject.dataset is dataset
    }
    declared = sum(len(split.divided) for split in dataset.splits.values())
    return f"{len(here):,} of {declared:,} parts" if here else ""


def inputs(
    store: Store, plan: Plan, planned: Planned, right: Mapping[str, Input] = MappingProxyType({})
) -> tuple[Input, ...]:
    """Return what an artefact is made from, and what it shows of what is there.

    What is `right` is taken as it is; of all else it is found out whether it is up to date.

    Raises:
        StaleInput: something that it is made from is not up to date.
        MadeByNewer: its provenance can only be read by a newer Imagesets.
    """

    @functools.cache
    def made(path: str) -> Input:
        if path in right:
            return right[path]
        one = plan.artefacts[path]
        is_known = isinstance(one.declared, Artefact)
        [found] = state.inputs(store, [one.made_from(() if is_known else made_from(one))])
        return found

    def made_from(one: Planned) -> tuple[Input, ...]:
        used = []
        for path in one.uses:
            with contextlib.suppress(StaleInput):
                used.append(made(path))
        return (*map(made, one.needs), *used)

    return made_from(planned)


def failing(
    store: Store, dataset: Dataset, among: Collection[str], *, anew: bool = False
) -> dict[str, list[Finding]]:
    """Return path → the blocking checks that a finished artefact does not pass, of some artefacts.

    What was found before is believed of the same bytes, unless they are to be judged `anew`. What
    merely warns is no failure, and takes reading all pixels to know.
    """
    failing = {}
    for path in findings.judged(dataset):
        if path not in among:
            continue
        try:
            known = None if anew else provenance.latest(store, path)
            judged = findings.kept(store, dataset, known) if known else None
            judged = findings.blocking(store, dataset, path) if judged is None else judged
            found = [finding for finding in judged if finding.blocks]
        except (OSError, TableError) as error:
            found = [Finding("readable", False, "a whole file", str(error))]
        if found:
            failing[path] = found
            with contextlib.suppress(OSError):
                store.look(path, anew=True)  # so that the next build knows if it rotted
    return failing


def reasons(store: Store, plan: Plan, dataset: Dataset) -> dict[str, str]:
    """Return what is not as it should be of a dataset, path or check → why; empty if all is."""
    wanted = asked_for(store, plan, [dataset], DEFAULT)
    store = store.at_once([one.path for one in wanted])
    found = states(store, wanted)
    up_to_date = {path for path, state in found.items() if state.is_up_to_date}
    names = names_of(failing(store, dataset, up_to_date))
    return {path: state.reason for path, state in found.items() if state.reason} | {
        f"check {name} of {dataset.name}": "it failed" for name in names
    }


def in_words(store: Store, dataset: Dataset, found: Mapping[str, State]) -> str:
    """Return one phrase for the states of a dataset's artefacts."""
    up_to_date = {path for path, state in found.items() if state.is_up_to_date}
    if names := names_of(failing(store, dataset, up_to_date)):
        return f"{', '.join(names)} failed"
    if len(up_to_date) == len(found):
        return f"up to date ({len(found)} artefacts)"
    if not any(state.provenance for state in found.values()):
        return "nothing yet"
    return f"{len(up_to_date)} of {len(found)} artefacts up to date"


def names_of(failing: Mapping[str, Sequence[Finding]]) -> list[str]:
    """Return the names of failing checks, each once."""
    return list(dict.fromkeys(f.check_name for findings in failing.values() for f in findings))


def versions(plan: Plan) -> dict[AssetPath, str]:
    """Return asset → the version of what makes it: its code, and what is declared of its artefacts.

    Dagster is told so of a change in the catalogue or an option, as of a change of the code. Of an
    asset that comes in thousands of parts the first stands for all, but for what is declared.
    """
    made: dict[AssetPath, list[Artefact]] = {}
    for planned in plan.artefacts.values():
        if planned.asset not in made or isinstance(planned.declared, Artefact):
            made.setdefault(planned.asset, []).append(planned.artefact())

    def version(found: list[Artefact]) -> str:
        facts = sorted({a.path: [a.code_version, a.parameters] for a in found}.items())
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        return f"{found[0].code_version}-{digest[:8]}"

    return {asset: version(found) for asset, found in made.items()}
