"""Where everything lies in a store.

Not here: writing it (`writing`), or what the files contain. All paths are relative to the store and
use `/`, so that they mean the same on every machine. Exports and descriptions name their places
themselves (`pipelines.products`).
"""

from __future__ import annotations

from pathlib import Path

LINEAGE = "lineage"  # the folder of the provenance of artefacts
ARTEFACTS = ("archives/", "tables/", "statistics/", "exports/", "descriptions/", "lineage/")
SCRATCH = ".imagesets-scratch"  # artefacts are made again here; nobody else calls a folder so


def archives(source: str) -> str:
    """Return the path of the folder of a publisher's files."""
    return f"archives/{source}"


def archive(source: str, name: str) -> str:
    """Return the path of a publisher's file."""
    return f"{archives(source)}/{name}"


def is_archive(path: str) -> bool:
    """Return whether a publisher's file lies at a path."""
    return path.startswith("archives/")


def tables(dataset: str) -> str:
    """Return the path of the folder of a dataset's tables, with the slash that ends it."""
    return f"tables/{dataset}/"


def table(dataset: str, split: str) -> str:
    """Return the path of the Parquet table of a split, or of a part of one."""
    return f"{tables(dataset)}{split}.parquet"


def manifest(dataset: str, split: str) -> str:
    """Return the path of what lists the tables of a split that comes in parts."""
    return f"{tables(dataset)}{split}.json"


def sums(dataset: str, part: str) -> str:
    """Return the path of what was added up of a part of a split."""
    return f"statistics/{dataset}/{part}"


def statistics(dataset: str) -> str:
    """Return the path of a dataset's statistics table."""
    return f"statistics/{dataset}.parquet"


def is_for_people(path: str) -> bool:
    """Return whether what lies at a path is for people to look at."""
    return path.startswith("descriptions/")


def sidecar(export: str) -> str:
    """Return the path of the file that says what an export was made from."""
    return f"{export}.lineage.json"


def lineage(artefact: str) -> str:
    """Return the path of an artefact's provenance, the latest."""
    return f"{LINEAGE}/{artefact}.json"


def pending_lineage(artefact: str) -> str:
    """Return the path of provenance that waits for its artefact to take its place."""
    return f"{LINEAGE}/{artefact}.json.next"


def past_lineage(artefact: str, ended: str) -> str:
    """Return the path of the provenance of an earlier materialization, by the time of its end."""
    return f"{past_lineages()}/{artefact}/{ended.replace('-', '').replace(':', '')}.json"


def past_lineages() -> str:
    """Return the path of the folder of the provenance of earlier materializations."""
    return f"{LINEAGE}/history"


def judged(artefact: str) -> str:
    """Return the path of what was found of an artefact when it was judged."""
    return f"{LINEAGE}/checks/{artefact}.json"


def seen(path: str) -> str:
    """Return the path of what was seen of a file when it was last read."""
    return f".seen/{path}.json"


def decided(path: str) -> str:
    """Return the path of what was decided of a table, for those who read it without a plan."""
    return f".seen/{path}.decided.json"


def staged(goal: Path) -> Path:
    """Return the path beside `goal` at which a new one is made."""
    return goal.with_name(f".{goal.name}.partial")
