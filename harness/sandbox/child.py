"""A running command and all that it started.

Every command runs below `supervise.py`, which ends the whole tree when the
command ends, when it is told to, and when the harness itself dies.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from harness.errors import InfrastructureError
from harness.sandbox.environment import child_environment
from harness.sandbox.log import BoundedLog, Lines
from harness.store import remove_tree

NOTHING: Mapping[str, str] = {}
_SUPERVISOR = (sys.executable, "-I", "-S", str(Path(__file__).with_name("supervise.py")))
_END_WITHIN_S = 15.0  # the supervisor gives up after 10 s


class Child:
    """A running command with all that it started; made by `start`.

    ``pid`` is the supervisor's, the command and its descendants are below it.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        cwd: Path | None = None,
        environment: Mapping[str, str] = NOTHING,
        pass_fds: Sequence[int] = (),
        stdin: int | None = None,
        append: bool = False,
    ) -> None:
        self._private = Path(tempfile.mkdtemp(prefix="quant-gate-"))  # HOME and TMPDIR
        self._closing = contextlib.ExitStack()
        self._closing.callback(remove_tree, self._private)
        try:
            variables = child_environment(self._private, environment)
            program = _find(command[0], variables["PATH"])
            self._log = BoundedLog(log, append=append)
            self._closing.callback(self._log.close)
            self._log.note(f"$ {shlex.join(command)}")
            lifeline, self._lifeline = os.pipe()
            self._closing.callback(self._let_go)
            try:
                self._process = subprocess.Popen(
                    [*_SUPERVISOR, str(lifeline), str(self._private), program, *command[1:]],
                    stdin=subprocess.DEVNULL if stdin is None else stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    cwd=cwd or self._private,
                    env=variables,
                    pass_fds=(lifeline, *pass_fds),
                    start_new_session=True,
                    bufsize=0,
                )
            finally:
                os.close(lifeline)
        except BaseException:
            self._closing.close()
            raise
        assert self._process.stdout is not None
        self._output = self._process.stdout
        self._started = time.monotonic()
        self._reader: threading.Thread | None = None
        self.pid = self._process.pid
        self.seconds = 0.0

    @property
    def returncode(self) -> int | None:
        """The exit code, minus the signal's number, or None while it runs."""
        return self._process.returncode

    @property
    def signal(self) -> str | None:
        """The name of the signal that killed it, if one did."""
        return signal_name(self.returncode)

    def poll(self) -> int | None:
        """Return the exit code if it ended by itself; its output is then complete."""
        if self._process.poll() is not None and self._reader is not None:
            self._reader.join(_END_WITHIN_S)
        return self._process.returncode

    def wait(self, timeout_s: float) -> int | None:
        """Wait for it to end by itself; None if it still runs after ``timeout_s``."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        return self.poll()

    def tail(self, n: int) -> tuple[str, ...]:
        """Return the last ``n`` lines of its output so far."""
        return self._log.tail(n)

    def end(self) -> None:
        """End the whole tree, wait for it, close the log; nothing if that is done already."""
        self._let_go()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)  # a supervisor that somebody stopped
        try:
            self._process.wait(_END_WITHIN_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()
        self.seconds = self.seconds or time.monotonic() - self._started
        if self._reader is None:
            self.read_output(None, timeout_s=1.0)  # what a killed command still said
        else:
            self._reader.join(_END_WITHIN_S)
        self._output.close()
        self._closing.close()

    def read_output_in_background(self) -> None:
        """Write the output to the log in a thread of its own."""
        self._reader = threading.Thread(
            target=self.read_output, args=(None, None), name="sandbox-log", daemon=True
        )
        self._reader.start()

    def read_output(self, on_line: Callable[[str], None] | None, timeout_s: float | None) -> bool:
        """Write the output to the log until the tree ended; False if time ran out before."""
        lines = Lines(on_line)
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._output.closed:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([self._output], [], [], left)[0]:
                return False
            data = os.read(self._output.fileno(), 1 << 16)
            if not data:
                break
            with contextlib.nullcontext() if self._reader is None else _full_disk_ignored():
                self._log.write(data)
            lines.feed(data)
        lines.finish()
        self._process.wait()
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def _let_go(self) -> None:
        """Close the lifeline: the supervisor ends the tree."""
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1


def signal_name(returncode: int | None) -> str | None:
    """Return ``"SIGSEGV"`` for −11, None for an exit code."""
    if returncode is None or returncode >= 0:
        return None
    try:
        return signal.Signals(-returncode).name
    except ValueError:
        return f"signal {-returncode}"


def _full_disk_ignored() -> contextlib.AbstractContextManager[None]:
    """A thread can't raise to anybody; the child must not block on a log that can't grow."""
    return contextlib.suppress(OSError)


def _find(program: str, path: str) -> str:
    found = shutil.which(program, path=path)
    if found is None:
        raise InfrastructureError(f"no such program: {program}", hint=f"looked in PATH={path}")
    return str(Path(found).absolute())
