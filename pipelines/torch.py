"""A split for PyTorch: by index from files mapped into memory, or as a stream of what exceeds it.

    import imagesets.torch
    from torch.utils.data import DataLoader

    train = imagesets.torch.dataset("mnist", "train")
    for images, labels in DataLoader(train, 256, shuffle=True, collate_fn=train.collate):
        ...

Not here: any other framework (`tensorflow`, `grain`), or where the files come from (`api`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .api.mapped import Mapped

if TYPE_CHECKING:
    import torch

Transform = Callable[["torch.Tensor"], Any]


def dataset(dataset: str, split: str = "train", transform: Transform | None = None) -> Images:
    """Return a split as a map-style dataset over memory-mapped files, made on first use.

    Args:
        dataset: one of `imagesets.names()`.
        split: `train` or `test`.
        transform: is given an image, uint8 of shape (channels, height, width); what it returns
            stands in its place.

    Raises:
        As `imagesets.load` does.
    """
    from .api import loading

    return Images(loading.arrays(dataset, split), transform)


class Images(Mapped):
    """Images and labels by index; workers share one copy, and a pickle holds no more than a path.

    An item is (image, label): uint8 of shape (channels, height, width), and an int.
    """

    def __init__(self, folder: Path, transform: Transform | None = None) -> None:
        """Map the files of a folder that `imagesets.arrays` made."""
        super().__init__(folder)
        self.transform = transform

    def __repr__(self) -> str:
        """Return how many records there are, of what shape, and where they lie."""
        shape = "×".join(map(str, self.images.shape[1:]))
        return f"<{len(self):,} records of {shape}, mapped from {self.folder}>"

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """Return a record."""
        image, labels = self._batch([index])
        return self._transformed(image[0]), int(labels[0])

    def __getitems__(self, indices: Sequence[int]) -> Any:
        """Return a whole batch at once, as PyTorch asks for where a dataset can give it.

        Without a transform it is (images, labels) already, for `collate`, which leaves it as it is.
        """
        return _Batch(self, indices)

    def collate(self, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a batch as tensors: uint8 (records, channels, height, width), int64 (records,).

        With a transform, images are what it returns, stacked. It is a loader's `collate_fn`.
        """
        import torch

        images, labels = batch.tensors() if isinstance(batch, _Batch) else _stacked(batch)
        if self.transform is not None and isinstance(batch, _Batch):
            images = torch.stack([self.transform(image) for image in images])
        return images, labels

    def _batch(self, indices: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        import numpy as np
        import torch

        at = np.asarray(indices)
        images = np.ascontiguousarray(np.moveaxis(self.images[at], -1, 1))
        return torch.from_numpy(images), torch.from_numpy(self.labels[at].astype(np.int64))

    def _transformed(self, image: torch.Tensor) -> Any:
        return image if self.transform is None else self.transform(image)


class _Batch(Sequence[Any]):
    """Some records, gathered at once; to whoever asks one by one, a sequence of items."""

    def __init__(self, images: Images, indices: Sequence[int]) -> None:
        self._of, self._indices = images, indices
        self._gathered: tuple[torch.Tensor, torch.Tensor] | None = None

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        if self._gathered is None:
            self._gathered = self._of._batch(self._indices)
        return self._gathered

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[tuple[Any, int]]:
        images, labels = self.tensors()
        return zip(map(self._of._transformed, images.unbind(0)), labels.tolist(), strict=True)

    def __getitem__(self, at: Any) -> Any:
        images, labels = self.tensors()
        return self._of._transformed(images[at]), int(labels[at])


def _stacked(items: Sequence[tuple[torch.Tensor, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    return torch.stack([image for image, _ in items]), torch.tensor([label for _, label in items])


def stream(
    dataset: str, split: str = "train", *, buffer: int = 20_000, seed: int = 0
) -> Iterator[tuple[torch.Tensor, int]]:
    """Yield the records of a split once, shuffled through a buffer, in little memory.

    Its row groups come in a random order, and a record is drawn from `buffer` of them each time:
    the larger it is, the better they are shuffled. The same seed gives the same order.

    Yields:
        (image, label), as `Images` gives them.

    Raises:
        As `imagesets.load` does.
    """
    import torch

    from .api import streams

    for image, label in streams.shuffled(dataset, split, buffer=buffer, seed=seed):
        yield torch.from_numpy(image).permute(2, 0, 1).contiguous(), label
