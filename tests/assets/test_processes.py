"""Processes that live and die together: whatever ends one of them, nothing is left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from assets.settings import ROOT
from tests.waiting import until, within

# A process that starts another one, says so in a file, and ends in the way that is asked for.
MEMBER = """
import os, pathlib, signal, subprocess, sys, time
name, folder, kind = sys.argv[1:]
if kind == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
path = pathlib.Path(folder, name)
path.with_suffix(".new").write_text(f"{os.getpid()} {child.pid}")
path.with_suffix(".new").rename(path)
while kind == "short" and not path.with_suffix(".ends").exists():
    time.sleep(0.01)
if kind != "short":
    time.sleep(600)
"""
PARENT = """
import sys
from assets.serving import processes
processes.PATIENCE_S = 3.0
folder, *kinds = sys.argv[1:]
command = [sys.executable, "-c", {member!r}]
commands = [[*command, str(n), folder, kind] for n, kind in enumerate(kinds)]
died = lambda number: print(f"{{number}} died", flush=True)
ended = processes.together(*commands, died=died, now_and_then=lambda: print("now", flush=True))
print("stopped" if ended is None else f"{{ended}} ended")
"""


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie that nobody reaped yet."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


class Family:
    """Two members, what they started, and the process that keeps them together."""

    def __init__(self, folder: Path, *kinds: str, ignoring: bool = False) -> None:
        command = [sys.executable, "-c", PARENT.format(member=MEMBER), str(folder), *kinds]
        if ignoring:  # as a shell starts what stands before an ampersand
            command = ["bash", "-c", 'trap "" INT; exec "$@"', "bash", *command]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        paths = [folder / str(number) for number in range(len(kinds))]
        until(lambda: all(path.exists() for path in paths))
        self.pids = [int(pid) for path in paths for pid in path.read_text().split()]
        assert len(self.pids) == 2 * len(kinds)

    def none_left(self) -> bool:
        return not any(alive(pid) for pid in self.pids)


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc"),
]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_told_to_stop_all_end(tmp_path: Path, number: signal.Signals) -> None:
    family = Family(tmp_path, "long", "long")

    family.process.send_signal(number)

    assert family.process.communicate(timeout=within(30))[0] == "stopped\n"
    assert family.process.returncode == 0
    assert family.none_left()


def test_when_the_first_ends_all_end(tmp_path: Path) -> None:
    family = Family(tmp_path, "short", "long")

    (tmp_path / "0.ends").touch()

    assert family.process.communicate(timeout=within(30))[0] == "0 ended\n"
    assert family.none_left()


def test_a_helper_that_is_killed_is_started_again_and_takes_nobody_along(tmp_path: Path) -> None:
    family = Family(tmp_path, "long", "long")
    first, firsts, helper, helpers = family.pids
    (tmp_path / "1").unlink()

    os.kill(helper, signal.SIGKILL)

    until((tmp_path / "1").exists)
    again = [int(pid) for pid in (tmp_path / "1").read_text().split()]
    assert not alive(helper)
    assert not alive(helpers), "what it had started is ended"
    assert all(alive(pid) for pid in (first, firsts, *again))
    family.pids += again
    family.process.terminate()
    assert family.process.communicate(timeout=within(30))[0] == "1 died\nnow\nstopped\n"
    assert family.none_left()


def test_one_that_does_not_want_to_end_is_forced_to(tmp_path: Path) -> None:
    family = Family(tmp_path, "stubborn", "long")

    family.process.terminate()

    assert family.process.communicate(timeout=within(30))[0] == "stopped\n"
    assert family.none_left()


# Told to stop when a member has begun, and nobody but who starts it can know of it.
TOLD_EARLY = """
import os, pathlib, signal, time
from assets.serving import processes
start = processes._start

def start_and_be_told(command, stdin=None):
    process = start(command, stdin)
    while not pathlib.Path(command[-2], command[-3]).exists():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)
    return process

processes._start = start_and_be_told
"""


def test_one_that_is_just_being_started_is_ended_too(tmp_path: Path) -> None:
    program = TOLD_EARLY + PARENT.format(member=MEMBER)
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), "long"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=within(30),
        check=False,
    )
    assert (done.stdout, done.stderr) == ("stopped\n", "")
    member, its_child = map(int, (tmp_path / "0").read_text().split())
    assert not alive(member)
    assert not alive(its_child)


def test_when_the_parent_is_killed_its_members_are_told_to_end(tmp_path: Path) -> None:
    family = Family(tmp_path, "long", "long")
    members = family.pids[::2]

    family.process.kill()
    family.process.wait(within(30))
    if family.process.stdout:
        family.process.stdout.close()

    until(lambda: not any(alive(pid) for pid in members))
    for pid in family.pids[1::2]:  # they would end by themselves, as Dagster's servers do
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_shell_that_makes_it_ignore_ctrl_c_does_not_keep_its_members_alive(
    tmp_path: Path,
) -> None:
    family = Family(tmp_path, "long", "long", ignoring=True)

    family.process.terminate()

    assert family.process.communicate(timeout=within(30))[0] == "stopped\n"
    assert family.none_left()


# --- what starts with the first, which waits for it -----------------------------------------------

WAITING = """
import pathlib, sys, time
from assets.serving import processes
folder, command = pathlib.Path(sys.argv[1]), [sys.executable, "-c"]
asked = []

def is_ready(go_on):
    if not asked and (folder / "helps").exists():
        assert not (folder / "went on").exists()
        asked.append(go_on())
    return (folder / "went on").exists()

commands = [{first!r}, {helper!r}, {last!r}]
commands = [[*command, text, *sys.argv[1:]] for text in commands]
print(processes.together(*commands, at_once=1, is_ready=is_ready))
"""
FIRST = """
import pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
if sys.stdin.readline():
    (folder / "went on").touch()
    while not (folder / "last").exists():
        time.sleep(0.01)
"""
HELPER = """
import pathlib, sys, time
if sys.argv[2] == "fails":
    sys.exit("it can't help")
(pathlib.Path(sys.argv[1]) / "helps").touch()
time.sleep(120)
"""
LAST = """
import pathlib, sys
folder = pathlib.Path(sys.argv[1])
assert (folder / "went on").exists()
(folder / "last").touch()
"""


@pytest.mark.parametrize("fate", ["goes well", "fails"])
def test_a_helper_starts_with_the_first_which_goes_on_when_all_is_ready(
    tmp_path: Path, fate: str
) -> None:
    program = WAITING.format(first=FIRST, helper=HELPER, last=LAST)
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), fate],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=within(30),
        check=False,
    )
    if fate == "fails":
        assert (done.stdout, done.stderr) == ("1\n", "it can't help\n")
        assert not (tmp_path / "went on").exists()
    else:
        assert (done.stdout, done.stderr) == ("0\n", "")


# --- code servers, one after the other ------------------------------------------------------------

REPLACED = """
import os, signal, subprocess, sys, time
from pathlib import Path
from assets.serving import code_server
folder = Path(sys.argv[1])
FIRST = '''
import os, signal, sys, time
os.symlink("code.1", sys.argv[1] + "/code")
os.kill(os.getppid(), signal.SIGUSR1)
time.sleep(1.5)
sys.exit(7)
'''

def start(folder, number):
    code = FIRST if number == 1 else "raise SystemExit(3)"
    return subprocess.Popen([sys.executable, "-c", code, str(folder)])

code_server._start = start
print(code_server.main(folder))
"""


def test_a_code_server_goes_on_where_the_next_one_could_not_even_begin(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", REPLACED, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=within(30),
        check=False,
    )
    assert (done.stdout, done.stderr) == ("7\n", "")
