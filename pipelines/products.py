"""The contract of all that is made from a dataset for others: exports and descriptions.

A product is one module in `pipelines/exports` (other people's formats), `pipelines/descriptions`
(what people and catalogues are shown) or `pipelines/parts` (what makes a whole of the parts of a
split). It declares itself in one `EXPORT`, `DESCRIPTION` or `PART`, and is found because it lies
there. From that follow its place in the plan, the Dagster asset with columns
and lineage, its options everywhere, and that it is listed, built, verified, traced, and reported to
OpenLineage. Nothing else is edited. Libraries that are heavy to import are imported inside `write`
and `read`.

Not here: what there is to make of which dataset (`pipelines.plan`), or making it.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal

from . import advice
from .declarations import Dataset, Source, Split
from .errors import ArtefactError
from .progress import Advance
from .store import Facts, Input

if TYPE_CHECKING:  # numpy takes long to import
    from .records import Batch

ROOMS = {  # room → what a module declares
    "exports": "EXPORT",
    "descriptions": "DESCRIPTION",
    "parts": "PART",
}

Scope = Literal["split", "whole", "dataset", "catalogue"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column or field of a product.

    type: in the words of its format.
    meaning: where there is none, that of the column of the table that it comes from.
    of: that column; None where it is the same for all records.
    how: whether it is taken as it is, or computed from that.
    """

    name: str
    type: str
    meaning: str = ""
    of: str | None = None
    how: Literal["identity", "transformed"] = "identity"


@dataclass(frozen=True, slots=True)
class Option:
    """What a person may choose of a product: `<product>_<name>`, with a default.

    help: a phrase for `--help` and the launchpad.
    low, high: of a number.
    choices: of a word: all there are.
    """

    name: str
    default: bool | int | str
    help: str
    low: int = 0
    high: int = 0
    choices: tuple[str, ...] = ()

    def read(self, text: str) -> int | str:
        """Return what a text chooses: a number, or a word of the choices.

        Raises:
            ValueError: it is none, or beyond what may be chosen.
        """
        if text in self.choices:
            return text
        if self.choices:
            *others, last = self.choices
            known = f"{', '.join(others)} or {last}" if others else last
            raise ValueError(f"write {known}; {self.default} is the default")
        if re.fullmatch(r"[+-]?\d{1,9}", text) and self.low <= int(text) <= self.high:
            return int(text)
        raise ValueError(f"write {self.low} to {self.high}; {self.default} is the default")


@dataclass(frozen=True, slots=True)
class Subject:
    """What something is made of: one split of a dataset, or all its splits."""

    source: Source
    dataset: Dataset
    splits: tuple[Split, ...]

    @property
    def split(self) -> Split:
        """The one split."""
        [split] = self.splits
        return split

    @property
    def records(self) -> int:
        """How many records it has."""
        return sum(split.records for split in self.splits)


@dataclass(frozen=True, slots=True)
class Inputs:
    """The files that a product is made from, up to date and held open while it is written.

    subjects: what it is made of: one split or dataset, or every dataset of the catalogue.
    paths: where each lies, by the path that it has in the data folder.
    known: their paths, sizes and SHA-256, as its provenance will tell them.
    tables: split → its Parquet table; nothing where it is one of the catalogue.
    """

    subjects: tuple[Subject, ...]
    paths: Mapping[str, Path]
    known: tuple[Input, ...]
    tables: Mapping[str, Path]

    @property
    def subject(self) -> Subject:
        """The one split or dataset."""
        [subject] = self.subjects
        return subject

    @property
    def table(self) -> Path:
        """The table of the one split."""
        return self.tables[self.subject.split.name]


@dataclass(frozen=True, slots=True)
class Stored:
    """A record as it was read back from a product, and where it stands there.

    record: one record.
    start, stop: its first byte and the one after its last, in the file.
    facts: what else tells where it is, as a key, in JSON's types.
    file: of a folder, the file that this is about: its path in the folder.
    """

    record: Batch
    start: int
    stop: int
    facts: Mapping[str, Any] = field(default_factory=dict)
    file: str = ""


@dataclass(frozen=True, slots=True)
class Reader:
    """Something of other people's that opens a product as it is.

    name: with the version that was tried: `torchvision 0.28.0`.
    versions: what has to be installed for that, as pip takes it: `torchvision==0.28.0`; nothing for
        what is no package of Python's.
    code: the lines that read it, with `{path}` (where the product lies), `{folder}` (what that lies
        in), `{dataset}`, `{split}` and `{label}` (the type of labels) where such a thing stands.
    note: a trap, in one sentence.
    """

    name: str
    versions: tuple[str, ...]
    code: str
    note: str = ""

    def lines(self, **values: str) -> str:
        """Return the lines with values in the places of their names; other braces are code."""
        code = self.code
        for name, value in values.items():
            code = code.replace(f"{{{name}}}", value)
        return code


Choices = Mapping[str, Any]
"""Option → what was chosen, by its name in the product."""


def everywhere(_dataset: Dataset) -> bool:
    """Apply to every dataset."""
    return True


def _nothing(_subject: Subject, _chosen: Choices) -> dict[str, Any]:
    return {}


@dataclass(frozen=True, slots=True)
class Product:
    """All there is to know of an export or a description.

    name: its stage: `--only csv`, the asset `mnist/train_csv`, its kind in the UI.
    title: what follows the name of a dataset or split: "as CSV: …".
    scope: whether there is one of each split (of each part, where it comes in parts), one of each
        `whole` split that comes in parts, one of each dataset, or one of the catalogue, which is of
        all datasets that it applies to: it is made whichever of them are asked for.
    of_parts: whether there is one of a dataset with a split that comes in parts: where it is of a
        split, one of every part; otherwise it is made of those parts that are there.
    files: where it lies in the data folder, with `{dataset}` and `{split}`; a folder, which
        appears whole, where it ends in `/`.
    code_version: raised when its bytes can change though nothing else does.
    write: (inputs, goal, choices, advance) → facts; writes the file `goal`, or into the empty
        folder `goal`, tells how many records are done, and returns what it found out.
    needs: the stages that it is made from.
    uses: the stages that it shows where they are there; of each dataset, as with those it needs.
    applies: whether there is one of a dataset.
    needs_labels: whether it can do nothing with records that have none: there is none of a split
        without labels, and one of a dataset has the splits with labels alone.
    parameters: (subject, choices) → what decides its bytes beside inputs and code, in JSON's types;
        of one of the catalogue it is asked for each dataset.
    read: (path, subject, start, stop) → its records in order; `ArtefactError` where one is not
        there, or can't be one. Required where it holds any.
    room: bytes of an image → bytes that a record takes, for the warning before a disk fills.
    reproducible: where the same bytes come out again: `everywhere`, or with the `same libraries`;
        what comes out so on `one machine` or `never` is no part of a lock, and deep verification
        compares its records, or leaves it out where it holds none.
    repeats_here: (path) → whether a file like this one comes out here, for what depends on the
        machine too.
    sidecar: whether a file beside it says what it was made from.
    kind: what the UI marks it as, if not by its name.
    libraries: whose versions are recorded, where those of all are not; never a reason to rebuild.
    names: key → `str` or `bool`: what the catalogue may say of a dataset for its readers
        (`[datasets.mnist.readers.<name>]`), where they insist on names.
    requires, extra: the libraries that not everybody has, as they are installed, and the optional
        dependencies in pyproject.toml that bring them.
    read_by: who opens it as it is.
    measured: of MNIST's train (of both splits, where it is one of each dataset), on two cores with
        nothing else to do: its size in MB of 10^6 bytes, and the seconds that making it takes.
    """

    name: str
    title: str
    scope: Scope
    files: str
    code_version: str
    write: Callable[[Inputs, Path, Choices, Advance], Facts]
    needs: tuple[str, ...] = ("tables",)
    uses: tuple[str, ...] = ()
    applies: Callable[[Dataset], bool] = everywhere
    needs_labels: bool = True
    of_parts: bool | None = None
    columns: tuple[Column, ...] = ()
    options: tuple[Option, ...] = ()
    parameters: Callable[[Subject, Choices], dict[str, Any]] = _nothing
    read: Callable[[Path, Subject, int, int], Iterator[Stored]] | None = None
    room: Callable[[int], int] = lambda _image: 0
    reproducible: Literal["everywhere", "same libraries", "one machine", "never"] = "everywhere"
    repeats_here: Callable[[Path], bool] = lambda _path: True
    sidecar: bool = False
    kind: str = ""
    libraries: tuple[str, ...] = ()
    names: Mapping[str, type] = field(default_factory=dict)
    extra: str | None = None
    requires: tuple[str, ...] = ()
    read_by: tuple[Reader, ...] = ()
    measured: tuple[float, float] | None = None

    def path(self, subject: Subject) -> str:
        """Return where it lies in the data folder."""
        split = subject.split.name if self.scope in ("split", "whole") else ""
        return self.files.format(dataset=subject.dataset.name, split=split).rstrip("/")

    @property
    def is_made_of_parts(self) -> bool:
        """Whether there is one where a split comes in parts: unless it says so, if of a split."""
        return self.scope == "split" if self.of_parts is None else self.of_parts

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder of several files."""
        return self.files.endswith("/")

    def columns_of(self, dataset: Dataset) -> tuple[Column, ...]:
        """Return its columns, without those of coarse labels where a dataset has none.

        Labels that are uint8 are uint16 of more classes than a byte tells apart.
        """
        from .records import label_type  # numpy takes long to import

        counts = {"label": len(dataset.classes), "coarse_label": len(dataset.coarse_classes)}
        return tuple(
            replace(column, type=label_type(counts[column.of]).name)
            if column.type == "uint8" and column.of in counts
            else column
            for column in self.columns
            if dataset.coarse_classes or not str(column.of).startswith("coarse_")
        )

    def lines(self, reader: Reader, subject: Subject, data: PurePath) -> str:
        """Return the lines with which a reader opens it in a data folder; of the first split."""
        from .records import label_type  # numpy takes long to import

        place = data / self.path(subject)
        return reader.lines(
            path=str(place),
            folder=str(place.parent),
            dataset=subject.dataset.name,
            split=subject.splits[0].name,
            label=label_type(len(subject.dataset.classes)).name,
        ).strip("\n")

    @property
    def lacking(self) -> str:
        """Why it can be neither made nor read here, as a sentence; empty where it can."""
        missing = [name for name in self.requires if not _is_installed(name)]
        if not missing:
            return ""
        return (
            f"{self.name} needs {' and '.join(missing)}, which not everybody has. Install it: "
            + advice.fitting(
                f".venv/bin/python -m pip install {' '.join(missing)}",
                f'pip install "imagesets[{self.extra}]"',
            )
        )

    def require(self) -> None:
        """Refuse to go on where a library is not there.

        Raises:
            ArtefactError: with the command that installs it.
        """
        if self.lacking:
            raise ArtefactError(self.lacking)

    def chosen(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return its own choices, by their short names, of all options there are."""
        return {
            option.name: options.get(f"{self.name}_{option.name}", option.default)
            for option in self.options
        }


def _is_installed(library: str) -> bool:
    """Return whether a library is there, by the name that it is installed by."""
    from importlib import metadata  # takes a twentieth of a second to import

    try:
        metadata.distribution(library)
    except metadata.PackageNotFoundError:
        return False
    return True


@functools.cache
def known() -> Mapping[str, Product]:
    """Return every product by its name, in alphabetical order.

    Raises:
        TypeError: a module in one of the rooms declares no product.
    """
    found = {product.name: product for room in ROOMS for product in _lying_in(room)}
    return {name: found[name] for name in sorted(found)}


def names() -> dict[str, Mapping[str, type]]:
    """Return product → what the catalogue may say of a dataset for its readers."""
    return {name: product.names for name, product in known().items()}


def room_of(name: str) -> str:
    """Return the room in which a product lies: `exports` or `descriptions`."""
    return next(room for room in ROOMS if any(one.name == name for one in _lying_in(room)))


@functools.cache
def _lying_in(room: str) -> tuple[Product, ...]:
    package = importlib.import_module(f".{room}", __package__)
    found = []
    for lying in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if lying.name.rpartition(".")[2].startswith("_"):
            continue  # a helper
        product = getattr(importlib.import_module(lying.name), ROOMS[room], None)
        if not isinstance(product, Product):
            raise TypeError(
                f"{lying.name} declares no {ROOMS[room]} = Product(…), as every module of its room "
                "does but for helpers, whose names begin with _."
            )
        if product.scope == "catalogue" and (product.read or room == "exports"):
            raise TypeError(f"{lying.name} is of the catalogue, but records are those of a split.")
        found.append(product)
    return tuple(found)
