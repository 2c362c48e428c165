"""Runs one command, and ends everything that it started.

A script of its own, started by `child.py`:
``python -I -S supervise.py LIFELINE PRIVATE COMMAND…``. LIFELINE is the read end of a pipe
whose other end the harness alone holds: its end of file means "end the tree", also when
the harness was killed. As a "subreaper" the script inherits every descendant whose parent
died, so neither a double fork nor a session of its own hides one. At the end it removes
the folder PRIVATE and exits as the command did, by the same signal if one killed it.
"""

import contextlib
import ctypes
import os
import resource
import select
import signal
import sys
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
GRACE_S = 2.0  # for SIGTERM to work, then comes SIGKILL
GIVE_UP_S = 10.0  # a process that hangs in the kernel outlives SIGKILL


def main() -> None:
    """Run ``sys.argv[3:]`` and exit as it did."""
    lifeline, private, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    os.set_inheritable(lifeline, False)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash is expected: no file for it
    signals = _signals_as_bytes()
    child = _spawn(command)
    _close_the_commands_descriptors()

    ended: dict[int, int] = {}  # wait status by process
    while child not in ended:
        ready, _, _ = select.select([signals, lifeline], [], [])
        told = os.read(signals, 4096) if signals in ready else b""
        if lifeline in ready or signal.SIGTERM in told:
            break
        _reap(ended)
    _end_descendants(ended)
    _remove(private)
    _exit_like(ended.get(child, signal.SIGKILL))


def _signals_as_bytes() -> int:
    """Make SIGCHLD and SIGTERM bytes of a pipe, so that `select` sees them."""
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(write)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    return read


def _spawn(command: list[str]) -> int:
    child = os.fork()
    if child:
        return child
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)  # Python changed them; exec would keep that
    try:
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    os._exit(127)


def _close_the_commands_descriptors() -> None:
    """Their other ends must see it when the command closes them; output stays."""
    for entry in list(Path("/proc/self/fd").iterdir()):
        descriptor = int(entry.name)
        with contextlib.suppress(OSError):  # the listing's own
            if descriptor not in (1, 2) and os.get_inheritable(descriptor):
                os.close(descriptor)


def _reap(ended: dict[int, int]) -> None:
    """Collect whoever ended."""
    with contextlib.suppress(ChildProcessError):
        while (seen := os.waitpid(-1, os.WNOHANG))[0]:
            ended[seen[0]] = seen[1]


def _end_descendants(ended: dict[int, int]) -> None:
    """End all that live below this process; over and over, for they may fork meanwhile."""
    start = time.monotonic()
    for number, until in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, GIVE_UP_S)):
        while (living := _descendants()) and time.monotonic() - start < until:
            for pid in living:
                with contextlib.suppress(OSError):
                    os.kill(pid, number)
            time.sleep(0.02)
            _reap(ended)
    _reap(ended)


def _descendants() -> list[int]:
    """Return the living processes below this one, from /proc."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if state not in "ZX":
                    children.setdefault(int(parent), []).append(int(entry.name))
    found, queue = [], [os.getpid()]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def _remove(folder: str) -> None:
    try:
        Path(folder).rmdir()
    except OSError:
        import shutil  # costs as much as all of this script; mostly the folder is empty

        shutil.rmtree(folder, ignore_errors=True)


def _exit_like(status: int) -> None:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        time.sleep(1)  # not reached: the signal's default action ends this process
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


main()
