"""`python -m assets`: the command line."""

import sys

from assets.command_line import main

if __name__ == "__main__":
    sys.exit(main())
