"""The examples of CONTRIBUTING.md, by the path at which it says that they are put."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"^`(\S+)`:\n```\w+\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE))

DATASET = EXAMPLES["assets/catalogue/corners.toml"]
FORMAT = EXAMPLES["pipelines/formats/plain.py"]
EXPORT = EXAMPLES["pipelines/exports/rows.py"]
DESCRIPTION = EXAMPLES["pipelines/descriptions/inventory.py"]
COMMAND = EXAMPLES["assets/commands/count.py"]
