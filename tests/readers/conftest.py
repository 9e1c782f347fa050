"""The real readers, in an environment of their own: `make test-readers`; `make test` has none.

They find no cache of a person, and leave none: two of them delete files there that they don't know.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import tempfile

if importlib.util.find_spec("tensorflow_datasets") is None:
    collect_ignore_glob = ["test_*.py"]
else:
    _home = tempfile.mkdtemp(prefix="imagesets-readers-")
    atexit.register(shutil.rmtree, _home, ignore_errors=True)
    os.environ |= {
        "HOME": _home,
        "XDG_CACHE_HOME": f"{_home}/cache",
        "KERAS_HOME": f"{_home}/keras",
        "HF_HOME": f"{_home}/huggingface",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
    }
