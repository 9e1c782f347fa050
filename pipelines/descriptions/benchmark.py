"""Benchmark: how well classic classifiers tell the classes of a dataset apart.

    results.parquet    a row for each classifier: accuracy on test, and how it came about
    results.md         the same as a table, beside the results that others reported

The method is that of Fashion-MNIST's benchmark, so that datasets of one kind stand side by side:
pixels scaled to mean 0 and variance 1 by what train has, train shuffled for each repeat, accuracy
on all of test. Of train at most 60,000 records are taken, evenly spaced after a stable sort by
class (`_spread`). Unlike there, every seed is fixed (the number of the repeat), `std` is one
population standard deviation, and no repeat is left out. Where iterations ended before nothing
more could be improved, `converged` says so.

`tier` says what is tried: `first` ends within minutes, `full` takes a night (`_classifiers`).

The same bytes come out again on one machine: each classifier has one thread. Provenance tells
processor, libraries, and the seconds that each took.

Not here: fitting (`_fitting`), or what others reported (the catalogue).
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..declarations import Dataset, Reported
from ..products import Choices, Column, Inputs, Option, Product, Subject
from ..progress import Advance, by_share
from ..store import Facts, writing
from . import _classifiers, _fitting, _machine, _spread

if TYPE_CHECKING:
    from ._classifiers import Setting
    from ._fitting import Data, Outcome, Task

TRAIN, TEST = "train", "test"  # the splits that it takes
MOST = 60_000  # records of train
METADATA_KEY = b"benchmark"  # of results.parquet: how it was made, as JSON

_STOPPED = "\\*"  # an asterisk, in markdown
_FEW = 1_000_000  # intensities of train that are fitted to here: processes take seconds to start


@dataclass(frozen=True, slots=True)
class Result:
    """How a classifier did: a row of results.parquet.

    classifier, parameters: as scikit-learn has them; the parameters that are not its defaults.
    repeats: how often it was tried, each time with another order of train.
    accuracy: the share of test that was classified rightly: the mean of all repeats.
    std: the population standard deviation of these shares; None for one repeat.
    converged: whether no repeat's iterations ended too early.
    predictions: SHA-256 of the labels predicted by each repeat, as they are in the table.
    """

    classifier: str
    parameters: Mapping[str, Any]
    repeats: int
    accuracy: float
    std: float | None
    converged: bool
    predictions: tuple[str, ...]

    @property
    def text(self) -> str:
        """Return the parameters as Python writes them."""
        return _classifiers.in_python(self.parameters)


def results(folder: Path) -> list[Result]:
    """Return what a benchmark found, the best first.

    Args:
        folder: `descriptions/<dataset>/benchmark` in a data folder.

    Raises:
        OSError: there is none.
    """
    import pyarrow.parquet as pq

    rows = pq.read_table(folder / "results.parquet").to_pylist()
    found = [
        Result(
            **row
            | {
                "parameters": json.loads(row["parameters"]),
                "predictions": tuple(row["predictions"]),
            }
        )
        for row in rows
    ]
    return sorted(found, key=lambda one: (-one.accuracy, one.classifier, one.text))


def about(folder: Path) -> dict[str, Any]:
    """Return how a benchmark was made: `tier`, `repeats`, and the records of `train` and `test`.

    Raises:
        OSError: there is none.
    """
    import pyarrow.parquet as pq

    found = pq.read_schema(folder / "results.parquet").metadata[METADATA_KEY]
    return dict(json.loads(found))


def write(inputs: Inputs, goal: Path, chosen: Choices, advance: Advance) -> Facts:
    """Try the classifiers of a tier, and write how they did into a folder.

    Raises:
        ArtefactError: a classifier can't cope with the data, or its process died.
        TableError: what it is made from are no tables of ours.
        StorageError: the folder can't be written to.
    """
    settings = _classifiers.of(chosen["tier"])
    tried: dict[int, dict[int, Outcome]] = defaultdict(dict)
    until = by_share(advance, inputs.subject.records)
    order = _longest_first(settings, _classifiers.REPEATS[chosen["tier"]])
    all_s = sum(settings[number].cost_s for number, _ in order)
    done_s = 0.0
    with writing.storage_errors(goal):
        tasks = [task for _, task in order]
        go_on = partial(advance, 0)  # which raises where nobody waits any more
        with contextlib.closing(_outcomes(_data(inputs), tasks, goal, go_on)) as outcomes:
            for at, outcome in outcomes:
                number, task = order[at]
                tried[number][task.seed] = outcome
                done_s += settings[number].cost_s
                until(done_s / all_s)
        found = [
            _result(setting, [tried[number][seed] for seed in sorted(tried[number])])
            for number, setting in enumerate(settings)
        ]
        how = _how(inputs.subject, chosen["tier"])
        _write_parquet(found, how, goal / "results.parquet")
        text = markdown(inputs.subject.dataset, results(goal), how)
        (goal / "results.md").write_text(text, encoding="utf-8")
    return {
        "records": len(found),
        "threads": 1,
        "processor": _machine.processor(),
        "cpu_seconds": {
            str(setting): round(sum(one.cpu_seconds for one in tried[number].values()), 2)
            for number, setting in enumerate(settings)
        },
    }


def _data(inputs: Inputs) -> Data:
    """Return the records that are fitted to and tried on, scaled."""
    from .. import tables

    train, test = inputs.tables[TRAIN], inputs.tables[TEST]
    labels, expected = (tables.labels(table)["label"] for table in (train, test))
    some, all_of_test = _spread.chosen(labels, MOST), _spread.chosen(expected, len(expected))
    return _fitting.scaled(
        _spread.pixels(train, some), labels[some], _spread.pixels(test, all_of_test), expected
    )


def _longest_first(settings: Sequence[Setting], repeats: int) -> list[tuple[int, Task]]:
    """Return what is to be tried, each with the number of its setting."""
    tasks = [
        (number, _fitting.Task(setting.classifier, dict(setting.parameters), seed))
        for number, setting in enumerate(settings)
        for seed in range(repeats)
    ]
    return sorted(tasks, key=lambda one: -settings[one[0]].cost_s)


def _outcomes(
    data: Data, tasks: Sequence[Task], goal: Path, go_on: Callable[[], Any]
) -> Generator[tuple[int, Outcome]]:
    """Yield which task is done, and how it went: of few records here, else in processes."""
    if data.train.size <= _FEW:
        for at, task in enumerate(tasks):
            yield at, _fitting.outcome(task, data)
        return
    scratch = goal / "scratch"  # goes with the folder where this process is killed
    scratch.mkdir()
    _fitting.share(data, scratch)
    del data  # the processes have it
    yield from _fitting.outcomes(tasks, scratch, go_on)
    shutil.rmtree(scratch)


def _result(setting: Setting, outcomes: Sequence[Outcome]) -> Result:
    import statistics

    shares = [one.accuracy for one in outcomes]
    return Result(
        setting.classifier,
        setting.parameters,
        len(outcomes),
        statistics.fmean(shares),
        statistics.pstdev(shares) if len(shares) > 1 else None,
        all(one.converged for one in outcomes),
        tuple(one.predictions for one in outcomes),
    )


def _how(subject: Subject, tier: str) -> dict[str, Any]:
    splits = {split.name: split.records for split in subject.splits}
    taken = min(MOST, splits[TRAIN])
    return {
        "tier": tier,
        "repeats": _classifiers.REPEATS[tier],
        "train": {
            "records": taken,
            "of": splits[TRAIN],
            "chosen": "all" if taken == splits[TRAIN] else _spread.RULE,
        },
        "test": {"records": splits[TEST]},
        "scaled": "mean 0 and variance 1 of each pixel of train",
    }


def _write_parquet(found: Sequence[Result], how: Mapping[str, Any], goal: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {
        "classifier": pa.string(),
        "parameters": pa.string(),
        "repeats": pa.uint8(),
        "accuracy": pa.float64(),
        "std": pa.float64(),
        "converged": pa.bool_(),
        "predictions": pa.list_(pa.field("element", pa.string(), nullable=False)),
    }
    fields = [pa.field(name, kind, nullable=name == "std") for name, kind in kinds.items()]
    schema = pa.schema(fields, {METADATA_KEY: json.dumps(how).encode()})
    rows = [
        asdict(one) | {"parameters": json.dumps(dict(one.parameters), sort_keys=True)}
        for one in found
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema), goal)


def markdown(dataset: Dataset, found: Sequence[Result], how: Mapping[str, Any]) -> str:
    """Return results as a table, beside those that others reported."""
    train = how["train"]
    of_train = f"{train['records']:,} records of train"
    if train["records"] < train["of"]:
        of_train += f" (of {train['of']:,}: {train['chosen']})"
    is_repeated = how["repeats"] > 1
    repeats = f"the mean of {how['repeats']} repeats" if is_repeated else "one repeat"
    lines = [
        f"# {_plain(dataset.title)}: benchmark",
        "",
        f"Accuracy on all {how['test']['records']:,} records of test, {repeats}; fitted to "
        f"{of_train}, each pixel scaled to mean 0 and variance 1, in shuffled order. "
        "Classifiers are scikit-learn's, with its defaults where nothing else is said.",
        "",
        "| classifier | parameters | accuracy |" + (" std |" if is_repeated else ""),
        "|---|---|---:|" + ("---:|" if is_repeated else ""),
        *(
            f"| {one.classifier} | {_code(one.text)} | {one.accuracy:.4f}{_mark(one)} |"
            + (f" {one.std:.4f} |" if one.std is not None else "")
            for one in found
        ),
    ]
    if not all(one.converged for one in found):
        lines += [
            "",
            f"{_STOPPED} Stopped after the iterations stated, which could have gone on.",
        ]
    if dataset.reported:
        lines += [
            "",
            "Reported by others, as they published it:",
            "",
            "| method | on test | year | source |",
            "|---|---:|---:|---|",
            *(_reported(one) for one in dataset.reported),
        ]
    return "\n".join(lines) + "\n"


def _mark(one: Result) -> str:
    return "" if one.converged else f" {_STOPPED}"


def _reported(one: Reported) -> str:
    source = f"[{_plain(one.source)}](<{one.url}>)" if one.url else _plain(one.source)
    figure = one.published if one.accuracy is None else f"{one.published} accuracy"
    return f"| {_plain(one.method)} | {figure} | {one.year or ''} | {source} |"


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _plain(text: str) -> str:
    """Return text of which markdown takes nothing for its own."""
    import re

    return re.sub(r"([\\`*_{}\[\]<>#|&~!])", r"\\\1", text)


def _applies(dataset: Dataset) -> bool:
    """Return whether there is something to learn, and records to try it on."""
    splits = dataset.splits
    if not {TRAIN, TEST} <= splits.keys():
        return False
    counts = splits[TRAIN].counts or (1,) * len(dataset.classes)  # not known: some of each
    return sum(map(bool, counts)) > 1


def _parameters(subject: Subject, chosen: Choices) -> dict[str, Any]:
    dataset = subject.dataset
    return {
        **_how(subject, chosen["tier"]),
        "title": dataset.title,
        "reported": [asdict(one) for one in dataset.reported],
    }


DESCRIPTION = Product(
    name="benchmark",
    title="as a benchmark: how well classic classifiers tell its classes apart.",
    scope="dataset",
    files="descriptions/{dataset}/benchmark/",
    code_version="1",
    write=write,
    applies=_applies,
    columns=(
        Column("classifier", "string", "Scikit-learn's class."),
        Column("parameters", "string", "Where they are not its defaults, as JSON."),
        Column("repeats", "uint8", "How often it was tried."),
        Column("accuracy", "float64", "Share of test classified rightly.", "label", "transformed"),
        Column("std", "float64", "Population standard deviation.", "label", "transformed"),
        Column("converged", "bool", "Whether its iterations sufficed.", "pixels", "transformed"),
        Column("predictions", "list", "SHA-256 of each repeat's.", "pixels", "transformed"),
    ),
    options=(
        Option(
            "tier",
            _classifiers.TIERS[0],
            "what is tried: first ends within minutes, full takes a night",
            choices=_classifiers.TIERS,
        ),
    ),
    parameters=_parameters,
    reproducible="one machine",
    kind="parquet",
    libraries=("numpy", "pyarrow", "scikit-learn", "scipy"),
    extra="benchmark",
    requires=("scikit-learn",),
)
