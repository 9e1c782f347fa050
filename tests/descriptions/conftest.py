"""Fixtures of the tests of descriptions."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines import products
from pipelines.products import Product


@pytest.fixture
def all_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be the descriptions that a page of all datasets leads to."""
    known = dict(products.known())

    def made_up(name: str, scope: Any, files: str) -> Product:
        return Product(name, "made up.", scope, files, "1", lambda *_: {})

    for one in (
        made_up("card", "dataset", "descriptions/{dataset}/card/"),
        made_up("benchmark", "dataset", "descriptions/{dataset}/benchmark/"),
        made_up("records", "split", "descriptions/{dataset}/{split}_records/"),
    ):
        known.setdefault(one.name, one)
    monkeypatch.setattr(products, "known", lambda: known)
