"""Dagster's code server for the UI: it loads the definitions once, and starts every run of them.

    python -m assets.serving.code_server FOLDER

By itself Dagster has the web server start one when it has imported itself, and the daemon another,
anew every minute; and each run begins by importing everything. This one starts beside them, serves
both, and its runs are forked from a process that has loaded all they need.

*Reload definitions* in the UI replaces it: another one loads the code and the catalogue as they
are now, and takes over. The one before ends when its runs have ended. The process of this module
starts both, and does nothing else.

    FOLDER/code      the socket to ask: a link to that of the newest server
    FOLDER/code.1    that of the first server; code.2 of the next, …

Not here: how one serves (`server`), or who starts this (`assets.commands.ui`).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

LOCATION = "imagesets"  # as workspace.yaml names it
REPLACE = signal.SIGUSR1  # asks for another server

_TOLD = (REPLACE, signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def link(folder: Path) -> Path:
    """Return the socket at which the newest server can be asked."""
    return folder / "code"


def listens(path: Path) -> bool:
    """Whether somebody listens at a socket."""
    with socket.socket(socket.AF_UNIX) as asking:
        return asking.connect_ex(str(path)) == 0


def workspace(folder: Path) -> str:
    """Return the workspace that names this server, for web server and daemon."""
    where = f"{{host: localhost, socket: {link(folder)}, location_name: {LOCATION}}}"
    return f"load_from: [{{grpc_server: {where}}}]\n"


def main(folder: Path) -> int:
    """Start a server, and another whenever one asks for it; return how the newest ended."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _TOLD)
    servers = [_start(folder, 1)]
    while True:
        told = signal.sigwait(_TOLD)
        if told == REPLACE:
            servers.append(_start(folder, len(servers) + 1))
        elif told != signal.SIGCHLD:
            os.killpg(0, signal.SIGTERM)  # the servers, and the runs that they have started
            return 0
        while (code := servers[-1].poll()) is not None:
            if len(servers) == 1 or os.readlink(link(folder)) == f"code.{len(servers)}":
                return code
            servers.pop()  # it could not even begin: the one before goes on


def _start(folder: Path, number: int) -> subprocess.Popen[bytes]:
    """Start a server in a process that knows nothing of the code as it was before."""
    command = [sys.executable, "-m", "assets.serving.server", str(folder), str(number)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
