"""Imported last by the process that others are forked off: what was imported before stays.

Each of them would look for garbage in it otherwise, and copy the memory that it lies in.
"""

import gc

gc.freeze()
