"""The wheel: what is in it, and that it works where nothing but what it asks for is installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from tests.api import wheels
from tests.api.wheels import ROOT
from tests.builders import Publisher
from tests.waiting import within

pytestmark = pytest.mark.slow


def _in_git(folder: str) -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [name for name in listed.stdout.splitlines() if (ROOT / name).exists()]


def test_the_wheel_holds_the_library_and_the_catalogue_and_nothing_else(wheel: Path) -> None:
    wing = {re.sub("^pipelines", "imagesets", name) for name in _in_git("pipelines")}
    sources = {f"imagesets/sources/{Path(name).name}" for name in _in_git("assets/catalogue")}
    found = zipfile.ZipFile(wheel).namelist()

    assert len(found) == len(set(found))
    assert {name for name in found if ".dist-info/" not in name} == wing | sources
    assert "imagesets/py.typed" in found


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to import from: the wheel, and links to what that asks for."""
    folder = tmp_path_factory.mktemp("environment")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    [facts] = metadata.distributions(path=[str(folder)])
    for distribution in wheels.needed(facts):
        for file in distribution.files or ():
            top = file.parts[0]
            if top != ".." and not (folder / top).exists():
                (folder / top).symlink_to(Path(str(distribution.locate_file(top))))
    return folder


def python(environment: Path, code: str, *, home: Path) -> str:
    """What a script prints where nothing is installed but the wheel and what it asks for."""
    script = f"import sys; sys.path.insert(0, {str(environment)!r})\n{code}"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script],
        cwd=home,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=within(120),
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_it_works_with_nothing_else_installed(
    environment: Path, publisher: Publisher, tmp_path: Path
) -> None:
    said = python(
        environment,
        """
import imagesets

assert imagesets.__file__.startswith(sys.path[0])
for missing in ("dagster", "polars", "lmdb", "assets", "pipelines"):
    try:
        __import__(missing)
    except ModuleNotFoundError:
        continue
    raise AssertionError(missing)
train = imagesets.load("tiny_digits", "train", verify=True)
assert sum(len(b) for b in imagesets.batches("tiny_digits", "train", records=7)) == len(train)
assert imagesets.trace("tiny_digits", "train", 3).holds
assert all(verdict.is_whole for verdict in imagesets.verify("tiny_digits", deep=True))
assert len(imagesets.arrays("tiny_digits", "train").name)
import imagesets.grain
assert imagesets.grain.source("tiny_digits", "train")[3]["label"] == train.labels[3]
print(len(train))
""",
        home=tmp_path,
    )
    assert said == f"{len(publisher.splits['tiny_digits', 'train'][1])}\n"


def test_the_built_in_catalogue_comes_along(environment: Path, tmp_path: Path) -> None:
    said = python(environment, "import imagesets; print(*imagesets.names())", home=tmp_path)
    assert {"mnist", "fashion_mnist", "emnist_letters", "cifar10", "cifar100"} <= {*said.split()}


def test_every_line_of_its_document_runs(
    environment: Path, publisher: Publisher, tmp_path: Path
) -> None:
    """Here `mnist` is a tiny set."""
    python(environment, wheels.lines("tiny_digits", 3), home=tmp_path)


def test_types_of_a_user_are_checked(environment: Path, tmp_path: Path) -> None:
    user, types = tmp_path / "user.py", tmp_path / "types"
    types.mkdir()
    (types / "imagesets").symlink_to(environment / "imagesets")
    user.write_text(
        "import imagesets\n\n"
        "train = imagesets.load('mnist')\n"
        "reveal_type(train.images)\nreveal_type(train.classes)\nreveal_type(imagesets.names())\n"
        "imagesets.load(7)\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache")]
    done = subprocess.run(
        [*command, "--config-file", "", str(user)],
        cwd=tmp_path,
        env=os.environ | {"MYPYPATH": str(tmp_path / "types")},
        capture_output=True,
        text=True,
        timeout=within(300),
        check=False,
    )
    said = [line for line in done.stdout.splitlines() if line.startswith("user.py")]
    assert len(said) == 4, done.stdout + done.stderr
    assert "ndarray[" in said[0]
    assert "unsignedinteger[numpy._typing._nbit_base._8Bit]" in said[0]  # uint8
    assert '"tuple[str, ...]"' in said[1]
    assert '"tuple[str, ...]"' in said[2]
    assert 'incompatible type "int"; expected "str"' in said[3]
