"""`docs/object_stores.md`: all its Python runs, on a server that speaks S3."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import object_stores
from tests.assets.project import Project

ROOT = Path(__file__).parent.parent
DOCUMENT = (ROOT / "docs/object_stores.md").read_text()


@pytest.mark.slow
def test_every_reader_that_is_named_reads_what_is_there(tmp_path: Path) -> None:
    project = Project.publish(tmp_path)
    project.build("tiny_digits", stages=["tables"])
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    assert len(blocks) == 4
    code = "\n".join(blocks).replace("mnist", "tiny_digits").replace("imagesets", "pipelines")
    code += """
assert counts["len"].sum() == len(train) == 30
rows = duckdb.sql("SELECT count(*) FROM 's3://bucket/team/tables/tiny_digits/train.parquet'")
assert rows.fetchall() == [(30,)]
"""
    with object_stores.serving() as variables:
        environment = {
            **os.environ,
            **variables,
            "IMAGESETS_DATA": "s3://bucket/team",
            "IMAGESETS_SCRATCH": str(tmp_path / "scratch"),
            "IMAGESETS_CATALOGUE": str(project.publisher.catalogue),
        }
        copy = ["-m", "assets", "copy", str(project.data), "s3://bucket/team"]
        for arguments in (copy, ["-c", code]):
            command = [sys.executable, *arguments]
            done = subprocess.run(
                command, cwd=ROOT, env=environment, capture_output=True, check=False
            )
            assert done.returncode == 0, done.stderr.decode()
