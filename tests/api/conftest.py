"""What a person has who imports the library: a cache of their own, and a mirror to fetch from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.api import wheels
from tests.builders import Publisher, publish


@pytest.fixture(scope="session")
def _published(tmp_path_factory: pytest.TempPathFactory) -> Publisher:
    return publish(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheels.build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def publisher(_published: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Publisher:
    """The publisher whose datasets there are; the data folder is empty."""
    monkeypatch.setenv("IMAGESETS_CATALOGUE", str(_published.catalogue))
    monkeypatch.setenv("IMAGESETS_MIRROR", str(_published.mirror))
    monkeypatch.setenv("IMAGESETS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("IMAGESETS_OFFLINE", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return _published


@pytest.fixture
def data(publisher: Publisher, tmp_path: Path) -> Path:
    return tmp_path / "data"
