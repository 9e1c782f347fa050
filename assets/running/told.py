"""What Dagster was told of assets: a note beside its databases, so that they need not be opened.

    data/dagster/told.json

Artefacts may come without Dagster: in a folder that was copied, from a library that calls
`pipelines`, or under a database that is new. The note says what was told to which database. Where
it is lost, or a database is another one, everything is told once more.

Not here: telling it (`runs`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from assets.running.outcomes import Sound
from assets.settings import Settings
from pipelines.errors import StorageError
from pipelines.plan import Step
from pipelines.redaction import without_secrets
from pipelines.store import hashing, writing

PASSWORDS = "looked_for_passwords.json"  # what `passwords` notes
DATABASES = ("history/runs.db", "history/runs/index.db")


def lacking(settings: Settings, sound: Mapping[Step, Sound]) -> dict[Step, Sound]:
    """Return those assets, or parts of one, that Dagster was not told of as they are."""
    before = {} if _hold_passwords(settings) else _read(settings)
    return {step: one for step, one in sound.items() if before.get(_name(step)) != _digest(one)}


def note(settings: Settings, sound: Mapping[Step, Sound]) -> None:
    """Note that Dagster was told of assets, or parts of one."""
    told = _read(settings) | {_name(step): _digest(one) for step, one in sound.items()}
    with (
        contextlib.suppress(OSError, StorageError),  # without, it is just told again
        writing.atomic(_place(settings), lasting=False) as partial,
    ):
        said = {"databases": _databases(settings), "assets": told}
        partial.write_text(json.dumps(said, indent=1) + "\n", "utf-8")


def can_be_told(settings: Settings) -> bool:
    """Return whether there are databases of Dagster, and they can be written to."""
    try:
        _databases(settings)
    except OSError:
        return False
    home = settings.dagster_home
    names = () if settings.postgres else DATABASES
    return all(os.access(path, os.W_OK) for path in (home, *(home / name for name in names)))


def _read(settings: Settings) -> dict[str, str]:
    """Return asset or part → what was told of it to these databases; {} if nothing is sure."""
    try:
        with hashing.opened(_place(settings)) as file:
            said: Any = json.loads(file.read())
        is_ours = said["databases"] == _databases(settings)
        return {str(k): str(v) for k, v in said["assets"].items()} if is_ours else {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}


def _hold_passwords(settings: Settings) -> bool:
    """Return whether passwords are known to stand in the databases: each build warns of that."""
    try:
        with hashing.opened(settings.dagster_home / PASSWORDS) as file:
            return any(one["found"] for one in json.loads(file.read()).values())
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return False


def _databases(settings: Settings) -> list[Any]:
    """Return what tells these databases from others.

    Raises:
        OSError: they are not there.
    """
    if settings.postgres:
        address = without_secrets(settings.postgres)
        return [hashlib.sha256(address.encode()).hexdigest()]
    return [(settings.dagster_home / name).stat().st_ino for name in DATABASES]


def _name(step: Step) -> str:
    asset, part = step
    return "/".join((*asset, part) if part else asset)


def _digest(sound: Sound) -> str:
    """Return a digest of what Dagster is told of an asset: its bytes, and what its checks found."""
    bytes_ = [(one.path, one.sha256, one.code_version, one.parameters) for one in sound.known]
    said = json.dumps([bytes_, [asdict(finding) for finding in sound.found]], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()


def _place(settings: Settings) -> Path:
    return settings.dagster_home / "told.json"
