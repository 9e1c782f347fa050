"""The plan: every artefact there can be of a catalogue.

    archives → tables → statistics, exports and descriptions

What is made from what, where it lies, and what it is called stand here and nowhere else: Dagster's
assets, jobs, `list`, `build --only`, `verify`, `lock`, `trace`, refresh and `mirror` read it. A new
export or description comes into it by itself (`pipelines.products`). Not here: whether anything is
up to date (`pipelines.lineage.status`), or making it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import archives, products, stages, statistics, tables
from . import catalogue as declarations
from .declarations import Catalogue, Dataset, Source
from .products import Inputs, Product, Subject
from .stages import DEFAULT
from .store import Artefact, Input, Store, layout
from .store.artefacts import LIBRARIES

AssetPath = tuple[str, str]
"""The key of an asset, without Dagster: `("mnist", "train_csv")`."""


@dataclass(frozen=True, slots=True)
class Planned:
    """An artefact that there can be.

    stage: what makes it.
    asset: the asset that it is, or is a part of.
    path: where it lies in the data folder; of a folder's one file, that file.
    subject: what it holds records of, or tells of; None for an archive.
    needs, uses: the paths of what it is made from; and of what it shows where that is there.
    product: its declaration, where it is an export or a description.
    declared: the artefact as it would be made: known already, or a function of its inputs.
    """

    stage: str
    asset: AssetPath
    path: str
    source: Source
    subject: Subject | None
    needs: tuple[str, ...]
    uses: tuple[str, ...]
    product: Product | None
    declared: Artefact | Callable[[tuple[Input, ...]], Artefact] = field(repr=False, compare=False)

    @property
    def holds_records(self) -> bool:
        """Whether single records can be read back from it."""
        return self.stage == "tables" or bool(self.product and self.product.read)

    def is_at(self, place: Path) -> bool:
        """Whether a file, or a folder where it is one, lies at a place."""
        return place.is_dir() if self.product and self.product.is_folder else place.is_file()

    @property
    def remedy(self) -> str:
        """How to have it."""
        if self.subject is None:
            return f"Fetch it: python -m assets fetch {self.source.name}"
        return f"Build it: python -m assets build {self.subject.dataset.name} --only {self.stage}"

    def artefact(self, sha256: Callable[[str], str | None] = lambda _path: None) -> Artefact:
        """Return it as it would be made now; `sha256` tells what lies at a path, if anything."""
        if isinstance(self.declared, Artefact):
            return self.declared
        needed = [Input(path, sha256(path)) for path in self.needs]
        used = [Input(path, found) for path in self.uses if (found := sha256(path))]
        return self.made_from((*needed, *used))

    def made_from(self, inputs: tuple[Input, ...]) -> Artefact:
        """Return it as it would be made from inputs."""
        return self.declared if isinstance(self.declared, Artefact) else self.declared(inputs)

    def opened(self, store: Store, inputs: tuple[Input, ...], tables: Mapping[str, Path]) -> Inputs:
        """Return inputs as an export or a description gets them; `tables` are those of splits."""
        if self.subject is None:
            raise TypeError("an archive is made from nothing here")
        lying = {made_from.path: store.local(made_from.path) for made_from in inputs}
        return Inputs(self.subject, lying, inputs, tables)


@dataclass(frozen=True, slots=True)
class Plan:
    """All there can be of a catalogue, in an order in which it can be made.

    artefacts: path → artefact.
    options: what was chosen of `stages.options()`.
    """

    declared: Catalogue
    artefacts: dict[str, Planned]
    options: Mapping[str, Any]

    def of(
        self, datasets: Iterable[Dataset], stages: Collection[str] | None = None
    ) -> tuple[Planned, ...]:
        """Return what there can be of datasets, of some stages (or all), with all that it needs."""
        chosen = list(datasets)
        names = {dataset.name for dataset in chosen}
        sources = {dataset.source for dataset in chosen}
        wanted = {
            one.path
            for one in self.artefacts.values()
            if (stages is None or one.stage in stages)
            and (one.source.name in sources if one.subject is None else _name(one) in names)
        }
        for one in reversed(self.artefacts.values()):
            if one.path in wanted:
                wanted.update(one.needs)
        assets = {self.artefacts[path].asset for path in wanted}  # made as wholes
        return tuple(one for one in self.artefacts.values() if one.asset in assets)

    def assets(self, wanted: Iterable[Planned] | None = None) -> list[AssetPath]:
        """Return the assets that some artefacts (all, by default) belong to, in their order."""
        some = self.artefacts.values() if wanted is None else wanted
        return list(dict.fromkeys(one.asset for one in some))

    def named(self) -> dict[str, Planned]:
        """Return every artefact by its path and, where it is a whole asset, by the asset's name.

        That of a folder's one file goes by the folder, too.
        """
        found = dict(self.artefacts)
        for one in self.artefacts.values():
            if one.subject is not None:
                found["/".join(one.asset)] = one
                if one.product and Path(one.product.files).parent.name not in ("{dataset}", ""):
                    found[one.path.rpartition("/")[0]] = one
        return found


def _name(planned: Planned) -> str:
    return planned.subject.dataset.name if planned.subject else ""


def of(declared: Catalogue, options: Mapping[str, Any]) -> Plan:
    """Return the plan for a catalogue; `options` say what was chosen of `stages.options()`."""
    found: dict[str, Planned] = {}
    for source in declared.sources.values():
        for one in _archives(source):
            found[one.path] = one
    for dataset in declared.datasets.values():
        for one in _of_dataset(declared.source_of(dataset), dataset, options):
            found[one.path] = one
    return Plan(declared, found, options)


def _archives(source: Source) -> Iterator[Planned]:
    for archive in source.archives.values():
        made = archives.artefact(source, archive)
        asset = (source.name, "archives")
        yield Planned("archives", asset, made.path, source, None, (), (), None, made)


def _of_dataset(source: Source, dataset: Dataset, options: Mapping[str, Any]) -> Iterator[Planned]:
    """Yield what is made of a dataset: of each split, then of all."""
    parts = [Subject(source, dataset, (split,)) for split in dataset.splits.values()]
    whole = Subject(source, dataset, tuple(dataset.splits.values()))
    made = _in_order(one for one in products.known().values() if one.applies(dataset))

    def lying(stage: str, subject: Subject) -> list[str]:
        """Return the paths of a stage that belong to a split, or to all."""
        if stage == "archives":
            names = dict.fromkeys(name for split in subject.splits for name in split.archives)
            return [layout.archive(source.name, name) for name in names]
        if stage == "statistics":
            return [layout.statistics(dataset.name)]
        ours = [part for part in parts if part.split in subject.splits]
        if stage == "tables":
            return [layout.table(dataset.name, part.split.name) for part in ours]
        product = next(one for one in made if one.name == stage)
        return list(map(product.path, ours if product.scope == "split" else [whole]))

    def planned(product: Product, subject: Subject) -> Planned:
        scope = f"{subject.split.name}_" if product.scope == "split" else ""
        needs, uses = (
            tuple(path for stage in stages for path in lying(stage, subject))
            for stages in (product.needs, [s for s in product.uses if s in {p.name for p in made}])
        )
        asset, declare = (
            (dataset.name, f"{scope}{product.name}"),
            functools.partial(_made, product, subject, options),
        )
        path = product.path(subject)
        return Planned(product.name, asset, path, source, subject, needs, uses, product, declare)

    for part in parts:
        table = tables.artefact(source, dataset, part.split, options["compression_level"])
        asset = (dataset.name, part.split.name)
        needs = tuple(lying("archives", part))
        yield Planned("tables", asset, table.path, source, part, needs, (), None, table)
        yield from (planned(product, part) for product in made if product.scope == "split")
    declare = functools.partial(statistics.artefact, source, dataset)
    asset, needs = (dataset.name, "statistics"), tuple(lying("tables", whole))
    [path] = lying("statistics", whole)
    yield Planned("statistics", asset, path, source, whole, needs, (), None, declare)
    yield from (planned(product, whole) for product in made if product.scope == "dataset")


def _in_order(found: Iterable[Product]) -> list[Product]:
    """Return products so that each comes after those that it is made from or shows."""
    waiting, ordered = list(found), list[Product]()
    names = {product.name for product in waiting}
    while waiting:
        before = names - {product.name for product in waiting}
        ready = [p for p in waiting if not {*p.needs, *p.uses} & names - before]
        if not ready:
            raise TypeError(f"products need one another: {', '.join(p.name for p in waiting)}")
        ordered += ready
        waiting = [product for product in waiting if product not in ready]
    return ordered


def _made(
    product: Product, subject: Subject, options: Mapping[str, Any], inputs: tuple[Input, ...]
) -> Artefact:
    path = product.path(subject)
    parameters = product.parameters(subject, product.chosen(options))
    sidecar = layout.sidecar(path) if product.sidecar else None
    return Artefact(
        path,
        product.name,
        product.code_version,
        parameters,
        inputs,
        sidecar,
        is_folder=product.is_folder,
        libraries=product.libraries or LIBRARIES,
    )


def room_bytes(source: Source) -> int:
    """Return the bytes that all of a default build of a source's archives may take, or more."""
    made = [products.known()[name] for name in DEFAULT if name in products.known()]
    return sum(
        split.records * sum((size, *(product.room(size) for product in made)))
        for dataset in source.datasets.values()
        for split in dataset.splits.values()
        for size in [dataset.image.size_bytes]
    )


def load(folder: Path) -> Catalogue:
    """Return the catalogue in a folder, in which no split is called as something else is.

    Raises:
        CatalogueError: listing every problem of every file.
    """
    return declarations.load(folder, stages.reserved())
