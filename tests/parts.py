"""A publisher whose one split comes in parts: made-up drawings, an NPY file for each class."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tests import builders
from tests.published import BASIC, Published

__all__ = ["BASIC", "CLASSES", "Drawings", "publish", "publish_images"]

CLASSES = ("ant", "bee", "The Eiffel Tower", "cat", "dog")


@dataclass(frozen=True)
class Drawings(Published):
    """What was published, and the arrays that are right."""

    images: tuple[npt.NDArray[np.uint8], ...] = ()

    @property
    def all_images(self) -> npt.NDArray[np.uint8]:
        return np.concatenate(self.images).reshape(-1, 28, 28, 1)

    @property
    def all_labels(self) -> npt.NDArray[np.uint8]:
        return np.repeat(np.arange(len(self.images)), [len(i) for i in self.images]).astype("u1")


def publish(
    folder: Path,
    counts: Sequence[int] = (7, 5, 9, 4, 6),
    classes: Sequence[str] = CLASSES,
    parts: str = '"members"',
    seed: int = 0,
) -> Drawings:
    """Publish drawings: `counts` of each class; some of them are the very same."""
    random = np.random.default_rng(seed)
    images = tuple(random.integers(0, 256, (n, 784), np.uint8) for n in counts)
    if len(images) > 3 and min(counts) > 2:
        images[3][1] = images[0][2]  # of two parts
        images[1][2] = images[1][0]  # of one
    return publish_images(folder, images, classes, parts)


def publish_images(
    folder: Path, images: Sequence[npt.NDArray[np.uint8]], classes: Sequence[str], parts: str
) -> Drawings:
    """Publish images of 784 bytes each: an array for each class."""
    counts = [len(array) for array in images]
    mirror, catalogue = folder / "mirror" / "drawings", folder / "catalogue"
    mirror.mkdir(parents=True)
    catalogue.mkdir()
    archives = {}
    for name, array in zip(classes, images, strict=True):
        archives[f"{name}.npy"] = builders.npy(array)
        (mirror / f"{name}.npy").write_bytes(archives[f"{name}.npy"])
    declared = "\n".join(
        f'"{name}" = {{ bytes = {len(data)}, md5 = "{hashlib.md5(data).hexdigest()}", '
        f'sha256 = "{hashlib.sha256(data).hexdigest()}" }}'
        for name, data in archives.items()
    )
    names = ", ".join(f'"{name}"' for name in classes)
    arrays = ", ".join(f'"{name}.npy"' for name in classes)
    (catalogue / "drawings.toml").write_text(
        f"""
title = "Drawings"
homepage = "https://example.org/"
citation = "@misc{{drawings}}"
licence = "CC BY 4.0"
acknowledgements = "Nobody."
mirrors = ["http://127.0.0.1:9/"]

[archives]
{declared}

[datasets.drawings]
title = "Drawings"
format = "npy"
image = {{ height = 28, width = 28, channels = 1 }}
classes = [{names}]

[datasets.drawings.splits.train]
records = {sum(counts)}
counts = {counts}
parts = {parts}
arrays = [{arrays}]
"""
    )
    return Drawings(folder / "mirror", catalogue, "drawings", tuple(images))
