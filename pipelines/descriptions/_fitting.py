"""Fitting: tries one classifier after another, here or in processes of their own.

`python -m pipelines.descriptions._fitting FOLDER` is such a process. It takes what to try from its
stdin, a line of JSON each, and answers each with a line. It ends when its stdin does: whoever
started it has finished, or was killed, however rudely.

Everything is held to one thread: with two, MLPs and others give other predictions.

Not here: which classifiers there are (`_classifiers`), or what becomes of the results
(`benchmark`).
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ArtefactError
from . import _machine

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ..records import Labels, Pixels

    Features = npt.NDArray[np.float32]

PROCESSES = 2
_LOOK_S = 0.5  # between two looks whether somebody still waits
_ROOMS = {  # of scikit-learn, where its classes are
    "GaussianNB": "naive_bayes",
    "MLPClassifier": "neural_network",
    "KNeighborsClassifier": "neighbors",
    **dict.fromkeys(("DecisionTreeClassifier", "ExtraTreeClassifier"), "tree"),
    **dict.fromkeys(("LogisticRegression", "SGDClassifier", "Perceptron"), "linear_model"),
    **dict.fromkeys(("LinearSVC", "SVC"), "svm"),
    **dict.fromkeys(("RandomForestClassifier", "ExtraTreesClassifier"), "ensemble"),
    **dict.fromkeys(("GradientBoostingClassifier", "HistGradientBoostingClassifier"), "ensemble"),
}


@dataclass(frozen=True, slots=True)
class Data:
    """What classifiers are fitted to, and tried on: a row of features for each record."""

    train: Features
    train_labels: Labels
    test: Features
    test_labels: Labels


@dataclass(frozen=True, slots=True)
class Task:
    """A classifier to try; `seed` decides the order of the records, and its own chances."""

    classifier: str
    parameters: dict[str, Any]
    seed: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a classifier did.

    accuracy: the share of test records that it classified rightly.
    converged: whether it found no more to improve before its iterations ended.
    predictions: SHA-256 of the labels that it gave the test records, as they are in the table.
    cpu_seconds: of fitting and predicting.
    """

    accuracy: float
    converged: bool
    predictions: str
    cpu_seconds: float


Answer = tuple[int, Outcome] | BaseException
"""Which task is done and how it went, or why there will be no more."""


def scaled(train: Pixels, train_labels: Labels, test: Pixels, test_labels: Labels) -> Data:
    """Return records as float32 of mean 0 and variance 1 in each pixel, by what train has."""
    import numpy as np
    from sklearn.preprocessing import StandardScaler

    with _machine.one_thread("sklearn"):
        scaler = StandardScaler(copy=False)
        fitted = scaler.fit_transform(train.astype(np.float32))
        return Data(fitted, train_labels, scaler.transform(test.astype(np.float32)), test_labels)


def outcome(task: Task, data: Data) -> Outcome:
    """Try a classifier, in this process.

    Raises:
        ArtefactError: it can't cope with the data.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.utils import shuffle

    room = f"sklearn.{_ROOMS[task.classifier]}"
    with _machine.one_thread(room), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        kind = getattr(importlib.import_module(room), task.classifier)
        chosen = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in task.parameters.items()
        }
        if "n_neighbors" in chosen:
            chosen["n_neighbors"] = min(chosen["n_neighbors"], len(data.train))
        if "random_state" in kind().get_params():
            chosen["random_state"] = task.seed
        train, labels = shuffle(data.train, data.train_labels, random_state=task.seed)
        started = time.thread_time()
        try:
            found = kind(**chosen).fit(train, labels).predict(data.test)
            found = found.astype(data.test_labels.dtype)
        except (ValueError, MemoryError) as error:
            raise ArtefactError(f"{task.classifier} could not be tried: {error}") from error
        taken_s = time.thread_time() - started
    return Outcome(
        float((found == data.test_labels).mean()),
        not any(issubclass(warning.category, ConvergenceWarning) for warning in caught),
        hashlib.sha256(found.tobytes()).hexdigest(),
        round(taken_s, 2),
    )


# --- in processes of their own --------------------------------------------------------------------


def share(data: Data, folder: Path) -> None:
    """Put data into a folder, where processes share it."""
    import numpy as np

    for field in fields(Data):
        np.save(folder / f"{field.name}.npy", getattr(data, field.name))


def outcomes(
    tasks: Sequence[Task], folder: Path, go_on: Callable[[], Any]
) -> Generator[tuple[int, Outcome]]:
    """Try classifiers in two processes; yield which of them is done, and how it did.

    They are begun in their order. Whatever happens here, no process is left.

    Args:
        tasks: what to try.
        folder: of the data (`share`), and for files of the processes.
        go_on: called now and then; what it raises ends everything.

    Raises:
        ArtefactError: a process died, or a classifier could not cope with the data.
    """
    waiting = deque(enumerate(tasks))
    answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()

    def serve(process: subprocess.Popen[str]) -> None:
        try:
            while waiting:
                try:
                    number, task = waiting.popleft()
                except IndexError:  # the other one was faster
                    return
                answers.put((number, _asked(process, task, folder)))
        except BaseException as error:  # raised where the answers are read
            answers.put(error)

    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(_process(folder)) for _ in range(min(PROCESSES, len(tasks)))
        ]
        with ThreadPoolExecutor(PROCESSES, "classifiers") as pool:
            try:
                for process in processes:
                    pool.submit(serve, process)
                for _ in tasks:
                    while (answer := _next(answers)) is None:
                        go_on()
                    if isinstance(answer, BaseException):
                        raise answer
                    yield answer
            finally:
                for process in processes:
                    process.kill()  # who waits for an answer waits no more


def _next(answers: queue.SimpleQueue[Answer]) -> Answer | None:
    """Return the next answer, or None where there was none for a while."""
    with contextlib.suppress(queue.Empty):
        return answers.get(timeout=_LOOK_S)
    return None


@contextlib.contextmanager
def _process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a process that tries classifiers; it is gone afterwards."""
    root = str(Path(__file__).resolve().parents[__name__.count(".")])
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    with _log(folder).open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            encoding="utf-8",
            env={**os.environ, **one, "PYTHONPATH": paths},
            start_new_session=True,  # Ctrl-C is for us, who end it
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):  # what it did not read
                pipe.close()  # type: ignore[union-attr] # it has both


def _log(folder: Path) -> Path:
    return folder / "errors.txt"


def _asked(process: subprocess.Popen[str], task: Task, folder: Path) -> Outcome:
    """Have a process try a classifier; wait for its answer."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(OSError):  # it has ended: there is no answer either
        process.stdin.write(json.dumps(asdict(task)) + "\n")
        process.stdin.flush()
    if line := process.stdout.readline():
        answer = json.loads(line)
        if "error" in answer:
            raise ArtefactError(answer["error"])
        return Outcome(**answer)
    code = process.wait()
    said = _log(folder).read_text("utf-8", "replace").strip().rpartition("\n")[2]
    why = f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    raise ArtefactError(
        f"{task.classifier} could not be tried: the process that did {why}"
        f"{f', saying: {said}' if said else ''}. Where a signal ended it, memory may have run out."
    )


def _main(folder: Path) -> None:
    """Answer line by line until stdin ends."""
    import numpy as np

    answers, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints is no answer
    asked: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(asked,), daemon=True).start()
    shared = {field.name: np.load(folder / f"{field.name}.npy", "r") for field in fields(Data)}
    while True:
        task = Task(**json.loads(asked.get()))
        try:
            answer = asdict(outcome(task, Data(**shared)))
        except ArtefactError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), file=answers, flush=True)  # the answer


def _listen(asked: queue.SimpleQueue[str]) -> None:
    """Take lines from stdin; end the process at once when it ends, in the middle of anything."""
    for line in sys.stdin:
        asked.put(line)
    os._exit(0)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
