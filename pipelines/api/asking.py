"""Asking: what there is, where it comes from, and whether it is still so.

Not here: reading records (`loading`), or fetching them (`making`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .. import wording
from ..lineage import trace as tracing
from ..lineage import verify as verifying
from ..lineage.hops import Chain
from ..lineage.shallow import Verdict
from . import loading, making, place, terminal


@dataclass(frozen=True, slots=True)
class About:
    """What is declared of a dataset.

    description, quirks: what the images show, and what surprises people; may hold markdown.
    shape: (height, width, channels) of an image.
    splits: split → its records. counts: split → records of each class, in the order of `classes`.
    mean, std: published constants of the training split, per channel, intensities scaled to 0–1;
        empty where nobody published any.
    citation: BibTeX.
    """

    name: str
    title: str
    description: str
    quirks: tuple[str, ...]
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    coarse_classes: tuple[str, ...]
    splits: Mapping[str, int]
    counts: Mapping[str, tuple[int, ...]]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    homepage: str
    licence: str
    citation: str
    acknowledgements: str
    restriction: str = ""


def names() -> tuple[str, ...]:
    """Return the names of all datasets, in the order of the catalogue.

    Raises:
        CatalogueError: `IMAGESETS_CATALOGUE` names no folder of declarations that can be read.

    Example:
        >>> imagesets.names()[:2]
        ('cifar10', 'cifar100')
    """
    return tuple(making.declared().datasets)


def about(dataset: str) -> About:
    """Return what is declared of a dataset; nothing is fetched.

    Args:
        dataset: one of `names()`.

    Raises:
        UnknownName: there is no such dataset.
        CatalogueError: as `names` does.

    Example:
        >>> about = imagesets.about("mnist")
        >>> about.shape, about.splits, about.mean
        ((28, 28, 1), {'train': 60000, 'test': 10000}, (0.1307,))
    """
    declared = making.declared()
    found = making.dataset_of(declared, dataset)
    source = declared.source_of(found)
    return About(
        name=found.name,
        title=found.title,
        description=found.description or "",
        quirks=found.quirks,
        shape=found.image.shape,
        classes=found.classes,
        coarse_classes=found.coarse_classes,
        splits={name: split.records for name, split in found.splits.items()},
        counts={name: split.counts for name, split in found.splits.items()},
        mean=tuple(map(float, found.mean)),
        std=tuple(map(float, found.std)),
        homepage=source.homepage,
        licence=source.licence,
        restriction=wording.restriction(source, found),
        citation=source.citation,
        acknowledgements=source.acknowledgements,
    )


def trace(dataset: str, split: str, index: int) -> Chain:
    """Return the way of a record back to its publisher's bytes, every hop verified by reading.

    Args:
        dataset: one of `names()`; fetched and made if it is not there.
        split: `train` or `test`.
        index: of the record in its split, from 0.

    Returns:
        `holds`, whether every hop does; `image`, uint8 of shape (height, width, channels); `hops`,
        the nearest first, each with its path, bytes, hashes, and problem if it has one.

    Raises:
        UnknownName, ArtefactError: there is no such record.
        As `load` does.

    Example:
        >>> chain = imagesets.trace("mnist", "test", 1234)
        >>> chain.holds, chain.facts["label"], chain.image.shape
        (True, 8, (28, 28, 1))
    """
    loading.path(dataset, split)
    return tracing.trace(making.plan(), place.store(), f"{dataset}/{split}:{index}")


def verify(dataset: str, *, deep: bool = False) -> list[Verdict]:
    """Read again all that was ever made of a dataset here; return what became of each artefact.

    Args:
        dataset: one of `names()`.
        deep: decode the archives too, and compare all that was made from them, record by record.

    Returns:
        one verdict each: `path`, `condition` ("whole" if all is well), `why`, `is_whole`.

    Raises:
        UnknownName: there is no such dataset.
        CatalogueError: as `names` does.
        StorageError: there is no room to make again what is compared.

    Example:
        >>> all(verdict.is_whole for verdict in imagesets.verify("mnist", deep=True))
        True
    """
    everything = making.plan()
    datasets = [making.dataset_of(everything.declared, dataset)]
    found = verifying.verify(place.store(), everything, datasets, terminal.display(), deep=deep)
    return [making.whole(verdict) for verdict in found]
