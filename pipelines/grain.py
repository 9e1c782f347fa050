"""A split for Grain: a source of random access over files mapped into memory.

    import grain.python as grain
    import imagesets.grain

    loader = grain.DataLoader(data_source=imagesets.grain.source("mnist", "train"), sampler=…)

Not here: any other framework, or where the files come from (`api`). Grain itself is not
imported: a source is whatever has a length and items.
"""

from __future__ import annotations

from typing import Any, SupportsIndex

from .api.mapped import Mapped


def source(dataset: str, split: str = "train") -> Source:
    """Return a split as a source; its files are made on first use.

    Raises:
        As `imagesets.load` does.
    """
    from .api import loading

    return Source(loading.arrays(dataset, split))


class Source(Mapped):
    """Records by index; workers share one copy, and a pickle holds no more than a path.

    An item is {"image": uint8 of shape (height, width, channels), "label": int}.
    """

    def __getitem__(self, index: SupportsIndex) -> dict[str, Any]:
        """Return a record."""
        import numpy as np

        return {"image": np.array(self.images[index]), "label": int(self.labels[index])}

    def __repr__(self) -> str:
        """Return what Grain tells a checkpoint by: the same for the same files."""
        return f"imagesets.grain.Source({str(self.folder)!r})"
