"""No artefact claims to come from bytes it was not made from; what came of others is doubted."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import MadeByNewer, StaleInput
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
from tests.waiting import within

TABLE, CSV, COPY = "tables/digits/train.parquet", "exports/digits/train.csv", "exports/digits/copy"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def artefact(path: str, *made_from: tuple[str, bytes], **parameters: Any) -> Artefact:
    inputs = tuple(Input(name, sha256(data)) for name, data in made_from)
    return Artefact(path, path.partition("/")[0], "1", parameters, inputs)


THE_TABLE = artefact(TABLE, ("archives/digits/a.gz", b"archive"))
THE_CSV = artefact(CSV, (TABLE, b"table"))
THE_COPY = artefact(COPY, (CSV, b"csv"))
OTHER = artefact("exports/digits/other", ("archives/digits/a.gz", b"archive"))


def write(data: bytes) -> Callable[[Path], dict[str, Any]]:
    def build(goal: Path) -> dict[str, Any]:
        with writing.atomic(goal) as partial:
            partial.write_bytes(data)
        return {}

    return build


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with an archive, a table made from it, a CSV of that, and a copy of the CSV."""
    monkeypatch.setattr(seen, "COARSEST_TICK_S", -60.0)
    (tmp_path / "archives/digits").mkdir(parents=True)
    (tmp_path / "archives/digits/a.gz").write_bytes(b"archive")
    for wanted, content in (
        (THE_TABLE, b"table"),
        (THE_CSV, b"csv"),
        (THE_COPY, b"copy"),
        (OTHER, b"other"),
    ):
        making.make(Folder(tmp_path), wanted, write(content))
    hashing.forget()
    return tmp_path


def rot(data: Path, path: str, content: bytes) -> None:
    """Change bytes so that nothing which is looked at tells it."""
    known = seen.look(Folder(data), path)
    stat = (data / path).stat()
    (data / path).write_bytes(content)
    os.utime(data / path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    seen.note(
        Folder(data), path, replace(known, identity=hashing.Identity.of((data / path).stat()))
    )
    hashing.forget()
    assert seen.look(Folder(data), path) == replace(
        known, identity=hashing.Identity.of((data / path).stat())
    )


def test_nothing_is_made_from_bytes_that_rotted_and_what_rotted_is_known_then(data: Path) -> None:
    rot(data, TABLE, b"TABLE")
    (data / CSV).unlink()
    assert state.inputs(Folder(data), [THE_TABLE]) == (Input(TABLE, sha256(b"table"), 5),)

    with pytest.raises(StaleInput, match=r"train\.parquet changed since it was made: expected"):
        making.make(Folder(data), THE_CSV, write(b"made from TABLE"))

    assert not (data / CSV).exists()
    assert state.decide(Folder(data), THE_TABLE).condition == "changed"
    making.make(Folder(data), THE_TABLE, write(b"table"))
    known, _ = making.make(Folder(data), THE_CSV, write(b"csv"))
    assert known.inputs == THE_CSV.inputs
    assert (data / CSV).read_bytes() == b"csv"


def _and_back(path: Path) -> None:
    """Another process makes it with other options, and again as it was."""
    for content in (b"other options", b"table"):
        making.make(
            Folder(path.parents[2]),
            replace(THE_TABLE, parameters={"n": content.hex()}),
            write(content),
        )


def _in_place_and_back(path: Path) -> None:
    stat = path.stat()
    path.write_bytes(b"TABLE")
    path.write_bytes(b"table")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def _aside_and_back(path: Path) -> None:
    path.rename(path.with_name("aside"))
    path.write_bytes(b"TABLE")
    path.with_name("aside").rename(path)


def _linked_over(path: Path) -> None:
    path.with_name("other").write_bytes(b"table")
    path.with_name("other").replace(path)


@pytest.mark.parametrize("change", [_and_back, _in_place_and_back, _aside_and_back, _linked_over])
def test_an_input_that_changes_while_it_is_used_is_noticed_even_if_it_changes_back(
    data: Path, change: Callable[[Path], None]
) -> None:
    def build(goal: Path) -> dict[str, Any]:
        time.sleep(0.02)  # a tick of the file system's clock
        change(data / TABLE)
        return write(b"of whatever was there")(goal)

    wanted = replace(THE_CSV, parameters={"header": True})
    with pytest.raises(StaleInput, match="was changed or replaced while it was used"):
        making.make(Folder(data), wanted, build)
    assert (data / CSV).read_bytes() == b"csv"
    assert provenance.latest(Folder(data), CSV) is not None
    assert not state.decide(Folder(data), wanted).is_up_to_date


def test_an_input_is_read_once_in_a_run_and_not_at_all_where_this_process_wrote_it(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    real = hashing.look_through

    def count(file: Any, *more: Any) -> hashing.Sight:
        read.append(os.fstat(file.fileno()).st_ino)
        return real(file, *more)

    monkeypatch.setattr(hashing, "look_through", count)
    inode = (data / TABLE).stat().st_ino
    for header in (True, False):
        making.make(Folder(data), replace(THE_CSV, parameters={"header": header}), write(b"csv"))
    assert read.count(inode) == 1

    def append(goal: Path) -> dict[str, Any]:
        with writing.atomic(goal) as partial, writing.hashed(partial) as write:
            write(b"table")
        return {}

    read.clear()
    making.make(Folder(data), replace(THE_TABLE, code_version="2"), append)
    making.make(Folder(data), replace(THE_CSV, parameters={"header": 3}), write(b"csv"))
    assert (data / TABLE).stat().st_ino not in read


def test_where_a_build_fails_for_bytes_that_rotted_these_are_told_and_known(data: Path) -> None:
    rot(data, TABLE, b"TABLE")

    def fail(_: Path) -> dict[str, Any]:
        raise ValueError("this is no table")

    with pytest.raises(StaleInput, match="changed since it was made"):
        making.make(Folder(data), replace(THE_CSV, code_version="2"), fail)
    hashing.forget()
    assert state.decide(Folder(data), THE_TABLE).condition == "changed"


def test_whoever_interrupts_a_build_does_not_wait_for_hashes(data: Path) -> None:
    def interrupt(_: Path) -> dict[str, Any]:
        raise KeyboardInterrupt

    os.truncate(data / "archives/digits/a.gz", 1 << 39)  # a hole of 512 GiB: minutes to hash
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        making.make(Folder(data), replace(THE_TABLE, code_version="2"), interrupt)
    assert time.monotonic() - begun < within(20)


# --- doubt ----------------------------------------------------------------------------------------


def test_when_an_artefact_changed_all_that_was_made_from_it_since_is_made_again(data: Path) -> None:
    rot(data, TABLE, b"TABLE")
    making.distrust(Folder(data), TABLE, seen.look_anew(Folder(data), TABLE).sha256)
    assert state.decide(Folder(data), THE_CSV).is_up_to_date, (
        "nothing is lost before the table is back"
    )

    making.make(Folder(data), THE_TABLE, write(b"table"))

    assert state.decide(Folder(data), THE_TABLE).is_up_to_date
    assert not state.decide(Folder(data), THE_CSV).is_up_to_date
    assert not state.decide(Folder(data), THE_COPY).is_up_to_date
    assert state.decide(Folder(data), OTHER).is_up_to_date, "not made from it"


def test_what_was_made_from_it_before_it_was_made_itself_is_not_doubted(data: Path) -> None:
    making.make(Folder(data), replace(THE_TABLE, code_version="2"), write(b"table"))
    known = provenance.latest(Folder(data), TABLE)
    assert known is not None
    assert making.made_since(Folder(data), known) == []


def test_an_artefact_that_can_not_be_made_again_casts_no_doubt(data: Path) -> None:
    rot(data, TABLE, b"TABLE")
    seen.look_anew(Folder(data), TABLE)

    def fail(_: Path) -> dict[str, Any]:
        raise ValueError("no archive")

    with pytest.raises(ValueError, match="no archive"):
        making.make(Folder(data), THE_TABLE, fail)
    (data / TABLE).write_bytes(b"table")
    assert state.decide(Folder(data), THE_TABLE).is_up_to_date
    assert state.decide(Folder(data), THE_CSV).is_up_to_date


def test_provenance_that_vouches_for_wrong_bytes_becomes_that_of_the_past(data: Path) -> None:
    making.distrust(Folder(data), TABLE, sha256(b"table"))
    for path in (TABLE, CSV, COPY):
        assert provenance.latest(Folder(data), path) is None
        assert len(list((data / "lineage/history" / path).iterdir())) == 1
    assert provenance.latest(Folder(data), OTHER.path) is not None


def test_provenance_that_still_waits_for_its_place_is_retired_too(data: Path) -> None:
    place = data / layout.lineage(TABLE)
    place.rename(data / layout.pending_lineage(TABLE))  # a process died just before
    assert state.decide(Folder(data), THE_TABLE).is_up_to_date
    making.distrust(Folder(data), TABLE, sha256(b"table"))
    assert provenance.latest(Folder(data), TABLE) is None


def test_what_somebody_made_again_meanwhile_is_not_distrusted(data: Path) -> None:
    making.distrust(Folder(data), TABLE, sha256(b"what was there before"))
    making.distrust(Folder(data), TABLE, None)
    assert state.decide(Folder(data), THE_TABLE).is_up_to_date
    assert state.decide(Folder(data), THE_CSV).is_up_to_date


@dataclass
class Judged:
    path: str
    condition: str
    sha256: str | None


def test_only_what_was_found_changed_is_distrusted(data: Path) -> None:
    found = [
        Judged(CSV, "changed", sha256(b"csv")),
        Judged(OTHER.path, "stale", sha256(b"other")),
        Judged(TABLE, "whole", sha256(b"table")),
    ]
    making.distrust_changed(Folder(data), found)
    known = {path: provenance.latest(Folder(data), path) for path in (TABLE, OTHER.path, CSV, COPY)}
    assert [path for path, one in known.items() if one is None] == [CSV, COPY]


def waiting(work: Future[Any]) -> bool:
    """Whether somebody is still waiting a good while after it could have been done."""
    try:
        work.result(0.5)
    except TimeoutError:
        return True
    return False


def test_distrust_waits_for_a_build_under_way_and_spares_what_that_made(data: Path) -> None:
    with ThreadPoolExecutor(1) as pool:

        def build(goal: Path) -> dict[str, Any]:
            doubting.append(pool.submit(making.distrust, Folder(data), CSV, sha256(b"csv")))
            assert waiting(doubting[0])
            return write(b"newer csv")(goal)

        doubting: list[Future[None]] = []
        wanted = replace(THE_CSV, code_version="2")
        making.make(Folder(data), wanted, build)
        doubting[0].result(10)
    assert state.decide(Folder(data), wanted).is_up_to_date


def test_doubt_waits_for_a_build_under_way_and_spares_what_that_made(data: Path) -> None:
    os.utime(data / TABLE, ns=(1, 1))
    rot(data, TABLE, b"TABLE")
    seen.look_anew(Folder(data), TABLE)
    with ThreadPoolExecutor(1) as pool:

        def build(goal: Path) -> dict[str, Any]:
            makers.append(pool.submit(making.make, Folder(data), THE_TABLE, write(b"table")))
            assert waiting(makers[0])
            return write(b"newer csv")(goal)

        makers: list[Future[Any]] = []
        wanted = replace(THE_CSV, code_version="2", inputs=OTHER.inputs)
        making.make(Folder(data), wanted, build)
        makers[0].result(within(10))
    assert state.decide(Folder(data), wanted).is_up_to_date


def test_distrust_beside_builds_makes_none_of_them_fail(data: Path) -> None:
    over = threading.Event()

    def doubt() -> None:
        while not over.is_set():
            for path, content in ((TABLE, b"table"), (CSV, b"csv")):
                making.distrust(Folder(data), path, sha256(content))

    with ThreadPoolExecutor(1) as pool:
        doubting = pool.submit(doubt)
        try:
            for number in range(150):
                wanted = replace(THE_TABLE, parameters={"number": number})
                known, _ = making.make(Folder(data), wanted, write(b"table"))
                assert known.parameters == {"number": number}
        finally:
            over.set()
        doubting.result(within(60))
    making.make(Folder(data), THE_TABLE, write(b"table"))
    assert state.decide(Folder(data), THE_TABLE).is_up_to_date


# --- provenance that can't be believed ------------------------------------------------------------


def redigest(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change provenance as a forger does who has read the schema."""
    said = json.loads(path.read_text("utf-8"))
    del said["digest"]
    change(said)
    text = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    path.write_text(json.dumps(said | {"digest": sha256(text.encode())}), "utf-8")


@pytest.mark.parametrize(
    "change",
    [
        {"size_bytes": -1},
        {"size_bytes": 4},
        {"size_bytes": 5.0},
        {"size_bytes": "5"},
        {"size_bytes": True},
        {"mtime_ns": 10**30},
        {"sha256": sha256(b"table").upper()},
        {"unknown": 1},
        {"facts": {"records": "many"}},
        {"facts": {"records": -1}},
        {"facts": {"records": True}},
        {"facts": {"retrieved": 5}},
        {"facts": {"retrieved": "yesterday"}},
        {"facts": {"retrieved": "2026-01-01T00:00:00+00:00"}},
        {"facts": {"origin": ["a", "list"]}},
        {"inputs": [{"path": "a", "sha256": "b", "size_bytes": None, "md5": None}]},
        {"inputs": [{"path": "a", "sha256": "0" * 64, "more": 1}]},
        {"run": {"id": None, "started": "now", "ended": "now", "host": "", "versions": {}}},
        {"format": "another/1"},
        {"format": 1},
    ],
    ids=str,
)
def test_sound_provenance_that_says_what_can_not_be_is_not_believed(
    data: Path, change: dict[str, Any]
) -> None:
    redigest(data / layout.lineage(TABLE), lambda said: said.update(change))
    assert state.decide(Folder(data), THE_TABLE).condition in ("unknown", "changed")
    making.make(Folder(data), THE_TABLE, write(b"table"))
    assert state.decide(Folder(data), THE_TABLE).is_up_to_date


def _with_a_byte_order_mark(text: bytes) -> bytes:
    return b"\xef\xbb\xbf" + text


def _with_a_key_twice(text: bytes) -> bytes:
    return text.replace(b'"path": ', b'"path": "somewhere/else", "path": ', 1)


@pytest.mark.parametrize("change", [_with_a_byte_order_mark, _with_a_key_twice])
def test_provenance_that_readers_may_understand_differently_is_not_believed(
    data: Path, change: Callable[[bytes], bytes]
) -> None:
    place = data / layout.lineage(TABLE)
    place.write_bytes(change(place.read_bytes()))
    assert state.decide(Folder(data), THE_TABLE).condition == "unknown"


def test_a_pipe_in_the_place_of_provenance_is_not_waited_for(data: Path) -> None:
    place = data / layout.lineage(TABLE)
    place.unlink()
    os.mkfifo(place)
    assert state.decide(Folder(data), THE_TABLE).condition == "unknown"
    making.make(Folder(data), THE_TABLE, write(b"table"))
    assert state.decide(Folder(data), THE_TABLE).is_up_to_date


def test_provenance_of_a_newer_format_is_refused_and_never_taken_for_missing(data: Path) -> None:
    place = data / layout.lineage(TABLE)
    redigest(place, lambda said: said.update(format="imagesets-lineage/3", new="key"))
    before = place.read_bytes()
    for refused in (
        lambda: state.decide(Folder(data), THE_TABLE),
        lambda: making.make(Folder(data), THE_TABLE, write(b"table")),
        lambda: state.inputs(Folder(data), [THE_TABLE]),
        lambda: making.distrust(Folder(data), TABLE, sha256(b"table")),
    ):
        with pytest.raises(MadeByNewer, match="made by a newer Imagesets"):
            refused()
    assert place.read_bytes() == before

    place.write_bytes(before.replace(b'"new": "key"', b'"new": "kex"'))
    assert state.decide(Folder(data), THE_TABLE).condition == "unknown", "damaged, whatever it says"


def test_what_is_declared_decides_whatever_provenance_says(data: Path) -> None:
    declared = replace(OTHER, inputs=(), sha256=sha256(b"declared"))
    making.make(Folder(data), replace(declared, sha256=None), write(b"other"))
    found = state.decide(Folder(data), declared)
    assert found.condition == "changed"
    assert f"SHA-256 {sha256(b'declared')} is declared, {sha256(b'other')}" in str(found.reason)
