"""A split that comes in parts, read as one table: by its manifest, which lists them.

    tables/quickdraw/train.json               the manifest
    tables/quickdraw/train/part-00012.parquet a part

Whoever has the manifest's path, or that of the folder of the parts, reads the split by it. Parts
that were not built are told of when one of their records is asked for. Not here: writing a manifest
(`pipelines.parts.manifest`), or a part's own table (`opening`, `rows`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..advice import TABLE_AGAIN
from ..errors import TableError
from . import opening
from .opening import Info

FORMAT = "imagesets-parts/1"


@dataclass(frozen=True, slots=True)
class Part:
    """One part that is here: its table, as it was listed, and which records of the split it has."""

    path: Path
    key: str
    first: int
    records: int
    size_bytes: int
    sha256: str

    @property
    def stop(self) -> int:
        """The index after that of its last record."""
        return self.first + self.records


@dataclass(frozen=True, slots=True)
class Whole:
    """A split in parts.

    about: what there is to know of the whole split; its records are those that are declared.
    parts: those that are here, in order.
    declared: how many there can be.
    """

    path: Path
    about: Info
    parts: tuple[Part, ...]
    declared: int

    @property
    def is_complete(self) -> bool:
        """Whether all of its parts are here."""
        return len(self.parts) == self.declared

    def between(self, start: int, stop: int) -> list[tuple[Part, int, int]]:
        """Return the parts that hold records `start` to `stop`, and which of their rows these are.

        Raises:
            TableError: some of the records are in no part that is here.
        """
        found, at = [], start
        for part in self.parts:
            low, high = max(part.first, start), min(part.stop, stop)
            if low < high:
                if low > at:
                    break
                found.append((part, low - part.first, high - part.first))
                at = high
        if at < stop:
            name = f"{self.about.dataset}/{self.about.split}"
            raise TableError(
                f"{name} comes in {self.declared:,} parts, of which {len(self.parts):,} are here: "
                f"record {at:,} is in none of them. Build the others too."
            )
        return found


def none_of(dataset: str) -> str:
    """Return what to say where a whole is asked for, and none of its parts is here."""
    return f"None of the parts of {dataset} is here. Build some of them first."


def is_whole(path: Path) -> bool:
    """Return whether a path is that of a split in parts: of its manifest, or its parts' folder."""
    return path.suffix == ".json" or (path.suffix != ".parquet" and path.is_dir())


def whole(path: Path) -> Whole:
    """Return what a manifest says, by its path or that of the folder of the parts.

    Raises:
        TableError: there is none, or it is damaged.
    """
    path = path.with_name(f"{path.name}.json") if path.suffix != ".json" else path
    try:
        said = json.loads(path.read_bytes())
        if said["format"] != FORMAT:
            raise ValueError(f"expected format {FORMAT}, found {said['format']!r:.40}")
        about = _about(said)
        parts = tuple(_part(path.parent, part) for part in said["parts"])
        if not parts:
            raise ValueError("it lists none")
        ends = [0, *(part.stop for part in parts)]
        if any(part.first < end for part, end in zip(parts, ends, strict=False)):
            raise ValueError("its parts overlap")
        return Whole(path, about, parts, int(said["parts_declared"]))
    except FileNotFoundError:
        raise TableError(
            f"{path} is not there: it lists the parts of a split. {TABLE_AGAIN}"
        ) from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise TableError(
            f"{path} is no list of a split's parts ({type(error).__name__}: {error}). {TABLE_AGAIN}"
        ) from error


def info(path: Path) -> Info:
    """Return what a table says of itself, or the manifest of a split in parts.

    Raises:
        TableError: there is no such file, or it is no table of ours.
    """
    return whole(path).about if is_whole(path) else opening.opened(path).about


def opened(whole: Whole, part: Part) -> opening.Opened:
    """Open the table of a part, and hold it against the manifest.

    Raises:
        TableError: it is not there, no table of ours, or another than the one that was listed.
    """
    table = opening.opened(part.path)
    about = table.about
    about_it = "(dataset, shape, first index, records, bytes)"
    expected = (whole.about.dataset, whole.about.shape, part.first, part.records, part.size_bytes)
    found = (about.dataset, about.shape, about.first, about.records, table.source.size())
    if found != expected:
        raise TableError(
            f"{part.path} is not the part that {whole.path} lists: expected {about_it} {expected}, "
            f"found {found}. {TABLE_AGAIN}"
        )
    return table


def _about(said: dict[str, Any]) -> Info:
    return Info(
        str(said["dataset"]),
        str(said["split"]),
        int(said["records"]),
        (int(said["shape"][0]), int(said["shape"][1]), int(said["shape"][2])),
        tuple(map(str, said["classes"])),
        tuple(map(str, said["coarse_classes"])),
    )


def _part(folder: Path, said: dict[str, Any]) -> Part:
    if {".", "..", ""} & {*str(said["path"]).split("/")}:
        raise ValueError(f"{said['path']!r:.80} is no plain path")
    return Part(
        folder / str(said["path"]),
        str(said["key"]),
        int(said["first"]),
        int(said["records"]),
        int(said["bytes"]),
        str(said["sha256"]),
    )
