"""`forget-passwords`: remove passwords that version 0.1.0 let Dagster record."""

from __future__ import annotations

import argparse

from assets.command_line import options
from assets.command_line.declaring import Commands
from assets.command_line.display import say
from assets.settings import Settings

ORDER = 9


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add(
        "forget-passwords",
        run,
        help="remove passwords that version 0.1.0 recorded",
        description="Version 0.1.0 let Dagster record the addresses of --mirror and --openlineage "
        "with their passwords and tokens, in data/dagster (or IMAGESETS_POSTGRES), where the UI "
        "shows them. This rewrites those records: every run stays, its addresses lose what opens "
        "them, and the old bytes are gone from the files. Stop the UI and every build first, and "
        "change the passwords afterwards: backups and copies may still hold them. Other files "
        "that hold one are named, and the exit code is 1 then.",
    )
    options.add_folders(parser)


def run(settings: Settings, _given: argparse.Namespace) -> int:
    """Remove them, and print what was removed and what is left to a person."""
    from assets.running import passwords

    removed = passwords.remove(settings)
    for address in removed.addresses:
        say(f"removed from Dagster's records: what opens {address}")
    if removed.addresses:
        say(
            f"\n{removed.values} values were rewritten; every run is still there. Change these "
            "passwords: whoever could see the UI, the data folder or a backup of it could read "
            "them."
        )
    else:
        say("No password of a mirror or an endpoint stands in Dagster's records.")
    if removed.files:
        say("\nThese files hold one too. Delete them, and build again what is missing then:")
        say("\n".join(map(str, removed.files)))
    return 1 if removed.files else 0
