"""Building: makes the artefacts of a plan, and judges them, by any engine or none.

`Workshop` makes one asset: it brings its artefacts up to date, with what they are made from checked
before and what the expectations find of them afterwards. `Ahead` makes many, each as soon as what
it needs is there and passed its checks. `archives` are the publisher's files, from the `Web`.

Not here: how an artefact is written (the rooms of its stage), whether there is anything to do
(`pipelines.lineage.status`), or Dagster.
"""

from .ahead import Ahead
from .archives import Web
from .workshop import Known, Made, Workshop

__all__ = ["Ahead", "Known", "Made", "Web", "Workshop"]
