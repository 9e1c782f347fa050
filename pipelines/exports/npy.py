"""NPY: a folder of one file per array, byte for byte as `numpy.save` writes them.

`images.npy`, `labels.npy`, and `coarse_labels.npy` where a dataset has coarse classes. Nothing is
compressed, so that `numpy.load(…, mmap_mode="r")` opens a split of any size at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ..errors import ArtefactError
from ..products import Choices, Inputs, Product, Reader, Stored, Subject
from ..progress import Advance
from ..store import Facts, writing
from . import _about, _arrays


def write(inputs: Inputs, goal: Path, chosen: Choices, advance: Advance) -> Facts:
    """Write a split's table as files of NPY, into a folder.

    Raises:
        TableError: what it is made from is no table of ours.
        StorageError: a file can't be written.
    """
    subject = inputs.subject
    for array in _arrays.of(subject, chosen):
        file = goal / f"{_arrays.NAMES[array.column]}.npy"
        with writing.storage_errors(file), writing.hashed(file) as append:
            append(_arrays.npy_header(array))
            image = subject.dataset.image.shape
            for piece in _arrays.pieces(inputs.table, array, image, advance):
                append(piece)
    return {"records": subject.records}


def read(path: Path, subject: Subject, start: int, stop: int) -> Iterator[Stored]:
    """Yield records `start` to `stop` of such a folder, each with the bytes of its pixels.

    Raises:
        ArtefactError: a file does not hold what it must of such a split.
        FileNotFoundError: a file is not there.
    """
    columns = _arrays.named_of(subject)
    with contextlib.ExitStack() as stack:
        files = {
            column: stack.enter_context((path / f"{name}.npy").open("rb"))
            for column, name in columns.items()
        }
        arrays = _arrays.npy_arrays(subject, files, path)
        begins = {column: file.tell() for column, file in files.items()}
        for column, file in files.items():
            expected = begins[column] + arrays[column].size_bytes
            if (found := file.seek(0, 2)) != expected:
                raise ArtefactError(
                    f"{path / columns[column]}.npy: expected {expected:,} bytes, found {found:,}."
                )
        for record, places in _arrays.stored(path, subject, arrays, files, begins, start, stop):
            first, last = places.pop("images")
            yield Stored(record, first, last, {"bytes_of": places}, "images.npy")


EXPORT = Product(
    name="npy",
    title="as NPY: a file for the images, one for the labels, for numpy.load and memory maps.",
    scope="split",
    needs_labels=False,
    files="exports/{dataset}/{split}_npy/",
    code_version="1",
    write=write,
    read=read,
    columns=_arrays.columns("images", "labels", "coarse_labels"),
    options=_arrays.OPTIONS,
    parameters=_about.parameters,
    room=lambda image: image + 2,
    sidecar=True,
    measured=(47.1, 0.07),
    read_by=(
        Reader(
            "NumPy 2.4.6",
            ("numpy==2.4.6",),
            "import numpy\n\n"
            'images = numpy.load("{path}/images.npy", mmap_mode="r")\n'
            'labels = numpy.load("{path}/labels.npy")\n',
            "Without mmap_mode all of it is read into memory.",
        ),
    ),
)
