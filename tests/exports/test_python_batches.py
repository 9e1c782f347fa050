"""CIFAR's version for Python: taken out of a made-up tar, file by file, and never unpickled."""

from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from pipelines import plan
from pipelines.declarations import Catalogue
from pipelines.errors import MemberError
from pipelines.exports import python_batches
from pipelines.products import Inputs, Subject
from tests import builders

TAR = "colours-python.tar.gz"
FILES = {
    "batches-py/test_batch": b"test" * 300,
    "batches-py/batches.meta": b"meta",
    "batches-py/data_batch_1": b"one" * 100_000,
}


class Bomb:
    """What would be noticed if it were unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return (exec, ("raise AssertionError('unpickled')",))


def declared(
    publisher: builders.Publisher, listed: Mapping[str, bytes], archive: bytes
) -> Catalogue:
    """Declare an optional archive with the files listed in it."""
    publisher.archive("tiny_colours", TAR).write_bytes(archive)
    md5, sha256 = hashlib.md5(archive).hexdigest(), hashlib.sha256(archive).hexdigest()
    lines = [f'[archives."{TAR}"]', f"bytes = {len(archive)}", "optional = true"]
    lines += [f'md5 = "{md5}"', f'sha256 = "{sha256}"']
    for number, (name, data) in enumerate(listed.items()):
        size = f", bytes = {len(data)}" if number else ""  # which is not known of every file
        lines.append(f'members."{name}" = {{ md5 = "{hashlib.md5(data).hexdigest()}"{size} }}')
    lines += ["[datasets.tiny_colours.readers]", 'python_batches = { folder = "batches-py" }']
    with publisher.toml("tiny_colours").open("a") as file:
        file.write("\n" + "\n".join(lines) + "\n")
    return plan.load(publisher.catalogue)


def made(publisher: builders.Publisher, catalogue: Catalogue, goal: Path) -> list[str]:
    """Make the export; return its files."""
    dataset = catalogue.datasets["tiny_colours"]
    source = catalogue.source_of(dataset)
    subject = Subject(source, dataset, tuple(dataset.splits.values()))
    lying = {f"archives/tiny_colours/{TAR}": publisher.archive("tiny_colours", TAR)}
    goal.mkdir()
    told: list[int] = []
    python_batches.write(Inputs((subject,), lying, (), {}), goal, {}, told.append)
    assert sum(told) == subject.records
    return builders.files_under(goal)


def test_what_is_listed_is_taken_out_and_nothing_is_unpickled(
    publisher: builders.Publisher, tmp_path: Path
) -> None:
    files = FILES | {"batches-py/data_batch_2": pickle.dumps(Bomb())}
    others = {"batches-py/file.txt~": b"", "../outside": b"no", "/tmp/batches.meta": b"no"}
    tar = builders.tarred({**others, **dict(reversed(files.items()))})

    names = made(publisher, declared(publisher, files, tar), tmp_path / "made")

    assert names == sorted(files)
    for name, data in files.items():
        assert (tmp_path / "made" / name).read_bytes() == data


def test_a_file_with_another_md5_is_refused(publisher: builders.Publisher, tmp_path: Path) -> None:
    tar = builders.tarred(FILES | {"batches-py/batches.meta": b"atem"})

    with pytest.raises(MemberError, match=r"batches\.meta: MD5 .* is declared, but it has"):
        made(publisher, declared(publisher, FILES, tar), tmp_path / "made")


def test_a_file_of_another_size_is_refused(publisher: builders.Publisher, tmp_path: Path) -> None:
    tar = builders.tarred(FILES | {"batches-py/batches.meta": b"meta "})

    with pytest.raises(MemberError, match=r"batches\.meta: 4 bytes are declared, but it has 5"):
        made(publisher, declared(publisher, FILES, tar), tmp_path / "made")


def test_a_file_that_is_not_there_is_named(publisher: builders.Publisher, tmp_path: Path) -> None:
    tar = builders.tarred({name: data for name, data in FILES.items() if "meta" not in name})

    with pytest.raises(MemberError, match=r"batches\.meta: the archive has no such member"):
        made(publisher, declared(publisher, FILES, tar), tmp_path / "made")


def test_a_link_in_the_place_of_a_file_is_refused(
    publisher: builders.Publisher, tmp_path: Path
) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        link = tarfile.TarInfo("batches-py/batches.meta")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    tar = builders.gz(file.getvalue())
    listed = {"batches-py/batches.meta": b"meta"}

    with pytest.raises(MemberError, match="expected a regular file"):
        made(publisher, declared(publisher, listed, tar), tmp_path / "made")

    assert builders.files_under(tmp_path / "made") == []


def test_it_is_only_there_where_readers_ask_for_it_and_made_from_the_optional_archive(
    publisher: builders.Publisher,
) -> None:
    options = {"compression_level": -1}
    assert "exports/tiny_colours/python_batches" not in (
        plan.of(plan.load(publisher.catalogue), options).artefacts
    )

    found = plan.of(declared(publisher, FILES, builders.tarred(FILES)), options)

    made = found.artefacts["exports/tiny_colours/python_batches"]
    assert made.needs == (f"archives/tiny_colours/{TAR}",)
    md5 = {f"{TAR}/{name}": hashlib.md5(data).hexdigest() for name, data in FILES.items()}
    assert made.artefact().parameters == {"folder": "batches-py", "members": md5}


def test_the_files_of_cifar_are_those_that_torchvision_looks_for() -> None:
    """Folders, names and MD5 as in torchvision 0.28.0's datasets/cifar.py."""
    from assets.settings import Settings

    sources = plan.load(Settings().catalogue).sources
    of_10 = {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
        "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
    }
    of_100 = {
        "train": "16019d7e3df5f24257cddd939b257f8d",
        "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
        "meta": "7973b15100ade9c7d40fb424638fde48",
    }
    for name, folder, files in (
        ("cifar10", "cifar-10-batches-py", of_10),
        ("cifar100", "cifar-100-python", of_100),
    ):
        source = sources[name]
        [archive] = source.optional_archives.values()
        found = {path.rpartition("/")[2]: m.md5 for path, m in archive.members.items()}
        assert found == files
        assert source.datasets[name].readers["python_batches"] == {"folder": folder}
