"""HDF5: `/images` and `/labels` of a split, in compressed chunks of 1,024 records.

`/coarse_labels` too, where a dataset has coarse classes. The names of the classes are the attribute
`classes` of the labels. Each chunk is deflated, which every reader of HDF5 undoes. Times are not
kept, so the bytes are the same from run to run; they follow the HDF5 that h5py brings.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..declarations import Dataset
from ..errors import ArtefactError
from ..products import Choices, Inputs, Product, Reader, Stored, Subject
from ..progress import Advance
from ..store import Facts, writing
from . import _about, _arrays

_CHUNK_RECORDS = 1024
_LEVEL = 4  # h5py's own
_CACHE_BYTES = 16 << 20  # a chunk of any image that there is stays while its records are read
_MOST_CLASSES = 4_000  # their names are an attribute, which has 64 KiB: 16 bytes for each of them
_DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, OverflowError)


def write(inputs: Inputs, goal: Path, chosen: Choices, advance: Advance) -> Facts:
    """Write a split's table as HDF5.

    Raises:
        TableError: what it is made from is no table of ours.
        StorageError: `goal` can't be written.
    """
    import h5py

    subject = inputs.subject
    dataset = subject.dataset
    names = {"label": dataset.classes, "coarse_label": dataset.coarse_classes}
    with writing.atomic(goal) as partial, _File(partial, "w+") as into:
        with h5py.File(into, "w") as file:
            for array in _arrays.of(subject, chosen):
                made = file.create_dataset(
                    _arrays.NAMES[array.column],
                    array.shape,
                    array.dtype,
                    chunks=_chunks(array),
                    compression="gzip",
                    compression_opts=_LEVEL,
                    track_times=False,
                )
                if array.column in names:
                    made.attrs["classes"] = names[array.column]
                values = _arrays.values(inputs.table, array, dataset.image.shape, advance)
                for start, some in _whole_chunks(values):
                    made[start : start + len(some)] = some
                    into.check()
        into.check()
    return {"records": subject.records}


def applies(dataset: Dataset) -> bool:
    """Whether the names of all classes are few enough for an attribute."""
    return max(len(dataset.classes), len(dataset.coarse_classes)) <= _MOST_CLASSES


def _whole_chunks(values: Iterator[Any]) -> Iterator[tuple[int, Any]]:
    """Yield values as they come, but so that only the last chunk is not full: each is packed once.

    With each comes the index of its first record.
    """
    import numpy as np

    start, rest = 0, None
    for some in values:
        ready = some if rest is None else np.concatenate([rest, some])
        whole = len(ready) // _CHUNK_RECORDS * _CHUNK_RECORDS
        if whole:
            yield start, ready[:whole]
        start, rest = start + whole, ready[whole:]
    if rest is not None and len(rest):
        yield start, rest


class _File(io.FileIO):
    """A file that takes all that HDF5 writes, and tells later what went wrong.

    Where a write fails, HDF5 tries again while the process ends, and the process dies of that.
    """

    refused: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all of the data, or from the first error on nothing."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while self.refused is None and rest:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.refused = error
        return size

    def truncate(self, size: int | None = None) -> int:
        """Give the file another size, unless something went wrong."""
        try:
            return super().truncate(size) if self.refused is None else 0
        except OSError as error:
            self.refused = error
            return 0

    def check(self) -> None:
        """Raise what went wrong.

        Raises:
            OSError: the disk refused something.
        """
        if self.refused is not None:
            raise self.refused


def read(path: Path, subject: Subject, start: int, stop: int) -> Iterator[Stored]:
    """Yield records `start` to `stop` of an HDF5, each with the bytes of the chunk that it is in.

    Raises:
        ArtefactError: it is no HDF5, or does not hold the arrays of such a split.
        FileNotFoundError: there is no such file.
    """
    import h5py

    with path.open("rb") as opened:
        try:
            with h5py.File(opened, "r", rdcc_nbytes=_CACHE_BYTES) as file:
                arrays = _arrays_in(file, path, subject)

                def take(array: _arrays.Array, low: int, high: int) -> Any:
                    return file[_arrays.NAMES[array.column]][low:high]

                for index, record in _arrays.records(path, subject, arrays, take, start, stop):
                    places = {
                        _arrays.NAMES[column]: _chunk(file[_arrays.NAMES[column]], index)
                        for column in arrays
                    }
                    first, last = places.pop("images")
                    begin = index // _CHUNK_RECORDS * _CHUNK_RECORDS
                    end = min(begin + _CHUNK_RECORDS, subject.split.records)
                    facts = {
                        "key": "/images",
                        "bytes_hold": f"records {begin} to {end}",
                        "bytes_of": places,
                    }
                    yield Stored(record, first, last, facts)
        except _DAMAGE as error:
            raise ArtefactError(f"{path} is no HDF5, or is damaged: {error}.") from error


def _arrays_in(file: Any, path: Path, subject: Subject) -> dict[str, _arrays.Array]:
    """Return column → the array that a file holds, in chunks as they are written here.

    Raises:
        ArtefactError: it holds something else.
    """
    inside = {name: column for column, name in _arrays.NAMES.items()}
    said = {inside.get(name, name): f"{one.dtype.str} {one.shape}" for name, one in file.items()}
    arrays = _arrays.named(subject, said, lambda one: f"{one.dtype} {one.shape}", path)
    classes = {"label": subject.dataset.classes, "coarse_label": subject.dataset.coarse_classes}
    for column, array in arrays.items():
        name = _arrays.NAMES[column]
        if (found := file[name].chunks) != (expected := _chunks(array)):
            raise ArtefactError(f"{path}: expected /{name} in chunks {expected}, found {found}.")
        if column in classes and (found := [*file[name].attrs["classes"]]) != [*classes[column]]:
            raise ArtefactError(
                f"{path}: expected the classes {[*classes[column]]!s:.200} of /{name}, found "
                f"{found!s:.200}."
            )
    return arrays


def _chunks(array: _arrays.Array) -> tuple[int, ...]:
    return min(_CHUNK_RECORDS, array.shape[0]), *array.shape[1:]


def _chunk(dataset: Any, index: int) -> tuple[int, int]:
    """Return between which bytes of the file the chunk stands that a record is in."""
    first = index - index % dataset.chunks[0], *(0 for _ in dataset.shape[1:])
    found = dataset.id.get_chunk_info_by_coord(first)
    return found.byte_offset, found.byte_offset + found.size


EXPORT = Product(
    name="hdf5",
    title="as HDF5: /images and /labels in compressed chunks.",
    scope="split",
    files="exports/{dataset}/{split}.h5",
    code_version="1",
    write=write,
    read=read,
    applies=applies,
    columns=_arrays.columns("images", "labels", "coarse_labels"),
    options=_arrays.OPTIONS,
    parameters=_about.parameters,
    room=lambda image: image + 2,
    reproducible="same libraries",
    sidecar=True,
    libraries=("h5py",),
    extra="hdf5",
    requires=("h5py",),
    measured=(10.2, 0.51),
    read_by=(
        Reader(
            "h5py 3.14.0",
            ("h5py==3.14.0", "numpy==2.4.6"),
            "import h5py\n\n"
            'with h5py.File("{path}") as file:\n'
            '    images, labels = file["images"][:], file["labels"][:]\n'
            '    classes = list(file["labels"].attrs["classes"])\n',
        ),
    ),
)
