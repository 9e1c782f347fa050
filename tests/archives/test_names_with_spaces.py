"""Archives with spaces, quotes, #, % and other letters in their names, from places of each kind.

In an address such a name is quoted; everywhere else it is called as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import boto3
import numpy as np
import pytest

from pipelines import archives, catalogue
from pipelines.archives import members, probes
from pipelines.declarations import Source
from pipelines.errors import ArchiveUnavailable
from tests import builders, object_stores
from tests.servers import Handler, Server, cut, good, serving, status

NAMES = ("The Eiffel Tower.npy", "rock'n'roll #1 (100%).npy", "Zürich + 東京 & [a~b].npy")
PLAIN = "The Eiffel Tower.npy"


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """A folder with a publisher's files, `<source>/<file>`."""
    (tmp_path / "a mirror" / "tiny").mkdir(parents=True)
    for number, name in enumerate(NAMES):
        images = builders.images(number + 2, seed=number)
        data = builders.npy(images.reshape(len(images), -1))
        (tmp_path / "a mirror" / "tiny" / name).write_bytes(data)
    return tmp_path / "a mirror"


def declared(mirror: Path, *mirrors: str) -> Source:
    """The source that publishes those files."""
    files = {name: (mirror / "tiny" / name).read_bytes() for name in NAMES}
    toml = builders.declare(files).replace("mirrors = []", f"mirrors = {list(mirrors)}")
    facts = {
        "title": "Tiny",
        "format": "npy",
        "image": {"height": 4, "width": 3, "channels": 1},
        "classes": [name.removesuffix(".npy") for name in NAMES],
    }
    split = {"records": 9, "counts": [2, 3, 4]}
    arrays = ", ".join(f'"{name}"' for name in NAMES)
    toml += "[datasets.tiny]\n" + builders.as_toml(facts)
    toml += "[datasets.tiny.splits.train]\n" + builders.as_toml(split) + f"arrays = [{arrays}]\n"
    folder = mirror.parent / "catalogue"
    folder.mkdir(exist_ok=True)
    (folder / "tiny.toml").write_text(toml, "utf-8")
    return catalogue.load(folder).sources["tiny"]


class Site:
    """A server that serves a folder below `/published/`, and notes what it was asked for."""

    def __init__(self, root: Path) -> None:
        self.root, self.asked = root, list[str]()

    def __call__(self, handler: Handler, _data: bytes) -> None:
        path, _, _ = handler.path.partition("?")
        self.asked.append(handler.path)
        file = self.root / unquote(path).removeprefix("/published/")
        if path.startswith("/published/") and file.is_file():
            good()(handler, file.read_bytes())
        else:
            status(404)(handler, b"")


@pytest.fixture
def site(mirror: Path) -> Iterator[tuple[Site, Server]]:
    found = Site(mirror)
    with serving(b"", found) as server:
        yield found, server


def fetched(source: Source, place: str | None, goal: Path) -> None:
    """Fetch every archive from its first place; hold it against what is declared."""
    for archive in source.archives.values():
        first, *_ = archives.places(source, archive, place, offline=False)
        assert archives.obtain(archive, goal / archive.name, [first]) == first.partition("?")[0]
        assert archives.obtain(archive, goal / archive.name, []) == archives.ALREADY_THERE
        [probe] = probes.look([first]).values()
        assert (probe.status, probe.size_bytes) == ("alive", archive.size_bytes), probe
    assert {path.name for path in goal.iterdir() if path.is_file()} == {*NAMES}


def test_a_declared_mirror_is_asked_for_the_quoted_name(
    mirror: Path, site: tuple[Site, Server], tmp_path: Path
) -> None:
    found, server = site
    fetched(declared(mirror, f"{server.url}published/tiny/"), None, tmp_path / "here")

    assert {*found.asked} == {f"/published/tiny/{quote(name, safe='')}" for name in NAMES}


def test_a_mirror_of_ones_own_may_ask_for_a_token_behind_the_name(
    mirror: Path, site: tuple[Site, Server], tmp_path: Path
) -> None:
    found, server = site
    fetched(declared(mirror), f"{server.url}published?token=s3cr3t7oken", tmp_path / "here")

    assert {path.partition("?")[0] for path in found.asked} == {
        f"/published/tiny/{quote(name, safe='')}" for name in NAMES
    }
    assert {path.partition("?")[2] for path in found.asked} == {"token=s3cr3t7oken"}


def test_a_folder_has_them_by_their_own_names(mirror: Path, tmp_path: Path) -> None:
    source = declared(mirror)
    for archive in source.archives.values():
        [place] = archives.places(source, archive, str(mirror), offline=True)
        assert place == str(mirror / "tiny" / archive.name)
    for archive in source.archives.values():
        place = str(mirror / "tiny" / archive.name)
        assert archives.obtain(archive, tmp_path / "here" / archive.name, [place]) == place
        assert probes.look([place])[place].status == "alive"


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    with object_stores.serving() as variables:
        yield variables


def test_an_object_store_has_them_under_the_keys_that_others_gave_them(
    mirror: Path, s3: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    client: Any = boto3.client("s3", endpoint_url=s3["AWS_ENDPOINT_URL"], **_credentials(s3))
    for name in NAMES:
        data = (mirror / "tiny" / name).read_bytes()
        client.put_object(Bucket="bucket", Key=f"a folder/tiny/{name}", Body=data)
    client.close()
    for name, value in s3.items():
        monkeypatch.setenv(name, value)

    fetched(declared(mirror), "s3://bucket/a%20folder", tmp_path / "here")


def _credentials(variables: dict[str, str]) -> dict[str, str]:
    return {
        "aws_access_key_id": variables["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": variables["AWS_SECRET_ACCESS_KEY"],
        "region_name": variables["AWS_REGION"],
    }


def test_a_download_that_broke_off_goes_on_with_such_a_name(mirror: Path, tmp_path: Path) -> None:
    data = (mirror / "tiny" / PLAIN).read_bytes()
    with serving(data, cut(60), good()) as server:
        source = declared(mirror, server.url)
        [place] = archives.places(source, source.archives[PLAIN], None, offline=False)
        archives.obtain(source.archives[PLAIN], tmp_path / PLAIN, [place])

    assert (tmp_path / PLAIN).read_bytes() == data
    assert server.paths == ["/The%20Eiffel%20Tower.npy"] * 2
    assert server.requests[1]["Range"] == "bytes=60-"


def test_a_failure_calls_the_archive_as_it_is_and_its_place_as_it_is_asked_for(
    mirror: Path, tmp_path: Path
) -> None:
    name = NAMES[1]
    with serving(b"", status(404)) as server:
        source = declared(mirror, server.url)
        places = archives.places(source, source.archives[name], None, offline=False)
        with pytest.raises(ArchiveUnavailable) as refused:
            archives.obtain(source.archives[name], tmp_path / name, places)

    said = str(refused.value)
    assert said.startswith(f"{name} (")
    assert f"{server.url}rock%27n%27roll%20%231%20%28100%25%29.npy: HTTP 404" in said
    assert f"Put the file at {tmp_path / name} yourself" in said


def test_members_are_read_out_of_them(mirror: Path) -> None:
    source = declared(mirror)
    split = source.datasets["tiny"].splits["train"]
    with members.opened(mirror / "tiny") as open_member:
        found = [open_member(member) for member in split.members["arrays"]]
        begins = [bytearray(6) for _ in found]
        for stream, begin in zip(found, begins, strict=True):
            stream.readinto(memoryview(begin))

    assert begins == [bytearray(b"\x93NUMPY")] * 3
    assert [stream.name for stream in found] == [*NAMES]
    assert np.load(mirror / "tiny" / NAMES[2]).shape == (4, 12)
