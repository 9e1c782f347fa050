"""CIFAR's version for Python: the pickled batches that torchvision insists on, as published.

    cifar-10-batches-py/data_batch_1 … data_batch_5, test_batch, batches.meta
    cifar-100-python/train, test, meta

torchvision compares each file's MD5, and the batches hold file names that the binary version lacks,
so that they can't be made from it: they come from another archive of the publisher's, which is only
fetched for this. Nothing is unpickled, as unpickling runs code that a file brings along; so no
single record is read back from here.

Source: torchvision/datasets/cifar.py.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import Any

from ..archives import members
from ..declarations import Dataset, Listed, Member
from ..errors import MemberError
from ..products import Choices, Column, Inputs, Product, Reader, Subject
from ..progress import Advance
from ..store import Facts, writing
from ._folders import within
from .raw import save


def write(inputs: Inputs, goal: Path, _chosen: Choices, advance: Advance) -> Facts:
    """Take what the catalogue lists out of the archive, into the empty folder `goal`.

    No path of an archive is used: a file is called by the last part of what the catalogue lists.

    Raises:
        MemberError: the archive does not hold what the catalogue lists.
        StorageError: `goal` can't be written.
    """
    from .. import tables

    source, dataset = inputs.subject.source, inputs.subject.dataset
    with writing.storage_errors(goal):
        folder = within(goal, _folder(dataset))
        for path in inputs.paths.values():
            listed = source.optional_archives[path.name].members
            wanted = (Member(path.name, member) for member in listed)
            found = members.published(path.parent, wanted, tables.most_bytes(source))
            with contextlib.closing(found):
                for member, stream in found:
                    place = folder / member.path.rpartition("/")[2]
                    save(stream, place)
                    _hold(place, member, listed[member.path])
    for split in inputs.subject.splits:
        advance(split.records)
    return {"records": inputs.subject.records}


def _hold(place: Path, member: Member, listed: Listed) -> None:
    """Raise `MemberError` unless a file is the one that is listed."""
    size = place.stat().st_size
    if listed.size_bytes not in (None, size):
        raise MemberError(
            f"{member}: {listed.size_bytes:,} bytes are declared, but it has {size:,}."
        )
    with place.open("rb") as file:
        md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if md5 != listed.md5:
        raise MemberError(f"{member}: MD5 {listed.md5} is declared, but it has {md5}.")


def _folder(dataset: Dataset) -> str:
    return str(dataset.readers["python_batches"]["folder"])


def _parameters(subject: Subject, _chosen: Choices) -> dict[str, Any]:
    return {
        "folder": _folder(subject.dataset),
        "members": {
            f"{archive.name}/{path}": listed.md5
            for archive in subject.source.optional_archives.values()
            for path, listed in archive.members.items()
        },
    }


EXPORT = Product(
    name="python_batches",
    title="as its publisher's pickled batches for Python, which torchvision insists on.",
    scope="dataset",
    files="exports/{dataset}/python_batches/",
    code_version="1",
    write=write,
    needs=("optional_archives",),
    applies=lambda dataset: "python_batches" in dataset.readers,
    columns=(
        Column("data", "uint8", "The intensities of a record, channel by channel (CHW)."),
        Column("labels", "list", "Numbers of the classes; CIFAR-100's are `fine_labels`."),
        Column("coarse_labels", "list", "Numbers of the coarse classes, of CIFAR-100 only."),
        Column("filenames", "list", "What each image was called when it was collected."),
    ),
    parameters=_parameters,
    room=lambda image: image + 40,
    sidecar=True,
    names={"folder": str},
    read_by=(
        Reader(
            "torchvision 0.28.0",
            ("torchvision==0.28.0",),
            """import torchvision
torchvision.datasets.CIFAR10("{path}", train=True, download=False)""",
            "`CIFAR100` reads that of cifar100.",
        ),
        Reader(
            "Keras 3.15.1",
            ("keras==3.15.1",),
            """import os, shutil, tempfile
home = tempfile.mkdtemp()
os.mkdir(f"{home}/datasets")
shutil.copy(  # the archive itself
    "{path}/../../../archives/cifar10/cifar-10-python.tar.gz",
    f"{home}/datasets/cifar-10-batches-py-target_archive",
)
os.environ["KERAS_HOME"] = home  # before Keras is imported
import keras
keras.datasets.cifar10.load_data()""",
            "It takes nothing but the publisher's archive, from its home, and unpacks it there.",
        ),
    ),
)
