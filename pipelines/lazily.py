"""Names that a package offers, and that are imported when somebody asks for them.

So that whoever needs one of them does not wait for the others. Not here: which names there are.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def found_in(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package (PEP 562).

    Args:
        package: its `__name__`.
        homes: name → the module in the package that has it.
    """

    def attribute(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f".{homes[name]}", package), name)

    return attribute
