"""GGUF + tokens -> logits, through one libllama of any branch, in a child process."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.runtime.client import evaluate, probe, tokenize
    from harness.runtime.decode import ModelInfo
    from harness.runtime.header import read_api
    from harness.runtime.library import Library, branch_library, pinned_library
else:
    # On first use, because the child passes through this file, too, on its way to
    # `harness.runtime.worker`, and needs neither the parser nor the sandbox.
    def __getattr__(name):
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

    _HOMES = {
        "Library": "library",
        "ModelInfo": "decode",
        "branch_library": "library",
        "evaluate": "client",
        "pinned_library": "library",
        "probe": "client",
        "read_api": "header",
        "tokenize": "client",
    }

__all__ = [
    "Library",
    "ModelInfo",
    "branch_library",
    "evaluate",
    "pinned_library",
    "probe",
    "read_api",
    "tokenize",
]
