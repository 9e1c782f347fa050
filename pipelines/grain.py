"""A split for Grain: a source of random access over files mapped into memory.

    import grain.python as grain
    import imagesets.grain

    loader = grain.DataLoader(data_source=imagesets.grain.source("mnist", "train"), sampler=…)

Not here: any other framework, or where the files come from (`library`). Grain itself is not
imported: a source is whatever has a length and items.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

if TYPE_CHECKING:
    import numpy as np


def source(dataset: str, split: str = "train") -> Source:
    """Return a split as a source; its files are made on first use.

    Raises:
        As `imagesets.load` does.
    """
    from .library import loading

    return Source(loading.arrays(dataset, split))


class Source:
    """Records by index; workers share one copy, and a pickle holds no more than a path.

    An item is {"image": uint8 of shape (height, width, channels), "label": int}.
    """

    def __init__(self, folder: Path) -> None:
        """Map the files of a folder that `imagesets.arrays` made."""
        self.folder = folder
        self._map()

    def _map(self) -> None:
        import numpy as np

        images = np.load(self.folder / "images.npy", mmap_mode="r")
        self._images: np.ndarray[Any, Any] = images[..., None] if images.ndim == 3 else images
        self._labels: np.ndarray[Any, Any] = np.load(self.folder / "labels.npy")

    def __getstate__(self) -> dict[str, Any]:
        """Return what a worker needs to map the files itself."""
        return {"folder": self.folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Map the files."""
        self.__dict__.update(state)
        self._map()

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self._labels)

    def __getitem__(self, index: SupportsIndex) -> dict[str, Any]:
        """Return a record."""
        import numpy as np

        return {"image": np.array(self._images[index]), "label": int(self._labels[index])}

    def __repr__(self) -> str:
        """Return what Grain tells a checkpoint by: the same for the same files."""
        return f"imagesets.grain.Source({str(self.folder)!r})"
