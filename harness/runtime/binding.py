"""`ApiLayout` + libllama.so -> an object with the C functions under the names of today.

The object looks like the low-level module of llama-cpp-python, so that the
driver in `decode` takes either.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from harness.runtime.layout import ApiLayout


def bind(library: Path, layout: ApiLayout) -> Any:
    """Load a libllama and return its functions and structs.

    Only a child process may call this: loading runs the library's code.

    Raises
    ------
    OSError
        When the library can't be loaded.
    AttributeError
        When it lacks a function that its header declares.
    """
    loaded = ctypes.CDLL(str(library))
    types = layout.ctypes()
    api = SimpleNamespace(**{name: types[name] for name in layout.structs})
    for name, prototype in layout.functions.items():
        function = getattr(loaded, prototype.symbol)
        function.restype = types[prototype.result]
        function.argtypes = [types[argument] for argument in prototype.arguments]
        setattr(api, name, function)
    _add_what_older_headers_lack(api, layout)
    return api


def _add_what_older_headers_lack(api: Any, layout: ApiLayout) -> None:
    clear, prototype = api.llama_memory_clear, layout.functions["llama_memory_clear"]
    if prototype.symbol != "llama_memory_clear":  # it takes the context itself
        api.llama_get_memory = _itself
    if len(prototype.arguments) == 1:
        api.llama_memory_clear = lambda memory, _data: clear(memory)
    if "llama_model_get_vocab" not in layout.functions:
        api.llama_model_get_vocab = _itself


def _itself(handle: int) -> int:
    return handle
