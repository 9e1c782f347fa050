"""What git calls a file is a hash of it, too, where its publisher gives no other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipelines import archives, tables
from pipelines.declarations import Archive
from pipelines.errors import ArchiveUnavailable, CatalogueError
from pipelines.plan import load
from tests import builders
from tests.builders import Publisher
from tests.servers import good, serving

HELLO = "ce013625030ba8dba906f756967f9e9ca394464a"  # `echo hello | git hash-object --stdin`


def test_bytes_that_git_calls_so_are_right(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"hello\n")
    archive, goal = Archive(git_blob=HELLO, name="there"), tmp_path / "here"

    assert archives.obtain(archive, goal, [str(tmp_path / "there")]) == str(tmp_path / "there")
    assert archives.obtain(archive, goal, []) == archives.ALREADY_THERE
    assert goal.read_bytes() == b"hello\n"


def test_bytes_come_over_the_web_and_are_held_against_it(tmp_path: Path) -> None:
    with serving(b"hello\n", good()) as server:
        archive = Archive(git_blob=HELLO, name="there")
        assert archives.obtain(archive, tmp_path / "here", [f"{server.url}there"])

    assert (tmp_path / "here").read_bytes() == b"hello\n"


@pytest.mark.parametrize("wrong", [b"hello", b"hello \n", b"jello\n", b""])
def test_other_bytes_are_refused_and_not_kept(tmp_path: Path, wrong: bytes) -> None:
    (tmp_path / "there").write_bytes(wrong)
    archive = Archive(git_blob=HELLO, name="there")

    with pytest.raises(ArchiveUnavailable, match=f"declares git blob {HELLO}"):
        archives.obtain(archive, tmp_path / "here", [str(tmp_path / "there")])

    assert not (tmp_path / "here").exists()


def test_it_is_held_against_beside_other_hashes(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"hello\n")
    archive = Archive(md5="b1946ac92492d2347c6235b4d2611184", git_blob=HELLO, name="there")

    assert archives.obtain(archive, tmp_path / "here", [str(tmp_path / "there")])
    with pytest.raises(ArchiveUnavailable, match=f"git blob is {HELLO} where the catalogue"):
        archives.obtain(
            replace(archive, git_blob="0" * 40), tmp_path / "other", [str(tmp_path / "there")]
        )


def test_a_table_says_by_which_hash_it_knows_its_archives(tmp_path: Path) -> None:
    tiny = builders.tiny(tmp_path, builders.images(4), builders.labels(4, 5))
    known = {
        name: replace(one, md5=None, sha256=None, git_blob=HELLO)
        for name, one in tiny.source.archives.items()
    }
    source = replace(tiny.source, archives=known)

    path = replace(tiny, source=source).table(tmp_path / "train.parquet")

    assert set(tables.info(path).inputs.values()) == {HELLO}
    assert tables.declared(source, tiny.dataset, tiny.split).inputs == tables.info(path).inputs


def test_what_is_no_name_of_gits_is_a_mistake(publisher: Publisher) -> None:
    toml = publisher.toml("tiny_letters")
    toml.write_text(toml.read_text().replace("md5 = ", 'git_blob = "e875a30", md5 = '))

    with pytest.raises(CatalogueError, match=r"archives\.letters\.zip\.git_blob: "):
        load(publisher.catalogue)
