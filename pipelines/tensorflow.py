"""A split for TensorFlow.

    import imagesets.tensorflow

    train = imagesets.tensorflow.dataset("mnist", "train").shuffle(60_000).batch(256)

Not here: any other framework, or where the records come from (`api`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from . import reading

if TYPE_CHECKING:
    from .records import Labels, Pixels


def dataset(dataset: str, split: str = "train") -> Any:
    """Return a split as a `tf.data.Dataset`, read from its table as it is needed.

    Its elements are (image, label): uint8 of shape (height, width, channels), and uint8, or uint16
    of more than 256 classes. Those of a split without labels are images alone.

    Raises:
        As `imagesets.load` does.
    """
    import tensorflow as tf

    from .api import loading
    from .records import label_type

    path = loading.path(dataset, split)
    about = reading.info(path)

    def groups() -> Iterator[Pixels | tuple[Pixels, Labels]]:
        for batch in reading.batches(path):
            yield (batch.images, batch.labels) if about.labelled else batch.images

    images = tf.TensorSpec((None, *about.shape), tf.uint8)
    labels = tf.TensorSpec((None,), getattr(tf, label_type(len(about.classes)).name))
    signature = (images, labels) if about.labelled else images
    made = tf.data.Dataset.from_generator(groups, output_signature=signature).unbatch()
    return made.apply(tf.data.experimental.assert_cardinality(about.records))
