"""What a file, or a dataset, does not say itself: of which other one it has it.

`NAME@VERSION.toml` has what it does not say as `NAME.toml`, the current version, has it; `like`
names another file or dataset; `[defaults]` and `each_split` stand under all datasets of a file and
all splits of a dataset. All of it is shallow: what says a key itself has it as it says. Here TOML
is taken as it was parsed. Not here: whether it can be true (`written`, `contradictions`).
"""

from __future__ import annotations

import contextlib
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..declarations import AT, base, version
from ..errors import did_you_mean
from ._words import NAME, VERSION, shown

# What is true of the bytes of one version is not of another's.
_OF_ONE_VERSION = ("archives", "datasets", "members", "mirrors", "published", "superseded")
_OF_ONE_VERSIONS_RECORDS = ("mean", "quirks", "reported", "std")

# What is true of the bytes of a file, or of the records of a dataset, is not of what is like it.
_OF_ONE_FILE = ("archives", "datasets", "members", "published", "superseded")
_OF_ONE_DATASET = ("mean", "readers", "reported", "std")


@dataclass(frozen=True)
class Current:
    """What a file that versions may go by says, and what is wrong with it."""

    data: Mapping[str, Any]
    problems: tuple[str, ...]


def version_problems(
    name: str, data: Mapping[str, Any], currents: Mapping[str, Current]
) -> Iterator[str]:
    """Yield what a version's file contradicts of the current one's."""
    if not VERSION.fullmatch(version(name)):
        yield (
            f"the file's name must be NAME{AT}VERSION: a version is lower-case letters, digits, "
            f"points and hyphens, found {version(name)!r:.40}"
        )
    if base(name) not in currents:
        yield f"there is no {base(name)}.toml, of which this would be a version"
        return
    if data.get("on_request") is False:
        yield "on_request: what is not current is made on request, and can't be otherwise"
    there = currents[base(name)].data.get("datasets")
    known = there if isinstance(there, dict) else {}
    declared = data.get("datasets")
    for dataset in declared if isinstance(declared, dict) and known else ():
        if dataset not in known:
            yield (
                f"datasets.{dataset}: {base(name)}.toml declares no such dataset, of which this "
                f"would be a version.{did_you_mean(dataset, known)}"
            )


def with_current(
    data: Mapping[str, Any], current: Mapping[str, Any], its_version: str
) -> dict[str, Any]:
    """Return a version's data with what it does not say as the current one has it: shallow.

    Titles say the version, so that nobody takes one for the other.
    """
    inherited = {key: value for key, value in current.items() if key not in _OF_ONE_VERSION}
    merged = _titled(inherited, its_version) | dict(data) | {"on_request": True}
    known, declared = current.get("datasets"), data.get("datasets")
    if not isinstance(known, dict) or not isinstance(declared, dict):
        return merged

    def dataset(name: str, said: Any) -> Any:
        there = known.get(name)
        if not isinstance(there, dict) or not isinstance(said, dict):
            return said
        lasting = {key: there[key] for key in there if key not in _OF_ONE_VERSIONS_RECORDS}
        return _titled(lasting, its_version) | said

    merged["datasets"] = {name: dataset(name, said) for name, said in declared.items()}
    return merged


def _titled(said: Mapping[str, Any], its_version: str) -> dict[str, Any]:
    title = said.get("title")
    return (
        {**said, "title": f"{title}, version {its_version}"} if isinstance(title, str) else {**said}
    )


def with_others(data: dict[str, Any], path: Path) -> tuple[dict[str, Any], list[str]]:
    """Return a file's data with what it does not say as the file has it that it is `like`.

    A dataset may be like another of either file. Shallow, no nesting: what says a key itself has it
    as it says. What is true of certain bytes is said of those alone.
    """
    problems: list[str] = []

    def under(said: Mapping[str, Any], known: Mapping[str, Any], not_of: Collection[str]) -> Any:
        """Return a table with the keys of the one that it is like, if that can be told."""
        own = {key: value for key, value in said.items() if key != "like"}
        if "like" not in said:
            return own
        name = said["like"] if isinstance(said["like"], str) else ""
        if not isinstance(there := known.get(name), dict):
            near = did_you_mean(name, known)
            problems.append(f"like: there is nothing called {shown(said['like'])}.{near}")
        elif "like" in there:
            problems.append(f"like: {name} is like another one itself; name {shown(there['like'])}")
        else:
            return {key: value for key, value in there.items() if key not in not_of} | own
        return own

    other, files = str(data.get("like")), dict[str, Any]()
    if NAME.fullmatch(other) and other != path.stem:
        with contextlib.suppress(OSError, ValueError, RecursionError):  # it tells of that itself
            files[other] = tomllib.loads(path.with_name(f"{other}.toml").read_text("utf-8"))
    merged = under(data, files, _OF_ONE_FILE)
    if isinstance(here := data.get("datasets"), dict):
        there = files[other].get("datasets") if files else {}
        known = {**(there if isinstance(there, dict) else {}), **here}
        found = dict[str, Any]()
        for key, said in here.items():
            told = len(problems)
            found[key] = under(said, known, _OF_ONE_DATASET) if isinstance(said, dict) else said
            problems[told:] = [f"datasets.{key}.{problem}" for problem in problems[told:]]
        merged["datasets"] = found
    return merged, problems


def with_defaults(data: dict[str, Any]) -> dict[str, Any]:
    """Return the file's data with `[defaults]` under every dataset.

    Shallow, no nesting: what says a key itself has it as it says.
    """
    data = dict(data)
    defaults = data.pop("defaults", {})
    if "datasets" in data:
        data["datasets"] = _under(defaults, data["datasets"])
    return data


def with_each_split(data: dict[str, Any]) -> dict[str, Any]:
    """Return data with a dataset's `each_split` under all of its splits; shallow, too."""

    def with_it(dataset: Any) -> Any:
        if not (isinstance(dataset, dict) and isinstance(dataset.get("each_split"), dict)):
            return dataset
        splits = _under(dataset["each_split"], dataset.get("splits"))
        said = {key: value for key, value in dataset.items() if key != "each_split"}
        return said if splits is None else said | {"splits": splits}

    datasets = data.get("datasets")
    if not isinstance(datasets, dict):
        return data
    return data | {"datasets": {name: with_it(dataset) for name, dataset in datasets.items()}}


def _under(defaults: object, tables: Any) -> Any:
    """Return tables with what all of them say that do not say otherwise."""
    if not (isinstance(defaults, dict) and isinstance(tables, dict)):
        return tables
    return {
        name: {**defaults, **table} if isinstance(table, dict) else table
        for name, table in tables.items()
    }
