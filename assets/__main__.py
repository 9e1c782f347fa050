"""`python -m assets`: the command line."""

import contextlib
import os
import sys

from assets.command_line import main

if __name__ == "__main__":
    # Arrow loads pandas, where it is installed, to ask of any list whether it is a Series; that
    # takes a third of a second, and no command uses it.
    sys.modules["pandas"] = None  # type: ignore[assignment] # which is how Python forbids a module
    code = main()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # nobody reads on
            stream.flush()
    # All is closed by now. To free, object by object, what Dagster loaded takes most of a second.
    os._exit(code)
