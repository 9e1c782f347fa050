"""A split mapped into memory: what datasets of frameworks that ask by index are made of.

Not here: what a framework makes of a record (`torch`, `grain`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


class Mapped:
    """The NPY files of a split; workers share one copy, and a pickle holds no more than a path.

    images: uint8 of shape (records, height, width, channels), mapped and not writable.
    labels: uint8 of shape (records,); uint16 of more than 256 classes.
    """

    def __init__(self, folder: Path) -> None:
        """Map the files of a folder that `arrays` made."""
        self.folder = folder
        self._map()

    def _map(self) -> None:
        import numpy as np

        images = np.load(self.folder / "images.npy", mmap_mode="r")
        self.images: np.ndarray[Any, Any] = images[..., None] if images.ndim == 3 else images
        self.labels: np.ndarray[Any, Any] = np.load(self.folder / "labels.npy")

    def __getstate__(self) -> dict[str, Any]:
        """Return what a worker needs to map the files itself."""
        kept = {**self.__dict__}
        del kept["images"], kept["labels"]
        return kept

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Map the files."""
        self.__dict__.update(state)
        self._map()

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.labels)
