"""The floor: what MNIST and Fashion-MNIST cost in bare library calls, on two threads.

Verify (MD5, SHA-256), inflate, write four Parquet tables, add up each class. No checks, no error
handling, nothing of the project: this is what `benchmarks/speed.py` holds the project against.

    python benchmarks/floor.py --mirror FOLDER          (laid out <source>/<file>)

One thread takes one split, the largest first, from its archives to its table; the statistics are
added up from the pixels while they are at hand. `benchmarks/README.md` says what else was tried.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from isal import isal_zlib

SPLITS = [  # source, prefix of its files, records: the most work first
    ("fashion_mnist", "train", 60_000),
    ("mnist", "train", 60_000),
    ("fashion_mnist", "t10k", 10_000),
    ("mnist", "t10k", 10_000),
]
PIXELS, CLASSES = 784, 10
PIECE_RECORDS = 10_699  # 8 MiB of pixels
BLOCK_RECORDS = 256  # 256 × 255 still fits into uint16
FEED_BYTES = 1 << 18
SCHEMA = pa.schema(
    [
        ("index", pa.uint32()),
        ("label", pa.uint8()),
        ("class", pa.dictionary(pa.int32(), pa.string())),
        ("pixels", pa.binary(PIXELS)),
    ]
)
NAMES = pa.array([str(label) for label in range(CLASSES)])


def run(mirror: Path, goal: Path, level: int = 1) -> list[dict[str, np.ndarray]]:
    """Do everything; return the sums of each split, in the order of `SPLITS`."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda split: one(*split, mirror, goal, level), SPLITS))


def one(source: str, prefix: str, records: int, mirror: Path, goal: Path, level: int):
    images = (mirror / source / f"{prefix}-images-idx3-ubyte.gz").read_bytes()
    labels = (mirror / source / f"{prefix}-labels-idx1-ubyte.gz").read_bytes()
    for archive in (images, labels):
        hashlib.md5(archive, usedforsecurity=False).hexdigest()
        hashlib.sha256(archive).hexdigest()
    labels = np.frombuffer(isal_zlib.decompress(labels, 31), np.uint8, offset=8)
    sums = {
        "records": np.bincount(labels, minlength=CLASSES),
        "sum": np.zeros((CLASSES, PIXELS), np.uint64),
        "squares": np.zeros(CLASSES, np.uint64),
        "nonzero": np.zeros(CLASSES, np.uint64),
        "least": np.full((CLASSES, PIXELS), 255, np.uint8),
        "most": np.zeros((CLASSES, PIXELS), np.uint8),
    }
    with pq.ParquetWriter(
        goal / f"{source}-{prefix}.parquet",
        SCHEMA,
        compression="zstd",
        compression_level=level,
        use_dictionary=["label", "class"],
        write_statistics=False,
    ) as writer:
        start = 0
        for pixels in inflated(images, records):
            here = labels[start : start + len(pixels)]
            writer.write_batch(
                pa.RecordBatch.from_arrays(
                    [
                        pa.array(np.arange(start, start + len(here), dtype=np.uint32)),
                        pa.array(here),
                        pa.DictionaryArray.from_arrays(here.astype(np.int32), NAMES),
                        pa.Array.from_buffers(
                            pa.binary(PIXELS), len(here), [None, pa.py_buffer(pixels)]
                        ),
                    ],
                    schema=SCHEMA,
                )
            )
            add(sums, pixels, here)
            start += len(here)
    return sums


def inflated(archive: bytes, records: int):
    """Yield the images of an IDX file in pieces: the same array, filled anew each time."""
    inflate = isal_zlib.decompressobj(31)
    view, at = memoryview(archive), FEED_BYTES
    compressed = view[:at]
    inflate.decompress(compressed, 16)  # the header
    compressed = inflate.unconsumed_tail
    piece = np.empty((PIECE_RECORDS, PIXELS), np.uint8)
    for start in range(0, records, PIECE_RECORDS):
        pixels = piece[: min(PIECE_RECORDS, records - start)]
        goal, done = memoryview(pixels).cast("B"), 0
        while done < len(goal):
            if not compressed:
                compressed, at = view[at : at + FEED_BYTES], at + FEED_BYTES
            data = inflate.decompress(compressed, len(goal) - done)
            goal[done : done + len(data)] = data
            done += len(data)
            compressed = inflate.unconsumed_tail
        yield pixels


def add(sums: dict[str, np.ndarray], pixels: np.ndarray, labels: np.ndarray) -> None:
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], range(CLASSES + 1))
    for label in range(CLASSES):
        images = pixels[order[starts[label] : starts[label + 1]]]
        sums["nonzero"][label] += np.uint64(np.count_nonzero(images))
        np.minimum(sums["least"][label], images.min(axis=0), out=sums["least"][label])
        np.maximum(sums["most"][label], images.max(axis=0), out=sums["most"][label])
        for start in range(0, len(images), BLOCK_RECORDS):
            block = images[start : start + BLOCK_RECORDS].astype(np.uint16)
            sums["sum"][label] += block.sum(axis=0, dtype=np.uint16)
            block *= block
            sums["squares"][label] += block.sum(axis=0, dtype=np.uint32).sum(dtype=np.uint64)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--mirror", type=Path, default=os.environ.get("IMAGESETS_MIRROR"))
    options.add_argument("--repeats", type=int, default=5)
    given = options.parse_args()
    if not given.mirror:
        options.error("name the folder of archives with --mirror or IMAGESETS_MIRROR")
    with tempfile.TemporaryDirectory() as goal:
        for _ in range(given.repeats):
            start = time.perf_counter()
            run(Path(given.mirror), Path(goal))
            print(f"{time.perf_counter() - start:.3f} s")


if __name__ == "__main__":
    main()
