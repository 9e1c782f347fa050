"""What every export and every description keeps to: it runs for each there is, by lying there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from assets.settings import ROOT
from pipelines import plan, products, stages, statistics, tables
from pipelines.declarations import Split
from pipelines.errors import ArtefactError
from pipelines.plan import Planned
from pipelines.products import Choices, Option, Product
from pipelines.progress import silent
from pipelines.store import Folder, Input, hashing, layout
from tests import builders

OPTIONS = stages.options()
DEFAULTS = {name: option.default for name, option in OPTIONS.items()}


def other(option: Option, number: int) -> bool | int | str:
    """Another choice than the default: of words each in its turn."""
    if isinstance(option.default, str):
        rest = [word for word in option.choices if word != option.default]
        return rest[number % len(rest)]
    return not option.default if isinstance(option.default, bool) else option.low


MOST_WORDS = max([2, *(len(option.choices) for option in OPTIONS.values())])
CHOSEN = [
    DEFAULTS,
    *(
        {name: other(option, number) for name, option in OPTIONS.items()}
        for number in range(MOST_WORDS - 1)
    ),
]


@dataclass(frozen=True)
class Made:
    """A data folder of three tiny datasets up to their statistics, and what there can be.

    only: names of products; empty: all that there are.
    """

    store: Folder
    plan: plan.Plan
    only: frozenset[str] = frozenset()

    def products(self) -> Iterator[tuple[Planned, Product]]:
        """Every export and description that is made from archives, tables or statistics alone.

        What is computed for long is made of one dataset alone.
        """
        long: set[str] = set()
        for planned in self.plan.artefacts.values():
            product = planned.product
            if product and self.only and product.name not in self.only:
                continue
            if product and {*product.needs} <= {*stages.BASIC} and product.name not in long:
                yield planned, product
                if product.reproducible == "one machine":
                    long.add(product.name)

    def write(self, planned: Planned, goal: Path, chosen: Choices) -> str:
        """Make one; return its SHA-256."""
        assert planned.product is not None
        there = [path for path in planned.uses if self.store.local(path).exists()]
        known = tuple(self._input(path) for path in (*planned.needs, *there))
        splits = planned.subject.splits if planned.subject else ()
        found = {split.name: self.table(planned, split) for split in splits}
        goal.parent.mkdir(parents=True, exist_ok=True)
        if planned.product.is_folder:
            goal.mkdir()
        told: list[int] = []
        planned.product.write(planned.opened(self.store, known, found), goal, chosen, told.append)
        records = sum(subject.records for subject in planned.subjects)
        assert sum(told) == records, "all records are told of as done"
        return hashing.sha256(goal)

    def table(self, planned: Planned, split: Split) -> Path:
        """Where the table of a split lies."""
        assert planned.subject is not None
        return self.store.local(layout.table(planned.subject.dataset.name, split.name))

    def _input(self, path: str) -> Input:
        file = self.store.local(path)
        return Input(path, hashing.sha256(file), file.stat().st_size)


def made_in(folder: Path) -> Made:
    publisher = builders.publish(folder / "published")
    everything = plan.of(plan.load(publisher.catalogue), DEFAULTS)
    store = Folder(folder / "data")
    shutil.copytree(publisher.mirror, store.local("archives"))
    for one in everything.artefacts.values():
        if one.stage == "tables" and one.subject is not None:
            s = one.subject
            archives = publisher.mirror / s.source.name
            tables.write(s.source, s.dataset, s.split, archives, store.local(one.path), silent)
        elif one.stage == "statistics":
            statistics.write(map(store.local, one.needs), store.local(one.path))
    return Made(store, everything)


def written(made: Made, folder: Path, *, again: bool = False) -> dict[str, str]:
    """Path and choices → SHA-256 of everything, made in a folder.

    `again` is for comparing: what is computed for long is made by default, and not otherwise.
    """
    found: dict[str, str] = {}
    for one, product in made.products():
        known: list[Choices] = []  # whoever has few options would be made the same way again
        is_long = product.reproducible == "one machine"
        for number, options in enumerate(CHOSEN[:1] if again and is_long else CHOSEN):
            chosen = product.chosen(options)
            if chosen not in known:
                known.append(chosen)
                found[f"{one.path} {number}"] = made.write(
                    one, folder / f"{number}/{one.path}", chosen
                )
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return made_in(tmp_path_factory.mktemp("contract"))


@pytest.fixture(scope="module")
def everything(made: Made, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Everything with all choices, made once: nobody may change it."""
    folder = tmp_path_factory.mktemp("first")
    return folder, written(made, folder)


@pytest.mark.slow
def test_the_same_bytes_come_out_twice_and_in_another_process(
    made: Made, everything: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    _, first = everything
    again = written(made, tmp_path / "a longer name for the second", again=True)
    assert again == {key: first[key] for key in again}
    code = (
        "import json, sys; from pathlib import Path; from tests.exports import test_contract as t\n"
        "folder = Path(sys.argv[1])\n"
        "print(json.dumps(t.written(t.made_in(folder), folder / 'x', again=True)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "other")],
        env=os.environ | {"PYTHONHASHSEED": "7"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    elsewhere = json.loads(done.stdout)
    always = {p.name for p in products.known().values() if p.reproducible != "never"}
    same = {
        key
        for one, product in made.products()
        for key in again
        if product.name in always and key.rpartition(" ")[0] == one.path
    }
    assert same
    assert {key: elsewhere[key] for key in same} == {key: first[key] for key in same}


@pytest.mark.slow
def test_what_holds_records_gives_all_of_them_back_from_where_it_says(
    made: Made, everything: tuple[Path, dict[str, str]]
) -> None:
    folder, written = everything
    read = 0
    for number in range(len(CHOSEN)):
        for one, product in made.products():
            if product.read and f"{one.path} {number}" in written:
                gives_all_records_back(made, one, product, folder / str(number) / one.path)
                read += 1
    assert read > len(CHOSEN)


def gives_all_records_back(made: Made, one: Planned, product: Product, goal: Path) -> None:
    if product.read and one.subject:
        for split in one.subject.splits:
            part = products.Subject(one.subject.source, one.subject.dataset, (split,))
            batch = tables.read(made.table(one, split))
            stored = list(product.read(goal, part, 0, len(batch)))
            found = np.concatenate([each.record.images for each in stored])
            np.testing.assert_array_equal(found, batch.images, strict=True)
            assert [int(s.record.labels[0]) for s in stored] == batch.labels.tolist(), one.path
            alone = next(product.read(goal, part, len(batch) - 1, len(batch)))
            assert (alone.start, alone.stop) == (stored[-1].start, stored[-1].stop)
            place = goal / alone.file
            assert place.is_file(), "of a folder, it says in which file it is"
            assert 0 <= alone.start < alone.stop <= place.stat().st_size
            assert list(product.read(goal, part, 2, 2)) == []


def test_a_byte_that_flips_within_a_record_is_another_record_or_a_refusal(
    made: Made, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    for one, product in made.products():
        if product.read is None or one.subject is None:
            continue
        goal = tmp_path / one.path
        made.write(one, goal, product.chosen(DEFAULTS))
        for split, last in [(s, at) for s in one.subject.splits for at in (0, s.records - 1)]:
            part = products.Subject(one.subject.source, one.subject.dataset, (split,))
            stored = next(product.read(goal, part, last, last + 1))
            at = int(random.integers(stored.start, stored.stop))
            place = goal / stored.file
            good = place.read_bytes()
            place.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
            try:
                found = next(product.read(goal, part, last, last + 1))
            except ArtefactError:
                continue
            finally:
                place.write_bytes(good)
            if "bytes_hold" in stored.facts:  # of several, deflated: which has words of one meaning
                continue
            parts = ("images", "labels", "coarse_labels")
            old, new = ([getattr(r, p) for p in parts] for r in (stored.record, found.record))
            assert not all(map(np.array_equal, old, new)), (one.path, at)


@pytest.mark.parametrize("product", products.known().values(), ids=lambda product: product.name)
def test_a_declaration_is_complete(product: Product) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert product.title.endswith(".")
    assert product.code_version
    assert ("{dataset}" in product.files) is (product.scope != "catalogue")
    assert ("{split}" in product.files) == (product.scope in ("split", "whole"))
    known = {*stages.BASIC, stages.OPTIONAL, *products.known()}
    assert {*product.needs, *product.uses} <= known - {product.name}
    columns = [column.name for column in product.columns]
    assert len(columns) == len(set(columns))
    for column in product.columns:
        assert column.of in {None, *tables.COLUMNS}
        assert column.meaning or column.of
    for option in product.options:
        assert option.help[0].islower(), "a phrase of --help"
        assert (option.default in option.choices) == isinstance(option.default, str)
    assert {*product.names.values()} <= {str, bool}
    assert bool(product.requires) == bool(product.extra)
    assert {product.extra} - {None} <= project["optional-dependencies"].keys()
    for reader in product.read_by:
        assert reader.name
        assert reader.code


def test_no_two_artefacts_lie_in_one_place_or_have_one_name(made: Made) -> None:
    assets = [one.asset for one in made.plan.artefacts.values() if one.subject is not None]
    assert len(assets) == len(set(assets))
    assert len(made.plan.artefacts) == len({p.lower() for p in made.plan.artefacts})
