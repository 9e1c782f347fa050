"""Progress: whoever shows none is asked for nothing."""

from __future__ import annotations

import pytest

from pipelines import progress


def test_a_silent_watch_takes_whatever_is_reported_and_shows_nothing(
    capfd: pytest.CaptureFixture[str],
) -> None:
    progress.silent(5)
    progress.silent(-5)
    progress.silent.note("a place")

    assert capfd.readouterr() == ("", "")
