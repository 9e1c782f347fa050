"""Imported by the process that others are forked off: what a build would import itself.

Half a second's worth, which no test needs that starts no process.
"""

from __future__ import annotations

import alembic.command
import dagster._core.execution.execute_in_process
import dagster._core.storage.sqlite_storage
import pandas  # pyarrow does where it is installed
import upath

import pipelines.lineage.verify
import tests.assets.forked

__all__ = ["alembic", "dagster", "pandas", "pipelines", "tests", "upath"]
