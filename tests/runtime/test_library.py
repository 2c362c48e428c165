from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.runtime.library import pinned_library


def test_bindings_only_are_told_of_with_the_command_that_helps(monkeypatch, tmp_path):
    bindings = Path(importlib.util.find_spec("llama_cpp").origin).parent
    if (bindings / "lib" / "libllama.so").exists():
        pytest.skip("llama-cpp-python is installed with a library here")
    monkeypatch.delenv("LLAMA_CPP_LIB_PATH", raising=False)
    with pytest.raises(UsageError, match="as bindings only") as caught:
        pinned_library()
    assert "CMAKE_ARGS=-DGGML_CUDA=ON pip install --force-reinstall" in caught.value.hint


def test_a_folder_without_a_library_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", str(tmp_path))
    with pytest.raises(UsageError, match=f"LLAMA_CPP_LIB_PATH={tmp_path}"):
        pinned_library()


def test_the_key_follows_the_content_of_the_kernels_too(monkeypatch, tmp_path):
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", str(tmp_path))
    (tmp_path / "libllama.so").write_bytes(b"one")
    (tmp_path / "libggml-cpu.so").write_bytes(b"two")
    before = pinned_library()
    assert before.name.startswith("pinned 0.")
    assert before == pinned_library()
    (tmp_path / "libggml-cpu.so").write_bytes(b"three")
    assert pinned_library().key != before.key
