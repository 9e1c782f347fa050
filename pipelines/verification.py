"""Verification: is every artefact still what it was, and what its archive says it must be?

Not here: mending anything (whoever asks builds what is not whole), or deciding what a build must
do (`pipelines.lineage`, which does not read a file again that nobody wrote to since; here nothing
is trusted, and everything is read).

`look` and `shallow` hash artefacts and hold them against their records. `deep` decodes the archives
again and compares every record of the tables, CSV and LMDB, and every figure of the statistics,
with them, and holds the Croissant documents against the tables.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, Protocol

import lmdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import croissant, files, formats, lineage, seen, statistics, tables
from pipelines.catalogue import Dataset, Source, Split
from pipelines.errors import ImagesetsError, MadeByNewer
from pipelines.exports import to_csv, to_lmdb
from pipelines.formats import Batch
from pipelines.hashing import Sight
from pipelines.lineage import Artefact, Condition
from pipelines.work import WORKERS, Advance, ahead, unwatched


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


def look(data: Path, paths: Sequence[str], advance: Advance = unwatched) -> dict[str, Sight]:
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


def shallow(data: Path, artefact: Artefact, sight: Sight | None) -> Verdict:
    """Hold what was seen of an artefact against its record, and both against the catalogue.

    Args:
        data: the data folder.
        artefact: as it would be made now.
        sight: of its file, just now; None where there is no file that can be read.
    """
    sha256 = sight.sha256 if sight else None
    try:
        state = lineage.judged(data, artefact, sight)
    except MadeByNewer as error:
        return Verdict(artefact.path, "unknown", str(error), sha256)
    return Verdict(artefact.path, state.condition, state.reason or "", sha256)


class _Copy(Protocol):
    """A finished artefact that is held against decoded batches, one after the other."""

    path: str

    def compare(self, first: int, batch: Batch) -> str | None:
        """Return what differs between these records and the artefact's; `first` is an index."""

    def end(self) -> str | None:
        """Return what the artefact has beyond the last record."""


def deep(
    data: Path,
    source: Source,
    dataset: Dataset,
    paths: Collection[str],
    advance: Advance = unwatched,
    *,
    csv_header: bool = False,
) -> list[Verdict]:
    """Decode the archives of a dataset again and compare what was made from them.

    Args:
        data: the data folder.
        source: whose archives they are.
        dataset: what they hold.
        paths: the artefacts to compare: those that are whole by their hashes. LMDB's library maps a
            file and follows every number in it; a damaged one can end the process.
        advance: is told how many records were compared.
        csv_header: whether CSVs begin with the names of their columns.

    Returns:
        a verdict for each table, CSV, LMDB, statistics file and Croissant document: `whole`, or
        `changed` with the first record that differs.

    Raises:
        MemberError, FormatError: the archives do not hold what the catalogue declares.
    """
    verdicts: list[Verdict] = []
    parts: list[pa.Table] = []
    folder = data / files.archives(source.name)
    for split in dataset.splits.values():
        sums = statistics.nothing(len(dataset.classes), dataset.image.shape)
        with contextlib.ExitStack() as stack:
            copies = list(_copies(stack, data, source, dataset, split, paths, csv_header))
            if not copies and files.statistics(dataset.name) not in paths:
                continue  # nothing to compare: its members may not even be those declared now
            differences: dict[str, str] = {}
            first = 0
            decoded = tables.decoded(source, dataset, split, folder)
            stack.enter_context(contextlib.closing(decoded))
            for batch in stack.enter_context(contextlib.closing(ahead(decoded))):
                statistics.add(sums, batch)
                for copy in copies:
                    if copy.path not in differences and (why := copy.compare(first, batch)):
                        differences[copy.path] = why
                first += len(batch)
                advance(len(batch))
            for copy in copies:
                if copy.path not in differences and (why := copy.end()):
                    differences[copy.path] = why
        verdicts += [_verdict(copy.path, differences.get(copy.path)) for copy in copies]
        parts.append(statistics.rows(tables.declared(source, dataset, split), sums))
    path = files.statistics(dataset.name)
    if path in paths:
        verdicts.append(_verdict(path, _differing_statistics(data / path, pa.concat_tables(parts))))
    path = files.croissant(dataset.name)
    record = lineage.recorded(data, path)
    if path in paths and record is not None:  # whole: so its inputs are the tables as they are now
        expected_text = croissant.text(source, dataset, record.inputs)
        is_right = (data / path).read_bytes() == expected_text.encode()
        verdicts.append(_verdict(path, None if is_right else "it does not describe these tables"))
    return verdicts


def _verdict(path: str, difference: str | None) -> Verdict:
    return Verdict(path, "changed", difference) if difference else Verdict(path, "whole")


def _copies(
    stack: contextlib.ExitStack,
    data: Path,
    source: Source,
    dataset: Dataset,
    split: Split,
    paths: Collection[str],
    csv_header: bool,
) -> Iterator[_Copy]:
    table = files.table(dataset.name, split.name)
    if table in paths:
        schema = tables.arrow_schema(source, dataset, split)
        yield _Table(table, data / table, dataset, split, schema)
    csv = files.csv(dataset.name, split.name)
    if csv in paths:
        yield _Csv(csv, stack.enter_context((data / csv).open("rb")), dataset, csv_header)
    mdb = files.lmdb(dataset.name, split.name)
    if mdb in paths:
        yield _Lmdb(mdb, stack, data / mdb, dataset, split)


class _Table:
    def __init__(
        self, path: str, file: Path, dataset: Dataset, split: Split, schema: pa.Schema
    ) -> None:
        self.path, self._file, self._dataset, self._split = path, file, dataset, split
        self._schema = schema

    def compare(self, first: int, batch: Batch) -> str | None:
        try:
            if first == 0 and (why := self._misdescribed()):
                return why
            found = tables.to_arrow(self._file, first, first + len(batch))
        except ImagesetsError as error:
            return str(error)
        expected: dict[str, Any] = {
            "index": np.arange(first, first + len(batch), dtype=np.uint32),
            "label": batch.labels,
            "class": np.array(self._dataset.classes, object)[batch.labels],
        }
        if batch.coarse_labels is not None:
            expected["coarse_label"] = batch.coarse_labels
            names = np.array(self._dataset.coarse_classes, object)
            expected["coarse_class"] = names[batch.coarse_labels]
        for name, column in expected.items():
            there = found[name]
            if pa.types.is_dictionary(there.type):
                there = there.cast(pa.string())
            differs = column != there.to_numpy(zero_copy_only=False)
            if differs.any():
                at = int(differs.argmax())
                return (
                    f"record {first + at:,}: {name} is {there[at]}, but the archive "
                    f"says {column[at]}"
                )
        images = found["image"].combine_chunks().to_numpy_ndarray().reshape(batch.images.shape)
        return _differing_pixels(first, batch.images, images)

    def _misdescribed(self) -> str | None:
        tables.info(self._file)  # refuses what is no table
        found, expected = pq.read_schema(self._file), self._schema
        if not found.equals(expected):
            return f"its columns are {_columns(found)}; expected {_columns(expected)}"
        return None if found.metadata == expected.metadata else "its metadata are of another table"

    def end(self) -> str | None:
        try:
            records = tables.info(self._file).records
        except ImagesetsError as error:
            return str(error)
        return _too_many(records, self._split.records)


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


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)


def _differing_pixels(first: int, expected: formats.Pixels, found: formats.Pixels) -> str | None:
    if np.array_equal(expected, found):
        return None
    differs = (expected != found).reshape(len(expected), -1)
    at = int(differs.any(axis=1).argmax())
    y, x, channel = np.unravel_index(int(differs[at].argmax()), expected.shape[1:])
    return (
        f"record {first + at:,}: pixel (row {y}, column {x}, channel {channel}) is "
        f"{found[at, y, x, channel]}, but the archive says {expected[at, y, x, channel]}"
    )


def _too_many(found: int, expected: int) -> str | None:
    return f"it has {found:,} records, but the archive {expected:,}" if found != expected else None


def _differing_statistics(path: Path, expected: pa.Table) -> str | None:
    try:
        found = pq.read_table(path).replace_schema_metadata(None)
    except (OSError, pa.ArrowException) as error:
        return f"it can't be read: {error}"
    expected = expected.replace_schema_metadata(None)
    if found.equals(expected):
        return None
    if found.schema != expected.schema or len(found) != len(expected):
        return "its columns or rows are not those of these statistics"
    name = next(n for n in expected.column_names if not found[n].equals(expected[n]))
    rows = zip(found[name].to_pylist(), expected[name].to_pylist(), strict=True)
    row = next(n for n, (a, b) in enumerate(rows) if a != b)
    where = json.dumps({k: expected[k][row].as_py() for k in ("split", "class")})
    return f"row {row} {where}: {name} is not what the archive says"
