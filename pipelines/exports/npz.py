"""NPZ: all splits of a dataset in one file, under the names and in the shapes of Keras' mnist.npz.

    x_train  uint8 (60000, 28, 28)      y_train  uint8 (60000,)
    x_test   uint8 (10000, 28, 28)      y_test   uint8 (10000,)

Colours are (records, 32, 32, 3); coarse labels are `y_coarse_train` and `y_coarse_test`. It is a
zip of NPY files, deflated, as `numpy.savez_compressed` makes one; all its dates are 1980-01-01. It
is no stand-in for the file of `keras.datasets.mnist`: Keras insists on the SHA-256 of its own.
"""

from __future__ import annotations

import contextlib
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import ArtefactError
from ..products import Choices, Inputs, Product, Reader, Stored, Subject
from ..progress import Advance
from ..store import Facts, writing
from . import _arrays

_NAMES = {"pixels": "x_{}", "label": "y_{}", "coarse_label": "y_coarse_{}"}
_LEVEL = 5  # three quarters of the time of zlib's own 6, for 0.7 % more bytes
_PIECE_BYTES = 1 << 20
_LOCAL = struct.Struct("<26xHH")  # how a member begins: …, sizes of its name and of what follows
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, EOFError, KeyError, OverflowError, ValueError),
    *(NotImplementedError, OSError, RuntimeError, struct.error),  # OSError: a seek to nowhere
)


def write(inputs: Inputs, goal: Path, chosen: Choices, advance: Advance) -> Facts:
    """Write the tables of a dataset as one NPZ.

    Raises:
        TableError: what it is made from is no table of ours.
        StorageError: `goal` can't be written.
    """
    subject = inputs.subject
    image, deflated = subject.dataset.image.shape, zipfile.ZIP_DEFLATED
    with (
        writing.atomic(goal) as partial,
        zipfile.ZipFile(partial, "w", deflated, compresslevel=_LEVEL) as archive,
    ):
        for split in subject.splits:
            for array in _arrays.of(replace(subject, splits=(split,)), chosen):
                name = f"{_NAMES[array.column].format(split.name)}.npy"
                with archive.open(name, "w", force_zip64=True) as file:
                    file.write(_arrays.npy_header(array))
                    table = inputs.tables[split.name]
                    for piece in _arrays.pieces(table, array, image, advance):
                        file.write(piece)
    return {"records": subject.records}


def read(path: Path, subject: Subject, start: int, stop: int) -> Iterator[Stored]:
    """Yield records `start` to `stop` of a split, each with the bytes of all its split's pixels.

    What is deflated can only be read from its start: no record has bytes of its own.

    Raises:
        ArtefactError: no such zip, or it does not hold the arrays of such a split.
        FileNotFoundError: there is no such file.
    """
    if start >= stop:
        return
    columns = {c: _NAMES[c].format(subject.split.name) for c in _arrays.named_of(subject)}
    with path.open("rb") as opened:
        try:
            with contextlib.ExitStack() as stack:
                archive = stack.enter_context(zipfile.ZipFile(opened))
                members = {
                    column: archive.getinfo(f"{name}.npy") for column, name in columns.items()
                }
                for member in members.values():
                    _check_sum(archive, member)
                files: dict[str, Any] = {
                    column: stack.enter_context(archive.open(member))
                    for column, member in members.items()
                }
                arrays = _arrays.npy_arrays(subject, files, path)
                begins = {column: file.tell() for column, file in files.items()}
                for column, array in arrays.items():
                    expected, found = begins[column] + array.size_bytes, members[column].file_size
                    if found != expected:
                        raise ArtefactError(
                            f"{path}: expected {expected:,} bytes in {columns[column]}.npy, found "
                            f"{found:,}."
                        )
                lying = {
                    columns[column]: _place(path, member) for column, member in members.items()
                }
                first, last = lying.pop(columns["pixels"])
                facts = {"key": columns["pixels"], "bytes_hold": "all records", "bytes_of": lying}
                for record, _ in _arrays.stored(path, subject, arrays, files, begins, start, stop):
                    yield Stored(record, first, last, facts)
        except _DAMAGE as error:
            raise ArtefactError(f"{path} holds no such NPZ, or is damaged: {error}.") from error


def _check_sum(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Read a member to its end, where its CRC-32 is compared: only then can its start be relied on.

    Raises:
        zipfile.BadZipFile, zlib.error, EOFError: it is damaged.
    """
    with archive.open(member) as file:
        while file.read(_PIECE_BYTES):
            pass


def _place(path: Path, member: zipfile.ZipInfo) -> tuple[int, int]:
    """Return between which bytes of the file the deflated bytes of a member stand."""
    with path.open("rb") as file:
        file.seek(member.header_offset)
        begin = file.tell() + _LOCAL.size + sum(_LOCAL.unpack(file.read(_LOCAL.size)))
    return begin, begin + member.compress_size


def _parameters(subject: Subject, chosen: Choices) -> dict[str, Any]:
    from .. import tables

    source, dataset = subject.source, subject.dataset
    about = {split.name: tables.description(source, dataset, split) for split in subject.splits}
    return {**chosen, "about": about}


EXPORT = Product(
    name="npz",
    title="as NPZ: x_train, y_train, x_test, y_test in one file, as Keras' mnist.npz has them.",
    scope="dataset",
    files="exports/{dataset}/{dataset}.npz",
    code_version="1",
    write=write,
    read=read,
    columns=_arrays.columns("x", "y", "y_coarse"),
    options=_arrays.OPTIONS,
    parameters=_parameters,
    room=lambda image: image + 2,
    reproducible="same libraries",
    sidecar=True,
    libraries=("zlib",),
    measured=(11.6, 0.69),
    read_by=(
        Reader(
            "NumPy 2.4.6",
            ("numpy==2.4.6",),
            "import numpy\n\n"
            'with numpy.load("{path}", allow_pickle=False) as arrays:\n'
            '    x_train, y_train = arrays["x_train"], arrays["y_train"]\n'
            '    x_test, y_test = arrays["x_test"], arrays["y_test"]\n',
            "Never put it in the place of ~/.keras/datasets/mnist.npz: Keras deletes a file there "
            "whose SHA-256 is not the one it knows.",
        ),
    ),
)
