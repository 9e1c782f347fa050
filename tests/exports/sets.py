"""Small datasets of two splits, with any classes: written as exports, and read back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipelines import products
from pipelines.products import Inputs, Stored, Subject
from pipelines.progress import Advance, silent
from pipelines.store import Facts
from tests import builders
from tests.builders import Array

AWKWARD = (
    *("T-shirt/top", 'class:"quoted"', "it's", "#", "-", "null", "yes", "007"),
    *("{brace", "[bracket", "back\\slash", "100%", "&anchor", "*star", "!tag", "|"),
    *(">", "@at", "`tick", "é", "お", "🙂", "a", "A"),
    *("..\\..", "\ufeffbom", "<b>bold</b>", "1e3", "~", "?", "Ankle boot", "class: with colon"),
    *("- no list", "# no comment", "a\u2028line", 'a "quote" b'),
)
"""Names of classes that YAML, paths, or terminals may take for something else."""


@dataclass(frozen=True)
class Set:
    """A dataset with the tables of its splits, and the arrays behind them.

    arrays: split → images, labels, coarse labels or None.
    """

    subject: Subject
    tables: Mapping[str, Path]
    arrays: Mapping[str, tuple[Array, Array, Array | None]]

    def of(self, split: str) -> Subject:
        [one] = (each for each in self.subject.splits if each.name == split)
        return replace(self.subject, splits=(one,))

    def write(
        self, name: str, goal: Path, split: str = "", *, advance: Advance = silent, **chosen: int
    ) -> Facts:
        """Write an export of the dataset, or of one split."""
        product = products.known()[name]
        subject = self.of(split) if split else self.subject
        tables = {each.name: self.tables[each.name] for each in subject.splits}
        goal.parent.mkdir(parents=True, exist_ok=True)
        if product.is_folder:
            goal.mkdir()
        options = product.chosen({f"{name}_{key}": value for key, value in chosen.items()})
        return product.write(Inputs((subject,), {}, (), tables), goal, options, advance)

    def read(
        self, name: str, path: Path, split: str, start: int = 0, stop: int | None = None
    ) -> Iterator[Stored]:
        """Read records of a split back, all by default."""
        product, subject = products.known()[name], self.of(split)
        assert product.read is not None
        return product.read(path, subject, start, subject.records if stop is None else stop)


def build(
    folder: Path,
    *,
    classes: int = 5,
    names: tuple[str, ...] = (),
    shape: tuple[int, int, int] = (4, 3, 1),
    coarse: int = 0,
    records: Mapping[str, int] | None = None,
    readers: Mapping[str, Mapping[str, str | bool]] | None = None,
) -> Set:
    """Build a dataset called `tiny`; its labels are random, the first ones and the last ones each.

    names: of the classes; by default "class 0", "class 1", …
    """
    tables, arrays, splits, made = {}, {}, {}, None
    for seed, (split, count) in enumerate((records or {"train": 30, "test": 12}).items()):
        pixels = builders.images(count, *shape, seed=seed)
        labels = builders.labels(count, len(names) or classes, seed)
        groups = builders.labels(count, coarse, seed + 50) if coarse else None
        labels[0] = (len(names) or classes) - 1
        if (len(names) or classes) > 256:
            labels = np.sort(labels)  # as members for each class have them
        made = builders.tiny(
            folder / split,
            pixels,
            labels,
            groups,
            classes=len(names) or classes,
            coarse_classes=coarse,
        )
        tables[split] = made.table(folder / f"{split}.parquet")
        arrays[split] = (pixels, labels, groups)
        splits[split] = replace(made.split, name=split)
    assert made is not None
    dataset = replace(
        made.dataset,
        classes=names or made.dataset.classes,
        splits=splits,
        readers=dict(readers or {}),
    )
    return Set(Subject(made.source, dataset, tuple(splits.values())), tables, arrays)


def assert_same(found: list[Stored], expected: tuple[Array, Array, Array | None]) -> None:
    """Hold records that were read back against arrays."""
    images, labels, coarse = expected
    assert len(found) == len(labels)
    np.testing.assert_array_equal(np.concatenate([one.record.images for one in found]), images)
    assert [one.record.labels.tolist() for one in found] == [[label] for label in labels.tolist()]
    for one, group in zip(found, labels if coarse is None else coarse, strict=True):
        groups = one.record.coarse_labels
        assert (None if groups is None else groups.tolist()) == (
            None if coarse is None else [group]
        )
