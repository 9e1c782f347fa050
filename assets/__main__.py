"""`python -m assets`: the command line."""

import contextlib
import os
import sys
from importlib.abc import MetaPathFinder

from assets.command_line import main


class _WithoutPandas(MetaPathFinder):
    """Says that pandas is not installed: no command uses it.

    Arrow would load it to ask of a list whether it is a Series, which takes a third of a second.
    """

    def find_spec(self, fullname: str, *_: object) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is not loaded for commands", name=fullname)


if __name__ == "__main__":
    sys.meta_path.insert(0, _WithoutPandas())
    code = main()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # nobody reads on
            stream.flush()
    # All is closed by now. To free, object by object, what Dagster loaded takes most of a second.
    os._exit(code)
