"""An export of a table that lies anywhere, and a record read back from it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from pipelines import products, tables
from pipelines.products import Inputs, Stored, Subject
from pipelines.progress import Advance, silent


def write(
    name: str, table: Path, goal: Path, *, advance: Advance = silent, **chosen: bool | int
) -> int:
    """Write the export called so; return the records."""
    about = tables.info(table)
    product = products.known()[name]
    subject = _subject(about.shape, about.split, about.classes)
    inputs = Inputs((subject,), {}, (), {about.split: table})
    default = product.chosen({f"{name}_{key}": value for key, value in chosen.items()})
    return int(product.write(inputs, goal, default, advance)["records"])


def read(name: str, path: Path, index: int, shape: tuple[int, int, int]) -> Stored:
    """Read a record back."""
    product = products.known()[name]
    assert product.read is not None
    return next(product.read(path, _subject(shape, "train"), index, index + 1))


def _subject(
    shape: tuple[int, int, int], split: str, classes: tuple[str, ...] = ("a", "b")
) -> Subject:
    """A subject of which nothing is declared but what exports ask for."""
    height, width, channels = shape
    image: Any = SimpleNamespace(
        shape=shape, channels=channels, size_bytes=height * width * channels
    )
    dataset: Any = SimpleNamespace(image=image, classes=classes)
    return Subject(cast(Any, None), dataset, (cast(Any, SimpleNamespace(name=split)),))
