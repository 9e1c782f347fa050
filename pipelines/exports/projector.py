r"""TensorBoard's projector: a folder that shows records as points, pictures, and classes.

    projector_config.pbtxt    what the other three are
    tensors.tsv               the pixels of a record in each line, tabs between them
    metadata.tsv              the class of each; a file of one column has no header
    sprite.png                all pictures, row by row, as many in a row as there are rows

A split of more records than `records` is shown by a sample: number i of k is record ⌊i·n/k⌋ of n,
so they are spread evenly, from the first one on. Browsers take a picture of at most 8,192 pixels a
side, so a sample never has more than fit in there.

Source: TensorBoard 2.21.0, by running it: `tensorboard --logdir <folder>`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..products import Choices, Column, Inputs, Option, Product, Reader, Subject
from ..progress import Advance
from ..store import Facts, writing
from . import _about, _lines

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ..records import Pixels

_MOST_PIXELS = 8192  # of a side of the sprite


def write(inputs: Inputs, goal: Path, chosen: Choices, advance: Advance) -> Facts:
    """Write the records of a split's table, or a sample of them, into a folder.

    Raises:
        TableError: what it is made from is no table of ours.
        StorageError: the folder can't be written to.
    """
    import numpy as np

    from .. import tables
    from . import _png

    subject = inputs.subject
    dataset, wanted = subject.dataset, sample(subject, chosen["records"])
    height, width, channels = dataset.image.shape
    side = _side(len(wanted))
    sprite = np.zeros((side, height, side, width, channels), np.uint8)
    numbers, first, at = np.array(wanted), 0, 0
    with (
        writing.storage_errors(goal),
        (goal / "tensors.tsv").open("wb") as tensors,
        (goal / "metadata.tsv").open("wb") as metadata,
    ):
        for batch in tables.batches(inputs.table):
            rows = numbers[(first <= numbers) & (numbers < first + len(batch))] - first
            images = batch.images[rows]
            tensors.writelines(_rows(images))
            classes = (dataset.classes[label] for label in batch.labels[rows].tolist())
            metadata.writelines(f"{name}\n".encode() for name in classes)
            for image in images:
                sprite[at // side, :, at % side] = image
                at += 1
            first += len(batch)
            advance(len(batch))
        whole = sprite.reshape(1, side * height, side * width, channels)
        (goal / "sprite.png").write_bytes(*_png.encode(whole))
        (goal / "projector_config.pbtxt").write_text(_CONFIG.format(width=width, height=height))
    return {"records": at, "of": first}


def sample(subject: Subject, most: int) -> list[int]:
    """Return which records of a split are shown: spread evenly, from the first one on."""
    height, width, _ = subject.dataset.image.shape
    fit = max(1, _MOST_PIXELS // max(height, width)) ** 2
    count = min(most, subject.split.records, fit)
    return [number * subject.split.records // count for number in range(count)]


def _side(count: int) -> int:
    """Return how many pictures there are in a row, and rows: enough for all of them."""
    return math.isqrt(count - 1) + 1


@functools.cache
def _fields() -> tuple[npt.NDArray[np.uint32], ...]:
    """Return each of the 256 values with a tab before it, and the end of a line."""
    texts = [b"\t%d" % value for value in range(256)]
    return _lines.filled(texts).ravel(), _lines.filled([b"\n"]).ravel()


def _rows(images: Pixels) -> Iterator[bytes]:
    """Yield lines of pixels, some at a time: look every field up, drop the NULs."""
    import numpy as np

    as_field, newline = _fields()
    for start in range(0, len(images), _lines.AT_ONCE):
        pixels = images[start : start + _lines.AT_ONCE].reshape(-1, images[0].size)
        fields = np.empty((len(pixels), pixels.shape[1] + 1), np.uint32)
        fields[:, :-1] = as_field[pixels]
        fields[:, -1] = newline
        # Each line begins with a tab, behind the end of the one before.
        yield fields.tobytes().translate(None, b"\0").replace(b"\n\t", b"\n")[1:]


_CONFIG = """\
embeddings {{
  tensor_path: "tensors.tsv"
  metadata_path: "metadata.tsv"
  sprite {{
    image_path: "sprite.png"
    single_image_dim: {width}
    single_image_dim: {height}
  }}
}}
"""


EXPORT = Product(
    name="projector",
    title="for TensorBoard's projector: pixels, classes and pictures, or a sample of them.",
    scope="split",
    files="exports/{dataset}/{split}_projector/",
    code_version="1",
    write=write,
    columns=(
        Column(
            "tensors",
            "uint8",
            "A line of tensors.tsv: intensities, row by row, channels last.",
            of="pixels",
            how="transformed",
        ),
        Column("metadata", "string", "A line of metadata.tsv: what the label means.", of="class"),
        Column(
            "sprite",
            "PNG",
            "A picture in sprite.png, row by row in the same order.",
            of="pixels",
            how="transformed",
        ),
    ),
    options=(Option("records", 10_000, "most records of TensorBoard's projector", 1, 1_000_000),),
    parameters=_about.parameters,
    room=lambda image: 4 * image,
    reproducible="same libraries",
    sidecar=True,
    libraries=("zlib",),
    measured=(19.8, 0.24),
    read_by=(
        Reader(
            "TensorBoard 2.21.0",
            ("tensorboard==2.21.0",),
            """\
import tensorboard.program
board = tensorboard.program.TensorBoard()
board.configure(argv=[None, "--logdir", "{path}", "--port", "0"])
print(board.launch())
""",
            "At the command line: tensorboard --logdir {path}, then the tab Projector.",
        ),
    ),
)
