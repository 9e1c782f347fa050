"""TOML → declarations: one file per source, read strictly; every problem of every file at once.

A file is parsed; what it has of another, or of its own defaults, is put under it (`inheriting`);
its keys and values are held against the types of `declarations` (`written`); and what contradicts
itself is told (`contradictions`).

Not here: which facts there are (`declarations`), fetching, decoding, or where anything lies on
disk. A fact about a dataset stands in TOML: a key more is a field in `declarations`, a sentence in
`docs/catalogue.md`, and a contradiction where it can be wrong beside others.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from .. import formats
from ..declarations import AT, Catalogue, Dataset, Source, base
from ..errors import CatalogueError
from . import contradictions, inheriting, written
from ._words import NO_NAME_FOR_A_SPLIT, VERSION, shown
from .contradictions import MOST_IMAGE_BYTES

__all__ = ["MOST_IMAGE_BYTES", "NOTHING", "load"]

NOTHING = re.compile("(?!)")


def load(
    folder: Path,
    reserved: re.Pattern[str] = NOTHING,
    names: Mapping[str, Mapping[str, type]] | None = None,
) -> Catalogue:
    """Read every `*.toml` of `folder`.

    Args:
        folder: one file for each source.
        reserved: no split may be called so, as something else is.
        names: export → key → type: what may be said of a dataset for its readers; anything where
            that is not known.

    Raises:
        CatalogueError: listing every problem of every file.
    """
    if not os.path.isdir(folder):  # a name that is too long is no folder either
        raise CatalogueError(
            f"{folder} is no folder. The catalogue is a folder with one TOML file per source."
        )
    problems: list[str] = []
    sources: dict[str, Source] = {}
    owners: dict[str, str] = {}
    currents: dict[str, inheriting.Current] = {}
    for path in sorted(folder.glob("*.toml"), key=lambda path: path.stem.partition(AT)):
        source, found = _read(path, currents)
        problems += [f"{path.name}: {problem}" for problem in found]
        if source is None:
            continue
        problems += [
            f"{path.name}: datasets.{base(dataset.name)}.splits.{name}: {NO_NAME_FOR_A_SPLIT}"
            for dataset in source.datasets.values()
            for name in dataset.splits
            if reserved.fullmatch(name)
        ]
        problems += [
            f"{path.name}: datasets.{base(dataset.name)}.readers.{problem}"
            for dataset in source.datasets.values()
            for problem in (contradictions.misnamed(dataset, names) if names is not None else ())
        ]
        for name in source.datasets:
            if name in owners:
                problems.append(f"{path.name}: dataset {name!r} is declared in {owners[name]} too")
            owners.setdefault(name, path.name)
        for one in _apart(source):
            if one.name in sources:
                problems.append(f"{path.name}: there is another source {one.name!r}")
            sources[one.name] = one
    if not problems and not sources:
        problems.append("there is no .toml file")
    if problems:
        raise CatalogueError(
            f"The catalogue in {folder} has {len(problems)} problem(s):\n  " + "\n  ".join(problems)
        )
    return Catalogue(sources)


def _read(path: Path, currents: dict[str, inheriting.Current]) -> tuple[Source | None, list[str]]:
    """Return the source, if the file can be read as one, and every problem in it.

    What a current version says is put into `currents`, for its other versions.
    """
    name, at, its_version = path.stem.partition(AT)
    problems: list[str] = []
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # bytes that are no text, numbers of 4,301 digits
        problems, data = [f"not readable as TOML: {error}"], {}
    except RecursionError:
        problems, data = ["not readable as TOML: it is nested too deeply"], {}
    if problems:
        currents[path.stem] = inheriting.Current(data, (*problems,))
        return None, problems
    if not isinstance(data.get("defaults", {}), dict):
        problems.append(f"defaults: expected a table, found {shown(data['defaults'])}")
    data, unlike = inheriting.with_others(data, path)
    problems += unlike
    data = inheriting.with_defaults(data)
    told: tuple[str, ...] = ()
    if at:
        problems += inheriting.version_problems(path.stem, data, currents)
        if name not in currents or VERSION.fullmatch(its_version) is None:
            return None, problems
        data, told = (
            inheriting.with_current(data, currents[name].data, its_version),
            currents[name].problems,
        )
        if told and not currents[name].data:
            return None, problems
    source, found = written.source_of(path.stem, inheriting.with_each_split(data))
    found += contradictions.of_source(source) if source else ()
    problems += [problem for problem in found if problem not in told]  # once is enough
    currents[path.stem] = inheriting.Current(data, (*problems,))
    return source if problems or told or source is None else _divided(source), problems


def _apart(source: Source) -> Iterator[Source]:
    """Yield the sources that a file declares: one, or one for each dataset, to have them apart."""
    if not source.apart:
        yield source
        return
    for name, dataset in source.datasets.items():
        its = {archive for split in dataset.splits.values() for archive in split.archives}
        yield replace(
            source,
            name=name,
            group=source.name,
            archives={key: archive for key, archive in source.archives.items() if key in its},
            members={k: m for k, m in source.members.items() if k.partition("/")[0] in its},
            datasets={name: replace(dataset, source=name)},
        )


def _divided(source: Source) -> Source:
    """Return a source whose splits know the parts that they come in."""
    return replace(source, datasets={key: _in_parts(one) for key, one in source.datasets.items()})


def _in_parts(dataset: Dataset) -> Dataset:
    if not any(split.parts for split in dataset.splits.values()):
        return dataset
    splits = {
        name: replace(split, divided=formats.divided(dataset, split))
        for name, split in dataset.splits.items()
    }
    return replace(dataset, splits=splits)
