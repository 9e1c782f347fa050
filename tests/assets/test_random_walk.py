"""A random walk over everything that happens to a data folder; `verify` and the truth agree always.

The truth is told by `tests.assets.truth`, which shares no code with the product.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext
from pathlib import Path

import dagster as dg
import pytest

from assets.settings import Settings
from pipelines.lineage import verify
from pipelines.lineage.shallow import Verdict
from pipelines.progress import Display
from pipelines.store import hashing
from tests.assets import truth
from tests.assets.conftest import Command
from tests.assets.project import Project
from tests.assets.test_verify import flip, rerecord
from tests.waiting import within

# A step takes about half a second where the machine has nothing else to do.
STEPS = {"dev": 25, "ci": 40, "nightly": 500}[os.environ.get("HYPOTHESIS_PROFILE", "dev")]
SEED = int(os.environ.get("IMAGESETS_TEST_WALK", "0"))  # another number, another walk


@dataclass
class Walk:
    """A project, and everything that can happen to it."""

    project: Project
    command: Command
    processes: ForkServerContext
    chance: random.Random
    steps: list[str] = field(default_factory=list)

    @property
    def settings(self) -> Settings:
        publisher = self.project.publisher
        return Settings(self.project.data, publisher.catalogue, str(publisher.mirror), offline=True)

    def go(self) -> None:
        """Let something happen, and hold what `verify` says of it against the truth."""
        things: list[Callable[[], str]] = [
            *[self.flip] * 4,
            *[self.rot] * 3,
            *[self.delete] * 3,
            *[self.forge] * 2,
            self.damage_record,
            *[self.rebuild] * 2,
            self.refresh,
            self.look,
            self.repair,
            self.kill,
        ]
        self.steps.append(self.chance.choice(things)())
        self.hold()

    def hold(self) -> None:
        """Compare what `verify --deep` says of each artefact with what is so."""
        states, verdicts = truth.states(self.project), self.verdicts()
        for path, state in states.items():
            said = verdicts[path].condition if path in verdicts else "never made"
            allowed = {
                # What is right is whole; or nobody knows how it was made, or from what, or what to
                # compare it with. What is not right is never called whole.
                "right": {"whole", "unknown", "stale", "uncompared"},
                "wrong": {"changed", "unknown", "stale", "uncompared", "missing"},
                "missing": {"missing", "never made"},
            }[state]
            if said == "changed" and state == "right":
                # Right by itself, but the file beside it or its provenance tells another story.
                allowed = {"changed"} if self.is_told_otherwise(path, verdicts[path]) else allowed
            assert said in allowed, f"{path} is {state}, and said to be {said}: {self.steps}"
        assert not verdicts.keys() - states.keys()

    def is_told_otherwise(self, path: str, verdict: Verdict) -> bool:
        told = re.search("SHA-256 ([0-9a-f]{64}) was recorded", verdict.why)
        digest = hashing.sha256(self.project.data / path)
        return (told is not None and told[1] != digest) or "does not say what" in verdict.why

    def verdicts(self) -> dict[str, Verdict]:
        plan = self.settings.plan()
        datasets = tuple(plan.declared.datasets.values())
        found = verify.verify(self.settings.store, plan, datasets, Display(), deep=True)
        return {verdict.path: verdict for verdict in found}

    def some(self) -> str | None:
        """An artefact that is there."""
        there = [p for p in truth.states(self.project) if (self.project.data / p).is_file()]
        return self.chance.choice(there) if there else None

    def flip(self) -> str:
        """Somebody changes a byte, with or without the modification time."""
        if (path := self.some()) is None:
            return "flip nothing"
        file, stat = self.project.data / path, (self.project.data / path).stat()
        at = self.chance.randrange(stat.st_size) if stat.st_size else 0
        flip(file, at)
        if self.chance.random() < 0.5:
            os.utime(file)
        return f"flip {path} at {at}"

    def rot(self) -> str:
        """A byte changes that nobody can see having changed."""
        if (path := self.some()) is None:
            return "rot nothing"
        at = self.chance.randrange((self.project.data / path).stat().st_size)
        self.project.rot(path, at)
        return f"rot {path} at {at}"

    def delete(self) -> str:
        """An artefact is deleted, or its provenance, or what was seen of it, or all of them."""
        if (path := self.some()) is None:
            return "delete nothing"
        names = [path, f"lineage/{path}.json", f".seen/{path}.json", f"{path}.lineage.json"]
        chosen = self.chance.choice([*([name] for name in names), names[:2], names])
        for name in chosen:
            (self.project.data / name).unlink(missing_ok=True)
        return f"delete {' '.join(chosen)}"

    def forge(self) -> str:
        """A byte is changed, and its provenance says that this was always so."""
        path = self.some()
        if path is None or not (self.project.data / f"lineage/{path}.json").is_file():
            return "forge nothing"
        at = self.chance.randrange((self.project.data / path).stat().st_size)
        flip(self.project.data / path, at)
        try:
            rerecord(self.project, path)
        except ValueError:
            return f"flip {path} at {at}, its provenance being damaged"
        return f"forge {path} at {at}"

    def damage_record(self) -> str:
        """A byte of some provenance changes."""
        path = self.some()
        record = self.project.data / f"lineage/{path}.json"
        if path is None or not record.is_file():
            return "damage nothing"
        flip(record, at := self.chance.randrange(record.stat().st_size))
        return f"damage {record.name} at {at}"

    def rebuild(self) -> str:
        """Somebody builds a dataset."""
        dataset = self.chance.choice(self.project.sources)
        outcomes = self.project.build(dataset)
        bad = sorted(outcome.asset for outcome in outcomes.values() if not outcome.is_good)
        return f"build {dataset}: {bad or 'all good'}"

    def refresh(self) -> str:
        """The scheduled job: hashes everything, makes what is not whole."""
        with dg.DagsterInstance.ephemeral() as instance:
            job = self.project.definitions(str(self.project.publisher.mirror), offline=True)
            result = job.resolve_job_def("refresh").execute_in_process(
                instance=instance, raise_on_error=False
            )
        return f"refresh: {result.success}"

    def look(self) -> str:
        """Somebody verifies, lists and locks; nothing changes."""
        before = self.project.snapshot()
        for words in (["verify"], ["verify", "--deep"], ["list"], ["lock"]):
            said = self.command(*words, *self.project.options)
            assert "Traceback" not in said.stderr
        assert self.project.snapshot() == before
        return "look"

    def repair(self) -> str:
        """Somebody repairs, looking deep: everything that was ever made is right then."""
        options = [*self.project.options, *self.project.mirror]
        said = self.command("verify", "--deep", "--repair", *options)
        states = truth.states(self.project)
        made = {p for p in states if (self.project.data / f"lineage/{p}.json").exists()}
        wrong = [path for path in made if states[path] != "right"]
        assert (said.code, wrong) == (0, []), f"{said.stdout} after repairing: {self.steps}"
        return "repair"

    def kill(self) -> str:
        """A build of everything is killed."""
        process = self.processes.Process(target=self.project.build)
        process.start()
        before, changes = self.files(), self.chance.randint(1, 20)
        deadline = time.monotonic() + within(30)
        while process.is_alive() and changes and time.monotonic() < deadline:
            if before != (before := self.files()):
                changes -= 1
            time.sleep(0.001)
        is_killed = process.is_alive()
        process.kill()
        process.join()
        return "kill" if is_killed else "build everything in another process"

    def files(self) -> set[Path]:
        folders = ("archives", "tables", "statistics", "exports", "lineage")
        return {path for name in folders for path in (self.project.data / name).rglob("*")}


@pytest.mark.sources("tiny_digits", "tiny_colours")
@pytest.mark.timeout(300 + 20 * STEPS)
def test_after_every_step_of_a_random_walk_verify_tells_the_truth(
    project: Project, command: Command, processes: ForkServerContext
) -> None:
    walk = Walk(project, command, processes, random.Random(SEED))
    project.build()
    for _ in range(STEPS):
        walk.go()
    assert command("verify", "--deep", "--repair", *project.options, *project.mirror).code == 0
    project.build()
    assert set(truth.states(project).values()) == {"right"}
    assert command("verify", "--deep", *project.options).code == 0
    assert len(set(walk.steps)) > STEPS / 4
