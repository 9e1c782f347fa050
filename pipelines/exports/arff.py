"""ARFF, as Weka reads it: every pixel, then the name of the class, a record per line.

    @RELATION mnist_train
    @ATTRIBUTE pixel1 INTEGER
    …
    @ATTRIBUTE class {0,1,2,3,4,5,6,7,8,9}
    @DATA
    0,0,…,5

The class stands last, as on OpenML and unlike in CSV. Names that are no plain word are quoted:
"Ankle boot". Text is UTF-8. The class is the fine one.

Source: Weka's description of ARFF (waikato.github.io/weka-wiki/formats_and_processing/arff_stable).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ArtefactError
from ..products import Choices, Column, Inputs, Product, Reader, Stored, Subject
from ..progress import Advance
from ..store import Facts, writing
from . import _about, _lines

if TYPE_CHECKING:
    from ..records import Batch

_PLAIN = re.compile(r"[A-Za-z0-9_.+-]+")  # a word that wants no quotes


def write(inputs: Inputs, goal: Path, _chosen: Choices, advance: Advance) -> Facts:
    """Write a split's table as ARFF.

    Raises:
        TableError: what it is made from is no table of ours.
        StorageError: `goal` can't be written.
    """
    from .. import tables

    about = tables.info(inputs.table)
    with writing.atomic(goal) as partial, writing.hashed(partial) as append:
        append(head(f"{about.dataset}_{about.split}", about.record_bytes, about.classes))
        lines = writer(about.classes)
        for batch in tables.batches(inputs.table):
            for text in lines(batch):
                append(text)
            advance(len(batch))
    return {"records": about.records}


def head(relation: str, pixels: int, classes: Sequence[str]) -> bytes:
    """Return all that stands before the first record."""
    attributes = (f"@ATTRIBUTE pixel{number + 1} INTEGER\n" for number in range(pixels))
    nominal = ",".join(map(quoted, classes))
    return (
        f"@RELATION {quoted(relation)}\n\n{''.join(attributes)}"
        f"@ATTRIBUTE class {{{nominal}}}\n\n@DATA\n"
    ).encode()


def quoted(name: str) -> str:
    """Return a name as ARFF has it, in quotes where it is not a plain word.

    In double ones: SciPy takes others for part of the name where the first record's needs none. In
    single ones where it holds a double one: not every reader undoes a backslash.
    """
    if _PLAIN.fullmatch(name):
        return name
    mark = "'" if '"' in name and "'" not in name else '"'
    return mark + name.replace("\\", "\\\\").replace(mark, f"\\{mark}") + mark


def writer(classes: Sequence[str]) -> Callable[[Batch], Iterator[bytes]]:
    """Return what yields the lines of a batch, some at a time: look texts up, drop NULs in them."""
    import numpy as np

    pixel = _lines.filled([b"%d," % value for value in range(256)]).ravel()
    end = _lines.filled([f"{quoted(name)}\n".encode() for name in classes])
    width = end.shape[1]

    def lines(batch: Batch) -> Iterator[bytes]:
        for start in range(0, len(batch), _lines.AT_ONCE):
            labels = batch.labels[start : start + _lines.AT_ONCE]
            pixels = batch.images[start : start + _lines.AT_ONCE].reshape(len(labels), -1)
            texts = np.empty((len(labels), pixels.shape[1] + width), np.uint32)
            texts[:, :-width] = pixel[pixels]
            texts[:, -width:] = end[labels]
            yield texts.tobytes().translate(None, b"\0")

    return lines


def read(path: Path, subject: Subject, start: int, stop: int) -> Iterator[Stored]:
    """Yield records `start` to `stop`, each with the bytes of its line.

    Raises:
        ArtefactError: the attributes are not those of such a split, a line is not there, or it is
            no such record.
        FileNotFoundError: there is no such file.
    """
    dataset = subject.dataset
    size = dataset.image.size_bytes
    expected = head(f"{dataset.name}_{subject.split.name}", size, dataset.classes)
    numbers = {quoted(name).encode(): label for label, name in enumerate(dataset.classes)}
    longest = 4 * size + max(map(len, numbers)) + 2
    with path.open("rb") as file:
        if (found := file.read(len(expected))) != expected:
            pairs = itertools.zip_longest(
                expected.splitlines(keepends=True), found.splitlines(keepends=True)
            )
            wanted, other = next((a, b) for a, b in pairs if a != b)
            raise ArtefactError(f"{path}: expected the line {wanted!r:.200}, found {other!r:.200}.")
        file.seek(at := _lines.start_of(file, start, len(expected)))
        for index in range(start, stop):
            if not (line := file.readline(longest)):
                raise ArtefactError(f"{path} ends before record {index:,}.")
            try:
                record = _parsed(line, numbers, dataset.image.shape)
            except ValueError as error:
                raise ArtefactError(f"{path}: record {index:,}: {error}.") from error
            yield Stored(record, at, at + len(line))
            at += len(line)


def _parsed(line: bytes, numbers: dict[bytes, int], shape: tuple[int, int, int]) -> Batch:
    """Return the record of a line.

    Raises:
        ValueError: it is none.
    """
    import numpy as np

    from ..records import Batch, label_type

    size = shape[0] * shape[1] * shape[2]
    *pixels, last = line.split(b",", size)
    if len(pixels) != size:
        raise ValueError(f"expected {size:,} intensities and a class, found {len(pixels):,}")
    if wrong := [one for one in pixels if not _lines.is_a_byte(one)]:
        raise ValueError(f"expected integers 0 to 255, found {wrong[0]!r:.40}")
    if last[:-1] not in numbers or last[-1:] != b"\n":
        raise ValueError(f"expected the name of a class at the end of the line, found {last!r:.80}")
    values = np.array([int(one) for one in pixels], np.uint8)
    labels = np.array([numbers[last[:-1]]], label_type(len(numbers)))
    return Batch(values.reshape(1, *shape), labels)


EXPORT = Product(
    name="arff",
    title="as ARFF: every pixel, then the name of the class, for Weka and OpenML.",
    scope="split",
    files="exports/{dataset}/{split}.arff",
    code_version="1",
    write=write,
    read=read,
    columns=(
        Column(
            "pixels",
            "INTEGER",
            "`pixel1`, `pixel2`, …: the intensities, 0 to 255, row by row, channels last.",
            of="pixels",
            how="transformed",
        ),
        Column("class", "nominal", of="class"),
    ),
    parameters=_about.parameters,
    room=lambda image: 4 * image,
    sidecar=True,
    measured=(109.6, 0.41),
    read_by=(
        Reader(
            "SciPy 1.17.1",
            ("scipy==1.17.1",),
            "from scipy.io import arff\n\n"
            'records, attributes = arff.loadarff("{path}")\n'
            'labels = [name.decode() for name in records["class"]]\n',
            "Pixels become float64, classes bytes; a class whose name is not ASCII is refused.",
        ),
        Reader(
            "liac-arff 2.5.0",
            ("liac-arff==2.5.0",),
            "import arff\n\n"
            'with open("{path}", encoding="utf-8") as file:\n'
            "    read = arff.load(file)\n"
            'records, attributes = read["data"], read["attributes"]\n',
        ),
    ),
)
