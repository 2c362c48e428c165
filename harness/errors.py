"""What can go wrong, sorted by whose fault it is; a regression is an outcome, not an error.

Each kind has the exit code with which a run ends because of it (`ExitCode`).
Messages say what, both values with units, where, and the command that helps;
they are shown without a traceback.
"""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path


class ExitCode(IntEnum):
    """How a gate run ends; 2, 3 and 5 keep pytest's own meaning."""

    PASSED = 0
    REGRESSION = 1
    USAGE = 4
    INCONCLUSIVE = 10
    PR_BROKEN = 11
    INFRASTRUCTURE = 12


class HarnessError(Exception):
    """A user-facing failure. ``log`` is where the details are, ``hint`` what helps."""

    exit_code: ExitCode = ExitCode.INFRASTRUCTURE

    def __init__(self, message: str, *, hint: str = "", log: Path | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.log = log

    def __reduce__(self) -> tuple[object, ...]:  # pytest-xdist and locks may pickle it
        return _rebuild, (type(self), self.message, self.hint, self.log)

    def __str__(self) -> str:
        lines = [self.message]
        if self.log is not None:
            lines.append(f"  log        {self.log}")
        if self.hint:
            lines.append(f"  help       {self.hint}")
        return "\n".join(lines)


class UsageError(HarnessError):
    """The user's input is wrong: unknown ref, unknown recipe, not a GGUF, no imatrix."""

    exit_code = ExitCode.USAGE


class PrError(HarnessError):
    """The PR's code does not build, does not run, or does not answer as it must."""

    exit_code = ExitCode.PR_BROKEN


class InfrastructureError(HarnessError):
    """Neither side's fault: main does not build, the baseline is missing, the disk is full."""

    exit_code = ExitCode.INFRASTRUCTURE


def _rebuild(kind: type[HarnessError], message: str, hint: str, log: Path | None) -> HarnessError:
    return kind(message, hint=hint, log=log)
