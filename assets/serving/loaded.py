"""The definitions of the UI, loaded when this is imported: a process that has done so is ready.

Not here: what they are (`assets.definitions`), or who serves them (`code_server`).
"""

from __future__ import annotations

import gc

from assets.definitions import defs as load

defs = load()
defs.get_repository_def().load_all_definitions()
gc.freeze()  # what is loaded stays
