"""Lineage: an artefact is made again when what decides its bytes changed, and only then."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import StaleInput, StorageError
from pipelines.store import (
    Artefact,
    Folder,
    Input,
    hashing,
    layout,
    making,
    provenance,
    seen,
    state,
    writing,
)
from tests import builders
from tests.waiting import within

ARCHIVES = {"archives/digits/images.gz": b"images", "archives/digits/labels.gz": b"labels"}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


ARTEFACT = Artefact(
    path="tables/digits/train.parquet",
    stage="tables",
    code_version="1.1",
    parameters={"classes": ("zero", "one"), "records": 2, "source": {"title": "Digits"}},
    inputs=tuple(Input(path, sha256(data), 6, "1" * 32) for path, data in ARCHIVES.items()),
)
IMAGES, LABELS = ARTEFACT.inputs


class Maker:
    """Makes an artefact, and remembers how often."""

    def __init__(self, data: bytes = b"made") -> None:
        self.data = data
        self.times = 0

    def __call__(self, goal: Path) -> dict[str, Any]:
        self.times += 1
        with writing.atomic(goal) as partial:
            partial.write_bytes(self.data)
        return {"records": len(self.data)}


def put(data: Path, found: dict[str, bytes]) -> Path:
    """Put files into a data folder."""
    for path, content in found.items():
        (data / path).parent.mkdir(parents=True, exist_ok=True)
        (data / path).write_bytes(content)
    return data


@pytest.fixture(autouse=True)
def _archives_are_there(tmp_path: Path) -> None:
    put(tmp_path, ARCHIVES)


@pytest.fixture(autouse=True)
def _clocks_are_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a file that was written a moment ago count as left alone, once it was read."""
    monkeypatch.setattr(seen, "COARSEST_TICK_S", -60.0)


@pytest.fixture
def maker() -> Maker:
    return Maker()


@pytest.fixture
def goal(tmp_path: Path) -> Path:
    return tmp_path / ARTEFACT.path


def test_what_is_not_there_is_made_and_known(tmp_path: Path, maker: Maker, goal: Path) -> None:
    known, before = making.make(Folder(tmp_path), ARTEFACT, maker)

    assert before.provenance is None
    assert before.reason == "it is not there"
    assert not before.is_up_to_date
    assert goal.read_bytes() == b"made"
    assert known.path == ARTEFACT.path
    assert known.size_bytes == 4
    assert known.sha256 == hashlib.sha256(b"made").hexdigest()
    assert (known.stage, known.code_version) == ("tables", "1.1")
    assert known.inputs == ARTEFACT.inputs
    assert known.facts == {"records": 4}


def test_provenance_is_a_json_file_that_says_what_went_in(tmp_path: Path, maker: Maker) -> None:
    making.make(Folder(tmp_path), ARTEFACT, maker)

    found = json.loads((tmp_path / "lineage/tables/digits/train.parquet.json").read_text("utf-8"))

    assert found["inputs"][0] == {
        "path": "archives/digits/images.gz",
        "sha256": sha256(b"images"),
        "size_bytes": 6,
        "md5": "1" * 32,
    }
    assert found["parameters"]["classes"] == ["zero", "one"]
    assert found["sha256"] == hashlib.sha256(b"made").hexdigest()
    assert provenance.latest(Folder(tmp_path), "tables/digits/test.parquet") is None


def test_the_second_time_nothing_is_done(tmp_path: Path, maker: Maker, goal: Path) -> None:
    first, _ = making.make(Folder(tmp_path), ARTEFACT, maker)
    paths = [goal, tmp_path / layout.lineage(ARTEFACT.path)]
    untouched = [(path.stat().st_ino, path.stat().st_mtime_ns) for path in paths]

    second, before = making.make(Folder(tmp_path), ARTEFACT, maker)

    assert before.is_up_to_date
    assert before.reason is None
    assert maker.times == 1
    assert second == provenance.latest(Folder(tmp_path), ARTEFACT.path)
    assert (second.sha256, second.facts) == (first.sha256, first.facts)
    assert [(path.stat().st_ino, path.stat().st_mtime_ns) for path in paths] == untouched


def test_an_untouched_file_is_not_hashed_again(
    tmp_path: Path, maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    making.make(Folder(tmp_path), ARTEFACT, maker)

    def refuse(*_: object) -> None:
        pytest.fail("a file is read")

    monkeypatch.setattr(hashing, "look_through", refuse)
    assert state.decide(Folder(tmp_path), ARTEFACT).is_up_to_date, "as this process knows"
    hashing.forget()
    assert state.decide(Folder(tmp_path), ARTEFACT).is_up_to_date, "as another process knows"


def _keep_the_stat(path: Path, change: Callable[[], object]) -> None:
    stat = path.stat()
    change()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def _stats(folder: Path) -> list[tuple[Path, int]]:
    found = sorted(path for path in folder.rglob("*") if ".seen" not in path.parts)
    return [(path, path.stat().st_mtime_ns) for path in found if path != folder]


def test_deciding_writes_nothing_but_what_was_seen(
    tmp_path: Path, maker: Maker, goal: Path
) -> None:
    making.make(Folder(tmp_path), ARTEFACT, maker)
    os.utime(goal, ns=(1, 1))
    before = _stats(tmp_path)

    state.decide(Folder(tmp_path), ARTEFACT)
    state.decide(Folder(tmp_path), replace(ARTEFACT, code_version="2"))

    assert _stats(tmp_path) == before


def test_a_touched_file_with_the_same_bytes_is_kept(
    tmp_path: Path, maker: Maker, goal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    making.make(Folder(tmp_path), ARTEFACT, maker)
    os.utime(goal, ns=(1_000_000_000, 1_000_000_000))
    inode = goal.stat().st_ino

    known, before = making.make(Folder(tmp_path), ARTEFACT, maker)

    assert before.is_up_to_date
    assert maker.times == 1
    assert (goal.stat().st_ino, goal.stat().st_mtime_ns) == (inode, 1_000_000_000)
    assert known == provenance.latest(Folder(tmp_path), ARTEFACT.path)
    # and what was seen is kept, so that the bytes are not read a third time
    hashing.forget()
    monkeypatch.setattr(hashing, "look_through", lambda *_: pytest.fail("a file is read"))
    assert state.decide(Folder(tmp_path), ARTEFACT).is_up_to_date


def _delete(goal: Path) -> None:
    goal.unlink()


def _other_bytes(goal: Path) -> None:
    goal.write_bytes(b"MADE")
    os.utime(goal, ns=(1, 1))  # whatever the clock's resolution: it was touched


def _other_size(goal: Path) -> None:
    _keep_the_stat(goal, lambda: goal.write_bytes(b"made and more"))


def _cut(goal: Path) -> None:
    _keep_the_stat(goal, lambda: goal.write_bytes(b""))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_delete, "it is not there"),
        (_other_bytes, "its bytes changed since it was made: SHA-256 "),
        (_other_size, "its bytes changed since it was made: SHA-256 "),
        (_cut, "its bytes changed since it was made: SHA-256 "),
    ],
)
def test_a_damaged_artefact_is_made_again(
    tmp_path: Path, maker: Maker, goal: Path, damage: Callable[[Path], None], reason: str
) -> None:
    first, _ = making.make(Folder(tmp_path), ARTEFACT, maker)
    damage(goal)

    second, before = making.make(Folder(tmp_path), ARTEFACT, maker)

    assert str(before.reason).startswith(reason)
    assert before.provenance is not None
    assert maker.times == 2
    assert goal.read_bytes() == b"made"
    assert second.sha256 == first.sha256
    assert state.decide(Folder(tmp_path), ARTEFACT).is_up_to_date


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"code_version": "1.2"}, ["code version 1.1", "1.2"]),
        ({"parameters": {**ARTEFACT.parameters, "records": 3}}, ["options changed: records"]),
        ({"parameters": {**ARTEFACT.parameters, "header": True}}, ["options changed: header"]),
        ({"parameters": {"classes": ("zero", "one")}}, ["options changed: records, source"]),
        (
            {"parameters": {**ARTEFACT.parameters, "source": {"title": "Digits, again"}}},
            ["options changed: source"],
        ),
        (
            {"inputs": (replace(IMAGES, sha256=sha256(b"others")), LABELS)},
            ["input changed: archives/digits/images.gz"],
        ),
        (
            {"inputs": (*ARTEFACT.inputs, Input("archives/digits/more.gz", sha256(b"more")))},
            ["more.gz"],
        ),
        ({"inputs": (LABELS,)}, ["input changed: archives/digits/images.gz"]),
    ],
)
def test_whatever_decides_the_bytes_decides_that_they_are_made_again(
    tmp_path: Path, maker: Maker, change: dict[str, Any], words: list[str]
) -> None:
    making.make(Folder(tmp_path), ARTEFACT, maker)
    changed = replace(ARTEFACT, **change)
    there = {sha256(data): data for data in (*ARCHIVES.values(), b"others", b"more")}
    put(tmp_path, {one.path: there[str(one.sha256)] for one in changed.inputs})

    known, before = making.make(Folder(tmp_path), changed, maker)

    assert maker.times == 2
    assert before.reason is not None
    for word in words:
        assert word in before.reason
    assert known.code_version == changed.code_version
    assert state.decide(Folder(tmp_path), changed).is_up_to_date
    assert not state.decide(Folder(tmp_path), ARTEFACT).is_up_to_date


def test_the_order_of_parameters_and_inputs_does_not_matter(tmp_path: Path, maker: Maker) -> None:
    making.make(Folder(tmp_path), ARTEFACT, maker)
    turned = replace(
        ARTEFACT,
        parameters=dict(reversed(ARTEFACT.parameters.items())),
        inputs=(LABELS, IMAGES),
    )

    assert state.decide(Folder(tmp_path), turned).is_up_to_date


def _rewritten(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    def rewrite(text: bytes) -> bytes:
        said = json.loads(text)
        change(said)
        return json.dumps(said).encode()

    return rewrite


@pytest.mark.parametrize(
    "corrupt",
    [
        pytest.param(lambda _text: b"", id="empty"),
        pytest.param(lambda text: text[: len(text) // 2], id="half of it"),
        pytest.param(lambda _text: b"\xff\xfe\x00", id="not text"),
        pytest.param(lambda _text: b"null", id="null"),
        pytest.param(lambda _text: b"[" * 100_000, id="nested too deeply"),
        pytest.param(lambda _text: b"[1, 2]", id="a list"),
        pytest.param(lambda _text: b"{}", id="nothing in it"),
        pytest.param(_rewritten(lambda said: said.pop("sha256")), id="a key is missing"),
        pytest.param(_rewritten(lambda said: said.update(extra=1)), id="a key too many"),
        pytest.param(_rewritten(lambda said: said.update(sha256="0" * 64)), id="other hash"),
        pytest.param(_rewritten(lambda said: said.update(parameters=None)), id="no parameters"),
        pytest.param(_rewritten(lambda said: said.update(inputs=["a"])), id="inputs a list"),
        pytest.param(_rewritten(lambda said: said.update(sha256=5)), id="hash a number"),
    ],
)
def test_an_artefact_with_corrupt_provenance_is_made_again(
    tmp_path: Path, maker: Maker, goal: Path, corrupt: Callable[[bytes], bytes]
) -> None:
    making.make(Folder(tmp_path), ARTEFACT, maker)
    place = tmp_path / layout.lineage(ARTEFACT.path)
    place.write_bytes(corrupt(place.read_bytes()))
    os.utime(goal, ns=(1, 1))

    _, before = making.make(Folder(tmp_path), ARTEFACT, maker)

    assert before.reason is not None
    assert maker.times == 2
    assert state.decide(Folder(tmp_path), ARTEFACT).is_up_to_date


def test_an_artefact_without_provenance_is_made_again(
    tmp_path: Path, maker: Maker, goal: Path
) -> None:
    goal.parent.mkdir(parents=True)
    goal.write_bytes(b"from somewhere")

    _, before = making.make(Folder(tmp_path), ARTEFACT, maker)

    assert before.reason == "it has no provenance"
    assert goal.read_bytes() == b"made"


def test_a_folder_in_the_place_of_an_artefact_is_named(
    tmp_path: Path, maker: Maker, goal: Path
) -> None:
    making.make(Folder(tmp_path), ARTEFACT, maker)
    goal.unlink()
    goal.mkdir()

    with pytest.raises(StorageError, match=r"train\.parquet can't be written.*folder"):
        making.make(Folder(tmp_path), ARTEFACT, maker)


def test_a_failure_leaves_the_old_artefact_and_its_provenance_and_is_tried_again(
    tmp_path: Path, maker: Maker, goal: Path
) -> None:
    making.make(Folder(tmp_path), ARTEFACT, maker)
    known = provenance.latest(Folder(tmp_path), ARTEFACT.path)
    changed = replace(ARTEFACT, code_version="2")

    def fail(goal: Path) -> dict[str, Any]:
        with writing.atomic(goal) as partial:
            partial.write_bytes(b"half")
            raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        making.make(Folder(tmp_path), changed, fail)

    assert goal.read_bytes() == b"made"
    assert provenance.latest(Folder(tmp_path), ARTEFACT.path) == known
    assert not state.decide(Folder(tmp_path), changed).is_up_to_date
    _, before = making.make(Folder(tmp_path), changed, maker)
    assert not before.is_up_to_date
    assert maker.times == 2


def test_the_inputs_of_an_artefact_are_the_digests_of_what_it_is_made_from(
    tmp_path: Path, maker: Maker
) -> None:
    other = replace(ARTEFACT, path="tables/digits/test.parquet")
    making.make(Folder(tmp_path), ARTEFACT, maker)
    making.make(Folder(tmp_path), other, Maker(b"other"))

    assert state.inputs(Folder(tmp_path), [ARTEFACT, other]) == (
        Input(ARTEFACT.path, hashlib.sha256(b"made").hexdigest(), 4),
        Input(other.path, hashlib.sha256(b"other").hexdigest(), 5),
    )


@pytest.mark.parametrize(
    ("artefact", "reason"),
    [
        (replace(ARTEFACT, path="tables/digits/test.parquet"), "it is not there"),
        (replace(ARTEFACT, code_version="2"), "code version 1.1 made it"),
        (replace(ARTEFACT, inputs=(LABELS,)), "its input changed"),
    ],
)
def test_an_artefact_is_not_made_from_what_is_out_of_date_itself(
    tmp_path: Path, maker: Maker, artefact: Artefact, reason: str
) -> None:
    making.make(Folder(tmp_path), ARTEFACT, maker)

    with pytest.raises(StaleInput) as caught:
        state.inputs(Folder(tmp_path), [artefact])

    assert f"{artefact.path} must be made first: {reason}" in str(caught.value)
    assert "tables" in str(caught.value)


def test_a_data_folder_may_be_moved(tmp_path: Path, maker: Maker) -> None:
    making.make(Folder(put(tmp_path / "here", ARCHIVES)), ARTEFACT, maker)
    (tmp_path / "here").rename(tmp_path / "there")

    _, before = making.make(Folder(tmp_path / "there"), ARTEFACT, maker)

    assert before.is_up_to_date
    assert maker.times == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(max_size=5), inner)
    ),
    max_leaves=5,
)


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=3))
@settings(deadline=None, max_examples=40)
def test_any_parameters_are_known_again(
    tmp_path_factory: pytest.TempPathFactory, parameters: dict[str, Any]
) -> None:
    data, maker = put(tmp_path_factory.mktemp("data"), ARCHIVES), Maker()
    artefact = replace(ARTEFACT, parameters=parameters)

    making.make(Folder(data), artefact, maker)
    making.make(Folder(data), artefact, maker)

    assert maker.times == 1


def test_two_makers_with_other_options_never_vouch_for_each_others_bytes(tmp_path: Path) -> None:
    """Whoever comes second waits, and then makes its own."""
    begun, go_on = threading.Event(), threading.Event()

    def write(text: str, *, wait: bool) -> Callable[[Path], dict[str, int]]:
        def build(goal: Path) -> dict[str, int]:
            with writing.atomic(goal) as partial:
                partial.write_text(text)
                begun.set()
                assert not wait or go_on.wait(within(10))
            return {"records": 1}

        return build

    first = replace(ARTEFACT, parameters={"header": False})
    second = replace(ARTEFACT, parameters={"header": True})
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(making.make, Folder(tmp_path), first, write("plain", wait=True))
        assert begun.wait(within(10))
        quick = pool.submit(making.make, Folder(tmp_path), second, write("header", wait=False))
        go_on.set()
        both = [slow.result(within(10))[0], quick.result(within(10))[0]]
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in ("plain", "header")]
    assert [known.sha256 for known in both] == digests
    assert state.decide(Folder(tmp_path), second).is_up_to_date
    assert not state.decide(Folder(tmp_path), first).is_up_to_date


def test_what_killed_writers_left_is_swept_when_the_artefact_is_made(
    tmp_path: Path, maker: Maker, goal: Path
) -> None:
    goal.parent.mkdir(parents=True)
    staged = layout.staged(goal)
    left = staged.with_name(f".{staged.name}.0123abcd.partial")
    left.write_bytes(b"half")
    other = goal.with_name(".other.0123abcd.partial")
    other.write_bytes(b"somebody else's")
    making.make(Folder(tmp_path), ARTEFACT, maker)
    assert not left.exists()
    assert other.exists()


# --- provenance and its artefact, together --------------------------------------------------------


class Killed(BaseException):
    """Stands for the end of a process."""


@pytest.mark.parametrize("moment", range(4))
def test_wherever_a_process_dies_the_artefact_that_is_there_has_its_provenance(
    tmp_path: Path, goal: Path, moment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at each of the moves that make an artefact and its provenance final."""
    making.make(Folder(tmp_path), ARTEFACT, Maker(b"old"))
    changed = replace(ARTEFACT, code_version="2")
    moves, real = [0], Path.replace

    def replace_or_die(self: Path, target: Path) -> Path:
        if not self.name.endswith(".partial") or target == goal:
            if moves[0] == moment:
                raise Killed
            moves[0] += 1
        return real(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", replace_or_die)
        with contextlib.suppress(Killed):
            making.make(Folder(tmp_path), changed, Maker(b"new"))
    known = provenance.latest(Folder(tmp_path), ARTEFACT.path)
    assert known is not None
    assert known.sha256 == hashlib.sha256(goal.read_bytes()).hexdigest()
    assert known.code_version == {b"old": "1.1", b"new": "2"}[goal.read_bytes()]
    assert (goal.read_bytes() == b"new") == (moment > 0)
    maker = Maker(b"new")
    making.make(Folder(tmp_path), changed, maker)
    assert maker.times == (moment == 0)
    assert state.decide(Folder(tmp_path), changed).is_up_to_date
    assert not (tmp_path / layout.pending_lineage(ARTEFACT.path)).exists()


def test_a_disk_that_is_full_when_provenance_is_written_is_not_filled_further(
    tmp_path: Path, goal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    making.make(Folder(tmp_path), ARTEFACT, Maker(b"old"))
    before, real = builders.files_under(tmp_path), Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        if "lineage" in self.parts:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, data)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(StorageError, match="Free some space"):
            making.make(Folder(tmp_path), replace(ARTEFACT, code_version="2"), Maker(b"new"))

    assert builders.files_under(tmp_path) == before
    assert goal.read_bytes() == b"old"
    assert state.decide(Folder(tmp_path), ARTEFACT).is_up_to_date


def test_the_provenance_of_earlier_materializations_is_kept(tmp_path: Path) -> None:
    for version in ("1", "2", "3"):
        making.make(
            Folder(tmp_path), replace(ARTEFACT, code_version=version), Maker(version.encode())
        )

    latest = json.loads((tmp_path / layout.lineage(ARTEFACT.path)).read_text("utf-8"))
    past = sorted((tmp_path / "lineage/history" / ARTEFACT.path).iterdir())
    assert latest["code_version"] == "3"
    assert [json.loads(path.read_text("utf-8"))["code_version"] for path in past] == ["1", "2"]


def test_any_changed_byte_of_provenance_is_noticed(tmp_path: Path, maker: Maker) -> None:
    making.make(Folder(tmp_path), ARTEFACT, maker)
    path = tmp_path / layout.lineage(ARTEFACT.path)
    text = path.read_bytes()
    for at in range(len(text)):
        path.write_bytes(text[:at] + bytes([text[at] ^ 1]) + text[at + 1 :])
        changed = provenance.latest(Folder(tmp_path), ARTEFACT.path)
        assert changed is None or text[at : at + 1].isspace(), text[at - 20 : at + 20]


def test_the_provenance_of_another_artefact_is_none(tmp_path: Path, maker: Maker) -> None:
    making.make(Folder(tmp_path), ARTEFACT, maker)
    other = "tables/digits/test.parquet"
    shutil.copy(tmp_path / ARTEFACT.path, tmp_path / other)
    shutil.copy(tmp_path / layout.lineage(ARTEFACT.path), tmp_path / layout.lineage(other))

    assert provenance.latest(Folder(tmp_path), other) is None


def test_a_folder_in_the_place_of_provenance_is_named(tmp_path: Path, maker: Maker) -> None:
    (tmp_path / layout.lineage(ARTEFACT.path)).mkdir(parents=True)
    with pytest.raises(StorageError, match=r"train\.parquet\.json can't be written.*folder"):
        making.make(Folder(tmp_path), ARTEFACT, maker)


def test_an_artefact_that_is_kept_as_it_is_keeps_what_is_known_of_it(
    tmp_path: Path, goal: Path
) -> None:
    def bring(staged: Path) -> dict[str, str]:
        staged.write_bytes(b"archive")
        return {"origin": "https://example.org/file.gz", "retrieved": "2026-01-01T00:00:00Z"}

    archive = replace(ARTEFACT, inputs=(), parameters={"md5": "1" * 32})
    first, _ = making.make(Folder(tmp_path), archive, bring)
    second, before = making.make(
        Folder(tmp_path), replace(archive, code_version="2"), lambda _: {"origin": "already there"}
    )

    assert before.reason is not None
    assert goal.read_bytes() == b"archive"
    assert second.facts == first.facts
    assert second.inputs == (
        Input("https://example.org/file.gz", hashlib.sha256(b"archive").hexdigest(), 7, "1" * 32),
    )


def test_an_artefact_whose_sidecar_was_changed_is_made_again(tmp_path: Path, maker: Maker) -> None:
    artefact = replace(ARTEFACT, sidecar="tables/digits/train.parquet.lineage.json")
    known, _ = making.make(Folder(tmp_path), artefact, maker)
    beside = tmp_path / "tables/digits/train.parquet.lineage.json"
    text = beside.read_text()
    assert json.loads(text)["sha256"] == known.sha256

    beside.write_text(text.replace("Digits", "Digitz"))
    _, before = making.make(Folder(tmp_path), artefact, maker)

    assert "does not say what went in" in str(before.reason)
    assert beside.read_text() == text
