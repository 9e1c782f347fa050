"""What a made-up publisher has: files in a folder as a mirror, and the TOML that declares them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines import plan, stages
from pipelines.building import Made, Web, Workshop
from pipelines.declarations import Catalogue, Dataset, Source
from pipelines.store import Store
from tests import builders

BASIC = ("archives", "tables", "sums", "manifest", "statistics")


@dataclass(frozen=True)
class Published:
    """A folder as a mirror, a catalogue, and the name of a source with a dataset of that name."""

    mirror: Path
    catalogue: Path
    name: str

    @property
    def declared(self) -> Catalogue:
        return plan.load(self.catalogue)

    @property
    def source(self) -> Source:
        return self.declared.sources[self.name]

    @property
    def dataset(self) -> Dataset:
        return self.declared.datasets[self.name]

    @property
    def plan(self) -> plan.Plan:
        options = {name: option.default for name, option in stages.options().items()}
        return plan.of(self.declared, options)

    def build(
        self, store: Store, wanted: Sequence[str] = BASIC, parts: Sequence[str] | None = None
    ) -> dict[str, Made]:
        """Make stages of the dataset, of some parts or all; return what was made, by its path."""
        everything = self.plan
        chosen = everything.of([self.dataset], wanted, parts)
        paths = {one.path for one in chosen}
        workshop = Workshop(store, everything, Web(str(self.mirror)), wanted=paths)
        made = [one for asset in everything.assets(chosen) for one in workshop.make(asset)]
        return {one.provenance.path: one for one in made}


def publish(folder: Path, name: str, files: Mapping[str, bytes], datasets: str) -> Published:
    """Publish files as one source, whose datasets TOML declares."""
    mirror, catalogue = folder / "mirror" / name, folder / "catalogue"
    mirror.mkdir(parents=True)
    catalogue.mkdir(exist_ok=True)
    for file, data in files.items():
        (mirror / file).write_bytes(data)
    (catalogue / f"{name}.toml").write_text(builders.declare(files) + datasets)
    return Published(folder / "mirror", catalogue, name)
