"""The only place that starts a branch's code, or a tool on it."""

from harness.sandbox.child import Child, signal_name
from harness.sandbox.commands import Finished, describe, run, start

__all__ = ["Child", "Finished", "describe", "run", "signal_name", "start"]
