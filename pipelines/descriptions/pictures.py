"""Pictures: what a dataset looks like, for a README, a page or a slide.

    samples.png   the first records of each class, with its name
    sprite.png    the first 90 of each class, without words: 30 a row, in three rows
    means.png     the mean image of each class in each split
    counts.svg    how many records of each class each split has

Samples and sprite show the split that is declared first, the training split of all datasets that
are built in; of each class those that come first in it, in the order of their index. Nothing is
drawn at random or chosen by eye. A class with fewer records leaves room empty; the mean of none is
black. Where all classes of each split have as many records, the chart says so once.

The sprite is laid out as the one that Fashion-MNIST's page made known: thumbnails of 28 pixels
without gaps, the classes one below the other, 840 × 840 pixels for ten classes. More classes stand
in several such columns, read downwards, so that the whole is about square: two of them for 47 and
62 classes, three for 100. A thumbnail of a 28-pixel image is that image. Smaller ones are enlarged,
by a whole factor where 28 has it, and larger ones made smaller; all keep their proportions.

Names are grey on nothing, for light and dark pages alike. Not here: drawing (`_pictures`,
`_charts`), or what the figures are (`pipelines.statistics`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..products import Choices, Inputs, Product
from ..progress import Advance
from ..store import Facts, layout, writing

if TYPE_CHECKING:
    from PIL import Image

    from ..records import Pixels
    from ._pictures import Look

THUMBNAIL = 28  # pixels of its longer side
IN_ROW, ROWS = 30, 3  # thumbnails of a class


def write(inputs: Inputs, goal: Path, _chosen: Choices, advance: Advance) -> Facts:
    """Draw the pictures of a dataset into a folder.

    Raises:
        TableError: what they are drawn from are no tables or statistics of ours.
        StorageError: the folder can't be written to.
    """
    from .. import statistics
    from . import _charts, _pictures

    dataset = inputs.subject.dataset
    figures = inputs.paths[layout.statistics(dataset.name)]
    first = inputs.tables[inputs.subject.splits[0].name]
    each = _pictures.samples_of_each(len(dataset.classes))
    samples: list[list[Pixels]] = [[] for _ in dataset.classes]
    sprite = _Sprite(len(dataset.classes), dataset.image.channels)
    for one in _pictures.first_of_each(first, IN_ROW * ROWS):
        sprite.put(one.label, one.number, one.image)
        if one.number < each:
            samples[one.label].append(one.image)
    look = _look()
    shown = _pictures.Rows(dataset.classes, samples, dataset.image.shape)
    with writing.storage_errors(goal):
        sprite.whole.save(goal / "sprite.png")
        _pictures.figure(shown, look).save(goal / "samples.png")
        _pictures.figure(_pictures.means(figures), look).save(goal / "means.png")
        chart = _charts.counts(statistics.counts(figures), dataset.title)
        (goal / "counts.svg").write_text(chart, encoding="utf-8")
    advance(inputs.subject.records)
    return {}


def _look() -> Look:
    """Return how samples and means are drawn: sharp on fine screens too."""
    import matplotlib as mpl
    from PIL import ImageFont

    from ._pictures import Font, Look

    file = Path(mpl.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"

    def font(size: float) -> Font:
        # Of Pillow's two ways to set letters, the one that needs no library of the system.
        return ImageFont.truetype(file, size, layout_engine=ImageFont.Layout.BASIC)

    return Look(large=84, small=56, gap=4, letters=20, ink=118, font=font)


class _Sprite:
    """Thumbnails without gaps: a block of rows for each class, one below the other."""

    def __init__(self, classes: int, channels: int) -> None:
        from PIL import Image

        columns = max(1, round((classes * ROWS / IN_ROW) ** 0.5))
        self._in_column = -(-classes // columns)
        size = (columns * IN_ROW * THUMBNAIL, self._in_column * ROWS * THUMBNAIL)
        self.whole = Image.new("L" if channels == 1 else "RGB", size)

    def put(self, label: int, number: int, image: Pixels) -> None:
        """Put a record in its place: which of its class it is, from 0."""
        thumbnail = _thumbnail(image)
        column, block = divmod(label, self._in_column)
        x = (column * IN_ROW + number % IN_ROW) * THUMBNAIL
        y = (block * ROWS + number // IN_ROW) * THUMBNAIL
        middle = [(THUMBNAIL - side) // 2 for side in thumbnail.size]
        self.whole.paste(thumbnail, (x + middle[0], y + middle[1]))


def _thumbnail(pixels: Pixels) -> Image.Image:
    """Return an image whose longer side is that of a thumbnail."""
    from PIL import Image

    height, width, channels = pixels.shape
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    longer = max(height, width)
    if longer == THUMBNAIL:
        return image
    size = [max(1, round(side * THUMBNAIL / longer)) for side in image.size]
    is_whole = THUMBNAIL % longer == 0
    how = Image.Resampling.NEAREST if is_whole else Image.Resampling.BICUBIC
    return image.resize((size[0], size[1]), how)


DESCRIPTION = Product(
    name="pictures",
    title="as pictures: samples, mean images and counts of each class, and a sprite.",
    scope="dataset",
    files="descriptions/{dataset}/pictures/",
    code_version="1",
    write=write,
    needs=("statistics", "tables"),
    reproducible="same libraries",
    kind="png",
    libraries=("matplotlib", "numpy", "pillow"),
    extra="figures",
    requires=("matplotlib",),
)
