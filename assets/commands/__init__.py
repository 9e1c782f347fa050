"""The commands: one module each, found because it lies here.

A new command is a module with a function `add(commands)` that calls `commands.add` with its name,
its help and what it does (`run(settings, options) -> int`, the exit code), and gives the parser
that comes back its options: those in `command_line.options`, and its own. Nothing else changes.
`ORDER` says where it stands in --help; without one, it stands last.

`python -m assets` imports every module here, so Dagster, Arrow and polars are imported inside
`run`: half a second that `list` need not wait for. A module whose name begins with `_` is no
command, it helps others.
"""
