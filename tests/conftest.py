"""Fixtures that every test may ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests import builders


@pytest.fixture
def publisher(tmp_path: Path) -> builders.Publisher:
    """Three tiny sources, published in a folder of the test's own."""
    return builders.publish(tmp_path / "published")


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The folder with official archives that IMAGESETS_MIRROR names; skips where there is none."""
    folder = os.environ.get("IMAGESETS_MIRROR", "")
    if not folder or folder.startswith(("http://", "https://")):
        pytest.skip("official archives: set IMAGESETS_MIRROR to a folder laid out <source>/<file>")
    return Path(folder)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Tests choose their own settings; only `mirror` looks at the environment's."""
    request.getfixturevalue("mirror") if "mirror" in request.fixturenames else None
    for name in [name for name in os.environ if name.startswith("IMAGESETS_")]:
        monkeypatch.delenv(name)
