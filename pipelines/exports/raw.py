"""The publisher's files, in the folder in which other libraries look for them.

    MNIST/raw/train-images-idx3-ubyte.gz    as published
    MNIST/raw/train-images-idx3-ubyte       and unpacked: some readers want one, some the other

Nothing in them is changed: EMNIST's images lie on their side, and its letters count from 1. A file
that is not packed is there once. Where the catalogue names no folder, the export itself is the
folder.

CIFAR's archives hold lists of the classes, too. Those that readers want are written from the
catalogue, a name per line: nobody publishes a hash by which the archives' could be known.

Sources: torchvision/datasets/mnist.py, MLDatasets.jl's src/datasets/vision, candle's
vision/cifar.rs.
CIFAR's other version, for Python, is `python_batches`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from .. import formats
from ..archives import members, readers
from ..declarations import Dataset, Member, MemberFacts, Source
from ..errors import ArtefactError, FormatError, MemberError
from ..products import Choices, Column, Inputs, Product, Reader, Stored, Subject
from ..progress import Advance
from ..records import ByteStream, Members, Place
from ..store import Facts, writing
from ._folders import within

_MOST_OPEN = 16  # files at a time: macOS allows 256 in all
_LISTS = ("classes", "coarse_classes")


def write(inputs: Inputs, goal: Path, _chosen: Choices, advance: Advance) -> Facts:
    """Write the files that hold a dataset's records into the empty folder `goal`.

    Raises:
        MemberError: the archives do not hold what the catalogue declares.
        StorageError: `goal` can't be written.
    """
    from .. import tables

    source, dataset = inputs.subject.source, inputs.subject.dataset
    [archives] = {path.parent for path in inputs.paths.values()}
    most = tables.most_bytes(source)
    wanted = (_known(source, member) for member in _members(dataset))
    with (
        writing.storage_errors(goal),
        contextlib.closing(members.published(archives, wanted, most)) as found,
    ):
        folder = within(goal, _folder(dataset))
        for member, stream in found:
            place = folder / _name(member)
            save(stream, place)
            if readers.is_packed(place.name):
                with place.open("rb") as packed:
                    read = readers.unpacked(packed.read, str(member))
                    most_out = members.most_out(most, place.stat().st_size)
                    too_much = MemberError(f"{member}: more than {most_out:,} bytes come out.")
                    unpacked = readers.at_most(read, most_out, too_much)
                    save(members.Stream(str(member), unpacked), place.with_suffix(""))
        for name, classes in _lists(dataset).items():
            (folder / name).write_text("".join(f"{text}\n" for text in classes), "utf-8")
    for split in inputs.subject.splits:
        advance(split.records)
    return {"records": inputs.subject.records}


def save(stream: ByteStream, goal: Path) -> None:
    """Write a new file from a member's bytes."""
    piece = memoryview(bytearray(readers.CHUNK_BYTES))
    with writing.hashed(goal) as append:
        while got := stream.readinto(piece):
            append(bytes(piece[:got]))


def read(path: Path, subject: Subject, start: int, stop: int) -> Iterator[Stored]:
    """Yield records `start` to `stop` of a split, each with the bytes of its pixels.

    Where its other parts stand is told beside.

    Raises:
        ArtefactError: a file ends early, or a label stands for no class.
        FileNotFoundError: there is no such file.
    """
    dataset, split = subject.dataset, subject.split
    folder, form = path / _folder(dataset), formats.named(dataset.format)

    def place_of(member: Member) -> Path:
        place = folder / _name(member)
        return place.with_suffix("") if readers.is_packed(place.name) else place

    with contextlib.ExitStack() as stack:
        files: dict[Member, BinaryIO] = {}  # the one that was read longest ago comes first
        stack.callback(lambda: [file.close() for file in files.values()])

        def opened(member: Member, start: int = 0) -> BinaryIO:
            file = files.pop(member, None) or place_of(member).open("rb")
            files[member] = file
            if len(files) > _MOST_OPEN:
                files.pop(next(iter(files))).close()
            file.seek(start)
            return file

        def stream(member: Member) -> ByteStream:
            return members.Stream(str(place_of(member)), opened(member).read)

        ahead: dict[tuple[str, Member], tuple[ByteStream, int]] = {}  # of each, and where it is

        def unpacked(place: Place, unpack: Callable[[ByteStream], ByteStream]) -> bytes:
            key, name = (place.role, place.member), str(place_of(place.member))
            found, at = ahead.get(key, (None, 0))
            if found is None or at > place.start:
                file, at = stack.enter_context(place_of(place.member).open("rb")), 0
                found = unpack(members.Stream(name, file.read))
            ahead[key] = found, place.stop
            return members.read_range(found, place.start - at, place.stop - at)

        def part(place: Place) -> bytes:
            if form.unpacked is not None:
                return unpacked(place, form.unpacked)
            data = opened(place.member, place.start).read(place.stop - place.start)
            if len(data) < place.stop - place.start:
                raise FormatError(f"expected bytes {place.start:,} to {place.stop:,}, found fewer")
            return data

        known = Members(stream, lambda member: place_of(member).stat().st_size)
        for index in range(start, stop):
            try:
                stored, at = formats.stored_at(dataset, split, index, known)
                places = form.locate(dataset, stored, at, known)
                record = form.assemble(dataset, stored, places, [*map(part, places)])
            except (FormatError, MemberError) as error:
                raise ArtefactError(
                    f"{folder}, record {index:,} of {split.name}: {error}"
                ) from error
            addresses = {
                place.role: (place_of(place.member).relative_to(path).as_posix(), place)
                for place in places
            }
            pixels = next(p.role for p in places if "pixels" in form.roles[p.role].holds)
            file, image = addresses.pop(pixels)
            others = {
                role: {"file": other, "bytes": [place.start, place.stop]}
                for role, (other, place) in addresses.items()
            }
            yield Stored(record, image.start, image.stop, others, file)


def _folder(dataset: Dataset) -> str:
    return str(dataset.readers.get("raw", {}).get("folder", ""))


def _lists(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    """Return the name of each list of classes that readers want, and what is in it."""
    names = dataset.readers.get("raw", {})
    return {str(names[key]): getattr(dataset, key) for key in _LISTS if key in names}


def _members(dataset: Dataset) -> list[Member]:
    """Return every member that holds records, or lists those of a split, once."""
    splits = dataset.splits.values()
    found = [member for split in splits for part in split.members.values() for member in part]
    found += [split.rows.member for split in splits if split.rows and split.rows.member]
    return list(dict.fromkeys(found))


def _name(member: Member) -> str:
    return (member.path or member.archive).rpartition("/")[2]


def _known(source: Source, member: Member) -> Member:
    """Return a member with its size and hash, which of a whole archive are declared with that."""
    archive = source.archives[member.archive]
    if member.path or archive.size_bytes is None or archive.sha256 is None:
        return member  # all that it is made from is hashed while it is used
    return replace(member, facts=MemberFacts(archive.size_bytes, archive.sha256))


def applies(dataset: Dataset) -> bool:
    """Whether the files can lie in one folder: no two of them have one name, none is a folder."""
    if any(role.is_folder for role in formats.named(dataset.format).roles.values()):
        return False
    names = [_name(member) for member in _members(dataset)]
    names += [PurePosixPath(name).stem for name in names if readers.is_packed(name)]
    names += _lists(dataset)
    return len({name.lower() for name in names}) == len(names)


def _parameters(subject: Subject, _chosen: Choices) -> dict[str, Any]:
    return {
        "folder": _folder(subject.dataset),
        "files": [str(member) for member in _members(subject.dataset)],
        "lists": _lists(subject.dataset),
    }


EXPORT = Product(
    name="raw",
    title="as its publisher's files, packed and unpacked, in the folder that readers look into.",
    scope="dataset",
    files="exports/{dataset}/raw/",
    code_version="1",
    write=write,
    read=read,
    needs=("archives",),
    applies=applies,
    columns=(
        Column("pixels", "uint8", "The intensities, as published; EMNIST's on their side."),
        Column(
            "label",
            "uint8",
            "Number of the class, as published; of EMNIST's letters from 1. Where each class has a "
            "file of its own, that tells it.",
        ),
    ),
    parameters=_parameters,
    room=lambda image: 2 * image,
    sidecar=True,
    names={"folder": str} | dict.fromkeys(_LISTS, str),
    measured=(66.5, 0.14),
    read_by=(
        Reader(
            "torchvision 0.28.0",
            ("torchvision==0.28.0",),
            """import torchvision
torchvision.datasets.MNIST("{path}", train=True, download=False)""",
            "It reads a split only where the files of both are there, and never holds unpacked "
            "files against a hash; `FashionMNIST`, and `EMNIST` with its split, are read alike.",
        ),
        Reader(
            "python-mnist 0.7",
            ("python-mnist==0.7",),
            """import mnist
mnist.MNIST("{path}/MNIST/raw", return_type="numpy").load_training()""",
            "The package mnist has the same import name, and comes first where both are there.",
        ),
        Reader(
            "mnist 0.2.2",
            ("mnist==0.2.2",),
            """import mnist
mnist.temporary_dir = lambda: "{path}/MNIST/raw"
mnist.train_images(), mnist.train_labels()""",
            "Where it finds no file, it downloads one from an address that no longer answers.",
        ),
        Reader(
            "mlxtend 0.25.0",
            ("mlxtend==0.25.0",),
            """from mlxtend.data import loadlocal_mnist
loadlocal_mnist(
    images_path="{path}/MNIST/raw/train-images-idx3-ubyte",
    labels_path="{path}/MNIST/raw/train-labels-idx1-ubyte",
)""",
        ),
        Reader(
            "Zalando's mnist_reader",
            (),
            """import mnist_reader  # utils/mnist_reader.py of zalandoresearch/fashion-mnist
mnist_reader.load_mnist("{path}/FashionMNIST/raw", kind="train")""",
            "The arrays that it returns can't be written to.",
        ),
        Reader(
            "Keras 3.15.1",
            ("keras==3.15.1",),
            """import os, shutil, tempfile
home = tempfile.mkdtemp()
shutil.copytree("{path}/FashionMNIST/raw", f"{home}/datasets/fashion-mnist")
os.environ["KERAS_HOME"] = home  # before Keras is imported
import keras
keras.datasets.fashion_mnist.load_data()""",
            "A copy, because Keras writes into its home; of MNIST it takes its own mnist.npz only, "
            "and deletes any other.",
        ),
        Reader(
            "candle",
            (),
            'candle_datasets::vision::mnist::load_dir("{path}/MNIST/raw")',
            'Of CIFAR it wants the folder too: `cifar::load_dir(".../cifar-10-batches-bin")`.',
        ),
        Reader(
            "MLDatasets.jl 0.7",
            (),
            'MLDatasets.MNIST(split=:train, dir="{path}/MNIST/raw")',
            'Of CIFAR it wants what the folder lies in: `CIFAR10(dir="{path}")`.',
        ),
    ),
)
