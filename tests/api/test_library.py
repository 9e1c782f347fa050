"""The library: what those get who import it, and never hear of anything else."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import inspect
import json
import os
import pickle
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import pipelines as imagesets
import pipelines.grain
from pipelines import plan as planning
from pipelines.api import streams
from pipelines.errors import ArchiveUnavailable, MadeByNewer, StorageError, UnknownName
from pipelines.store import Folder, hashing, layout, provenance
from tests.builders import Publisher
from tests.servers import folder, serving
from tests.waiting import within

ROOT = Path(__file__).resolve().parent.parent.parent
# What Arrow imports by itself for a single call, where it is installed.
HEAVY = ("pandas", "pyarrow.compute", "pyarrow.dataset")
SPLITS = [("tiny_digits", "train"), ("tiny_letters", "test"), ("tiny_colours", "train")]


def in_a_process(
    *lines: str,
    arguments: Sequence[str] = (),
    before: Sequence[str] = (),
    environment: Mapping[str, str] = os.environ,
    **variables: str,
) -> str:
    """What some lines of Python print, in a process of their own."""
    done = subprocess.run(
        [*before, sys.executable, "-c", "\n".join(lines), *arguments],
        cwd=ROOT,
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=within(60),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(("dataset", "split"), SPLITS)
def test_a_split_is_loaded_as_its_publisher_made_it(
    publisher: Publisher, dataset: str, split: str
) -> None:
    images, labels, coarse = publisher.splits[dataset, split]

    for _ in range(2):  # made, and read from what is there
        found = imagesets.load(dataset, split)

        np.testing.assert_array_equal(found.images, images)
        np.testing.assert_array_equal(found.labels, labels)
        assert found.images.dtype == found.labels.dtype == np.uint8
        assert found.images.flags.writeable
        assert (found.coarse_labels is None) == (coarse is None)
        if coarse is not None:
            np.testing.assert_array_equal(found.coarse_labels, coarse)
        assert found.classes == imagesets.about(dataset).classes
        assert len(found) == len(labels)
    assert repr(found).startswith(f"<{dataset}/{split}: {len(labels)} records of ")


def test_what_is_there_is_read_without_declarations_archives_or_anything_heavy(
    publisher: Publisher, data: Path
) -> None:
    imagesets.load("tiny_digits", "test")
    _settle(data)
    imagesets.load("tiny_digits", "test")
    shutil.rmtree(data / "archives")

    said = in_a_process(
        "import sys, pipelines as imagesets",
        "print(sorted(m for m in sys.modules if m in ('numpy', 'pyarrow', 'json')))",
        "print(len(imagesets.load('tiny_digits', 'test')))",
        "heavy = ('pydantic', 'requests', 'polars', 'dagster', 'lmdb', 'rich', 'tomllib')",
        f"heavy += {HEAVY}",
        "print(sorted(m for m in sys.modules if m in heavy))",
    )

    count = len(publisher.splits["tiny_digits", "test"][1])
    assert said.splitlines() == ["[]", str(count), "[]"]


def test_a_first_load_takes_no_more_than_the_wheel_asks_for(publisher: Publisher) -> None:
    said = in_a_process(
        "import sys, pipelines as imagesets",
        "imagesets.load('tiny_digits', 'test')",
        "heavy = ('polars', 'dagster', 'lmdb', 'rich', 'PIL', 'matplotlib', 'requests', 'urllib3')",
        f"heavy += {HEAVY}",
        "print(sorted(m for m in sys.modules if m in heavy))",
    )
    assert said == "[]\n"
    assert importlib.util.find_spec("pandas"), "it proves nothing where pandas is not installed"


def test_a_first_load_fetches_the_archives_of_its_split_alone(
    publisher: Publisher, data: Path
) -> None:
    imagesets.load("tiny_digits", "test")
    declared = planning.load(publisher.catalogue)
    digits = declared.datasets["tiny_digits"]
    fetched = {path.name for path in (data / "archives/tiny_digits").iterdir()}

    assert fetched == {*digits.splits["test"].archives}
    assert len(fetched) < len(declared.source_of(digits).archives)
    found = imagesets.verify("tiny_digits", deep=True)
    assert {verdict.condition for verdict in found} == {"whole"}
    assert "tables/tiny_digits/test.parquet" in {one.path for one in found if one.is_deep}


def test_a_table_that_somebody_wrote_to_is_made_again(publisher: Publisher, data: Path) -> None:
    images = publisher.splits["tiny_digits", "test"][0]
    imagesets.load("tiny_digits", "test")
    table = data / "tables/tiny_digits/test.parquet"
    _settle(data)
    imagesets.load("tiny_digits", "test")
    changed = bytearray(table.read_bytes())
    changed[len(changed) // 3] ^= 1
    table.write_bytes(changed)

    np.testing.assert_array_equal(imagesets.load("tiny_digits", "test").images, images)
    assert table.read_bytes() != changed


def test_bytes_that_rot_are_found_by_those_who_ask(publisher: Publisher, data: Path) -> None:
    """A disk that loses a bit tells nobody: the file's times and size stay as they were."""
    images = publisher.splits["tiny_digits", "test"][0]
    imagesets.load("tiny_digits", "test")
    table = data / "tables/tiny_digits/test.parquet"
    _settle(data)
    imagesets.load("tiny_digits", "test")
    _rot(data, table)

    np.testing.assert_array_equal(imagesets.load("tiny_digits", "test", verify=True).images, images)


def _settle(data: Path) -> None:
    """Have what was seen of all files count as seen long after they were written."""
    hashing.forget()
    for path in (data / ".seen").rglob("*.json"):
        said = json.loads(path.read_text())
        if "looked" in said:
            path.write_text(json.dumps(said | {"looked": "2099-01-01T00:00:00Z"}))


def _rot(data: Path, table: Path) -> None:
    """Change a bit of a table in such a way that what was seen of the file still seems to hold."""
    changed = bytearray(table.read_bytes())
    changed[len(changed) // 3] ^= 1
    table.write_bytes(changed)
    now, seen = table.stat(), data / ".seen/tables/tiny_digits/test.parquet.json"
    said = json.loads(seen.read_text())
    said |= {"size_bytes": now.st_size, "mtime_ns": now.st_mtime_ns, "ctime_ns": now.st_ctime_ns}
    seen.write_text(json.dumps(said | {"inode": now.st_ino}))
    hashing.forget()


@pytest.mark.parametrize("changed", ["code_version", "compression", "title"])
def test_a_table_of_another_version_of_the_same_archives_stays(
    publisher: Publisher, data: Path, changed: str
) -> None:
    imagesets.load("tiny_digits", "test")
    shutil.rmtree(data / ".seen")
    path = "tables/tiny_digits/test.parquet"
    known = provenance.latest(Folder(data), path)
    assert known
    parameters = known.parameters | {changed: "another"}
    known = (
        replace(known, code_version="9.9")
        if changed == "code_version"
        else replace(known, parameters=parameters)
    )
    provenance.take(Folder(data), known, None)
    before = (data / "tables/tiny_digits/test.parquet").stat().st_ino
    hashing.forget()

    imagesets.load("tiny_digits", "test")

    assert (data / "tables/tiny_digits/test.parquet").stat().st_ino == before
    assert provenance.latest(Folder(data), path) == known


def test_a_changed_declaration_makes_a_table_anew(
    publisher: Publisher, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert imagesets.load("tiny_digits", "test").classes[0] != "nought"
    first = imagesets.about("tiny_digits").classes[0]
    catalogue = tmp_path / "another"
    shutil.copytree(publisher.catalogue, catalogue)
    toml = catalogue / "tiny_digits.toml"
    toml.write_text(toml.read_text().replace(f'"{first}"', '"nought"', 1))
    monkeypatch.setenv("IMAGESETS_CATALOGUE", str(catalogue))

    assert imagesets.load("tiny_digits", "test").classes[0] == "nought"


def test_a_read_only_folder_is_enough(publisher: Publisher, data: Path, tmp_path: Path) -> None:
    imagesets.load("tiny_digits", "test")
    imagesets.arrays("tiny_digits", "test")
    shutil.rmtree(data / ".seen")
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    for path in [data, *data.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = sorted(data.rglob("*"))
    try:
        said = in_a_process(
            "import pathlib, sys, pipelines as imagesets",
            "for verify in (False, True, False):",
            "    assert len(imagesets.load('tiny_digits', 'test', verify=verify)) == 12",
            "    assert imagesets.arrays('tiny_digits', 'test', verify=verify).is_dir()",
            "assert imagesets.trace('tiny_digits', 'test', 3).holds",
            "assert all(one.is_whole for one in imagesets.verify('tiny_digits', deep=True))",
            "try: pathlib.Path(sys.argv[1], 'new').touch()",
            "except PermissionError: print('read-only')",
            arguments=[str(data)],
            before=_OBEYING if os.getuid() == 0 else [],
        )
    finally:
        for path in [data, *data.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert said == "read-only\n"
    assert sorted(data.rglob("*")) == before


# Root obeys no mode of a file, but without these capabilities.
_CAPABILITIES = "-dac_override,-dac_read_search"
_OBEYING = ["setpriv", f"--inh-caps={_CAPABILITIES}", f"--bounding-set={_CAPABILITIES}"]


def test_what_is_missing_is_refused_by_name(publisher: Publisher) -> None:
    with pytest.raises(UnknownName, match=r"no dataset 'tiny_digit'\. Did you mean 'tiny_digits'"):
        imagesets.load("tiny_digit")
    with pytest.raises(UnknownName, match=r"tiny_digits has no split 'tst'.*test"):
        imagesets.load("tiny_digits", "tst")
    with pytest.raises(UnknownName, match="Known: "):
        imagesets.about("nothing")
    with pytest.raises(AttributeError, match="has no attribute 'lode'"):
        imagesets.lode  # noqa: B018


def test_without_archives_in_reach_it_says_so_and_leaves_nothing(
    publisher: Publisher, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IMAGESETS_MIRROR")
    with pytest.raises(ArchiveUnavailable):
        imagesets.load("tiny_digits")
    assert not (data / "tables").exists()


@pytest.mark.parametrize("records", [1, 5, 12, 1000])
def test_batches_are_the_split_in_order(publisher: Publisher, records: int) -> None:
    images, labels, coarse = publisher.splits["tiny_colours", "train"]

    found = list(imagesets.batches("tiny_colours", "train", records=records))

    assert {len(batch) for batch in found[:-1]} <= {records}
    assert repr(found[0]) == f"<{len(found[0])} records of 4×4×3>"
    np.testing.assert_array_equal(np.concatenate([batch.images for batch in found]), images)
    np.testing.assert_array_equal(np.concatenate([batch.labels for batch in found]), labels)
    together = np.concatenate([np.asarray(batch.coarse_labels) for batch in found])
    np.testing.assert_array_equal(together, coarse)


def test_no_records_at_a_time_are_refused(publisher: Publisher) -> None:
    with pytest.raises(ValueError, match="records is 0"):
        imagesets.batches("tiny_digits", records=0)
    with pytest.raises(ValueError, match="buffer is 0"):
        next(streams.shuffled("tiny_digits", "train", buffer=0, seed=0))


def test_a_stream_gives_every_record_once_in_an_order_that_its_seed_decides(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels, _ = publisher.splits["tiny_digits", "train"]
    expected = sorted(
        (image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)
    )

    def stream(seed: int, buffer: int) -> list[tuple[bytes, int]]:
        found = streams.shuffled("tiny_digits", "train", buffer=buffer, seed=seed)
        return [(image.tobytes(), label) for image, label in found]

    for buffer in (1, 7, 1000):
        assert sorted(stream(0, buffer)) == expected
    assert stream(3, 10) == stream(3, 10) != stream(4, 10)


def test_a_table_is_taken_by_polars_and_duckdb_as_it_is(publisher: Publisher) -> None:
    import duckdb

    images, labels, _ = publisher.splits["tiny_digits", "test"]
    records = imagesets.table("tiny_digits", "test")

    frame: Any = pl.from_arrow(records)
    assert frame["label"].to_list() == labels.tolist()
    assert frame["pixels"][3] == images[3].tobytes()
    counted = duckdb.sql("SELECT count(*) FROM records").fetchall()
    assert counted == [(len(labels),)]
    assert imagesets.path("tiny_digits", "test").name == "test.parquet"


def test_arrays_are_mapped_and_a_pickle_is_a_path(publisher: Publisher) -> None:
    images, labels, _ = publisher.splits["tiny_colours", "train"]
    folder = imagesets.arrays("tiny_colours", "train")
    assert imagesets.arrays("tiny_colours", "train", verify=True) == folder

    np.testing.assert_array_equal(np.load(folder / "images.npy", mmap_mode="r"), images)
    source = pipelines.grain.source("tiny_colours", "train")
    assert len(pickle.dumps(source)) < 500
    copied = pickle.loads(pickle.dumps(source))
    assert len(copied) == len(labels)
    np.testing.assert_array_equal(copied[7]["image"], images[7])
    assert copied[7]["label"] == labels[7]
    assert repr(copied) == repr(source)


def test_what_is_declared_is_told(publisher: Publisher) -> None:
    assert imagesets.names() == tuple(planning.load(publisher.catalogue).datasets)
    found = imagesets.about("tiny_colours")
    images, labels, _ = publisher.splits["tiny_colours", "train"]
    assert found.shape == images.shape[1:]
    assert found.splits["train"] == len(labels)
    assert found.counts["train"] == tuple(np.bincount(labels, minlength=len(found.classes)))
    assert found.citation == "@misc{tiny}"


def test_a_record_is_traced_to_its_publishers_bytes_and_all_of_it_verified(
    publisher: Publisher, data: Path
) -> None:
    images, labels, _ = publisher.splits["tiny_letters", "test"]

    chain = imagesets.trace("tiny_letters", "test", 5)

    assert chain.holds
    assert repr(chain) == f"<tiny_letters/test:5: {len(chain.hops)} hops, all hold>"
    assert chain.facts["label"] == labels[5]
    np.testing.assert_array_equal(chain.image, images[5])
    assert all(verdict.is_whole for verdict in imagesets.verify("tiny_letters", deep=True))
    (data / "tables/tiny_letters/test.parquet").write_bytes(b"")
    verdicts = {one.path: one.condition for one in imagesets.verify("tiny_letters")}
    assert verdicts["tables/tiny_letters/test.parquet"] == "changed"


def test_a_forked_worker_reads_what_its_parent_has_loaded(publisher: Publisher) -> None:
    said = in_a_process(
        "import os, pipelines as imagesets",
        "imagesets.load('tiny_digits')",
        "pid = os.fork()",
        "count = len(imagesets.load('tiny_digits'))",
        "if not pid: os._exit(0 if count == 30 else 1)",
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), count)",
        PYTHONWARNINGS="ignore::DeprecationWarning",  # of threads, which have ended
    )
    assert said == "0 30\n"


# In a container, the number of a user may stand in no list of users.
_NOBODY = """
import pwd
def getpwuid(number): raise KeyError(number)
pwd.getpwuid = getpwuid
"""


def test_in_a_fresh_container_a_user_without_a_home_has_a_place(
    publisher: Publisher, tmp_path: Path
) -> None:
    """Nothing is in the environment but where to find what is fetched."""
    for _ in range(2):
        said = in_a_process(
            *_NOBODY.splitlines(),
            "import pipelines as imagesets",
            "assert len(imagesets.load('tiny_digits', 'test')) == 12",
            "print(imagesets.path('tiny_digits', 'test', verify=True))",
            environment={"IMAGESETS_OFFLINE": "1", "TMPDIR": str(tmp_path)},
            IMAGESETS_CATALOGUE=str(publisher.catalogue),
            IMAGESETS_MIRROR=str(publisher.mirror),
        )
        found = tmp_path / f"imagesets-{os.getuid()}"
        assert Path(said.strip()) == found / "data/tables/tiny_digits/test.parquet"
        assert stat.S_IMODE(found.stat().st_mode) == 0o700


def test_a_place_that_somebody_else_made_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(_number: int) -> None:
        raise KeyError

    (tmp_path / "imagesets-12345").mkdir()
    with monkeypatch.context() as somebody:
        somebody.delenv("HOME")
        somebody.delenv("XDG_CACHE_HOME", raising=False)
        somebody.setattr("pwd.getpwuid", nobody)
        somebody.setattr("tempfile.tempdir", str(tmp_path))
        somebody.setattr("os.getuid", lambda: 12345)

        with pytest.raises(StorageError, match=r"imagesets-12345 belongs to somebody else.*HOME"):
            imagesets.load("mnist")


def test_a_notebook_loads_as_it_is(publisher: Publisher) -> None:
    """A loop runs already, nothing has a file, and what is shown goes to no terminal."""
    said = in_a_process(
        "import asyncio, io, sys",
        "sys.stderr, real = io.StringIO(), sys.stderr",
        "async def cell():",
        "    namespace = {'__name__': '__main__'}",
        "    exec('import pipelines as imagesets', namespace)",
        "    exec('train = imagesets.load(\"tiny_digits\")', namespace)",
        '    exec(\'found = imagesets.batches("tiny_digits", "test", records=7)\', namespace)',
        "    exec('print(train, [len(one) for one in found])', namespace)",
        "asyncio.run(cell())",
        "print(repr(sys.stderr.getvalue()))",
    )
    count = len(publisher.splits["tiny_digits", "train"][1])
    assert said == f"<tiny_digits/train: {count} records of 4×3×1, 3 classes> [7, 5]\n''\n"


def test_offline_no_server_is_asked(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(b"", folder(publisher.mirror)) as server:
        monkeypatch.setenv("IMAGESETS_MIRROR", server.url)
        with pytest.raises(ArchiveUnavailable, match="offline, and no mirror folder"):
            imagesets.load("tiny_digits")
        assert server.requests == []
        monkeypatch.delenv("IMAGESETS_OFFLINE")
        assert len(imagesets.load("tiny_digits")) == 30


PUBLIC = {
    "load": "(dataset: 'str', split: 'str' = 'train', *, verify: 'bool' = False) -> 'Records'",
    "path": "(dataset: 'str', split: 'str' = 'train', *, verify: 'bool' = False) -> 'Path'",
    "arrays": "(dataset: 'str', split: 'str' = 'train', *, verify: 'bool' = False) -> 'Path'",
    "table": "(dataset: 'str', split: 'str' = 'train') -> 'pa.Table'",
    "batches": (
        "(dataset: 'str', split: 'str' = 'train', *, records: 'int' = 1024) -> 'Generator[Batch]'"
    ),
    "names": "() -> 'tuple[str, ...]'",
    "about": "(dataset: 'str') -> 'About'",
    "trace": "(dataset: 'str', split: 'str', index: 'int') -> 'Chain'",
    "verify": "(dataset: 'str', *, deep: 'bool' = False) -> 'list[Verdict]'",
}


FOR_FRAMEWORKS = {
    "torch.dataset": (
        "(dataset: 'str', split: 'str' = 'train', transform: 'Transform | None' = None) -> 'Images'"
    ),
    "torch.stream": (
        "(dataset: 'str', split: 'str' = 'train', *, buffer: 'int' = 20000, seed: 'int' = 0)"
        " -> 'Iterator[tuple[torch.Tensor, int]]'"
    ),
    "tensorflow.dataset": ("(dataset: 'str', split: 'str' = 'train') -> 'Any'"),
    "grain.source": ("(dataset: 'str', split: 'str' = 'train') -> 'Source'"),
}


def test_public_names_and_signatures_stay_as_they_are() -> None:
    others = {"About", "ImagesetsError", "Records", "__version__"}
    assert {*imagesets.__all__} == {*PUBLIC} | others == {*dir(imagesets)}
    for name, signature in PUBLIC.items():
        assert str(inspect.signature(getattr(imagesets, name))) == signature
    for name, signature in FOR_FRAMEWORKS.items():
        module, _, function = name.partition(".")
        found = getattr(importlib.import_module(f"pipelines.{module}"), function)
        assert str(inspect.signature(found)) == signature
        assert "Raises:" in found.__doc__
    assert [*inspect.signature(imagesets.Records).parameters] == [
        *("dataset", "split", "images", "known_labels", "classes", "coarse_labels"),
        *("coarse_classes", "extras"),
    ]
    assert [*inspect.signature(imagesets.About).parameters] == [
        *("name", "title", "description", "quirks", "shape", "classes", "coarse_classes"),
        *("splits", "counts", "mean", "std", "homepage", "licence", "citation"),
        *("acknowledgements", "restriction"),
    ]


@pytest.mark.parametrize("name", PUBLIC)
def test_every_function_tells_its_arguments_errors_and_an_example(name: str) -> None:
    function = getattr(imagesets, name)
    said = inspect.getdoc(function) or ""
    assert "Raises:" in said
    assert "Example:\n    >>> " in said
    told = re.search(r"Args:\n((?:    .*\n)+)", said)
    parameters = [*inspect.signature(function).parameters]
    assert all(one in (told[1] if told else "") for one in parameters)
    if name in ("load", "arrays", "table", "batches", "trace"):
        text = said + (imagesets.Records.__doc__ or "" if name == "load" else "")
        assert "uint8" in text
        assert re.search(r"shape \(|fixed_size_binary of", text)


@pytest.mark.slow
def test_every_example_is_true_of_the_official_mnist(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGESETS_MIRROR", str(mirror))
    monkeypatch.setenv("IMAGESETS_DATA", str(tmp_path / "data"))
    finder, runner = doctest.DocTestParser(), doctest.DocTestRunner()
    for name in PUBLIC:
        text = getattr(imagesets, name).__doc__
        names = {"imagesets": imagesets, "numpy": np}
        tried = runner.run(finder.get_doctest(text, names, name, None, None))
        assert tried.attempted
        assert not tried.failed


FRAMEWORKS = {
    "torch.dataset": (
        "(dataset: 'str', split: 'str' = 'train', transform: 'Transform | None' = None) -> 'Images'"
    ),
    "torch.stream": (
        "(dataset: 'str', split: 'str' = 'train', *, buffer: 'int' = 20000, seed: 'int' = 0)"
        " -> 'Iterator[tuple[torch.Tensor, int]]'"
    ),
    "tensorflow.dataset": "(dataset: 'str', split: 'str' = 'train') -> 'Any'",
    "grain.source": "(dataset: 'str', split: 'str' = 'train') -> 'Source'",
}


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_signatures_of_the_parts_for_frameworks_stay_as_they_are(name: str) -> None:
    """They are tried in the readers' environment; here none of the frameworks is installed."""
    module, _, function = name.partition(".")
    found = getattr(importlib.import_module(f"pipelines.{module}"), function)
    assert str(inspect.signature(found)) == FRAMEWORKS[name]
    assert "Raises:" in found.__doc__


def test_progress_is_shown_on_a_terminal_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipelines.api import terminal

    def work() -> None:
        with terminal.display().task("mnist", 200, "bytes") as watch:
            for _ in range(4):
                watch(50)

    work()
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(terminal, "EVERY_S", -1)
    work()
    assert capsys.readouterr().err == (
        "".join(f"\r\x1b[Kmnist: {percent} %" for percent in (25, 50, 75, 100)) + "\r\x1b[K"
    )


def _as_made_by(data: Path, path: str, version: str, **changed: Any) -> provenance.Provenance:
    """Have an artefact's provenance say that another release made it, and otherwise."""
    store = Folder(data)
    known = provenance.latest(store, path)
    assert known
    run = replace(known.run, versions={**known.run.versions, "imagesets": version})
    known = replace(known, run=run, code_version="9.9", **changed)
    provenance.take(store, known, None)
    beside = data / layout.sidecar(path)
    if beside.exists():
        beside.write_bytes(provenance.sidecar(known))
    shutil.rmtree(data / ".seen", ignore_errors=True)
    hashing.forget()
    return known


TABLE, ARRAYS = "tables/tiny_digits/test.parquet", "exports/tiny_digits/test_npy"


@pytest.mark.parametrize("version", ["0.1.0", "99.0.1"])
@pytest.mark.parametrize("verify", [False, True])
def test_what_another_release_made_stays_arrays_too(
    publisher: Publisher, data: Path, version: str, verify: bool
) -> None:
    folder = imagesets.arrays("tiny_digits", "test")
    known = [_as_made_by(data, path, version) for path in (TABLE, ARRAYS)]
    before = [(data / path).stat().st_ino for path in (TABLE, ARRAYS)]

    assert imagesets.arrays("tiny_digits", "test", verify=verify) == folder
    assert len(imagesets.load("tiny_digits", "test", verify=verify)) == 12

    assert [(data / path).stat().st_ino for path in (TABLE, ARRAYS)] == before
    assert [provenance.latest(Folder(data), path) for path in (TABLE, ARRAYS)] == known
    verdicts = {one.path: one.condition for one in imagesets.verify("tiny_digits")}
    newer = version == "99.0.1"
    assert verdicts[TABLE] == verdicts[ARRAYS] == ("whole" if newer else "stale")


def test_arrays_are_made_from_a_newer_table_which_stays(publisher: Publisher, data: Path) -> None:
    images = publisher.splits["tiny_digits", "test"][0]
    imagesets.load("tiny_digits", "test")
    known = _as_made_by(data, TABLE, "99.0.1", parameters={"records": 12, "classes": ["x"]})
    before = (data / TABLE).stat().st_ino

    folder = imagesets.arrays("tiny_digits", "test")

    np.testing.assert_array_equal(np.load(folder / "images.npy"), images[..., 0])
    assert (data / TABLE).stat().st_ino == before
    assert provenance.latest(Folder(data), TABLE) == known
    assert imagesets.arrays("tiny_digits", "test", verify=True) == folder


@pytest.mark.parametrize("path", [TABLE, ARRAYS])
def test_what_a_newer_release_made_of_other_files_is_left_and_said(
    publisher: Publisher, data: Path, path: str
) -> None:
    imagesets.arrays("tiny_digits", "test")
    inputs = provenance.latest(Folder(data), path).inputs  # type: ignore[union-attr]
    _as_made_by(data, path, "99.0.1", inputs=(replace(inputs[0], sha256="0" * 64), *inputs[1:]))
    before = (data / path).stat().st_ino

    with pytest.raises(MadeByNewer, match=r"was made by Imagesets 99\.0\.1, from other files"):
        imagesets.arrays("tiny_digits", "test")

    assert (data / path).stat().st_ino == before


def test_arrays_that_somebody_wrote_to_are_made_again_whoever_made_them(
    publisher: Publisher, data: Path
) -> None:
    images = publisher.splits["tiny_digits", "test"][0]
    folder = imagesets.arrays("tiny_digits", "test")
    _as_made_by(data, ARRAYS, "99.0.1")
    (folder / "images.npy").write_bytes(b"other")

    np.testing.assert_array_equal(
        np.load(imagesets.arrays("tiny_digits", "test") / "images.npy"), images[..., 0]
    )


def test_arrays_of_other_options_are_made_again(publisher: Publisher, data: Path) -> None:
    folder = imagesets.arrays("tiny_digits", "test")
    parameters = provenance.latest(Folder(data), ARRAYS).parameters  # type: ignore[union-attr]
    _as_made_by(data, ARRAYS, "0.1.0", parameters=parameters | {"flat": True})
    before = folder.stat().st_ino

    assert imagesets.arrays("tiny_digits", "test").stat().st_ino != before
