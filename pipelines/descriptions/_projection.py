"""Projections: records of many pixels as points on a plane, so that alike ones lie near each other.

Nothing depends on chance or on how many cores there are: one thread, a fixed seed, no signs left
open. The last bits may differ between processors, and t-SNE makes much of them.

Not here: which records (`_spread`), or how points are drawn (`_maps`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ..records import Pixels

    Points = npt.NDArray[np.float32]

COMPONENTS = 50  # that t-SNE is given
PERPLEXITY = 30.0  # about so many neighbours of each record count
ITERATIONS = 750  # of openTSNE: 250 of them exaggerated
_EVERY = 50  # iterations between two reports
_NOTHING = 1e-6  # far below what one intensity makes: what rounding leaves where nothing varies

SETTINGS: dict[str, Any] = {
    "initialization": "pca",
    "metric": "euclidean",
    "n_jobs": 1,
    "random_state": 0,
}


def components(pixels: Pixels) -> Points:
    """Return the principal components of images: the first 50, or as many as there can be.

    Args:
        pixels: uint8 of shape (records, pixels of a record).

    Returns:
        float32 of shape (records, components), two components at least; those that there are not
        are 0. Intensities are on a scale of 0 to 1. Each component points to where its largest
        weight is positive.
    """
    import numpy as np

    centred = pixels.astype(np.float64) / 255
    centred -= centred.mean(0)
    records, width = centred.shape
    kept = min(COMPONENTS, records, width)
    if width <= records:
        _, vectors = np.linalg.eigh(centred.T @ centred)
        axes = vectors[:, ::-1][:, :kept]
    else:  # the same axes, from the smaller matrix
        _, vectors = np.linalg.eigh(centred @ centred.T)
        axes = centred.T @ vectors[:, ::-1][:, :kept]
        lengths = np.linalg.norm(axes, axis=0)
        axes *= np.where(lengths > _NOTHING, 1 / np.maximum(lengths, _NOTHING), 0)
    signs = np.sign(axes[np.abs(axes).argmax(0), np.arange(kept)])
    found = np.zeros((records, max(2, kept)), np.float32)
    found[:, :kept] = centred @ (axes * signs)
    found[np.abs(found) < _NOTHING] = 0
    return found


def perplexity(records: int) -> float:
    """Return the perplexity for so many records: 30, or a third of the others if they are fewer."""
    return min(PERPLEXITY, (records - 1) / 3)


def neighbours(points: Points, done: Callable[[float], Any]) -> Points:
    """Return t-SNE's map of principal components: which records are neighbours is kept.

    Fewer than four records, or records that are all alike, have no neighbours to keep: their first
    two components are returned.

    Args:
        points: float32 of shape (records, components).
        done: told which share of the work is done, now and then.

    Returns:
        float32 of shape (records, 2).
    """
    import numpy as np
    from openTSNE import TSNE

    if len(points) < 4 or not points.any():
        return points[:, :2]
    rounds = 0

    def count(_iteration: int, _error: float, _embedding: Any) -> None:
        nonlocal rounds
        rounds += 1
        done(min(1.0, rounds * _EVERY / ITERATIONS))

    method = TSNE(
        perplexity=perplexity(len(points)),
        callbacks=count,
        callbacks_every_iters=_EVERY,
        **SETTINGS,
    )
    return np.asarray(method.fit(points), np.float32)
