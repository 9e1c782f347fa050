"""The plan: every artefact there can be of a catalogue.

    archives → tables → statistics, exports and descriptions

What is made from what, where it lies, and what it is called stand here and nowhere else: Dagster's
assets, jobs, `list`, `build --only`, `verify`, `lock`, `trace`, refresh and `mirror` read it. A new
export or description comes into it by itself (`pipelines.products`). Not here: whether anything is
up to date (`pipelines.lineage.status`), or making it.
"""

from __future__ import annotations

import functools
import heapq
import shlex
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import advice, archives, products, stages, statistics, tables
from . import catalogue as declarations
from .declarations import Catalogue, Dataset, Source
from .products import Inputs, Product, Subject
from .stages import DEFAULT, OPTIONAL
from .store import Artefact, Input, Store, layout
from .store.artefacts import LIBRARIES

AssetPath = tuple[str, str]
"""The key of an asset, without Dagster: `("mnist", "train_csv")`."""

Step = tuple[AssetPath, str]
"""What is made in one go: an asset, `""`; or one part of it: Dagster's partition, by its key."""


@dataclass(frozen=True, slots=True)
class Planned:
    """An artefact that there can be.

    stage: what makes it.
    asset: the asset that it is, or is one of.
    path: where it lies in the data folder; of a folder's one file, that file.
    sources: whose archives it is one of, or made of.
    subjects: what it holds records of, or tells of: nothing for an archive, a split or a dataset,
        or for one of the catalogue every dataset.
    needs, uses: the paths of what it is made from; and of what it shows where that is there.
    product: its declaration, where it is an export or a description.
    part: of a part of a split, what the part is called: Dagster's partition of the asset.
    declared: the artefact as it would be made: known already, or a function of its inputs.
    """

    stage: str
    asset: AssetPath
    path: str
    sources: tuple[Source, ...]
    subjects: tuple[Subject, ...]
    needs: tuple[str, ...]
    uses: tuple[str, ...]
    product: Product | None
    declared: Artefact | Callable[[tuple[Input, ...]], Artefact] = field(repr=False, compare=False)
    part: str = ""

    @property
    def step(self) -> Step:
        """What it is made in one go with."""
        return self.asset, self.part

    @property
    def source(self) -> Source:
        """The one source."""
        [source] = self.sources
        return source

    @property
    def subject(self) -> Subject | None:
        """The split or dataset that it is of; None for an archive, and for one of the catalogue."""
        return None if self.is_archive or self.is_of_catalogue else self.subjects[0]

    @property
    def is_archive(self) -> bool:
        """Whether it is as a publisher serves it."""
        return self.product is None and not self.subjects

    @property
    def is_of_catalogue(self) -> bool:
        """Whether there is one of it for all datasets together."""
        return self.product is not None and self.product.scope == "catalogue"

    @property
    def is_of_whole(self) -> bool:
        """Whether it stands for a whole split that comes in parts."""
        return self.product is not None and self.product.scope == "whole"

    @property
    def can_be_compared(self) -> bool:
        """Whether there is something to hold its bytes, or its records, against.

        An archive is what all else is held against, and what comes out otherwise elsewhere, without
        records to be read back, is as it was made or not.
        """
        if self.product is None or self.product.read is not None:
            return not self.is_archive
        return self.product.reproducible in ("everywhere", "same libraries")

    @property
    def holds_records(self) -> bool:
        """Whether single records can be read back from it."""
        return (
            self.stage == "tables" or self.is_of_whole or bool(self.product and self.product.read)
        )

    def is_at(self, place: Path) -> bool:
        """Whether a file, or a folder where it is one, lies at a place."""
        return place.is_dir() if self.product and self.product.is_folder else place.is_file()

    @property
    def remedy(self) -> str:
        """How to have it."""
        if advice.IN_LIBRARY:
            return self._call
        if self.stage == OPTIONAL:
            return f"Fetch it: python -m assets build {self.source.name} --only {OPTIONAL}"
        if self.is_archive:
            of_part = f" --parts {shlex.quote(self.part)}" if self.part else ""
            return f"Fetch it: python -m assets fetch {self.source.name}{of_part}"
        of_one = f" {self.subject.dataset.name}" if self.subject else ""
        of_part = f" --parts {shlex.quote(self.part)}" if self.part else ""
        return f"Build it: python -m assets build{of_one}{of_part} --only {self.stage}"

    @property
    def _call(self) -> str:
        """How to have it by the library, which makes no more than what it gives."""
        calls = {"tables": "load", "npy": "arrays"}
        if self.subject and self.stage in calls:
            name, one = self.subject.dataset.name, self.subject.split
            split = f"{one.split}/{one.key}" if one.is_part else one.name
            return f'Make it: imagesets.{calls[self.stage]}("{name}", "{split}")'
        for dataset in self.source.datasets.values() if self.is_archive else ():
            for part in dataset.splits.values():
                if Path(self.path).name in part.archives:
                    return f'Fetch it: imagesets.load("{dataset.name}", "{part.name}")'
        return "Whoever has the repository of Imagesets can build it."

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
        """Return inputs as an export or a description gets them; `tables` are those of splits.

        Raises:
            ArtefactError: a library that it needs is not there.
        """
        if self.is_archive:
            raise TypeError("an archive is made from nothing here")
        if self.product:
            self.product.require()
        lying = {made_from.path: store.local(made_from.path) for made_from in inputs}
        return Inputs(self.subjects, lying, inputs, tables)


@dataclass(frozen=True)
class Plan:
    """All there can be of a catalogue, in an order in which it can be made.

    artefacts: path → artefact.
    options: what was chosen of `stages.options()`.
    left_out: sources of which it has nothing, though there can be something.
    outlined: sources of which it has the archives alone; and where a split comes in parts, which
        are few assets, what a build makes that names no stage.
    """

    declared: Catalogue
    artefacts: dict[str, Planned]
    options: Mapping[str, Any]
    left_out: frozenset[str] = frozenset()
    outlined: frozenset[str] = frozenset()

    def of(
        self,
        datasets: Iterable[Dataset],
        stages: Collection[str] | None = None,
        parts: Collection[str] | None = None,
    ) -> tuple[Planned, ...]:
        """Return what there can be of datasets, of some stages (or all), with all that it needs.

        Of splits that come in parts, that is of those `parts` alone, where any are named.

        What is one of the catalogue is of all datasets: it is among them where its stage is named,
        or all of its datasets are, but for those that are made on request.
        """
        chosen = list(datasets)
        names = {dataset.name for dataset in chosen}
        sources = {dataset.source for dataset in chosen}

        def is_of_them(one: Planned) -> bool:
            if one.is_archive:
                return one.source.name in sources
            if one.is_of_catalogue and stages is not None:
                return True
            asked = [s for s in one.subjects if not (one.is_of_catalogue and s.source.on_request)]
            return all(subject.dataset.name in names for subject in asked or one.subjects)

        among = (one for name in (*sources, None) for one in self._of_sources.get(name, ()))
        wanted = {
            one.path
            for one in among
            if (stages is None or one.stage in stages) and is_of_them(one)
            if parts is None or not one.part or one.part in parts
        }
        wanted = self.needed(map(self.artefacts.__getitem__, wanted))
        # Made as wholes, but for parts.
        steps = {self.artefacts[path].step for path in wanted}
        assets = {asset for asset, _ in steps}
        wanted = {one.path for asset in assets for one in self.of_asset(asset) if one.step in steps}
        return tuple(self.artefacts[path] for path in sorted(wanted, key=self._order.__getitem__))

    @functools.cached_property
    def _order(self) -> dict[str, int]:
        return {path: number for number, path in enumerate(self.artefacts)}

    @functools.cached_property
    def _of_sources(self) -> dict[str | None, list[Planned]]:
        """Source → its artefacts, in their order; None → those of the whole catalogue."""
        found: dict[str | None, list[Planned]] = {}
        for one in self.artefacts.values():
            found.setdefault(None if one.is_of_catalogue else one.source.name, []).append(one)
        return found

    def needed(self, wanted: Iterable[Planned]) -> set[str]:
        """Return the paths of artefacts, and of all that they are made from."""
        paths, waiting = set[str](), [one.path for one in wanted]
        while waiting:
            if (path := waiting.pop()) not in paths:
                paths.add(path)
                waiting += self.artefacts[path].needs
        return paths

    def of_asset(self, asset: AssetPath) -> list[Planned]:
        """Return the artefacts of an asset, in their order."""
        return [self.artefacts[path] for path in self._of_assets.get(asset, ())]

    @functools.cached_property
    def _of_assets(self) -> dict[AssetPath, list[str]]:
        found: dict[AssetPath, list[str]] = {}
        for path, one in self.artefacts.items():
            found.setdefault(one.asset, []).append(path)
        return found

    def with_shown(self, wanted: Iterable[Planned]) -> tuple[Planned, ...]:
        """Return artefacts with all that decides whether they are up to date, in their order.

        That is what they need, and what they show if it is there.
        """
        paths = {one.path for one in wanted}
        for one in reversed(self.artefacts.values()):
            if one.path in paths:
                paths.update((*one.needs, *one.uses))
        return tuple(one for path, one in self.artefacts.items() if path in paths)

    def of_catalogue(self) -> list[Planned]:
        """Return what there is one of for all datasets together."""
        return [*self._of_sources.get(None, ())]

    def archives_of(self, source: Source) -> list[Planned]:
        """Return the archives of a source, optional ones too."""
        return [one for one in self._of_sources.get(source.name, ()) if one.is_archive]

    def assets(self, wanted: Iterable[Planned] | None = None) -> list[AssetPath]:
        """Return the assets that some artefacts (all, by default) belong to, in their order."""
        some = self.artefacts.values() if wanted is None else wanted
        return list(dict.fromkeys(one.asset for one in some))

    def parts(self, asset: AssetPath) -> tuple[str, ...]:
        """Return what the parts of an asset are called, in order; none where it comes in one."""
        return tuple(dict.fromkeys(one.part for one in self.of_asset(asset) if one.part))

    def steps(self, wanted: Iterable[Planned] | None = None) -> list[Step]:
        """Return what some artefacts (all, by default) are made in one go with, in their order."""
        some = self.artefacts.values() if wanted is None else wanted
        return list(dict.fromkeys(one.step for one in some))

    def steps_before(self, steps: Iterable[Step]) -> dict[Step, set[Step]]:
        """Return step → those of `steps` that what it makes is made from, or shows."""
        found: dict[Step, set[Step]] = {step: set() for step in steps}
        for one in self.artefacts.values():
            if one.step in found:
                needed = {self.artefacts[path].step for path in (*one.needs, *one.uses)}
                found[one.step] |= needed & found.keys()
        return found

    def named(self) -> dict[str, Planned]:
        """Return every artefact by its path and, where it is a whole asset, by the asset's name.

        That of a folder's one file goes by the folder, too; that of a part by the asset's name and
        the part's; and the name of a split that comes in parts stands for its manifest.
        """
        found = dict(self.artefacts)
        for one in self.artefacts.values():
            if not one.is_archive:
                found["/".join((*one.asset, one.part) if one.part else one.asset)] = one
                if one.is_of_whole and one.subject:
                    found[f"{one.subject.dataset.name}/{one.subject.split.name}"] = one
                if (
                    one.subject
                    and one.product
                    and Path(one.product.files).parent.name not in ("{dataset}", "")
                ):
                    found[one.path.rpartition("/")[0]] = one
        return found


def of(
    declared: Catalogue,
    options: Mapping[str, Any],
    dataset: Dataset | None = None,
    left_out: Collection[str] = (),
    outlined: Collection[str] = (),
) -> Plan:
    """Return the plan for a catalogue; `options` say what was chosen of `stages.options()`.

    For who wants no more than one `dataset`, it has what there can be of that alone. Sources that
    are `left_out`, since nobody asks for them, cost no time: one may come in hundreds of parts. Of
    those that are `outlined` there are the archives; and what a build makes by default of a split
    that comes in parts.
    """
    wanted = (one for one in declared.datasets.values() if one.source not in left_out)
    datasets = list(wanted) if dataset is None else [dataset]
    sources = {declared.source_of(one).name: declared.source_of(one) for one in datasets}
    found: dict[str, Planned] = {}
    for source in sources.values():
        for one in _archives(source):
            found[one.path] = one
    for each in datasets:
        is_outlined = each.source in outlined
        if is_outlined and not each.is_in_parts:
            continue
        made = _products(declared.source_of(each), each, is_outlined=is_outlined)
        for one in _of_dataset(declared.source_of(each), each, options, made):
            found[one.path] = one
    if dataset is None:
        of_all = [
            _of_catalogue(declared, product, tuple(found.values()), options)
            for product in products.known().values()
            if product.scope == "catalogue"
        ]
        found |= {one.path: one for one in of_all if one.subjects}
    return Plan(declared, found, options, frozenset(left_out), frozenset(outlined))


def _archives(source: Source) -> Iterator[Planned]:
    kinds = {"archives": source.archives, OPTIONAL: source.optional_archives}
    parts = parts_of_archives(source)
    for stage, declared in kinds.items():
        for archive in declared.values():
            made, asset = archives.artefact(source, archive), (source.name, stage)
            part = parts.get(archive.name, "")
            yield Planned(stage, asset, made.path, (source,), (), (), (), None, made, part)


def parts_of_archives(source: Source) -> dict[str, str]:
    """Return archive → the part of a split that it is of.

    Nothing, unless each is of one part alone, and all are of one split: Dagster calls parts of
    archives and of that split the same.
    """
    splits = [split for dataset in source.datasets.values() for split in dataset.splits.values()]
    pieces = splits[0].divided if len(splits) == 1 else ()
    found = {name: piece.key for piece in pieces for name in piece.archives}
    is_of_one = sum(len(piece.archives) for piece in pieces) == len(found) == len(source.archives)
    return found if is_of_one else {}


def _products(source: Source, dataset: Dataset, *, is_outlined: bool) -> list[Product]:
    """Return the exports and descriptions that there can be of a dataset, or those by default."""
    known = (one for one in products.known().values() if one.scope != "catalogue")
    made = [one for one in known if stages.applies(one, source, dataset)]
    return [one for one in made if not is_outlined or one.name in DEFAULT]


def _of_dataset(
    source: Source, dataset: Dataset, options: Mapping[str, Any], made: Sequence[Product]
) -> list[Planned]:
    """Return what is made of a dataset, split by split, or part by part; then of all splits."""
    in_parts = dataset.is_in_parts
    whole = Subject(source, dataset, tuple(dataset.splits.values()))
    pieces = [Subject(source, dataset, (piece,)) for piece in dataset.pieces]
    paths = _paths(whole, pieces, made)

    def of(stages: Iterable[str], subject: Subject) -> tuple[str, ...]:
        """Return the paths of some stages that belong to a split, a part of one, or to all."""
        names = [piece.name for split in subject.splits for piece in split.pieces]
        return tuple(dict.fromkeys(p for x in stages for name in names for p in paths[x][name]))

    def planned(product: Product, subject: Subject) -> Planned:
        prefix = "" if product.scope == "dataset" else f"{subject.split.split}_"
        needs, uses = product.needs, product.uses
        if product.scope == "dataset" and in_parts:
            needs, uses = (), (*needs, *uses)  # it is of those parts that are there
        return Planned(
            product.name,
            (dataset.name, f"{prefix}{product.name}"),
            product.path(subject),
            (source,),
            (subject,),
            of(needs, subject),
            of([stage for stage in uses if stage in paths], subject),
            product,
            functools.partial(_made, product, (subject,), options),
            subject.split.key if product.scope == "split" else "",
        )

    found = []
    for each in pieces:
        piece = each.split
        table = tables.artefact(source, dataset, piece, options["compression_level"])
        asset, needs = (dataset.name, piece.split), of(["archives"], each)
        found.append(
            Planned(
                "tables", asset, table.path, (source,), (each,), needs, (), None, table, piece.key
            )
        )
        of_split = (one for one in made if piece.labelled or not one.needs_labels)
        found += [planned(product, each) for product in of_split if product.scope == "split"]
    asset, declare = (
        (dataset.name, "statistics"),
        functools.partial(statistics.artefact, source, dataset),
    )
    [path] = of(["statistics"], whole)
    # Of a split in parts there are statistics of those parts that are there.
    needs, uses = ((), of(["sums"], whole)) if in_parts else (of(["tables"], whole), ())
    found.append(
        Planned("statistics", asset, path, (source,), (whole,), needs, uses, None, declare)
    )
    for split in whole.splits:
        subject = Subject(source, dataset, (split,))
        of_wholes = (product for product in made if product.scope == "whole" and split.divided)
        found += [planned(product, subject) for product in of_wholes]
    of_all = (product for product in made if product.scope == "dataset")
    found += [planned(one, stages.subject(one, source, dataset)) for one in of_all]
    return _needs_first(found)


def _of_catalogue(
    declared: Catalogue, product: Product, made: Collection[Planned], options: Mapping[str, Any]
) -> Planned:
    """Return what is made of all datasets that a product applies to, in the order of their names.

    So the order in which they are declared decides nothing. What is made of a source on request is
    shown where it is there, and never needed.
    """
    subjects = tuple(
        stages.subject(product, source, dataset)
        for _, dataset in sorted(declared.datasets.items())
        for source in [declared.source_of(dataset)]
        if stages.applies(product, source, dataset)
    )
    sources = {subject.source.name: subject.source for subject in subjects}
    names = {subject.dataset.name for subject in subjects}

    def of(stages: Collection[str], *, on_request: bool) -> tuple[str, ...]:
        return tuple(
            one.path
            for one in made
            if one.stage in stages
            and one.source.on_request is on_request
            and (one.subject.dataset.name in names if one.subject else one.source.name in sources)
        )

    needs = of(product.needs, on_request=False)
    shown = {*of(product.uses, on_request=False)}
    shown |= {*of((*product.needs, *product.uses), on_request=True)}

    return Planned(
        product.name,
        (product.scope, product.name),
        product.files.rstrip("/"),
        tuple(sources.values()),
        subjects,
        needs,
        tuple(one.path for one in made if one.path in shown),
        product,
        functools.partial(_made, product, subjects, options),
    )


def _paths(
    whole: Subject, pieces: Iterable[Subject], made: Iterable[Product]
) -> dict[str, dict[str, list[str]]]:
    """Return stage → split, or part of one → the paths of what belongs to it."""
    paths: dict[str, dict[str, list[str]]] = defaultdict(dict)
    source, dataset = whole.source.name, whole.dataset.name
    optional = [layout.archive(source, name) for name in whole.source.optional_archives]
    for one in pieces:
        piece = one.split
        paths["archives"][piece.name] = [layout.archive(source, name) for name in piece.archives]
        paths[OPTIONAL][piece.name] = optional
        paths["tables"][piece.name] = [layout.table(dataset, piece.name)]
        paths["statistics"][piece.name] = [layout.statistics(dataset)]
    for product in made:
        of_all = product.path(whole) if product.scope == "dataset" else None
        for one in pieces:
            split = whole.dataset.splits[one.split.split]
            if product.scope == "whole":
                subject = Subject(whole.source, whole.dataset, (split,))
                its = [product.path(subject)] if split.divided else []
            else:
                has_one = one.split.labelled or not product.needs_labels
                its = [of_all or product.path(one)] if has_one else []
            paths[product.name][one.split.name] = its
    return dict(paths)


def _needs_first(found: Sequence[Planned]) -> list[Planned]:
    """Return artefacts in their order, but each after those that it is made from or shows."""
    at = {one.path: number for number, one in enumerate(found)}
    lacking = [{*one.needs, *one.uses} & at.keys() for one in found]
    waiting: dict[str, list[int]] = defaultdict(list)
    for number, paths in enumerate(lacking):
        for path in paths:
            waiting[path].append(number)
    ready = [number for number, paths in enumerate(lacking) if not paths]
    ordered = list[Planned]()
    while ready:
        ordered.append(found[heapq.heappop(ready)])
        for number in waiting[ordered[-1].path]:
            lacking[number].discard(ordered[-1].path)
            if not lacking[number]:
                heapq.heappush(ready, number)
    if len(ordered) < len(found):
        stuck = sorted({one.path for one in found} - {one.path for one in ordered})
        raise TypeError(f"these need one another: {', '.join(stuck)}")
    return ordered


def _made(
    product: Product,
    subjects: tuple[Subject, ...],
    options: Mapping[str, Any],
    inputs: tuple[Input, ...],
) -> Artefact:
    path, chosen = product.path(subjects[0]), product.chosen(options)
    if product.scope == "catalogue":
        parameters = {one.dataset.name: product.parameters(one, chosen) for one in subjects}
    else:
        parameters = product.parameters(subjects[0], chosen)
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


def room_bytes(source: Source, names: Collection[str] | None = None) -> int:
    """Return the bytes that all of a default build of a source's archives may take, or more.

    Or those of the parts of a split that are made from the archives of some names.
    """
    made = [products.known()[name] for name in DEFAULT if name in products.known()]
    return sum(
        piece.records * sum((size, *(product.room(size) for product in made)))
        for dataset in source.datasets.values()
        for piece in dataset.pieces
        for size in [dataset.image.size_bytes]
        if names is None or not {*piece.archives}.isdisjoint(names)
    )


def load(folder: Path) -> Catalogue:
    """Return the catalogue in a folder, as the products there are allow it.

    No split is called as something else is, and only names that an export asks for are given.

    Raises:
        CatalogueError: listing every problem of every file.
    """
    return declarations.load(folder, stages.reserved(), products.names())
