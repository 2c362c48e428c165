"""What a child sees of the environment: a short list of names, nothing else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

PASSED_ON = (
    "PATH",
    # Language and encoding of messages.
    "LANG",
    "LC_ALL",
    # The compilers that the user chose; `build` puts their identity into its key.
    "CC",
    "CXX",
    "CUDACXX",
    "CUDAHOSTCXX",
    "CUDA_PATH",
    "NVCC_CCBIN",
    "NVCC_PREPEND_FLAGS",
    "NVCC_APPEND_FLAGS",
    # The leased GPU.
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
)
"""Passed on as they are. Left out on purpose: credentials and proxies of any kind,
``LD_PRELOAD`` and ``LD_LIBRARY_PATH`` (another side's libraries would be found first),
``PYTHON*``, ``CFLAGS`` and the like (they change a build behind its key), ``GGML_*``."""


def child_environment(private: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """Return the whole environment of a child.

    ``HOME`` and ``TMPDIR`` are the folder ``private``, so that no setting of
    the user is read and nothing is left in shared folders; ``extra`` wins.
    """
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    passed.setdefault("PATH", os.defpath)
    return passed | {"HOME": str(private), "TMPDIR": str(private)} | dict(extra)
