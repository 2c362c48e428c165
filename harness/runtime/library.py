"""Which libllama answers: a branch's own build, or the one that llama-cpp-python brings."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from harness.domain import Build
from harness.errors import HarnessError, UsageError
from harness.runtime.header import read_api
from harness.runtime.layout import ApiLayout
from harness.store import digest, file_sha256

_PACKAGE = "llama-cpp-python"
_LIBRARY = "libllama.so"


@dataclass(frozen=True)
class Library:
    """A libllama and how to talk to it.

    ``name`` is for people ("main 1a2b3c4", "pinned 0.3.36"), ``key`` stands
    for its content. ``layout`` is None for the pinned library: it is driven
    through llama-cpp-python's own low-level module.
    """

    name: str
    path: Path
    layout: ApiLayout | None
    key: str


def branch_library(build: Build, name: str, blame: type[HarnessError]) -> Library:
    """Return a build's libllama, its layout read from the header of the same tree.

    Raises ``blame`` for a C API that is not known here (`header.read_api`).
    """
    return Library(name, build.library, read_api(build.checkout, blame), build.key)


def pinned_library() -> Library:
    """Return llama-cpp-python's own libllama; ``LLAMA_CPP_LIB_PATH`` names another folder.

    Raises
    ------
    UsageError
        When there is none: installed as bindings only, or not at all.
    """
    spec = importlib.util.find_spec("llama_cpp")
    try:
        release = version(_PACKAGE)
    except PackageNotFoundError:
        spec = None
    if spec is None or spec.origin is None:
        raise _no_library(f"{_PACKAGE} is not installed")
    named = os.environ.get("LLAMA_CPP_LIB_PATH")
    folder = Path(named).absolute() if named else Path(spec.origin).parent / "lib"
    library = folder / _LIBRARY
    if not library.is_file():
        why = f"LLAMA_CPP_LIB_PATH={named}" if named else f"{_PACKAGE} {release} as bindings only"
        raise _no_library(f"{why}: there is no {library}")
    # libllama alone is a shell: the kernels are in the ggml libraries beside it.
    parts = sorted({*folder.glob("libllama.so*"), *folder.glob("libggml*.so*")})
    content = digest("pinned", release, [(part.name, file_sha256(part)) for part in parts])
    return Library(f"pinned {release}", library, None, content)


def _no_library(why: str) -> UsageError:
    return UsageError(
        f"no pinned evaluator: {why}",
        hint="CMAKE_ARGS=-DGGML_CUDA=ON pip install --force-reinstall --no-deps "
        f"--no-binary {_PACKAGE} {_PACKAGE} installs it with a library"
        " (without CMAKE_ARGS: for the CPU); or leave --quant-evaluator=pinned out",
    )
