"""A dataset of arrays with its tables and statistics, ready to be described."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipelines import catalogue, statistics, tables
from pipelines.products import Inputs, Subject
from pipelines.store import Input, hashing, layout
from tests import builders
from tests.builders import Array


def published(
    folder: Path, splits: Mapping[str, tuple[Array, Array]], classes: Sequence[str]
) -> Inputs:
    """What a description of these splits (images, labels) is made from."""
    archives = {f"{name}.bin": builders.cifar(*arrays) for name, arrays in splits.items()}
    _, height, width, channels = next(iter(splits.values()))[0].shape
    shape = {"height": height, "width": width, "channels": channels}
    about = {"title": "Shown", "format": "cifar", "image": shape, "classes": [*classes]}
    toml = builders.declare(archives) + "[datasets.shown]\n" + builders.as_toml(about)
    for name, (_, labels) in splits.items():
        facts = {"records": len(labels), "counts": builders.counts(labels, len(classes))}
        toml += f"[datasets.shown.splits.{name}]\n"
        toml += builders.as_toml({**facts, "batches": [f"{name}.bin"]})
    for place in ("catalogue", "archives"):
        (folder / place).mkdir(parents=True)
    for name, data in archives.items():
        (folder / "archives" / name).write_bytes(data)
    (folder / "catalogue/shown.toml").write_text(toml, encoding="utf-8")
    source = catalogue.load(folder / "catalogue").sources["shown"]
    dataset = source.datasets["shown"]
    lying = {name: folder / layout.table("shown", name) for name in splits}
    for name, path in lying.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        tables.write(source, dataset, dataset.splits[name], folder / "archives", path)
    figures = folder / layout.statistics("shown")
    statistics.write(lying.values(), figures)
    paths = {layout.table("shown", name): path for name, path in lying.items()}
    paths |= {layout.archive("shown", name): folder / "archives" / name for name in archives}
    subject = Subject(source, dataset, tuple(dataset.splits.values()))
    paths |= {layout.statistics("shown"): figures}
    known = (Input(p, hashing.sha256(file), file.stat().st_size) for p, file in paths.items())
    return Inputs((subject,), paths, tuple(known), lying)
