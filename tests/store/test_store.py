"""The five verbs of a store, as a folder has them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipelines.errors import StorageError
from pipelines.store import Folder
from tests import builders


@pytest.fixture
def store(tmp_path: Path) -> Folder:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/file").write_bytes(b"bytes")
    return Folder(tmp_path)


def test_a_file_and_a_folder_have_an_identity_until_somebody_writes_to_them(store: Folder) -> None:
    file, folder = store.stat("a/file"), store.stat("a")
    assert file is not None
    assert folder is not None
    assert (store.stat("a/file"), store.stat("a")) == (file, folder)
    assert file.size_bytes == folder.size_bytes == 5
    store.local("a/file").write_bytes(b"longer")
    assert store.stat("a/file") != file
    assert store.stat("a") != folder


def test_what_is_not_there_or_no_file_has_no_identity_and_holds_nothing(store: Folder) -> None:
    os.mkfifo(store.local("pipe"))
    for path in ("nowhere", "pipe"):
        assert store.stat(path) is None
        assert store.read(path) is None
    assert store.read("a") is None


def test_a_small_file_is_written_and_removed_only_where_it_holds_what_is_expected(
    store: Folder,
) -> None:
    store.swap("new/file", None, b"one")
    store.swap("new/file", b"one", b"two")
    for expected in (None, b"one"):
        with pytest.raises(StorageError, match="written by somebody else meanwhile"):
            store.swap("new/file", expected, b"three")
    assert store.read("new/file") == b"two"
    store.swap("new/file", b"two", None)
    assert store.read("new/file") is None
    assert builders.files_under(store.root) == ["a/file"]


def test_a_published_file_or_folder_is_in_its_place_and_nowhere_else(store: Folder) -> None:
    store.publish(store.local("a/file"), "b/c/file")
    assert store.read("b/c/file") == b"bytes"
    store.publish(store.local("b/c"), "d/folder")
    assert builders.files_under(store.root) == ["d/folder/file"]


def test_a_folder_is_not_published_over_a_file_nor_a_file_over_a_folder(store: Folder) -> None:
    store.local("file").write_bytes(b"precious")
    with pytest.raises(StorageError, match=r"file can't be written.*no folder is in the way"):
        store.publish(store.local("a"), "file")
    with pytest.raises(StorageError, match=r"a can't be written.*A folder is in the way"):
        store.publish(store.local("file"), "a")
    assert builders.files_under(store.root) == ["a/file", "file"]
