"""Deep verification: is every artefact what the archives say it must be?

The archives are decoded again. Tables and statistics are held against them record by record and
figure by figure. An export or a description is made again from them, one at a time, in scratch
space beside the data, and its bytes must be the same; where other libraries or another machine made
it, its records are read back and compared. So nothing has to be written here for a new one. What
comes out the same on one machine only, and holds no records, is left out: its hash says all there
is to know.

Not here: whether files still have the bytes that were recorded (`pipelines.lineage.shallow`).
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .. import advice, statistics, tables
from ..declarations import Dataset, Split
from ..errors import ArtefactError, ImagesetsError, StorageError
from ..plan import Plan, Planned
from ..products import Product, Subject
from ..progress import Advance, silent
from ..records import Batch
from ..statistics.expectations import Finding
from ..store import Artefact, Provenance, Store, hashing, layout, provenance, writing
from ..tables import comparing
from . import differences, parts, status
from .shallow import Verdict

OTHER_BYTES = "its bytes are not those that the same libraries make of the archive"
_DECIDE_NOTHING = {"python", "imagesets", "isal", "dagster"}  # of the bytes that come out


def verify(
    store: Store, plan: Plan, dataset: Dataset, whole: Collection[str], advance: Advance = silent
) -> list[Verdict]:
    """Decode the archives of a dataset again and compare what was made from them.

    Args:
        store: where everything lies.
        plan: all there can be of the catalogue.
        dataset: what was made of it is compared.
        whole: paths of what is whole by its hashes.
        advance: called with how many records were compared.

    Returns:
        a verdict for each artefact that is whole by its hashes and can be compared: `whole` still,
        or `changed` with what differs, or `uncompared` where not all that it needs of the archives
        is whole.

    Raises:
        MemberError, FormatError: the archives do not hold what the catalogue declares.
        StorageError: there is no room to make an artefact again.
    """
    comparable = (one for one in plan.of([dataset]) if one.can_be_compared and one.subject)
    made = [one for one in comparable if one.path in whole]
    archives = [one.path for one in plan.of([dataset], ["archives"])]
    missing = [path for path in archives if path not in whole]
    why = f"not all of its archives are here and whole: {', '.join(missing)}"
    lacking = {one.path for one in made if plan.needed([one]) & {*missing}}
    uncompared = [Verdict(path, "uncompared", why) for path in sorted(lacking)]
    there = [one for one in made if one.path not in lacking]
    if not there:
        return uncompared
    source = plan.declared.source_of(dataset)
    subject = Subject(source, dataset, tuple(dataset.splits.values()))
    with _scratch(store) as scratch:
        work = _Work(store, scratch, plan.options, whole)
        of_parts = _by_part(there)
        for piece in dataset.pieces:
            mine = of_parts.pop(piece.name, [])
            # Where nothing is made of it, its members may not even be those declared now.
            if not mine and (piece.is_part or not any(_shows(one, piece) for one in there)):
                continue
            _decode(work, replace(subject, splits=(piece,)), advance)
            if piece.is_part:  # one at a time: all of them may be more than the disk holds
                _compare(work, mine)
                work.forget(piece)
        _compare(work, [one for one in there if not one.part])
    right = {path for path, verdict in work.verdicts.items() if verdict.is_whole}
    failing = status.failing(store, dataset, right, anew=True)
    return [*uncompared, *(_declared(work.verdicts[one.path], failing) for one in there)]


def _by_part(there: Iterable[Planned]) -> dict[str, list[Planned]]:
    """Return part of a split → what was made of it alone."""
    found: dict[str, list[Planned]] = {}
    for one in there:
        if one.part and one.subject:
            found.setdefault(one.subject.split.name, []).append(one)
    return found


def _shows(one: Planned, split: Split) -> bool:
    return one.subject is not None and any(mine.name == split.name for mine in one.subject.splits)


def of_catalogue(
    store: Store, plan: Plan, planned: Planned, found: Mapping[str, Verdict]
) -> Verdict:
    """Make what is of all datasets again, and compare.

    Args:
        store: where everything lies.
        plan: all there can be of the catalogue.
        planned: whole by its hashes.
        found: what became of all else, by its path.

    Raises:
        StorageError: there is no room to make it again.
    """
    whole = {path for path, verdict in found.items() if verdict.has_recorded_bytes}
    with _scratch(store) as scratch:
        work = _Work(store, scratch, plan.options, whole, verdicts={**found})
        for made_from in work.known(planned.path).inputs:
            one, verdict = plan.artefacts.get(made_from.path), found.get(made_from.path)
            if one and one.stage == "tables" and verdict and verdict.condition == "uncompared":
                return Verdict(planned.path, "uncompared", verdict.why)
        return _compared(work, planned)


@dataclass(frozen=True, slots=True)
class _Work:
    """What is known so far of what is compared with archives.

    whole: paths of what is whole by its hashes.
    tables, sums: of each split that was decoded, made again.
    """

    store: Store
    scratch: Path
    options: Mapping[str, Any]
    whole: Collection[str]
    tables: dict[str, Path] = field(default_factory=dict)
    sums: dict[Path, statistics.Sums] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)

    def forget(self, piece: Split) -> None:
        """Remove the table of a part that was made again."""
        again = self.tables.pop(piece.name)
        del self.sums[again]
        again.unlink()

    def known(self, path: str) -> Provenance:
        """Return the provenance of something whole."""
        found = provenance.latest(self.store, path)
        if found is None:
            raise ArtefactError(f"{path} changed while it was verified. Verify again.")
        return found


def _decode(work: _Work, subject: Subject, advance: Advance) -> None:
    """Make the table of a split again; hold the one there is, if whole, against the archives."""
    dataset, split = subject.dataset, subject.split
    path = layout.table(dataset.name, split.name)
    again = work.scratch / f"{split.name.replace('/', '-')}.parquet"
    sums = statistics.nothing_of(tables.declared(subject.source, dataset, split))
    made = work.known(path) if path in work.whole else None
    level = tables.COMPRESSION_LEVEL
    if made is not None:
        level = made.parameters["compression"]["compression_level"]
    comparison = comparing.Comparison(path, work.store.local(path), subject.source, dataset, split)
    elsewhere = differences.of_decoders(made, dataset) if made else ""
    wrong: list[str] = []
    excused: list[str] = []
    records = 0

    def observe(batch: Batch) -> None:
        nonlocal records
        statistics.add(sums, batch)
        if made is not None and not wrong:
            why = _difference(partial(comparison.compare, records, batch))
            is_excused = elsewhere and comparison.is_slight
            (excused if is_excused else wrong).extend(filter(None, [why]))
        records += len(batch)
        advance(len(batch))

    folder = work.store.local(layout.archives(subject.source.name))
    tables.write(
        subject.source, dataset, split, folder, again, observe=observe, compression_level=level
    )
    work.tables[split.name], work.sums[again] = again, sums
    if made is None:
        return
    if not wrong:
        wrong.extend(filter(None, [_difference(comparison.end)]))
    if excused and not wrong:
        # What was made of it is held against itself, not against pixels that nobody else has.
        shutil.copyfile(work.store.local(path), again)
        work.sums[again] = statistics.summarise(again)
        why = (
            f"{excused[0]}. But {elsewhere}, which may read images otherwise. To have it as it is "
            f"read here: {advice.TABLE_AGAIN}"
        )
        work.verdicts[path] = Verdict(path, "uncompared", why)
        return
    if not wrong and _same_libraries(made) and hashing.sha256(again) != made.sha256:
        wrong.append(OTHER_BYTES)
    work.verdicts[path] = _verdict(path, next(iter(wrong), None))


def _compare(work: _Work, some: Iterable[Planned]) -> None:
    """Hold what was made of tables against what it must be."""
    for one in some:
        if one.stage != "tables":
            work.verdicts[one.path] = _compared(work, one)


def _compared(work: _Work, planned: Planned) -> Verdict:
    """Hold statistics, an export or a description against what it must be, if that can be done."""
    try:
        return _held(work, planned)
    except ModuleNotFoundError as error:
        return Verdict(planned.path, "uncompared", advice.how_to_install(error))


def _held(work: _Work, planned: Planned) -> Verdict:
    made, product = work.known(planned.path), planned.product
    if verdict := _by_its_inputs(work, planned, made):
        return verdict
    if product is None:
        return _verdict(planned.path, _wrong_statistics(work, planned, made))
    can_repeat = product.reproducible == "everywhere" or (
        product.reproducible == "same libraries"
        and _same_libraries(made)
        and product.repeats_here(work.store.local(planned.path))
    )
    if not can_repeat and product.read is None:
        why = "it can't be made again here to the same bytes"
        return Verdict(planned.path, "uncompared", why)
    if can_repeat and _made_again(work, planned, product, made) == made.sha256:
        return Verdict(planned.path, "whole")
    wrong = _differing_record(work, planned, product) if product.read else None
    return _verdict(planned.path, wrong or (OTHER_BYTES if can_repeat else None))


def _by_its_inputs(work: _Work, planned: Planned, made: Provenance) -> Verdict | None:
    """Return what is to say of an artefact that can't be compared, or was made from wrong bytes."""
    product = planned.product
    if product and product.lacking:
        return Verdict(planned.path, "uncompared", product.lacking)
    for path in planned.needs:
        if layout.is_archive(path) and path not in work.whole:
            return Verdict(planned.path, "uncompared", f"{path} is not here and whole")
    if product and product.read:
        return None  # whatever it was made from, its records are compared
    for path in (made_from.path for made_from in made.inputs):  # it tells which tables
        if layout.is_archive(path):
            continue
        if path not in work.whole:
            return Verdict(planned.path, "uncompared", f"{path} is not whole")
        # What was not compared may be shown: it has the bytes that are recorded.
        verdict = work.verdicts.get(path)
        if verdict and verdict.condition not in ("whole", "uncompared"):
            why = f"it was made from {path} with wrong bytes"
            return Verdict(planned.path, "changed", why)
    return None


def _made_again(work: _Work, planned: Planned, product: Product, made: Provenance) -> str:
    """Return the SHA-256 of an export or a description that is made again."""
    if (free := shutil.disk_usage(work.scratch).free) < made.size_bytes:
        raise StorageError(
            f"{planned.path} has {made.size_bytes:,} bytes, but only {free:,} are free to make it "
            f"again in {work.scratch}. Free some space."
        )
    goal = work.scratch / "again" / Path(planned.path).name
    goal.parent.mkdir()
    if product.is_folder:
        goal.mkdir()
    splits = planned.subject.splits if planned.subject else ()
    of_splits = {split.name: work.tables[split.name] for split in splits if not split.divided}
    try:
        inputs = planned.opened(work.store, made.inputs, of_splits)
        product.write(inputs, goal, product.chosen(work.options), silent)
        return hashing.sha256(goal)
    finally:
        shutil.rmtree(goal.parent)


def _differing_record(work: _Work, planned: Planned, product: Product) -> str | None:
    """Return what is wrong with the first record that is not what the archives say."""
    return _difference(partial(_first_difference, work, planned, product))


def _first_difference(work: _Work, planned: Planned, product: Product) -> str | None:
    subject, path = planned.subject, work.store.local(planned.path)
    assert subject is not None
    assert product.read is not None
    for split in subject.splits:
        one, index = replace(subject, splits=(split,)), 0
        # In one go: some can only be read from their start.
        found = product.read(path, one, 0, split.records)
        for batch in tables.batches(work.tables[split.name]):
            for at in range(len(batch)):
                if (stored := next(found, None)) is None:
                    return f"record {index + at:,} is missing"
                for _, why in differences.of_record(stored.record, batch.between(at, at + 1)):
                    return f"record {index + at:,}: {why}"
            index += len(batch)
        with contextlib.suppress(ArtefactError):
            if next(product.read(path, one, index, index + 1), None):
                return "it goes on after the last record"
    return None


def _wrong_statistics(work: _Work, planned: Planned, made: Provenance) -> str | None:
    """Return what is wrong with statistics; those of the tables made again are right.

    Those of a split in parts are made again of the sums of its parts, which are compared by now.
    """
    again = work.scratch / "statistics.parquet"
    artefact = Artefact(made.path, made.stage, made.code_version, made.parameters, made.inputs)
    subject = planned.subject
    if subject and subject.dataset.is_in_parts:
        here = {made_from.path for made_from in made.inputs}
        found = parts.sums(work.store, subject, here)
        statistics.write_of_parts(found, again, made_from=artefact)
        expected = pq.read_table(again)
    else:
        expected = _expected_statistics(work)
        statistics.write(work.sums, again, known=work.sums, made_from=artefact)
    if why := _difference(partial(_differing_statistics, work.store.local(made.path), expected)):
        return why
    is_right = not _same_libraries(made) or hashing.sha256(again) == made.sha256
    return None if is_right else OTHER_BYTES


def _expected_statistics(work: _Work) -> pa.Table:
    found = [statistics.rows(tables.info(table), sums) for table, sums in work.sums.items()]
    return pa.concat_tables(found)


def _differing_statistics(path: Path, expected: pa.Table) -> str | None:
    found = pq.read_table(path).replace_schema_metadata(None)
    expected = expected.replace_schema_metadata(None)
    if found.equals(expected):
        return None
    if found.schema != expected.schema or len(found) != len(expected):
        return "its columns or rows are not those of these statistics"
    name = next(n for n in expected.column_names if not found[n].equals(expected[n]))
    rows = zip(found[name].to_pylist(), expected[name].to_pylist(), strict=True)
    row = next((n for n, (a, b) in enumerate(rows) if a != b), 0)
    where = json.dumps({k: expected[k][row].as_py() for k in ("split", "class")})
    return f"row {row} {where}: {name} is not what the archive says"


def _declared(verdict: Verdict, failing: Mapping[str, Sequence[Finding]]) -> Verdict:
    """Return a verdict that tells what the catalogue says otherwise, too."""
    why = [f"check {f.check_name} failed: {f}" for f in failing.get(verdict.path, ())]
    return replace(verdict, condition="undeclared", why="; ".join(why)) if why else verdict


def _same_libraries(made: Provenance) -> bool:
    """Whether all that decided the bytes of an artefact is here in the same version."""
    names = made.run.versions.keys() - _DECIDE_NOTHING
    installed = provenance.versions(tuple(sorted(names)))
    return all(installed.get(name) == made.run.versions[name] for name in names)


def _difference(compare: Callable[[], str | None]) -> str | None:
    """Return what a comparison finds; bytes that a library chokes on are a difference too."""
    try:
        return compare()
    except (ImagesetsError, OSError, ValueError, pa.ArrowException) as error:
        return f"it can't be read: {error}"


def _verdict(path: str, difference: str | None) -> Verdict:
    return Verdict(path, "changed", difference) if difference else Verdict(path, "whole")


@contextlib.contextmanager
def _scratch(store: Store) -> Iterator[Path]:
    """Give a folder that is gone afterwards: in the data folder, or where that is read-only, else.

    One process at a time has it; what a killed one left is removed first.
    """
    with contextlib.ExitStack() as stack:
        folder = store.place(layout.SCRATCH)
        try:
            stack.enter_context(writing.locked(folder))
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        except (OSError, StorageError):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="imagesets-")))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        yield folder
