"""Embedding: the records of a dataset as points on a plane, where alike ones lie near each other.

    pca.parquet, pca.png      the first two principal components
    tsne.parquet, tsne.png    t-SNE of the first 50 of them

The columns are `index`, `label`, `x` and `y`. Shown is the split that is declared first, the
training split of all datasets that are built in: up to 10,000 of its records, evenly spaced after
a stable sort by class (`_spread`).

t-SNE keeps which records are neighbours, and nothing else: how far apart two islands lie, and how
large they are, means nothing. The settings stand in the Parquet files, and in `settings`.

The same bytes come out again on one machine. Other processors add up in another order, and t-SNE
makes much of the last bits; so no lock holds it, and deep verification leaves it out. Provenance
tells the processor and the libraries.

Not here: the projections themselves (`_projection`), or how they are drawn (`_maps`).
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..products import Choices, Column, Inputs, Product, Subject
from ..progress import Advance, by_share
from ..store import Facts, writing
from . import _machine, _projection, _spread

if TYPE_CHECKING:
    import pyarrow as pa

MOST = 10_000  # records that are shown
METADATA_KEY = b"embedding"  # of the Parquet files: the settings, as JSON

_OF_PCA = 0.05  # share of the time


def write(inputs: Inputs, goal: Path, _chosen: Choices, advance: Advance) -> Facts:
    """Project records of the first split, and draw the maps, into a folder.

    Raises:
        TableError: what is projected is no table of ours.
        StorageError: the folder can't be written to.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from .. import tables
    from . import _maps

    subject = inputs.subject
    table = inputs.tables[subject.splits[0].name]
    until = by_share(advance, subject.records)
    labels = tables.labels(table)["label"]
    indices = _spread.chosen(labels, MOST)
    labels = labels[indices]
    pixels = _spread.pixels(table, indices)
    seconds = {}
    points = {}
    with _machine.one_thread("openTSNE"):
        started = time.thread_time()
        found = _projection.components(pixels)
        points["pca"] = found[:, :2]
        seconds["pca"] = round(time.thread_time() - started, 1)
        until(_OF_PCA)
        started = time.thread_time()
        points["tsne"] = _projection.neighbours(
            found, lambda share: until(_OF_PCA + (0.99 - _OF_PCA) * share)
        )
        seconds["tsne"] = round(time.thread_time() - started, 1)
    said, schema = settings(subject), _schema(len(subject.dataset.classes))
    with writing.storage_errors(goal):
        for name, places in points.items():
            columns = {
                "index": indices.astype(np.uint32),
                "label": labels,
                "x": places[:, 0],
                "y": places[:, 1],
            }
            told = {METADATA_KEY: json.dumps({"method": name, **said[name]}).encode()}
            pq.write_table(pa.table(columns, schema.with_metadata(told)), goal / f"{name}.parquet")
            _maps.draw(places, labels, subject.dataset.classes, goal / f"{name}.png")
    until(1)
    return {
        "records": len(indices),
        "threads": 1,
        "processor": _machine.processor(),
        "cpu_seconds": seconds,
    }


def settings(subject: Subject) -> dict[str, dict[str, Any]]:
    """Return how each map of a dataset is made, in JSON's types; nothing in it is of a run."""
    split = subject.splits[0]
    shown = min(MOST, split.records)
    of = {
        "split": split.name,
        "records": shown,
        "of": split.records,
        "chosen": "all" if shown == split.records else _spread.RULE,
    }
    given = min(_projection.COMPONENTS, shown, subject.dataset.image.size_bytes)
    return {
        "pca": {**of, "intensities": "0 to 1", "components": [1, 2]},
        "tsne": {
            **of,
            "components": given,
            "perplexity": round(_projection.perplexity(shown), 3),
            **_projection.SETTINGS,
        },
    }


def _schema(classes: int) -> pa.Schema:
    import pyarrow as pa

    from ..records import label_type

    label = pa.from_numpy_dtype(label_type(classes))
    types = {"index": pa.uint32(), "label": label, "x": pa.float32(), "y": pa.float32()}
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in types.items()])


DESCRIPTION = Product(
    name="embedding",
    title="as maps of up to 10,000 records, by PCA and t-SNE: alike ones lie near each other.",
    scope="dataset",
    files="descriptions/{dataset}/embedding/",
    code_version="1",
    write=write,
    columns=(
        Column("index", "uint32", of="index"),
        Column("label", "uint8", of="label"),
        Column(
            "x", "float32", "Where the record lies, from left to right.", "pixels", "transformed"
        ),
        Column("y", "float32", "Where the record lies, upwards.", "pixels", "transformed"),
    ),
    parameters=lambda subject, _chosen: settings(subject),
    reproducible="one machine",
    kind="parquet",
    libraries=("matplotlib", "numpy", "openTSNE", "pyarrow", "scikit-learn", "scipy"),
    extra="embedding",
    requires=("matplotlib", "openTSNE"),
)
