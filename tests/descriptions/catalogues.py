"""Several datasets of arrays with their tables, and what was made of them besides, to be shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipelines.descriptions import benchmark
from pipelines.descriptions.benchmark import Result
from pipelines.products import Inputs, Subject
from tests.builders import Array
from tests.descriptions.showing import published

Splits = Mapping[str, tuple[Array, Array]]


@dataclass(frozen=True)
class Shown:
    """A dataset of a catalogue, and what there is of it.

    made: descriptions that were made of it: `card`, `train_records`.
    benchmark: what classifiers reach on it, where that was tried.
    """

    splits: Splits
    classes: Sequence[str]
    has_tables: bool = True
    made: Sequence[str] = ()
    benchmark: Sequence[Result] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def catalogue(folder: Path, shown: Mapping[str, Shown]) -> Inputs:
    """What a description of all these datasets is made from, by their names."""
    subjects: list[Subject] = []
    paths: dict[str, Path] = {}
    for name, one in sorted(shown.items()):
        made = published(folder / name, one.splits, one.classes)
        dataset = replace(made.subject.dataset, name=name, **{"title": name, **one.facts})
        subjects.append(replace(made.subject, dataset=dataset))
        if one.has_tables:
            paths |= {path.replace("shown", name): at for path, at in made.paths.items()}
        for description in one.made:
            at = f"descriptions/{name}/{description}"
            (folder / at).mkdir(parents=True)
            for page in ("index.html", "README.md"):
                (folder / at / page).write_text("<!doctype html><title>It</title>")
            paths[at] = folder / at
        if one.benchmark:
            at = f"descriptions/{name}/benchmark"
            (folder / at).mkdir(parents=True)
            how = {"train": {"records": len(one.splits["train"][1])}}
            benchmark._write_parquet(one.benchmark, how, folder / at / "results.parquet")
            paths[at] = folder / at
    return Inputs(tuple(subjects), paths, (), {})


def ran(
    classifier: str,
    accuracy: float,
    converged: bool = True,
    std: float | None = None,
    **parameters: Any,
) -> Result:
    """How a classifier did."""
    return Result(classifier, parameters, 1, accuracy, std, converged, ("",))
