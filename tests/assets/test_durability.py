"""What is on the disk before what, when a whole dataset is built.

A power failure can't be had in a test. The order in which files are synced and get their names can:
`os.fsync` and every renaming are watched here, and still done.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from pipelines.store import Folder, layout, provenance
from tests import builders
from tests.assets import truth
from tests.assets.project import Project


@dataclass(frozen=True)
class Event:
    """A file was synced, or got a name; `sha256` is of the bytes that it had then."""

    kind: Literal["synced", "named"]
    inode: int
    sha256: str
    path: str = ""


@pytest.fixture(scope="module")
def events(_published_once: Project, tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    """What happens in the data folder of a project while all of it is built, in order."""
    project = _published_once.copied_to(tmp_path_factory.mktemp("watched") / "project")
    happened: list[Event] = []
    one_at_a_time = threading.Lock()  # archives are fetched by several threads
    fsync = os.fsync

    def watched_fsync(descriptor: int) -> None:
        with one_at_a_time:
            fsync(descriptor)
            data = Path(f"/dev/fd/{descriptor}").read_bytes()
            digest = hashlib.sha256(data).hexdigest()
            happened.append(Event("synced", os.fstat(descriptor).st_ino, digest))

    def watched(rename: Callable[..., Any]) -> Callable[..., Any]:
        def watched_rename(old: Any, new: Any, **places: Any) -> None:
            with one_at_a_time:
                stat, data = os.stat(old), Path(old).read_bytes()
                rename(old, new, **places)
                if Path(new).is_relative_to(project.data):
                    path = Path(new).relative_to(project.data).as_posix()
                    digest = hashlib.sha256(data).hexdigest()
                    happened.append(Event("named", stat.st_ino, digest, path))

        return watched_rename

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", watched_fsync)
        for name in ("replace", "rename"):
            patch.setattr(os, name, watched(getattr(os, name)))
        project.build()
    return happened


def _naming(events: list[Event], path: str) -> int:
    """When a file got this name: once."""
    [found] = [at for at, event in enumerate(events) if event.path == path]
    return found


def _is_synced_before(events: list[Event], at: int) -> bool:
    """Whether the very bytes that got a name were on the disk by then."""
    file = events[at]
    return Event("synced", file.inode, file.sha256) in events[:at]


def test_every_artefact_is_on_the_disk_before_it_takes_its_place(
    project: Project, events: list[Event]
) -> None:
    paths = [*truth.states(project)]
    assert len(paths) == 30
    for path in paths:
        assert _is_synced_before(events, _naming(events, path)), path


def test_the_provenance_of_an_artefact_is_on_the_disk_before_the_artefact_takes_its_place(
    project: Project, events: list[Event]
) -> None:
    """When the power fails between the two, nothing else would know what the artefact is."""
    for path in truth.states(project):
        pending = _naming(events, layout.pending_lineage(path))
        taken = _naming(events, path)
        final = _naming(events, layout.lineage(path))
        assert _is_synced_before(events, pending), path
        assert pending < taken < final, path
        assert events[final].inode == events[pending].inode, path


def test_an_archive_that_somebody_else_put_there_has_not_the_origin_of_the_one_before(
    built: Project,
) -> None:
    name = "test-labels.gz"
    path = f"archives/tiny_digits/{name}"
    before = provenance.latest(Folder(built.data), path)
    assert before is not None
    assert before.facts["origin"].endswith(f"/mirror/tiny_digits/{name}")
    labels = built.publisher.splits["tiny_digits", "test"][1]
    built.republish(
        "tiny_digits", name, builders.gz(builders.idx(np.ascontiguousarray(labels[::-1])))
    )
    shutil.copy(built.publisher.archive("tiny_digits", name), built.data / path)

    built.build("tiny_digits", stages=["archives"])

    record = provenance.latest(Folder(built.data), path)
    assert record is not None
    assert record.sha256 != before.sha256
    assert record.facts == {"origin": "already there"}
    assert [made_from.path for made_from in record.inputs] == ["already there"]
