"""The benchmarks run: what they measure is called as it is called now."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import memory, speed


def test_every_section_is_described() -> None:
    text = (Path(speed.__file__).parent / "README.md").read_text(encoding="utf-8")

    assert [name for name in speed.SECTIONS if f"| `{name}` |" not in text] == []


@pytest.mark.slow
def test_the_memory_of_every_stage_is_measured(tmp_path: Path) -> None:
    peaks = memory.peaks(tmp_path, 500)

    assert {*peaks} == {*memory.STAGES}
    assert all(peak.whole > 0 for peak in peaks.values())
