"""What is read: exports that the command line builds, and the tables that they must equal."""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv" / "bin" / "python"  # where Imagesets is, and no reader
MIRROR = os.environ.pop("IMAGESETS_MIRROR", "")

# What Imagesets says of its exports: in its own environment, since here it can't be imported.
_DECLARED = """
import json
from pipelines import products
said = {
    name: {"files": product.files, "scope": product.scope, "read_by": [
        {"name": one.name, "versions": one.versions, "code": one.code} for one in product.read_by]}
    for name, product in products.known().items() if products.room_of(name) == "exports"
}
print(json.dumps(said))
"""


def _run(*arguments: str, **variables: str) -> str:
    done = subprocess.run(
        [PYTHON, *arguments],
        cwd=ROOT,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        warnings.warn(f"{arguments} ended with {done.returncode}", stacklevel=2)
    return done.stdout


@functools.cache
def exports() -> Mapping[str, Mapping[str, Any]]:
    """Every export → `files`, `scope` and `read_by`, as declared."""
    return dict(json.loads(_run("-c", _DECLARED)))


@functools.cache
def small() -> Path:
    """A catalogue and a mirror of small copies of the official sources."""
    folder = _folder() / "published"
    if not folder.exists():
        _run("-m", "tests.readers.publish", str(folder))
    return folder


@functools.cache
def data(official: bool, options: tuple[tuple[str, str], ...] = ()) -> Path:
    """A data folder in which every export is built: the official datasets, or small copies.

    options: environment variable → value, without `IMAGESETS_`; only exports that have such an
        option are built.
    """
    name = "-".join(["official" if official else "small", *sum(options, ())])
    folder = _folder() / name
    wanted = [name for name in exports() if not options or _has_one(name, options)]
    where = ["mnist", "fashion_mnist"] if official else ["--catalogue", f"{small()}/catalogue"]
    variables = {f"IMAGESETS_{name}": value for name, value in options}
    variables |= {"IMAGESETS_MIRROR": MIRROR if official else f"{small()}/mirror"}
    only = [f"--only={name}" for name in wanted]
    _run("-m", "assets", "build", *where, *only, IMAGESETS_DATA=str(folder), **variables)
    return folder


def _has_one(export: str, options: tuple[tuple[str, str], ...]) -> bool:
    return any(name.startswith(f"{export.upper()}_") for name, _ in options)


@functools.cache
def _folder() -> Path:
    """Where all this lies: a temporary folder, or one that whoever works on this wants kept."""
    if kept := os.environ.get("IMAGESETS_READERS_DATA"):
        return Path(kept)
    folder = tempfile.mkdtemp(prefix="imagesets-exports-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@dataclass(frozen=True)
class Records:
    """Records, as a table holds them or a reader returned them.

    images: (records, height, width, channels) in a table; a reader may give another shape.
    order: of a reader that goes by class, `by class`; of a table's records, evenly spread,
        `a sample`.
    classes: the names that the reader gives them; None where it gives none.
    """

    images: Any
    labels: Any
    coarse: Any = None
    classes: Any = None
    order: str = "of the table"


@dataclass(frozen=True)
class At:
    """An export of a dataset, of one split or of both, and the table of the split."""

    data: Path
    dataset: str
    split: str
    export: str

    @property
    def path(self) -> Path:
        files = exports()[self.export]["files"]
        found = self.data / files.format(dataset=self.dataset, split=self.split)
        assert found.exists(), f"{self.dataset} has no {self.export}: {found}"
        return found

    @property
    def table(self) -> Records:
        return _table(self.data / "tables" / self.dataset / f"{self.split}.parquet")

    @property
    def is_train(self) -> bool:
        return self.split == "train"


@functools.lru_cache(maxsize=4)
def _table(path: Path) -> Records:
    table = pq.read_table(path).combine_chunks()
    assert table["index"].to_pylist() == list(range(len(table)))
    side, channels = {784: (28, 1), 3072: (32, 3)}[table.schema.field("pixels").type.byte_width]
    pixels = np.frombuffer(table["pixels"].combine_chunks().buffers()[1], np.uint8)
    labels = table["label"].to_numpy()
    names = dict(zip(labels.tolist(), table["class"].cast(pa.string()).to_pylist(), strict=True))
    coarse = table["coarse_label"].to_numpy() if "coarse_label" in table.column_names else None
    return Records(
        pixels.reshape(-1, side, side, channels), labels, coarse, [names[n] for n in sorted(names)]
    )
