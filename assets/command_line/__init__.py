"""The command line: what people type is read here, and what they see is shown from here.

Not here: a command (`assets.commands`, a module each), or anything that a stage does.
"""

from assets.command_line._main import main

__all__ = ["main"]
