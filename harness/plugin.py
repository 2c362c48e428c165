"""The pytest plugin: options, and the gate's sessions where --pr-branch is given.

Every pytest run on a machine imports this module, so it imports nothing heavy.
"""

from __future__ import annotations

import sys
from collections.abc import Generator

import pytest

from harness.errors import ExitCode, HarnessError
from harness.options import PR_BRANCH, add_options


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the gate's options."""
    add_options(parser)


@pytest.hookimpl(trylast=True)  # the terminal reporter must be there
def pytest_configure(config: pytest.Config) -> None:
    """Register the gate where it is asked for; a plain run stays as it is."""
    if config.getoption(PR_BRANCH) is None:
        return
    from harness.session import register

    try:
        register(config)
    except HarnessError as error:
        raise pytest.UsageError(str(error)) from None


@pytest.hookimpl(wrapper=True)
def pytest_cmdline_main() -> Generator[None, object, object]:
    """Give an early end that is not the user's fault its own exit code; pytest has but one."""
    try:
        return (yield)
    except pytest.UsageError as ended:
        error = ended.__cause__
        if not isinstance(error, HarnessError) or error.exit_code == ExitCode.USAGE:
            raise
        print(f"ERROR: {ended}", file=sys.stderr)
        return int(error.exit_code)
