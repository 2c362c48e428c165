"""The binding over a real llama.cpp: the demo's main."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from test_header import offsets_by_compiler, offsets_by_ctypes
from tiny_model import N_VOCAB, write_tiny_model

from harness.errors import PrError
from harness.runtime import ModelInfo, evaluate, pinned_library, probe, read_api, tokenize
from harness.runtime.library import Library


@pytest.fixture(scope="module")
def tree(demo_main):
    return demo_main.path


@pytest.fixture(scope="module")
def folder(main_build):
    """Return the folder of a build's shared libraries."""
    return main_build.library.parent


@pytest.fixture(scope="module")
def library(tree, folder):
    return Library("main x", folder / "libllama.so", read_api(tree, PrError), "key")


@pytest.fixture
def pinned(folder, monkeypatch):
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", str(folder))
    return pinned_library()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


def decoded(library, gguf, asked, quiet, *, sequences, threads=1, n_chunks=7, n_ctx=96):
    tokens = np.random.default_rng(1).integers(3, N_VOCAB, (n_chunks, n_ctx), dtype=np.int32)
    tokens[:, 0] = 1
    answers = evaluate(
        library,
        gguf,
        tokens,
        n_vocab=N_VOCAB,
        first=n_ctx // 2,
        threads=threads,
        sequences=sequences,
        gpu_layers=0,
        progress=quiet,
        what="tiny",
        **asked,
    )
    return np.stack([logits for _, logits in answers])


def test_the_layout_is_the_compilers(tree, tmp_path):
    for name in ("include", "ggml"):
        (tmp_path / name).symlink_to(tree / name)
    layout = read_api(tmp_path, PrError)
    assert offsets_by_ctypes(layout) == offsets_by_compiler(tmp_path, layout)


def test_the_layout_is_that_of_llama_cpp_python(library, pinned):
    """Where versions match; ours comes from the header, theirs was written by hand."""
    code = """
import ctypes, json, llama_cpp.llama_cpp as api
structs = [api.llama_model_params, api.llama_context_params, api.llama_batch]
found = {s.__name__: ctypes.sizeof(s) for s in structs}
for s in structs:
    found.update({f"{s.__name__}.{f[0]}": getattr(s, f[0]).offset for f in s._fields_})
print(json.dumps(found))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert offsets_by_ctypes(library.layout) == json.loads(done.stdout)


def test_logits_do_not_depend_on_how_many_sequences_are_decoded_together(
    library, tiny, asked, quiet
):
    alone = decoded(library, tiny, asked, quiet, sequences=1)
    assert alone.std() > 0.5
    assert len(np.unique(alone[:, :, 0])) > alone[:, :, 0].size // 2
    for sequences in (3, 4, 7):
        together = decoded(library, tiny, asked, quiet, sequences=sequences)
        np.testing.assert_allclose(together, alone, atol=1e-4)


def test_the_pinned_library_answers_as_the_binding_does(library, pinned, tiny, asked, quiet):
    ours = decoded(library, tiny, asked, quiet, sequences=4)
    assert np.array_equal(decoded(pinned, tiny, asked, quiet, sequences=4), ours)
    assert (
        tokenize(pinned, tiny, "w1 é", **asked).tolist()
        == tokenize(library, tiny, "w1 é", **asked).tolist()
    )


def test_vocabulary(library, tiny, asked):
    assert probe(library, tiny, **asked) == ModelInfo(n_vocab=N_VOCAB, add_bos=True, bos=1)
    tokens = tokenize(library, tiny, "é<s>", **asked)
    assert tokens[0] == 1
    assert tokens[-5:].tolist() == [3 + byte for byte in "é<s>".encode()]


@pytest.mark.parametrize("keep", [0, 100, 0.5])
def test_a_truncated_file_is_told_of_in_llama_cpps_words(
    library, tiny, tmp_path, asked, quiet, keep
):
    data = tiny.read_bytes()
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(data[: int(keep * len(data)) if keep < 1 else keep])
    with pytest.raises(PrError, match=r"does not load .*cut\.gguf: .*error"):
        decoded(library, cut, asked, quiet, sequences=1)
