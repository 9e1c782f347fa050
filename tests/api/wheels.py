"""The wheel, what it asks for, and the lines of its document: for the tests that install it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENT = ROOT / "docs/library.md"


def build(folder: Path) -> Path:
    """Build the wheel into a folder; return it."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [found] = folder.glob("*.whl")
    return found


def needed(wheel: metadata.Distribution) -> Iterator[metadata.Distribution]:
    """What a wheel asks for, as it is installed here: all the way down, without extras."""
    seen, names = set[str](), [wheel]
    while names:
        for text in names.pop().requires or ():
            requirement = Requirement(text)
            name = re.sub("[-_.]+", "-", requirement.name).lower()
            wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if wanted and name not in seen:
                seen.add(name)
                names.append(found := metadata.distribution(name))
                yield found


def lines(name: str = "mnist", index: int = 1234) -> str:
    """What the document shows, but for frameworks, which the tests of readers have.

    name, index: the dataset and the record that stand in the place of those it names.
    """
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    shown = [block for block in blocks if not re.search("torch|tensorflow", block)]
    assert len(shown) >= 5
    return "\n".join(shown).replace('"mnist"', f'"{name}"').replace("1234", str(index))
