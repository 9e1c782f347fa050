r"""Image folder: a zip of PNGs, `split/label/index.png`, for whatever takes a folder per class.

    classes.txt                     what the labels mean: a class in each line, from label 0
    train/05/00000.png              record 0 of train has label 5
    test/07/00000.png

Folders are called after labels, filled up with zeros: their order is that of the labels, which
readers number them by, and no name of a class gets into a path (`T-shirt/top`, or `a` beside `A`).
Each class has its folder in each split, even an empty one, so that no label moves up. Coarse labels
are not in it.

The zip is one file, stored without compression, of 1980: the same bytes each time. It is ZIP64
where it must be. `zipfile` would make the same file for small sets, ten times as slowly, and keeps
half a kilobyte in memory for every picture; this keeps nine bytes.

Source: PKWARE's APPNOTE 6.3.10, and torchvision's `ImageFolder` for the folders.
"""

from __future__ import annotations

import itertools
import os
import struct
import zlib
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from ..declarations import Dataset, Split
from ..errors import ArtefactError
from ..products import Choices, Column, Inputs, Product, Reader, Stored, Subject
from ..progress import Advance
from ..store import Facts, writing

_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_CENTRAL = struct.Struct("<4sHHHHHHIIIHHHHHII")
_OFFSET_64 = struct.Struct("<HHQ")
_END = struct.Struct("<4sHHHHIIH")
_END_64 = struct.Struct("<4sQHHIIQQQQ")
_LOCATOR_64 = struct.Struct("<4sIQI")
_DATE = 1 << 5 | 1  # 1 January 1980, the first there is
_FILE, _FOLDER = 0o100644 << 16, 0o040755 << 16 | 1 << 4  # as Unix and DOS have them
_MOST_16, _MOST_32 = (1 << 16) - 1, (1 << 32) - 1
_BATCH = 4096  # entries of the directory that are written at once
_CLASSES = b"classes.txt"


def write(inputs: Inputs, goal: Path, _chosen: Choices, advance: Advance) -> Facts:
    """Write a dataset's tables as a zip of PNGs.

    Raises:
        TableError: what it is made from is no table of ours.
        StorageError: `goal` can't be written.
    """
    from ..records import label_type
    from . import _png

    dataset = inputs.subject.dataset
    kind = label_type(len(dataset.classes)).char
    labels = {name: array(kind) for name in dataset.splits}
    with writing.atomic(goal) as partial, writing.hashed(partial) as append:
        archive = _Zip(append, _is_wide(dataset))
        archive.add([_CLASSES], ["".join(f"{name}\n" for name in dataset.classes).encode()])
        for split in dataset.splits.values():
            _, picture = _forms(dataset, split)
            archive.add(_folders(dataset, split), [b""] * len(dataset.classes))
            for batch, files in _png.of_table(inputs.tables[split.name]):
                first, new = len(labels[split.name]), batch.labels.tolist()
                labels[split.name].extend(new)
                archive.add([picture % (label, n) for n, label in enumerate(new, first)], files)
                advance(len(batch))
        archive.end(_all_names(dataset, labels))
    return {"records": sum(map(len, labels.values())), "files": len(archive.sizes)}


def _forms(dataset: Dataset, split: Split) -> tuple[bytes, bytes]:
    """Return the forms of the names of folders, by label, and of pictures, by label and index.

    All names of one form are equally long.
    """
    digits = max(2, len(str(len(dataset.classes) - 1)))
    folder = f"{split.name}/%0{digits}d/"
    return folder.encode(), f"{folder}%0{max(5, len(str(split.records - 1)))}d.png".encode()


def _folders(dataset: Dataset, split: Split) -> list[bytes]:
    folder, _ = _forms(dataset, split)
    return [folder % label for label in range(len(dataset.classes))]


def _all_names(dataset: Dataset, labels: Mapping[str, array[int]]) -> Iterator[bytes]:
    """Yield the names of all files, in their order."""
    yield _CLASSES
    for split in dataset.splits.values():
        _, picture = _forms(dataset, split)
        yield from _folders(dataset, split)
        yield from (picture % (label, n) for n, label in enumerate(labels[split.name]))


def _is_wide(dataset: Dataset) -> bool:
    """Return whether files may begin so late that 32 bits are too few to say where."""
    from . import _png

    folders = max(256, len(dataset.classes))
    most = 1024 + _png.most_bytes(dataset.image.shape)  # more than a picture with its two headers
    return sum(split.records + folders for split in dataset.splits.values()) * most > _MOST_32


class _Zip:
    """Writes a zip from start to end.

    crcs, sizes: of its files so far.
    """

    def __init__(self, append: Callable[[bytes], object], is_wide: bool) -> None:
        self.crcs, self.sizes = array("I"), array("I")
        self._append, self._is_wide = append, is_wide

    def add(self, names: Sequence[bytes], files: Sequence[bytes]) -> None:
        """Append files."""
        data = []
        for name, file in zip(names, files, strict=True):
            crc = zlib.crc32(file)
            data += [_local(name, crc, len(file)), file]
            self.crcs.append(crc)
            self.sizes.append(len(file))
        self._append(b"".join(data))

    def end(self, names: Iterator[bytes]) -> None:
        """Append the directory; the names are those that were given."""
        at = size = 0
        entries = zip(names, self.crcs, self.sizes, strict=True)
        while batch := list(itertools.islice(entries, _BATCH)):
            data = []
            for name, crc, length in batch:
                data.append(_central(name, crc, length, at, self._is_wide))
                at += _LOCAL.size + len(name) + length
            self._append(joined := b"".join(data))
            size += len(joined)
        self._append(_end(len(self.sizes), size, at))


def _local(name: bytes, crc: int, size: int) -> bytes:
    """Return what stands before a file."""
    return _LOCAL.pack(b"PK\3\4", 20, 0, 0, 0, _DATE, crc, size, size, len(name), 0) + name


def _central(name: bytes, crc: int, size: int, at: int, is_wide: bool) -> bytes:
    """Return what the directory says of a file that begins at `at`."""
    needs, place, extra = 20, at, b""
    if is_wide:
        needs, place, extra = 45, _MOST_32, _OFFSET_64.pack(1, 8, at)
    mode = _FOLDER if name.endswith(b"/") else _FILE
    made, about = 3 << 8 | needs, (len(name), len(extra), 0, 0, 0, mode, place)
    head = _CENTRAL.pack(b"PK\1\2", made, needs, 0, 0, 0, _DATE, crc, size, size, *about)
    return head + name + extra


def _end(files: int, size: int, start: int) -> bytes:
    """Return what stands after the directory, which has a size and begins at `start`."""
    wide = b""
    if files >= _MOST_16 or size >= _MOST_32 or start >= _MOST_32:
        wide = _END_64.pack(b"PK\6\6", 44, 45, 45, 0, 0, files, files, size, start)
        wide += _LOCATOR_64.pack(b"PK\6\7", 0, start + size, 1)
    count = min(files, _MOST_16)
    sizes = min(size, _MOST_32), min(start, _MOST_32)
    return wide + _END.pack(b"PK\5\6", 0, 0, count, count, *sizes, 0)


# --- Reading --------------------------------------------------------------------------------------


def read(path: Path, subject: Subject, start: int, stop: int) -> Iterator[Stored]:
    """Yield records `start` to `stop`, each with the bytes of its PNG in the zip.

    The directory has an entry of the same length for each record of a split, so none is searched.

    Raises:
        ArtefactError: a record is not there, or not as it is written here.
        FileNotFoundError: there is no such file.
    """
    dataset, split = subject.dataset, subject.split
    is_wide = _is_wide(dataset)
    if stop > split.records:
        raise ArtefactError(f"{path} has no record {split.records:,} of {split.name}.")
    length = _entry_bytes(dataset, split, is_wide)
    with path.open("rb") as file:
        at = _directory(file, path, dataset) + _directory_bytes(dataset, split, is_wide)
        for index in range(start, stop):
            file.seek(at + index * length)
            yield _record(file, file.read(length), subject, index, f"{path}, record {index:,}")


def _entry_bytes(dataset: Dataset, split: Split, is_wide: bool) -> int:
    """Return the size of what the directory says of any picture of a split."""
    _, picture = _forms(dataset, split)
    return len(_central(picture % (0, 0), 0, 0, 0, is_wide))


def _directory_bytes(dataset: Dataset, until: Split | None, is_wide: bool) -> int:
    """Return the size of the directory: of all of it, or of what comes before a split's records."""
    size = len(_central(_CLASSES, 0, 0, 0, is_wide))
    for split in dataset.splits.values():
        size += sum(len(_central(one, 0, 0, 0, is_wide)) for one in _folders(dataset, split))
        if until is not None and split.name == until.name:
            break
        size += split.records * _entry_bytes(dataset, split, is_wide)
    return size


def _directory(file: BinaryIO, path: Path, dataset: Dataset) -> int:
    """Return where the directory begins; the zip must end as one of this dataset does."""
    size = _directory_bytes(dataset, None, _is_wide(dataset))
    splits = dataset.splits.values()
    files = 1 + sum(split.records + len(dataset.classes) for split in splits)
    after = file.seek(0, os.SEEK_END) - size
    for end in (_END.size, _END_64.size + _LOCATOR_64.size + _END.size):
        start = after - end
        if start >= 0 and file.seek(start + size) and file.read() == _end(files, size, start):
            return start
    raise ArtefactError(
        f"{path}: expected a zip that ends with a directory of {files:,} files in {size:,} bytes; "
        "it is cut short, or something else wrote it."
    )


def _record(file: BinaryIO, entry: bytes, subject: Subject, index: int, where: str) -> Stored:
    """Return the record that an entry of the directory is about."""
    import numpy as np

    from ..records import Batch, label_type
    from . import _png

    dataset, shape = subject.dataset, subject.dataset.image.shape
    folder, picture = _forms(dataset, subject.split)
    is_wide = _is_wide(dataset)
    *_, crc, size, _, _, _, _, _, _, _, at = _CENTRAL.unpack_from(entry)
    if is_wide:
        *_, at = _OFFSET_64.unpack_from(entry, len(entry) - _OFFSET_64.size)
    name = entry[_CENTRAL.size : _CENTRAL.size + len(picture % (0, index))]
    digits = name[len(subject.split.name) + 1 : len(folder % 0) - 1]
    label = int(digits) if digits.isdigit() else len(dataset.classes)
    is_right = label < len(dataset.classes) and name == picture % (label, index)
    if not is_right or entry != _central(name, crc, size, at, is_wide):
        raise ArtefactError(
            f"{where}: expected {(picture % (0, index)).decode()}, or the same of another label, "
            f"in the zip's directory; found {name!r}, or other facts than are written here."
        )
    head, most = _local(name, crc, size), _png.most_bytes(shape)
    if size > most or at > file.seek(0, os.SEEK_END):
        raise ArtefactError(f"{where}: no PNG of {size:,} bytes at {at:,}, where one should be.")
    file.seek(at)
    found = file.read(len(head) + size)
    if not found.startswith(head) or zlib.crc32(found[len(head) :]) != crc:
        raise ArtefactError(f"{where}: {name.decode()} is damaged: its header or CRC-32 is wrong.")
    pixels = _png.decode(found[len(head) :], shape, where)
    labels = np.array([label], label_type(len(dataset.classes)))
    start, facts = at + len(head), {"member": name.decode()}
    return Stored(Batch(pixels, labels), start, start + size, facts)


def _parameters(subject: Subject, _chosen: Choices) -> dict[str, Any]:
    from .. import tables

    about = {
        split.name: tables.description(subject.source, subject.dataset, split)
        for split in subject.splits
    }
    return {"about": about}


_UNZIPPED = """\
import zipfile
zipfile.ZipFile("{path}").extractall("{dataset}")
"""

EXPORT = Product(
    name="imagefolder",
    title="as an image folder: a zip of PNGs, in a folder for each class.",
    scope="dataset",
    files="exports/{dataset}/imagefolder.zip",
    code_version="1",
    write=write,
    read=read,
    columns=(
        Column(
            "folder",
            "decimal digits",
            "Number of the class, from 0, filled up with zeros.",
            of="label",
            how="transformed",
        ),
        Column(
            "name",
            "decimal digits",
            "Position of the record in its split, filled up with zeros.",
            of="index",
            how="transformed",
        ),
        Column("picture", "PNG", of="pixels", how="transformed"),
    ),
    parameters=_parameters,
    room=lambda image: image + 300,
    reproducible="same libraries",
    sidecar=True,
    libraries=("zlib",),
    measured=(25.3, 1.27),
    read_by=(
        Reader(
            "torchvision 0.28.0",
            ("torchvision==0.28.0", "pillow==13.0.0"),
            _UNZIPPED
            + """\
import torchvision
records = torchvision.datasets.ImageFolder("{dataset}/{split}")
""",
            "Pictures become RGB; a loader=lambda path: PIL.Image.open(path).copy() keeps grey.",
        ),
        Reader(
            "keras 3.15.1",
            ("keras==3.15.1", "tensorflow-cpu==2.21.0"),
            _UNZIPPED
            + """\
import keras
records = keras.utils.image_dataset_from_directory(
    "{dataset}/{split}", color_mode="grayscale", image_size=(28, 28), shuffle=False
)
""",
            'Pixels become float32; colour wants color_mode="rgb" and image_size=(32, 32).',
        ),
        Reader(
            "datasets 5.2.0",
            ("datasets==5.2.0", "pillow==13.0.0"),
            _UNZIPPED
            + """\
import datasets
records = datasets.load_dataset("imagefolder", data_dir="{dataset}/{split}", split="train")
""",
            "It takes minutes for 70,000 files; the huggingface export opens at once.",
        ),
    ),
)
