"""Verification: is every artefact still what it was, and what its archive says it must be?

Not here: mending anything (whoever asks builds what is not whole), or deciding what a build must
do (`pipelines.store.state`, which does not read a file again that nobody wrote to since; here
nothing is trusted, and everything is read).

`hash_files` and `verify` hash artefacts and hold them against their records. `verify_deeply`
decodes the archives again and compares what was made from them: every byte where the same libraries made it, otherwise
every record and figure. It holds the Croissant documents against the tables.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Literal, Protocol

import lmdb
import pyarrow as pa
import pyarrow.parquet as pq

from .. import statistics, tables
from ..declarations import Dataset, Source, Split
from ..descriptions import croissant
from ..errors import ImagesetsError, MadeByNewer, StorageError
from ..exports import records as exported
from ..exports import to_csv, to_lmdb
from ..progress import Advance, silent
from ..records import Batch
from ..store import hashing, layout, provenance, seen, state, writing
from ..store.hashing import Identity, Sight
from ..store.provenance import Artefact, Provenance
from ..store.state import Condition
from ..threads import WORKERS


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of an artefact.

    condition: as of `lineage.State`; or `undeclared`: the archive says so too, but the catalogue
        says otherwise; or `uncompared`: whole by its hash, and there is nothing to compare it with.
    why: a clause, empty where it is whole.
    sha256: of its bytes; None where they could not be read.
    """

    path: str
    condition: Condition | Literal["undeclared", "uncompared"]
    why: str = ""
    sha256: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether there is nothing to complain about."""
        return self.condition == "whole"


def hash_files(data: Path, paths: Sequence[str], advance: Advance = silent) -> dict[str, Sight]:
    """Read files, side by side; return path → what was seen, of those that can be read.

    Args:
        data: the data folder.
        paths: relative to it.
        advance: is told how many bytes were read.
    """

    def look_at(path: str) -> tuple[str, Sight | None]:
        with contextlib.suppress(OSError):
            sight = seen.look_anew(data, path)
            advance(sight.identity.size_bytes)
            return path, sight
        return path, None

    there = [path for path in dict.fromkeys(paths) if (data / path).is_file()]
    there.sort(key=lambda path: -(data / path).stat().st_size)  # the longest work first
    with ThreadPoolExecutor(WORKERS) as pool:
        return {path: sight for path, sight in pool.map(look_at, there) if sight}


def verify(data: Path, artefact: Artefact, sight: Sight | None) -> Verdict:
    """Hold what was seen of an artefact against its record, and both against the catalogue.

    Args:
        data: the data folder.
        artefact: as it would be made now.
        sight: of its file, just now; None where there is no file that can be read.
    """
    with contextlib.suppress(OSError):
        if sight and sight.identity != Identity.of((data / artefact.path).stat()):
            sight = seen.look_anew(data, artefact.path)  # somebody made it again meanwhile
    sha256 = sight.sha256 if sight else None
    try:
        found = state.decide_from(data, artefact, sight)
    except MadeByNewer as error:
        return Verdict(artefact.path, "unknown", str(error), sha256)
    return Verdict(artefact.path, found.condition, found.reason or "", sha256)


class _Copy(Protocol):
    """A finished artefact that is held against decoded batches, one after the other."""

    path: str

    def compare(self, first: int, batch: Batch) -> str | None:
        """Return what differs between these records and the artefact's; `first` is an index."""

    def end(self) -> str | None:
        """Return what the artefact has beyond the last record."""


def verify_deeply(
    data: Path,
    source: Source,
    dataset: Dataset,
    paths: Set[str],
    advance: Advance = silent,
    *,
    csv_header: bool = False,
) -> list[Verdict]:
    """Decode the archives of a dataset again and compare what was made from them.

    Where the same libraries made it, everything is made again in a scratch folder, and the bytes
    must be the same; what differs is told by its first record. Otherwise the records decide.

    Args:
        data: the data folder.
        source: whose archives they are.
        dataset: what they hold.
        paths: the artefacts to compare: those that are whole by their hashes.
        advance: is told how many records were compared.
        csv_header: whether CSVs begin with the names of their columns.

    Returns:
        a verdict for each table, CSV, LMDB, statistics file and Croissant document: `whole`, or
        `changed` with what differs.

    Raises:
        MemberError, FormatError: the archives do not hold what the catalogue declares.
        StorageError: there is no room to make a table and its LMDB again.
    """
    made = {path: provenance.recorded(data, path) for path in paths}
    known = {path: record for path, record in made.items() if record is not None}
    verdicts: list[Verdict] = []
    parts: dict[Path, statistics.Sums] = {}
    with _scratch(data) as scratch:
        for split in dataset.splits.values():
            if not paths & _of_split(dataset, split):
                continue  # nothing to compare: its members may not even be those declared now
            table = scratch / f"{split.name}.parquet"
            found, parts[table] = _compared(
                data, source, dataset, split, known, table, advance, csv_header=csv_header
            )
            verdicts += found
        judged = {verdict.path: verdict for verdict in verdicts}
        path = layout.statistics(dataset.name)
        if path in known:
            verdicts.append(
                _of_tables(known[path], judged)
                or _verdict(path, _wrong_statistics(data, known[path], parts, scratch))
            )
    path = layout.croissant(dataset.name)
    if path in known:
        verdicts.append(
            _of_tables(known[path], judged)
            or _verdict(path, _wrong_croissant(data, source, dataset, known[path]))
        )
    return verdicts


def _of_tables(record: Provenance, judged: Mapping[str, Verdict]) -> Verdict | None:
    """Return what must be said of an artefact that names its tables, where these are not whole."""
    for table in (made_from.path for made_from in record.inputs):
        if table not in judged:
            return Verdict(record.path, "uncompared", f"{table} is not whole")
        if not judged[table].is_whole:
            return Verdict(record.path, "changed", f"it was made from {table} with wrong bytes")
    return None


def _of_split(dataset: Dataset, split: Split) -> set[str]:
    """Return what is made of a split, or of all splits."""
    return {
        layout.table(dataset.name, split.name),
        layout.csv(dataset.name, split.name),
        layout.lmdb(dataset.name, split.name),
        layout.statistics(dataset.name),
    }


def _compared(
    data: Path,
    source: Source,
    dataset: Dataset,
    split: Split,
    known: Mapping[str, Provenance],
    table: Path,
    advance: Advance,
    *,
    csv_header: bool,
) -> tuple[list[Verdict], statistics.Sums]:
    """Make a table again at `table`; return verdicts of what is made of the split, and its sums."""
    sums = statistics.nothing(len(dataset.classes), dataset.image.shape)
    differences: dict[str, str] = {}
    path, mdb = (of(dataset.name, split.name) for of in (layout.table, layout.lmdb))
    with contextlib.ExitStack() as stack:
        copies = list(_copies(stack, data, source, dataset, split, known, csv_header))
        records = 0

        def compare(batch: Batch) -> None:
            nonlocal records
            statistics.add(sums, batch)
            for copy in copies:
                compared = partial(copy.compare, records, batch)
                if copy.path not in differences and (why := _difference(compared)):
                    differences[copy.path] = why
            records += len(batch)
            advance(len(batch))

        folder, level = data / layout.archives(source.name), tables.COMPRESSION_LEVEL
        if path in known:
            level = known[path].parameters["compression"]["compression_level"]
        tables.write(
            source, dataset, split, folder, table, observe=compare, compression_level=level
        )
        for copy in copies:
            if copy.path not in differences and (why := _difference(copy.end)):
                differences[copy.path] = why
    if (
        path in known
        and _is_repeatable(known[path])
        and hashing.sha256(table) != known[path].sha256
    ):
        differences.setdefault(path, _OTHER_BYTES)
    if mdb in known and _is_repeatable(known[mdb], data):
        # Not opened to say more: LMDB's library follows every number in a file, and a damaged one
        # can end the process.
        again = table.with_name("data.mdb")
        to_lmdb.write(table, again, to_lmdb.KEY_DIGITS[dataset.format])
        if hashing.sha256(again) != known[mdb].sha256:
            differences[mdb] = _OTHER_BYTES
        again.unlink()
    wanted = [copy.path for copy in copies] + [mdb] * (mdb in known)
    found = dict.fromkeys(wanted)
    return [_verdict(name, differences.get(name)) for name in found], sums


_OTHER_BYTES = "its bytes are not those that the same libraries make of the archive"


def _is_repeatable(record: Provenance, data: Path | None = None) -> bool:
    """Whether the same bytes would come again here: the libraries are the same, and the page size.

    data: the data folder, for what depends on the page size of the machine: LMDB.
    """
    installed = provenance.versions()
    if any(installed.get(name) != record.run.versions.get(name) for name in _DECIDE_BYTES):
        return False
    if data is None:
        return True
    with hashing.opened(data / record.path) as file:
        return exported.page_bytes(file) == to_lmdb.PAGE_BYTES


_DECIDE_BYTES = ("pyarrow", "numpy", "polars", "lmdb")


@contextlib.contextmanager
def _scratch(data: Path) -> Iterator[Path]:
    """Give a folder that is gone afterwards: in the data folder, or where that is read-only, else.

    One process at a time has it; what a killed one left is removed first.
    """
    with contextlib.ExitStack() as stack:
        folder = data / layout.SCRATCH
        try:
            stack.enter_context(writing.locked(folder))
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        except (OSError, StorageError):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="imagesets-")))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        yield folder


def _difference(compare: Callable[[], str | None]) -> str | None:
    """Return what a comparison finds; bytes that a library chokes on are a difference too."""
    try:
        return compare()
    except (ImagesetsError, OSError, ValueError, pa.ArrowException, lmdb.Error) as error:
        return f"it can't be read: {error}"


def _verdict(path: str, difference: str | None) -> Verdict:
    return Verdict(path, "changed", difference) if difference else Verdict(path, "whole")


def _copies(
    stack: contextlib.ExitStack,
    data: Path,
    source: Source,
    dataset: Dataset,
    split: Split,
    known: Mapping[str, Provenance],
    csv_header: bool,
) -> Iterator[_Copy]:
    table = layout.table(dataset.name, split.name)
    if table in known:
        yield tables.Comparison(table, data / table, source, dataset, split)
    csv = layout.csv(dataset.name, split.name)
    if csv in known:
        yield _Csv(csv, stack.enter_context((data / csv).open("rb")), dataset, csv_header)
    mdb = layout.lmdb(dataset.name, split.name)
    if mdb in known and not _is_repeatable(known[mdb], data):
        yield _Lmdb(mdb, stack, data / mdb, dataset, split)


class _Csv:
    def __init__(self, path: str, file: IO[bytes], dataset: Dataset, header: bool) -> None:
        self.path, self._file = path, file
        self._expected = to_csv.first_line(dataset.image.size_bytes) if header else b""

    def compare(self, first: int, batch: Batch) -> str | None:
        read = self._file.read
        if self._expected and read(len(self._expected)) != self._expected:
            return "its first line is not the header"
        self._expected = b""
        for lines in to_csv.lines(batch):
            found = read(len(lines))
            if found != lines:
                at = next(
                    (n for n, (a, b) in enumerate(zip(found, lines, strict=False)) if a != b),
                    len(found),
                )
                record = first + lines[:at].count(b"\n")
                return f"record {record:,}: its line is not what the archive says"
            first += lines.count(b"\n")
        return None

    def end(self) -> str | None:
        more = self._file.read(1)
        return "it goes on after the last record" if more else None


class _Lmdb:
    def __init__(
        self,
        path: str,
        stack: contextlib.ExitStack,
        file: Path,
        dataset: Dataset,
        split: Split,
    ) -> None:
        self.path, self._split = path, split
        digits = to_lmdb.KEY_DIGITS[dataset.format]
        self._items = to_lmdb.messages(
            dataset.image.shape, len(dataset.classes), split.records, digits
        )
        self._broken: str | None = None
        try:
            self._database = stack.enter_context(
                lmdb.open(str(file), subdir=False, readonly=True, lock=False)
            )
            self._cursor = stack.enter_context(self._database.begin()).cursor()
            self._found: Iterator[tuple[bytes, bytes]] = iter(self._cursor)
        except lmdb.Error as error:
            self._broken = f"LMDB can't open it: {error}"

    def compare(self, first: int, batch: Batch) -> str | None:
        if self._broken:
            return self._broken
        try:
            for at, expected in enumerate(self._items(batch, first)):
                if (found := next(self._found, None)) != expected:
                    what = "is missing" if found is None else "is not what the archive says"
                    return f"record {first + at:,}: its datum {what}"
        except lmdb.Error as error:
            return f"LMDB can't read it: {error}"
        return None

    def end(self) -> str | None:
        if self._broken:
            return self._broken
        return _too_many(int(self._database.stat()["entries"]), self._split.records)


def _too_many(found: int, expected: int) -> str | None:
    return f"it has {found:,} records, but the archive {expected:,}" if found != expected else None


def _wrong_croissant(
    data: Path, source: Source, dataset: Dataset, record: Provenance
) -> str | None:
    """Return what is wrong with a Croissant document whose tables are whole."""
    expected = croissant.text(source, dataset, record.inputs).encode()
    is_right = (data / record.path).read_bytes() == expected
    return None if is_right else "it does not describe these tables"


def _wrong_statistics(
    data: Path, record: Provenance, sums: Mapping[Path, statistics.Sums], scratch: Path
) -> str | None:
    """Return what is wrong with statistics; `sums` are those of the tables made again."""
    parts = [statistics.rows(tables.info(table), added) for table, added in sums.items()]
    expected = pa.concat_tables(parts)
    if why := _difference(partial(_differing_statistics, data / record.path, expected)):
        return why
    again = scratch / "statistics.parquet"
    made_from = Artefact(
        record.path, record.stage, record.code_version, record.parameters, record.inputs
    )
    statistics.write(sums, again, known=sums, made_from=made_from)
    is_right = not _is_repeatable(record) or hashing.sha256(again) == record.sha256
    return None if is_right else _OTHER_BYTES


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
