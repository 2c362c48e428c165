"""Commands in a session of their own: `run` one to its end, or `start` one that lives on."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.sandbox.child import NOTHING, Child, signal_name
from harness.store import disk_full_is_clear

_TAIL_LINES = 1000


@dataclass(frozen=True)
class Finished:
    """How a command ended.

    ``returncode`` is the exit code, or minus the number of the signal that
    killed it; never 0 when ``timed_out``. ``seconds`` is wall time.
    """

    returncode: int
    seconds: float
    timed_out: bool
    log: Path
    last_lines: tuple[str, ...]

    @property
    def signal(self) -> str | None:
        """The name of the signal that killed the command, if one did."""
        return signal_name(self.returncode)

    def tail(self, n: int) -> tuple[str, ...]:
        """Return the last ``n`` lines of its output (1000 are kept)."""
        return self.last_lines[-n:] if n > 0 else ()


def run(
    command: Sequence[str],
    *,
    log: Path,
    cwd: Path | None = None,
    environment: Mapping[str, str] = NOTHING,
    timeout_s: float,
    on_line: Callable[[str], None] | None = None,
    append: bool = False,
) -> Finished:
    """Run a command to its end and return how it ended; all that it started ends with it.

    Parameters
    ----------
    command
        Program and arguments; a bare name is looked up in the child's PATH.
    log
        Gets stdout and stderr together, after a line with the command itself;
        at most 64 MB, head and tail. Its folder is made. Overwritten unless ``append``.
    cwd
        None: a private, empty folder that is removed afterwards.
    environment
        Added to the short allow-list of `environment.py`.
    timeout_s
        Wall time after which the tree is ended; `Finished.timed_out` says so.
    on_line
        Called in this thread with each line of output; what it raises ends the tree.

    Raises
    ------
    InfrastructureError
        When there is no such program, or the log's disk is full.
    """
    with (
        disk_full_is_clear(log.parent),
        Child(command, log=log, cwd=cwd, environment=environment, append=append) as child,
    ):
        timed_out = not child.read_output(on_line, timeout_s)
        child.end()
    assert child.returncode is not None
    return Finished(
        returncode=child.returncode or (-signal.SIGTERM if timed_out else 0),
        seconds=child.seconds,
        timed_out=timed_out,
        log=log,
        last_lines=child.tail(_TAIL_LINES),
    )


def start(
    command: Sequence[str],
    *,
    log: Path,
    pass_fds: Sequence[int] = (),
    stdin: int | None = None,
    cwd: Path | None = None,
    environment: Mapping[str, str] = NOTHING,
    append: bool = False,
) -> Child:
    """Start a command that lives on; use it as a context manager, which ends its tree.

    Parameters are those of `run`. ``pass_fds`` are open in the child under the
    same numbers, no other descriptor is; ``stdin`` is a descriptor, None for
    an empty one. The caller closes its own copies. Raises InfrastructureError
    when there is no such program.
    """
    child = Child(
        command,
        log=log,
        cwd=cwd,
        environment=environment,
        pass_fds=pass_fds,
        stdin=stdin,
        append=append,
    )
    child.read_output_in_background()
    return child


def describe() -> str:
    """Return what holds a child back, for the header of a run."""
    return "no sandbox: own session, cleared environment"
