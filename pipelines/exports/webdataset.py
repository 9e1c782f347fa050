r"""WebDataset: tar files ("shards") of PNGs, each followed by its label, to be read as streams.

    mnist-train-000000.tar    00000000.png 00000000.cls 00000001.png 00000001.cls …
    mnist-train-000001.tar    00010000.png …

A record is the files of one name: `.png`, `.cls` (the label, in decimal digits) and, where there
are coarse classes, `.coarse.cls`. Names are positions in the split. Each shard but the last has
`shard_records` records. The tar files are plain USTAR of nobody's, from 1970, so they are the same
whoever makes them; a record takes 2 KiB, however small its picture.

Source: https://github.com/webdataset/webdataset, and POSIX.1 for USTAR. Its readers take the tar
files as they are; `datasets` reads them too.
"""

from __future__ import annotations

import bisect
import itertools
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ..errors import ArtefactError
from ..products import Choices, Column, Inputs, Option, Product, Reader, Stored, Subject
from ..progress import Advance
from ..store import Facts, writing
from . import _about, _lines

if TYPE_CHECKING:
    from ..records import Batch

_BLOCK, _NAME = 512, 100  # bytes: of headers, and of the names in them
_END = 20 * _BLOCK  # what tar files are filled up to a multiple of
_RUN = 512  # records that are written at once
_EXTENSIONS = (".png", ".cls", ".coarse.cls")


def write(inputs: Inputs, goal: Path, chosen: Choices, advance: Advance) -> Facts:
    """Write a split's table as tar files into a folder.

    Raises:
        TableError: what it is made from is no table of ours.
        StorageError: the folder can't be written to.
    """
    from . import _png

    subject = inputs.subject
    name, done = _name(subject.records), 0
    records = (
        one
        for batch, files in _png.of_table(inputs.table)
        for one in zip(files, _labels(batch), strict=True)
    )
    shards = range(0, subject.records, chosen["shard_records"])
    for shard in range(len(shards)):
        rest = itertools.islice(records, chosen["shard_records"])
        path, size_bytes = goal / f"{_stem(subject)}-{shard:06d}.tar", 0
        with writing.storage_errors(path), writing.hashed(path) as append:
            while run := list(itertools.islice(rest, _RUN)):
                data = b"".join(_members(run, done, name))
                append(data)
                size_bytes += len(data)
                done += len(run)
                advance(len(run))
            append(bytes(2 * _BLOCK + -(size_bytes + 2 * _BLOCK) % _END))
    return {"records": done, "shards": len(shards)}


def _stem(subject: Subject) -> str:
    return f"{subject.dataset.name}-{subject.split.name.replace('/', '-')}"


def _name(records: int) -> str:
    """Return the form of the names of records: eight digits, more where so many need them."""
    return f"%0{max(8, len(str(records - 1)))}d"


def _labels(batch: Batch) -> list[tuple[int, ...]]:
    """Return the labels of each record: the label, and the coarse one where there is one."""
    columns = [batch.labels] if batch.coarse_labels is None else [batch.labels, batch.coarse_labels]
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _members(
    records: list[tuple[bytes, tuple[int, ...]]], first: int, name: str
) -> Iterator[bytes]:
    """Yield the files of records as a tar file holds them: headers, contents, filling."""
    picture, *texts = (_header(extension) for extension in _EXTENSIONS)
    for index, (file, labels) in enumerate(records, first):
        stem = (name % index).encode()
        yield picture(stem, len(file))
        yield file
        yield bytes(-len(file) % _BLOCK)
        for header, label in zip(texts, labels, strict=False):
            text = b"%d" % label
            yield header(stem, len(text))
            yield text.ljust(_BLOCK, b"\0")


def _header(extension: str) -> Callable[[bytes, int], bytes]:
    """Return a function (stem, size) → the header of a file.

    What is the same for all is written and added up once: `tarfile` takes 20 microseconds for one.
    """
    end = extension.encode()
    # Mode, owner, group; time; type, magic and version. Linked files, devices, prefix are empty.
    before, after = b"0000644\0" + 2 * b"0000000\0", b"%011o\0" % 0
    rest = b"0" + bytes(100) + b"ustar\00000" + bytes(247)
    same = sum(end) + sum(before) + sum(after) + sum(rest) + 8 * ord(" ")

    def header(stem: bytes, size: int) -> bytes:
        length = b"%011o\0" % size
        total = same + sum(stem) + sum(length)
        return b"".join(
            ((stem + end).ljust(_NAME, b"\0"), before, length, after, b"%06o\0 " % total, rest)
        )

    return header


def read(path: Path, subject: Subject, start: int, stop: int) -> Iterator[Stored]:
    """Yield records `start` to `stop`, each with the bytes of its PNG in the tar file.

    Raises:
        ArtefactError: a record is not there, or not as it is written here.
        FileNotFoundError: there is no such folder.
    """
    shards = sorted(shard for shard in path.iterdir() if shard.suffix == ".tar")
    at = start
    while at < stop:
        number = bisect.bisect_right(shards, at, key=_first) - 1
        if number < 0:
            raise ArtefactError(f"{path} has no tar file with record {at:,}.")
        with shards[number].open("rb") as file:
            for _ in range(_first(shards[number]), at):
                _skip(file, subject)
            ended = _first(shards[number + 1]) if number + 1 < len(shards) else stop
            for index in range(at, min(stop, ended)):
                yield _record(file, shards[number], index, subject)
        at = ended


def _first(shard: Path) -> int:
    """Return the index of the first record of a shard, by the name of its first file."""
    with shard.open("rb") as file:
        stem = file.read(_NAME).partition(b".")[0]
    if not (stem.isdigit() and len(stem) <= 10):
        raise ArtefactError(
            f"{shard}: expected a number and .png at its start, found {stem!r:.40}."
        )
    return int(stem)


def _extensions(subject: Subject) -> tuple[str, ...]:
    return _EXTENSIONS if subject.dataset.coarse_classes else _EXTENSIONS[:2]


def _skip(file: BinaryIO, subject: Subject) -> None:
    """Go on to the next record; whether this one is right does not matter."""
    for _ in _extensions(subject):
        size = _size(file.read(_BLOCK), file.name)
        file.seek(size + -size % _BLOCK, os.SEEK_CUR)


def _size(header: bytes, where: str) -> int:
    octal = header[124:135]
    if len(header) < _BLOCK or not re.fullmatch(rb"[0-7]{11}", octal):
        raise ArtefactError(f"{where} is damaged: expected the size of a file, found {octal!r}.")
    return int(octal, 8)


def _record(file: BinaryIO, shard: Path, index: int, subject: Subject) -> Stored:
    """Return the record that begins here."""
    import numpy as np

    from ..records import Batch
    from . import _png

    shape, stem = subject.dataset.image.shape, _name(subject.records) % index
    start, contents = file.tell() + _BLOCK, []
    classes = [len(subject.dataset.classes), len(subject.dataset.coarse_classes)]
    highest = [_lines.most_label(count) for count in classes if count]
    sizes = [_png.most_bytes(shape), *(len(str(most)) for most in highest)]
    for extension, most in zip(_extensions(subject), sizes, strict=True):
        contents.append(_content(file, f"{shard}/{stem}", extension, most))
    labels = [
        np.array([_label(text, f"{shard}/{stem}", most)], np.min_scalar_type(most))
        for text, most in zip(contents[1:], highest, strict=True)
    ]
    pixels = _png.decode(contents[0], shape, f"{shard}/{stem}.png")
    stop = start + len(contents[0])
    return Stored(Batch(pixels, *labels), start, stop, {"member": f"{stem}.png"}, shard.name)


def _content(file: BinaryIO, where: str, extension: str, most: int) -> bytes:
    """Return the content of the file that begins here, whose header must be the one we write."""
    header = file.read(_BLOCK)
    size = _size(header, where + extension)
    stem = where.rpartition("/")[2].encode()
    if size > most or header != _header(extension)(stem, size):
        raise ArtefactError(
            f"{where}{extension}: expected a file of this name and at most {most:,} bytes, from "
            f"1970 and of nobody's; found another header, of {header[:_NAME].rstrip(bytes(1))!r}."
        )
    content = file.read(size + -size % _BLOCK)
    if len(content) != size + -size % _BLOCK or any(content[size:]):
        raise ArtefactError(f"{where}{extension} is damaged: it ends early, or not in zeros.")
    return content[:size]


def _label(text: bytes, where: str, most: int) -> int:
    if not _lines.is_within(text, most) or b"%d" % int(text) != text:
        raise ArtefactError(f"{where}: expected a label 0 to {most}, found {text!r}.")
    return int(text)


EXPORT = Product(
    name="webdataset",
    title="as WebDataset: tar files of PNGs, each with its label.",
    scope="split",
    files="exports/{dataset}/{split}_webdataset/",
    code_version="1",
    write=write,
    read=read,
    columns=(
        Column(
            "__key__",
            "string",
            "The name of the record's files: its position in the split.",
            of="index",
            how="transformed",
        ),
        Column("png", "PNG", of="pixels", how="transformed"),
        Column("cls", "decimal digits", of="label", how="transformed"),
        Column("coarse.cls", "decimal digits", of="coarse_label", how="transformed"),
    ),
    options=(
        Option("shard_records", 10_000, "records of a tar file of WebDataset", 1, 999_999_999),
    ),
    parameters=_about.parameters,
    room=lambda image: image + 5 * _BLOCK,
    reproducible="same libraries",
    sidecar=True,
    libraries=("zlib",),
    measured=(122.9, 1.27),
    read_by=(
        Reader(
            "webdataset 1.0.2",
            ("webdataset==1.0.2", "pillow==13.0.0", "numpy"),
            """\
import glob, webdataset
shards = sorted(glob.glob("{path}/*.tar"))
records = webdataset.WebDataset(shards, shardshuffle=False).decode("l8").to_tuple("png", "cls")
""",
            'Grey stays grey with decode("l8") or "pill"; "rgb8" and "pil" make RGB.',
        ),
        Reader(
            "datasets 5.2.0",
            ("datasets==5.2.0", "pillow==13.0.0"),
            """\
import datasets
files = {"{split}": "{path}/*.tar"}
records = datasets.load_dataset("webdataset", data_files=files, split="{split}", streaming=True)
""",
        ),
    ),
)
