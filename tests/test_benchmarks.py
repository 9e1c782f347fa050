"""The benchmarks run: what they measure is called as it is called now."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import memory, peers, speed


def test_every_section_is_described() -> None:
    text = (Path(speed.__file__).parent / "README.md").read_text(encoding="utf-8")

    assert [name for name in speed.SECTIONS if f"| `{name}` |" not in text] == []


@pytest.mark.slow
def test_the_memory_of_every_stage_is_measured(tmp_path: Path) -> None:
    peaks = memory.peaks(tmp_path, 500)

    assert {*peaks} == {*memory.STAGES}
    assert all(peak.whole > 0 for peak in peaks.values())


@pytest.mark.slow
def test_the_library_and_a_peer_are_measured_from_local_bytes(mirror: Path, tmp_path: Path) -> None:
    """The others are not installed here: numpy stands for them."""
    chosen = tuple(peer for peer in peers.PEERS if peer.name.startswith(("imagesets", "numpy")))
    (files := tmp_path / "files").mkdir()
    with peers.served(files) as server:
        bench = peers.Bench(mirror, tmp_path, server)
        right = peers.prepare(bench, for_the_hub=False)
        found = peers.loads(bench, chosen, rounds=1)
        noticed = peers.trust(bench, chosen[0], right)

    assert noticed == ("refused", "mended")
    for peer in chosen:
        one = found[peer.name, "fashion_mnist"]
        assert [len(one.first), len(one.cold), len(one.inside)] == [bool(peer.kept), 1, 1]
    table = list(peers.loading_table(chosen, found, 0))
    assert [row.count("|") for row in table] == [7] * (2 + len(chosen))
