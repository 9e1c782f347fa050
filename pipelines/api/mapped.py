"""A split mapped into memory: what datasets of frameworks that ask by index are made of.

Not here: what a framework makes of a record (`torch`, `grain`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


UNLABELLED = -1  # for a label where there is none, as torchvision has it


class Mapped:
    """The NPY files of a split; workers share one copy, and a pickle holds no more than a path.

    images: uint8 of shape (records, height, width, channels), mapped and not writable.
    labels: uint8 of shape (records,); uint16 of more than 256 classes; −1 throughout, int64, of a
        split without labels.
    """

    def __init__(self, folder: Path) -> None:
        """Map the files of a folder that `arrays` made."""
        self.folder = folder
        self._map()

    def _map(self) -> None:
        import numpy as np

        images = np.load(self.folder / "images.npy", mmap_mode="r")
        self.images: np.ndarray[Any, Any] = images[..., None] if images.ndim == 3 else images
        labels = self.folder / "labels.npy"
        self.labels: np.ndarray[Any, Any] = (
            np.load(labels)
            if labels.exists()
            else np.broadcast_to(np.int64(UNLABELLED), len(self.images))
        )

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
