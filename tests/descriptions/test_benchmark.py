"""The description `benchmark`: figures that hold, the same ones again, and no process left."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from assets.settings import ROOT, Settings
from pipelines import catalogue, products
from pipelines.declarations import Reported
from pipelines.descriptions import _classifiers, _fitting, _spread, benchmark
from pipelines.descriptions._classifiers import Setting
from pipelines.descriptions._fitting import Data, Task
from pipelines.errors import ArtefactError
from pipelines.products import Inputs
from pipelines.progress import silent
from pipelines.store import hashing
from tests import builders
from tests.builders import Array
from tests.descriptions.showing import published
from tests.waiting import until, within

FIRST = {"tier": "first"}
QUICK = (
    Setting("GaussianNB", {}, 1),
    Setting("ExtraTreeClassifier", {"max_depth": 3}, 2),
    Setting("MLPClassifier", {"hidden_layer_sizes": [5], "max_iter": 2}, 3),
)
# Hours of work, that no other thread can do meanwhile.
LONG = Setting("RandomForestClassifier", {"n_estimators": 1_000_000}, 9)


def splits(records: int = 90, classes: int = 3) -> Mapping[str, tuple[Array, Array]]:
    """Splits of images that each class has its own pattern of, beneath much noise."""
    random = np.random.default_rng(0)
    patterns = random.integers(0, 2, (classes, 6, 6, 1)) * 90
    found = {}
    for name, some in {"train": records, "test": records // 2}.items():
        labels = random.integers(0, classes, some).astype(np.uint8)
        images = patterns[labels] + random.integers(0, 160, (some, 6, 6, 1))
        found[name] = images.astype(np.uint8), labels
    return found


def made_from(folder: Path, records: int = 90, reported: tuple[Reported, ...] = ()) -> Inputs:
    inputs = published(folder, splits(records), ["one", "two", "three"])
    dataset = replace(inputs.subject.dataset, reported=reported)
    return replace(inputs, subjects=(replace(inputs.subject, dataset=dataset),))


def made(inputs: Inputs, goal: Path, tier: str = "first") -> Path:
    goal.mkdir()
    benchmark.write(inputs, goal, {"tier": tier}, silent)
    return goal


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three classifiers that take no time; the full tier tries them thrice."""
    monkeypatch.setattr(_classifiers, "FIRST", QUICK)
    monkeypatch.setattr(_classifiers, "FULL", QUICK)


def processes_of(folder: Path) -> list[int]:
    """Processes that were started for a folder, zombies too."""
    said = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,args="], capture_output=True, text=True, check=True
    )
    lines = [line.split(None, 1) for line in said.stdout.splitlines()]
    return [int(pid) for pid, args in lines if "_fitting" in args and str(folder) in args]


# --- figures --------------------------------------------------------------------------------------


def test_figures_are_those_that_scikit_learn_gives_when_it_is_used_by_hand(tmp_path: Path) -> None:
    from sklearn.naive_bayes import GaussianNB
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.preprocessing import StandardScaler
    from sklearn.tree import DecisionTreeClassifier
    from sklearn.utils import shuffle

    found = {
        one.classifier: one
        for one in benchmark.results(made(made_from(tmp_path / "x"), tmp_path / "goal"))
    }
    (images, labels), (test, expected) = splits().values()
    scaler = StandardScaler().fit(images.reshape(90, -1).astype(np.float32))
    train = scaler.transform(images.reshape(90, -1).astype(np.float32))
    tried = scaler.transform(test.reshape(45, -1).astype(np.float32))
    train, labels = shuffle(train, labels, random_state=0)
    for theirs in (
        GaussianNB(),
        KNeighborsClassifier(5, algorithm="brute"),
        DecisionTreeClassifier(criterion="entropy", max_depth=10, random_state=0),
    ):
        ours = found[type(theirs).__name__]
        predicted = theirs.fit(train, labels).predict(tried)
        assert ours.accuracy == (predicted == expected).mean()
        digest = hashlib.sha256(predicted.astype(np.uint8).tobytes()).hexdigest()
        assert ours.predictions == (digest,)
    assert {one.accuracy for one in found.values()} != {1.0}, "it is not too easy"


def test_the_first_tier_tries_each_kind_once_and_says_which_could_have_gone_on(
    tmp_path: Path,
) -> None:
    found = benchmark.results(made(made_from(tmp_path / "x"), tmp_path / "goal"))
    assert len(found) == len(_classifiers.FIRST) == 10
    assert len({one.classifier for one in found}) == 10
    assert [one.accuracy for one in found] == sorted((one.accuracy for one in found), reverse=True)
    assert {one.repeats for one in found} == {1}
    assert {one.std for one in found} == {None}
    stopped = {one.classifier for one in found if not one.converged}
    assert "MLPClassifier" in stopped
    assert not stopped & {"GaussianNB", "RandomForestClassifier", "KNeighborsClassifier"}


def test_the_full_tier_holds_the_first_and_what_scikit_learn_has() -> None:
    assert _classifiers.FULL[: len(_classifiers.FIRST)] == _classifiers.FIRST
    texts = [str(setting) for setting in _classifiers.FULL]
    assert len(texts) == len({*texts})
    for setting in _classifiers.FULL:
        kind = getattr(
            __import__(f"sklearn.{_fitting._ROOMS[setting.classifier]}", fromlist=["x"]),
            setting.classifier,
        )
        assert {*setting.parameters} <= {*kind().get_params()}, setting


@pytest.mark.usefixtures("few")
def test_of_several_repeats_the_mean_and_the_population_deviation_are_told(tmp_path: Path) -> None:
    inputs = made_from(tmp_path / "x")
    found = benchmark.results(made(inputs, tmp_path / "goal", "full"))
    (images, labels), (test, expected) = splits().values()
    data = _fitting.scaled(images.reshape(90, -1), labels, test.reshape(45, -1), expected)
    for one in found:
        each = [
            _fitting.outcome(Task(one.classifier, dict(one.parameters), seed), data)
            for seed in range(3)
        ]
        shares = [outcome.accuracy for outcome in each]
        assert one.repeats == 3
        assert one.accuracy == pytest.approx(np.mean(shares))
        assert one.std == pytest.approx(np.std(shares))
        assert one.predictions == tuple(outcome.predictions for outcome in each)
    assert any(one.std for one in found)


@pytest.mark.usefixtures("few")
def test_of_much_train_records_are_taken_by_the_rule_and_of_test_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "MOST", 50)
    seen: list[Data] = []
    scaled = _fitting.scaled

    def noted(*arrays: Any) -> Data:
        seen.append(Data(*arrays))
        return scaled(*arrays)

    monkeypatch.setattr(_fitting, "scaled", noted)
    folder = made(made_from(tmp_path / "x"), tmp_path / "goal")
    (images, labels), (test, expected) = splits().values()
    chosen = _spread.chosen(labels, 50)
    np.testing.assert_array_equal(seen[0].train, images[chosen].reshape(50, -1))
    np.testing.assert_array_equal(seen[0].train_labels, labels[chosen])
    np.testing.assert_array_equal(seen[0].test, test.reshape(45, -1))
    np.testing.assert_array_equal(seen[0].test_labels, expected)
    how = benchmark.about(folder)
    assert how["train"] == {"records": 50, "of": 90, "chosen": _spread.RULE}
    assert "50 records of train (of 90: evenly" in (folder / "results.md").read_text("utf-8")


# --- what is written ------------------------------------------------------------------------------


@pytest.mark.usefixtures("few")
def test_a_folder_holds_the_results_as_a_table_and_to_be_read(tmp_path: Path) -> None:
    said = (
        Reported(
            "SVM | rbf", "A page", error_percent=0.8, url="https://example.org/a_b", year=2004
        ),
        Reported("humans", "Somebody", accuracy=0.95),
    )
    folder = made(made_from(tmp_path / "x", reported=said), tmp_path / "goal")
    assert builders.files_under(folder) == ["results.md", "results.parquet"]
    columns = [column.name for column in products.known()["benchmark"].columns]
    assert pq.read_schema(folder / "results.parquet").names == columns

    found, text = benchmark.results(folder), (folder / "results.md").read_text("utf-8")
    for one in found:
        figure = f"{one.accuracy:.4f}" + ("" if one.converged else r" \*")
        parameters = f"`{one.text}`" if one.parameters else ""
        assert f"| {one.classifier} | {parameters} | {figure} |" in text
    assert "`hidden_layer_sizes=(5,), max_iter=2`" in text
    assert r"\* Stopped after the iterations stated" in text
    assert r"| SVM \| rbf | 0.8 % error | 2004 | [A page](<https://example.org/a_b>) |" in text
    assert "| humans | 0.950 accuracy |  | Somebody |" in text
    assert "std" not in text, "there is none of one repeat"


@pytest.mark.usefixtures("few")
def test_where_nobody_reported_anything_nothing_is_said_of_it(tmp_path: Path) -> None:
    folder = made(made_from(tmp_path / "x"), tmp_path / "goal")
    assert "Reported" not in (folder / "results.md").read_text("utf-8")


@pytest.mark.usefixtures("few")
def test_seconds_and_the_processor_are_facts_of_the_run_and_stand_in_no_file(
    tmp_path: Path,
) -> None:
    goal = tmp_path / "goal"
    goal.mkdir()
    facts = benchmark.write(made_from(tmp_path / "x"), goal, FIRST, silent)
    assert facts["cpu_seconds"].keys() == {str(setting) for setting in QUICK}
    assert (facts["records"], facts["threads"], bool(facts["processor"])) == (3, 1, True)
    assert str(facts["processor"]) not in (goal / "results.md").read_text("utf-8")
    json.dumps(facts)


def test_what_others_reported_is_a_reason_to_make_it_again(tmp_path: Path) -> None:
    product = products.known()["benchmark"]
    before = made_from(tmp_path / "x").subject
    after = made_from(tmp_path / "y", reported=(Reported("SVM", "A page", accuracy=0.9),)).subject
    assert product.parameters(before, FIRST) != product.parameters(after, FIRST)
    assert product.parameters(before, FIRST) != product.parameters(before, {"tier": "full"})
    json.dumps(product.parameters(after, FIRST))


@pytest.mark.usefixtures("few")
def test_all_records_are_told_of_as_done_one_classifier_after_another(tmp_path: Path) -> None:
    goal = tmp_path / "goal"
    goal.mkdir()
    told: list[int] = []
    benchmark.write(made_from(tmp_path / "x"), goal, FIRST, told.append)
    assert sum(told) == 135, "of both splits"
    assert len([some for some in told if some]) == 3


def test_only_what_has_train_and_test_and_two_classes_can_be_tried() -> None:
    applies = products.known()["benchmark"].applies
    declared = catalogue.load(Settings().catalogue)
    assert all(map(applies, declared.by_default))
    one = declared.datasets["mnist"]
    train, test = one.splits["train"], one.splits["test"]
    alike = replace(train, counts=(60_000, *[0] * 9))
    assert not applies(replace(one, splits={"train": train}))
    assert not applies(replace(one, splits={"train": train, "extra": test}))
    assert not applies(replace(one, splits={"train": alike, "test": test}))


@pytest.mark.parametrize("records", [6, 12])
def test_few_records_can_be_tried_too(tmp_path: Path, records: int) -> None:
    found = benchmark.results(made(made_from(tmp_path / "x", records), tmp_path / "goal"))
    assert len(found) == 10


# --- the same again -------------------------------------------------------------------------------


@pytest.mark.slow
def test_processes_and_threads_and_hash_seeds_change_nothing(tmp_path: Path) -> None:
    expected = hashing.sha256(made(made_from(tmp_path / "x"), tmp_path / "here"))
    # A script that no import may run again: it has no `if __name__ == "__main__"`.
    script = tmp_path / "script.py"
    script.write_text(
        "import sys; from pathlib import Path; from tests.descriptions import test_benchmark as t\n"
        "from pipelines.store import hashing\n"
        "t.benchmark._FEW = 0\n"
        "folder, told = Path(sys.argv[1]), []\n"
        "(goal := folder / 'there').mkdir()\n"
        "t.benchmark.write(t.made_from(folder / 'z'), goal, t.FIRST, told.append)\n"
        "print(hashing.sha256(goal), sum(told), sum(map(bool, told)))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        env=os.environ
        | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "3", "PYTHONHASHSEED": "7"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    digest, records, steps = done.stdout.split()
    assert digest == expected
    assert records == "135", "all are told of as done"
    assert int(steps) > len(_classifiers.FIRST) / 2, "a classifier at a time; some take no time"


# --- processes ------------------------------------------------------------------------------------

BUILD = """
import sys; from pathlib import Path; from tests.descriptions import test_benchmark as t
t.benchmark._FEW = 0
t._classifiers.FIRST = (t.LONG, t.LONG, t.LONG)
folder = Path(sys.argv[1])
print("ready", flush=True)
t.made(t.made_from(folder / "x"), folder / "goal")
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])  # without a word, and with
def test_a_build_that_is_killed_in_the_middle_leaves_no_process(
    tmp_path: Path, number: signal.Signals
) -> None:
    command = [sys.executable, "-c", BUILD, str(tmp_path)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as build:
        try:
            until(lambda: len(processes_of(tmp_path)) == 2)
            scratch = tmp_path / "goal/scratch"
            until(lambda: all(map(has_read(scratch), processes_of(tmp_path))))
            build.send_signal(number)
            assert build.wait(within(60)) != 0
            until(lambda: not processes_of(tmp_path))
        finally:
            build.kill()


def has_read(scratch: Path) -> Any:
    """Return whether a process has opened the records, and thus fits something."""

    def asked(pid: int) -> bool:
        try:
            return str(scratch / "train.npy") in Path(f"/proc/{pid}/maps").read_text()
        except OSError:
            return False

    return asked if sys.platform == "linux" else lambda _: True


@pytest.mark.slow
def test_where_nobody_waits_any_more_it_ends_in_the_middle_of_a_classifier(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "_FEW", 0)
    monkeypatch.setattr(_classifiers, "FIRST", (LONG, LONG, LONG))
    (tmp_path / "goal").mkdir()

    class NobodyWaits(Exception):
        pass

    def advance(done: int) -> None:
        if len(processes_of(tmp_path)) == 2:
            raise NobodyWaits

    with pytest.raises(NobodyWaits):
        benchmark.write(made_from(tmp_path / "x"), tmp_path / "goal", FIRST, advance)
    assert processes_of(tmp_path) == []


@pytest.mark.slow
def test_where_a_process_dies_that_is_told_and_the_other_one_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "_FEW", 0)
    monkeypatch.setattr(_classifiers, "FIRST", (LONG, LONG, LONG))

    def strike() -> None:
        until(lambda: len(processes_of(tmp_path)) == 2)
        os.kill(processes_of(tmp_path)[0], signal.SIGKILL)

    killer = threading.Thread(target=strike)
    killer.start()
    with pytest.raises(ArtefactError) as caught:
        made(made_from(tmp_path / "x"), tmp_path / "goal")
    killer.join()
    assert str(caught.value).startswith(
        "RandomForestClassifier could not be tried: the process that did ended by signal 9"
    )
    assert processes_of(tmp_path) == []


@pytest.mark.parametrize("few_records", [0, 10**9], ids=["in processes", "here"])
def test_a_classifier_that_can_not_cope_with_the_data_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few_records: int
) -> None:
    wrong = Setting("KNeighborsClassifier", {"algorithm": "guess"}, 1)
    monkeypatch.setattr(benchmark, "_FEW", few_records)
    monkeypatch.setattr(_classifiers, "FIRST", (wrong,))
    with pytest.raises(ArtefactError, match=r"KNeighborsClassifier could not be tried: .*'guess'"):
        made(made_from(tmp_path / "x"), tmp_path / "goal")
    assert processes_of(tmp_path) == []


@pytest.mark.slow
def test_a_library_that_another_thread_is_still_loading_is_waited_for(tmp_path: Path) -> None:
    """scikit-learn asks of its data whether it is polars', by what of that is there already."""
    slow = tmp_path / "polars/__init__.py"
    slow.parent.mkdir()
    slow.write_text(
        "import time; time.sleep(2)\nclass Series: pass\nclass DataFrame: pass\n"
        "class LazyFrame: pass\nclass Expr: pass\n"
    )
    code = (
        "import sys, threading, time, numpy as np, sklearn.naive_bayes, sklearn.preprocessing\n"
        "from pipelines.descriptions import _fitting as f\n"
        "assert 'polars' not in sys.modules\n"
        "threading.Thread(target=lambda: __import__('polars')).start()\n"
        "while 'polars' not in sys.modules: time.sleep(0.01)\n"
        "pixels, labels = np.eye(4, dtype=np.uint8), np.array([0, 1, 0, 1], np.uint8)\n"
        "f.outcome(f.Task('GaussianNB', {}, 0), f.scaled(pixels, labels, pixels, labels))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_to_know_of_the_description_loads_no_scikit_learn() -> None:
    code = (
        "import sys; from pipelines import products; products.known()['benchmark']; "
        "print('sklearn' in sys.modules, 'scipy' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False"]


# --- the publishers' own files --------------------------------------------------------------------

# Measured elsewhere with the same seed, on scaled pixels.
HELD_TO = {
    ("mnist", "GaussianNB"): 0.5239,
    ("fashion_mnist", "GaussianNB"): 0.5706,
    ("mnist", "ExtraTreeClassifier"): 0.7568,
    ("fashion_mnist", "ExtraTreeClassifier"): 0.7437,
}


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_figures_of_the_publishers_records_are_those_measured_elsewhere(
    name: str, mirror: Path
) -> None:
    from tests.test_official import read_elsewhere

    if not (mirror / name / "train-images-idx3-ubyte.gz").exists():
        pytest.skip(f"the mirror has no {name}")
    arrays = []
    for split in ("train", "test"):
        images, labels = read_elsewhere(mirror / name, split)
        arrays += [images.reshape(len(images), -1), labels.astype(np.uint8)]
    data = _fitting.scaled(*arrays)
    for setting in _classifiers.FIRST:
        expected = HELD_TO.get((name, setting.classifier))
        if expected is not None:
            task = Task(setting.classifier, dict(setting.parameters), 0)
            assert round(_fitting.outcome(task, data).accuracy, 4) == expected
