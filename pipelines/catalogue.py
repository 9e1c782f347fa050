"""TOML → declarations: one file per source, read strictly; every problem of every file at once.

Not here: which facts there are (`declarations`), fetching, decoding, or where anything lies on
disk. A fact about a dataset stands in TOML. The formats say which keys name a split's members, and
which datasets they can't hold.

`NAME@VERSION.toml`, beside `NAME.toml`, declares what a publisher released under the same names at
another time: it says what differs, and all else is as the current one has it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import tomllib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from . import formats
from .declarations import (
    AT,
    Archive,
    Catalogue,
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
    base,
    of_version,
    version,
)
from .errors import CatalogueError, did_you_mean
from .records import MOST_CLASSES

_Kind = TypeVar("_Kind", Source, Dataset, Split)

MOST_IMAGE_BYTES = 2**31 - 1  # Arrow counts the bytes of a `fixed_size_binary` in an int32

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_VERSION = re.compile(r"[0-9a-z][0-9a-z.-]*")
# What is true of the bytes of one version is not of another's.
_OF_ONE_VERSION = ("archives", "datasets", "members", "mirrors", "published", "superseded")
_OF_ONE_VERSIONS_RECORDS = ("mean", "quirks", "reported", "std")
_NO_NAME_FOR_A_SPLIT = (
    "a split is called train, test or the like; this name is taken or not allowed"
)
_TAKEN = ("index", "class", "coarse_label", "coarse_class", "pixels", "image")
NOTHING = re.compile("(?!)")

# What is true of the bytes of a file, or of the records of a dataset, is not of what is like it.
_OF_ONE_FILE = ("archives", "datasets", "members", "published", "superseded")
_OF_ONE_DATASET = ("mean", "readers", "reported", "std")


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
    currents: dict[str, _Current] = {}
    for path in sorted(folder.glob("*.toml"), key=lambda path: path.stem.partition(AT)):
        source, found = _read(path, currents)
        problems += [f"{path.name}: {problem}" for problem in found]
        if source is None:
            continue
        problems += [
            f"{path.name}: datasets.{base(dataset.name)}.splits.{name}: {_NO_NAME_FOR_A_SPLIT}"
            for dataset in source.datasets.values()
            for name in dataset.splits
            if reserved.fullmatch(name)
        ]
        problems += [
            f"{path.name}: datasets.{base(dataset.name)}.readers.{problem}"
            for dataset in source.datasets.values()
            for problem in (_misnamed(dataset, names) if names is not None else ())
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


@dataclass(frozen=True)
class _Current:
    """What a file that versions may go by says, and what is wrong with it."""

    data: Mapping[str, Any]
    problems: tuple[str, ...]


def _read(path: Path, currents: dict[str, _Current]) -> tuple[Source | None, list[str]]:
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
        currents[path.stem] = _Current(data, (*problems,))
        return None, problems
    if not isinstance(data.get("defaults", {}), dict):
        problems.append(f"defaults: expected a table, found {_shown(data['defaults'])}")
    data, unlike = _with_others(data, path)
    problems += unlike
    data = _with_defaults(data)
    told: tuple[str, ...] = ()
    if at:
        problems += _version_problems(path.stem, data, currents)
        if name not in currents or _VERSION.fullmatch(its_version) is None:
            return None, problems
        data, told = _with_current(data, currents[name].data, its_version), currents[name].problems
        if told and not currents[name].data:
            return None, problems
    source, found = _declared_in(path.stem, _with_each_split(data))
    problems += [problem for problem in found if problem not in told]  # once is enough
    currents[path.stem] = _Current(data, (*problems,))
    return source if problems or told or source is None else _divided(source), problems


def _declared_in(name: str, data: dict[str, Any]) -> tuple[Source | None, list[str]]:
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
    source = _named(source, name)
    return source, [*problems, *_contradictions(source)]


def _version_problems(
    name: str, data: Mapping[str, Any], currents: Mapping[str, _Current]
) -> Iterator[str]:
    """Yield what a version's file contradicts of the current one's."""
    if not _VERSION.fullmatch(version(name)):
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


def _with_current(
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


def _with_others(data: dict[str, Any], path: Path) -> tuple[dict[str, Any], list[str]]:
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
            problems.append(f"like: there is nothing called {_shown(said['like'])}.{near}")
        elif "like" in there:
            problems.append(
                f"like: {name} is like another one itself; name {_shown(there['like'])}"
            )
        else:
            return {key: value for key, value in there.items() if key not in not_of} | own
        return own

    other, files = str(data.get("like")), dict[str, Any]()
    if _NAME.fullmatch(other) and other != path.stem:
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


def _with_defaults(data: dict[str, Any]) -> dict[str, Any]:
    """Return the file's data with `[defaults]` under every dataset.

    Shallow, no nesting: what says a key itself has it as it says.
    """
    data = dict(data)
    defaults = data.pop("defaults", {})
    if "datasets" in data:
        data["datasets"] = _under(defaults, data["datasets"])
    return data


def _with_each_split(data: dict[str, Any]) -> dict[str, Any]:
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
            return f"{where}: {error['msg']}, found {_shown(error['input'])}"


def _shown(value: Any) -> str:
    """Return the beginning of what was found, as Python writes it."""
    try:
        return f"{value!r:.80}"
    except ValueError:  # 0xfff… may have more digits than Python writes
        return "a number that is too large"
    except RecursionError:
        return "tables that are nested too deeply"


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


def _declared(kind: type[_Kind], found: Any, **filled_in: Any) -> _Kind:
    """Return what was read without the keys that it has in TOML alone."""
    return kind(**{f.name: getattr(found, f.name) for f in fields(kind)} | filled_in)


def _contradictions(source: Source) -> Iterator[str]:
    """Yield what no single key is guilty of."""
    if not _NAME.fullmatch(base(source.name)):
        yield "the file's name must be lower-case letters, digits and underscores"
    schemes = [url.partition(":")[0] for url in source.mirrors]
    if "https" in schemes and "http" in schemes[schemes.index("https") :]:
        yield "mirrors: an http mirror may not stand after an https one"
    yield from _archive_contradictions(source)
    yield from _apart_contradictions(source)
    read = {
        str(member)
        for dataset in source.datasets.values()
        for split in dataset.splits.values()
        for part in (*split.members.values(), _lists(split))
        for member in part
    }
    for text in source.members:
        if text not in read:
            yield f"members.{text}: no split reads it.{did_you_mean(text, read)}"
    for dataset in source.datasets.values():
        if (size := dataset.image.size_bytes) > MOST_IMAGE_BYTES:
            yield (
                f"datasets.{base(dataset.name)}.image: {dataset.image} takes {size:,} bytes, but a "
                f"record of a table has room for {MOST_IMAGE_BYTES:,}"
            )
        for problem in _dataset_contradictions(dataset):
            yield f"datasets.{base(dataset.name)}: {problem}"
        for split in dataset.splits.values():
            for problem in _split_contradictions(source, dataset, split):
                yield f"datasets.{base(dataset.name)}.splits.{split.name}: {problem}"


def _archive_contradictions(source: Source) -> Iterator[str]:
    for name, archive in (*source.archives.items(), *source.optional_archives.items()):
        if not archive.hashes:
            yield (
                f"archives.{name}: give md5 or sha256, or both; without a hash nobody could say "
                "whether a file is the right one"
            )
        if (
            not name.isprintable()
            or not name
            or "/" in name
            or "\\" in name
            or name.startswith(".")
        ):
            yield f"archives.{name}: must be a plain file name"
        if archive.members and not archive.optional:
            yield (
                f"archives.{name}.members: only an optional archive lists members so; what is "
                f'known of one that a split reads stands in [members."{name}/…"]'
            )
        for path in archive.members:
            if not _is_plain(path):
                yield f"archives.{name}.members: {path} is no plain path inside an archive"


def _apart_contradictions(source: Source) -> Iterator[str]:
    """Yield what keeps datasets from being sources of their own, where they are to be that."""
    if not source.apart:
        return
    read = Counter(
        archive
        for dataset in source.datasets.values()
        for archive in {name for split in dataset.splits.values() for name in split.archives}
    )
    for name in (*source.archives, *source.optional_archives):
        if read[name] != 1:
            yield (
                f"apart: each archive has to be read by one dataset, and {read[name] or 'none'} "
                f"read(s) {name}"
            )


def _is_plain(path: str) -> bool:
    """Return whether a path inside an archive leads nowhere else."""
    return not {"", ".", ".."} & set(path.split("/"))


def _lists(split: Split) -> tuple[Member, ...]:
    """Return the member that lists the rows of a split, if there is one."""
    return (split.rows.member,) if split.rows and split.rows.member else ()


def _dataset_contradictions(dataset: Dataset) -> Iterator[str]:
    is_its_sources = dataset.name == of_version(base(dataset.name), version(dataset.source))
    if not (_NAME.fullmatch(base(dataset.name)) and is_its_sources):
        yield "a name is lower-case letters, digits and underscores"
    if not dataset.splits:
        yield "there is no split"
    for key, classes in (("classes", dataset.classes), ("coarse_classes", dataset.coarse_classes)):
        if twice := _duplicates(classes):
            yield f"{key}: {twice} stand(s) there twice"
    for key in ("classes", "coarse_classes"):
        if len(getattr(dataset, key)) > MOST_CLASSES:
            yield f"{key}: a label is two bytes at most, so there can be {MOST_CLASSES:,} at most"
    if not dataset.classes:
        yield "classes: there must be at least one"
    yield from _label_contradictions(dataset)
    yield from _folder_contradictions(dataset)
    yield from formats.named(dataset.format).refuses(dataset)
    for key in ("mean", "std"):
        if len(getattr(dataset, key)) not in (0, dataset.image.channels):
            yield f"{key}: expected {dataset.image.channels} value(s), one per channel"
    if bool(dataset.mean) != bool(dataset.std):
        yield "mean and std: give both or neither"
    for at, one in enumerate(dataset.reported):
        for problem in _report_contradictions(one, dataset.reported[:at]):
            yield f"reported.{at}: {problem}"


def _label_contradictions(dataset: Dataset) -> Iterator[str]:
    published, classes = dataset.class_labels, len(dataset.classes)
    if published and len(published) != classes:
        yield f"class_labels: expected {classes}, one per class, found {len(published)}"
    if len({*published}) != len(published):
        yield "class_labels: two classes have the same label"
    if published and dataset.first_label:
        yield "give first_label or class_labels, not both"
    if dataset.columns and "label" not in dataset.columns:
        yield "columns: one of them has to be called label"
    for name in dataset.extras:
        if name in _TAKEN or not _NAME.fullmatch(name):
            yield (
                f"columns.{name}: a name is lower-case letters, digits and underscores, and none "
                f"of {', '.join(_TAKEN)}"
            )


def _folder_contradictions(dataset: Dataset) -> Iterator[str]:
    form = formats.named(dataset.format)
    if not any(role.is_folder for role in form.roles.values()):
        for key in ("folders", "grey"):
            if getattr(dataset, key):
                yield f"{key}: format {form.name} reads no folders of images"


def _report_contradictions(one: Reported, before: Sequence[Reported]) -> Iterator[str]:
    if (one.accuracy is None) == (one.error_percent is None):
        yield "give accuracy or error_percent, as it was published"
    if one in before:
        yield f"{one.method} stands there twice"


def _split_contradictions(source: Source, dataset: Dataset, split: Split) -> Iterator[str]:
    if not _NAME.fullmatch(split.name):
        yield _NO_NAME_FOR_A_SPLIT
    for key, counts, classes in (
        ("counts", split.counts, dataset.classes),
        ("coarse_counts", split.coarse_counts, dataset.coarse_classes),
    ):
        if counts and not split.labelled:
            yield f"{key}: a split without labels has none"
        elif counts and len(counts) != len(classes):
            yield f"{key}: expected {len(classes)} numbers, one per class, found {len(counts)}"
        elif counts and sum(counts) != split.records:
            yield f"{key}: they add up to {sum(counts):,}, but records is {split.records:,}"
    form = formats.named(dataset.format)
    yield from _part_contradictions(form, split)
    yield from _row_contradictions(split)
    yield from _role_contradictions(form, split)
    for role, members in (*split.members.items(), ("rows.listed", _lists(split))):
        for member in members:
            if member.path and not _is_plain(member.path):
                yield f"{role}: {member} is no plain path inside an archive"
            if member.archive in source.optional_archives:
                yield f"{role}: {member} is in an optional archive, and every split is fetched"
            elif member.archive not in source.archives:
                yield (
                    f"{role}: {member} is in no declared archive."
                    f"{did_you_mean(member.archive, source.archives)}"
                )


def _role_contradictions(form: formats.Format, split: Split) -> Iterator[str]:
    wanted = form.roles
    if not split.labelled and not form.label_roles:
        yield f"labelled: format {form.name} holds labels with the images"
    for role in sorted({*wanted, *split.members}):
        if role in form.label_roles and not split.labelled:
            if role in split.members:
                yield f"{role}: a split without labels has none"
        elif role not in split.members:
            if role in wanted and wanted[role].is_optional:
                continue
            yield f"{role}: missing key (format {form.name} reads {' and '.join(wanted)})"
        elif role not in wanted:
            yield f"{role}: format {form.name} reads {' and '.join(wanted)} only"


def _row_contradictions(split: Split) -> Iterator[str]:
    if (rows := split.rows) is None:
        return
    if (rows.first is None) == (rows.listed is None):
        yield "rows: give first, or listed and line"
    if (rows.listed is None) != (rows.line is None):
        yield "rows: listed names a member, and line which line of it"
    if (rows.first or 0) + split.records > rows.of:
        yield (
            f"rows: {split.records:,} records from {rows.first or 0:,} on, but the members hold "
            f"{rows.of:,}"
        )


def _part_contradictions(form: formats.Format, split: Split) -> Iterator[str]:
    if split.parts != "members":
        return
    if form.by_member is None:
        yield (
            f"parts: format {form.name} does not tell how many records each member holds; give a "
            "number of records for each part"
        )
    names = [PurePosixPath(str(m)).stem for of_role in split.members.values() for m in of_role]
    if twice := _duplicates(names):
        yield f"parts: {twice} would be the name of several parts"


def _misnamed(dataset: Dataset, known: Mapping[str, Mapping[str, type]]) -> Iterator[str]:
    """Yield what is said for readers of exports that don't ask for it."""
    asking = [export for export in known if known[export]]
    for export, names in dataset.readers.items():
        if not (keys := known.get(export, {})):
            yield (
                f"{export}: no export asks for names of its readers.{did_you_mean(export, asking)}"
            )
            continue
        for key, value in names.items():
            if key not in keys:
                yield f"{export}.{key}: unknown key.{did_you_mean(key, keys)}"
            elif not isinstance(value, keys[key]):
                wanted = "true or false" if keys[key] is bool else "text"
                yield f"{export}.{key}: Input should be {wanted}, found {_shown(value)}"


def _duplicates(names: Sequence[str]) -> str:
    return ", ".join(sorted(name for name, times in Counter(names).items() if times > 1))
