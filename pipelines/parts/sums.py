"""Sums: what a part leaves for the whole, so that nobody reads all of its records again.

    sums.arrow            a row for each class with records: records, and sums for the statistics
    fingerprints.arrow    a row for each record, sorted by fingerprint: for finding duplicates

Both are files of Arrow's IPC format, uncompressed: they are mapped into memory, not read. Not here:
adding records up (`pipelines.statistics`), or the figures of the whole.
"""

from __future__ import annotations

from pathlib import Path

from .. import tables
from ..products import Choices, Inputs, Product
from ..progress import Advance
from ..statistics import fingerprints, sums
from ..store import Facts, writing


def write(inputs: Inputs, goal: Path, _chosen: Choices, advance: Advance) -> Facts:
    """Write the sums and the fingerprints of a table, into a folder.

    Raises:
        TableError: what it is made from is no table of ours.
        StorageError: a file can't be written.
    """
    about = tables.info(inputs.table)
    total = sums.nothing_of(about)
    prints = fingerprints.Taken(about.record_bytes)
    for batch in tables.batches(inputs.table):
        sums.add(total, batch)
        prints.add(batch)
        advance(len(batch))
    with writing.storage_errors(goal):
        sums.dump(total, goal / sums.FILE)
        prints.dump(goal / fingerprints.FILE, about.first)
    return {"records": about.records}


PART = Product(
    name="sums",
    title="in sums: what statistics and the search for duplicates need of its records.",
    scope="split",
    needs_labels=False,
    files="statistics/{dataset}/{split}/",
    code_version="1",
    write=write,
    applies=lambda dataset: dataset.is_in_parts,
    kind="arrow",
    libraries=("numpy", "pyarrow"),
    reproducible="same libraries",
)
