"""TOML that was parsed → declarations: every key is known, and every value of its type.

The formats say which keys name a split's members. Not here: what no single key is guilty of
(`contradictions`), or what a file has of another (`inheriting`).
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from .. import formats
from ..declarations import (
    Archive,
    Dataset,
    GzipHeader,
    Image,
    Listed,
    Member,
    Numbers,
    Reported,
    Rows,
    Source,
    Split,
    Text,
    of_version,
    version,
)
from ..errors import did_you_mean
from ._words import shown

_Kind = TypeVar("_Kind", Source, Dataset, Split)


def source_of(name: str, data: dict[str, Any]) -> tuple[Source | None, list[str]]:
    """Return the source that a file's data declare, if they can be read as one, and problems."""
    problems: list[str] = []
    written = _written(tuple(formats.known().values()))
    try:
        source = written.validate_python(data, by_alias=True, by_name=False)
    except ValidationError as error:
        findings = error.errors()
        problems += [_problem(finding) for finding in findings]
        unknown = [finding["loc"] for finding in findings if finding["type"] in _UNKNOWN_KEY]
        if len(unknown) < len(findings):
            return None, problems
        for *where, key in unknown:  # go on without: what contradicts itself is reported as well
            table: Any = data
            for step in where:
                table = table[step]
            table.pop(key, None)
        source = written.validate_python(data, by_alias=True, by_name=False)
    return _named(source, name), problems


@functools.cache
def _written(known: tuple[formats.Format, ...]) -> TypeAdapter[Any]:
    """Return what reads a source as TOML has it: the roles of all formats are keys of a split."""
    roles = {name: role for form in known for name, role in form.roles.items()}
    split = _with_keys(
        Split,
        {name: tuple[Text, ...] if role.several else Text | None for name, role in roles.items()},
        **{name: () if role.several else None for name, role in roles.items()},
    )
    # mypy wants types that are known before anything runs; these follow from the formats.
    name = Literal[tuple(form.name for form in known)]  # type: ignore[valid-type]
    splits = Mapping[str, split]  # type: ignore[valid-type]
    dataset = _with_keys(Dataset, {"format": name, "splits": splits})
    datasets = Mapping[str, dataset]  # type: ignore[valid-type]
    return TypeAdapter(_with_keys(Source, {"datasets": datasets}))


def _with_keys(kind: type, types: Mapping[str, Any], **defaults: Any) -> Any:
    """Return a declaration with more fields, or with other types of those that it has."""
    body = {"__module__": kind.__module__, "__annotations__": types, **defaults}
    return dataclass(frozen=True)(type(kind.__name__, (kind,), body))


_UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")


def _problem(error: Mapping[str, Any]) -> str:
    """Return one of pydantic's findings in our words."""
    where = ".".join(str(part) for part in error["loc"])
    match error["type"]:
        case kind if kind in _UNKNOWN_KEY:
            return f"{where}: unknown key.{did_you_mean(str(error['loc'][-1]), _keys())}"
        case "missing":
            return f"{where}: missing key"
        case _:
            return f"{where}: {error['msg']}, found {shown(error['input'])}"


def _roles() -> set[str]:
    """Return the keys of a split that name members, of whatever format."""
    return {role for form in formats.known().values() for role in form.roles}


def _keys() -> set[str]:
    """Return all that may be a key; some fields are none, or are spelt otherwise."""
    kinds: tuple[Any, ...] = (Source, Dataset, Split, Rows, Numbers, Image, Archive)
    kinds += (GzipHeader, Listed, Reported)
    found = {field.name for kind in kinds for field in fields(kind)}
    found |= {"bytes", "defaults", "each_split", "like"}
    return found - {"name", "source", "group", "size_bytes"} | _roles()


def _named(source: Any, name: str) -> Source:
    """Return what was read as declarations, with names and members filled in from the keys.

    `{dataset}` and `{split}` in what names a member stand for the names of those.
    """

    def split(key: str, found: Any, roles: Iterable[str], of: str) -> Split:
        def member(text: str) -> Member:
            text = text.replace("{dataset}", of).replace("{split}", key)
            archive, _, path = text.partition("/")
            return Member(archive, path, source.members.get(text))

        texts = {role: getattr(found, role) for role in roles}
        members = {
            role: tuple(map(member, [text] if isinstance(text, str) else text))
            for role, text in texts.items()
            if text
        }
        rows = found.rows
        if rows and rows.listed:
            rows = replace(rows, member=member(rows.listed))
        return _declared(Split, found, name=key, members=members, rows=rows)

    def dataset(key: str, found: Any) -> Dataset:
        roles = dict.fromkeys([*formats.named(found.format).roles, *sorted(_roles())])
        splits = {k: split(k, s, roles, key) for k, s in found.splits.items()}
        its_name = of_version(key, version(name))
        return _declared(Dataset, found, name=its_name, source=name, splits=splits)

    its = {of_version(key, version(name)): dataset(key, d) for key, d in source.datasets.items()}
    image_bytes = Counter[str]()
    for one in its.values():
        for part in one.splits.values():
            for key in part.archives:
                rows = max(part.records, part.rows.of if part.rows else 0)
                image_bytes[key] += rows * one.image.size_bytes
    named = {
        key: replace(archive, name=key, image_bytes=image_bytes[key])
        for key, archive in source.archives.items()
    }
    return _declared(
        Source,
        source,
        name=name,
        archives={key: archive for key, archive in named.items() if not archive.optional},
        optional_archives={key: archive for key, archive in named.items() if archive.optional},
        datasets=its,
    )


def _declared(kind: type[_Kind], found: Any, **filled_in: Any) -> _Kind:
    """Return what was read without the keys that it has in TOML alone."""
    return kind(**{f.name: getattr(found, f.name) for f in fields(kind)} | filled_in)
