"""The real worker over a small libllama, whose logits say which token they belong to."""

from __future__ import annotations

import re

import numpy as np
import pytest

from harness.errors import InfrastructureError, PrError
from harness.runtime import Library, ModelInfo, evaluate, probe, tokenize

N_CTX, FIRST = 8, 3


def model(tmp_path, word="fine"):
    path = tmp_path / f"{word}.gguf"
    path.write_text(word)
    return path


def decoded(library, gguf, tokens, asked, quiet, *, sequences=1, threads=1):
    answers = evaluate(
        library,
        gguf,
        tokens,
        n_vocab=4,
        first=FIRST,
        threads=threads,
        sequences=sequences,
        gpu_layers=0,
        progress=quiet,
        what="Q4_K_M",
        **asked,
    )
    return np.stack([logits for _, logits in answers])


@pytest.mark.parametrize("names", ["fake_llama", "older_fake_llama"])
@pytest.mark.parametrize("sequences", [2, 9])
def test_each_scored_position_gets_its_own_logits(
    request, tmp_path, asked, quiet, names, sequences
):
    library = request.getfixturevalue(names)
    tokens = np.arange(5 * N_CTX, dtype=np.int32).reshape(5, N_CTX)
    logits = decoded(library, model(tmp_path), tokens, asked, quiet, sequences=sequences, threads=2)
    scored = slice(FIRST, N_CTX - 1)
    assert np.array_equal(logits[:, :, 0], tokens[:, scored])
    assert np.array_equal(logits[:, :, 1], np.tile(np.arange(N_CTX)[scored], (5, 1)))
    assert np.array_equal(logits[:, 0, 2], np.arange(5) % min(sequences, 5))
    assert np.all(logits[:, :, 3] == 2)


@pytest.mark.parametrize("names", ["fake_llama", "older_fake_llama"])
def test_vocabulary_and_tokens(request, tmp_path, asked, names):
    library = request.getfixturevalue(names)
    gguf = model(tmp_path)
    assert probe(library, gguf, **asked) == ModelInfo(n_vocab=4, add_bos=True, bos=2)
    assert tokenize(library, gguf, "abc", **asked).tolist() == [2, 3, 3, 3]
    assert tokenize(library, gguf, "", **asked).tolist() == [2]


def test_more_tokens_than_a_text_can_have_are_refused(fake_llama, tmp_path, asked):
    with pytest.raises(PrError, match=r"1 x 105 tokens where 1 x 20 is the most"):
        tokenize(fake_llama, model(tmp_path), "long", **asked)


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("crash", r"killed by SIGSEGV"),
        ("refuse", r"llama_decode returned -3 for chunk 0 \(16 tokens in 2 sequences\)"),
        ("silent", r"llama_get_logits returned nothing"),
    ],
)
def test_a_library_that_breaks_is_told_of(fake_llama, tmp_path, asked, quiet, word, says):
    tokens = np.zeros((2, N_CTX), dtype=np.int32)
    with pytest.raises(PrError, match=rf"Q4_K_M on pr 1a2b3c4: .*{says}"):
        decoded(fake_llama, model(tmp_path, word), tokens, asked, quiet, sequences=2)


def test_a_model_that_does_not_load_is_told_of_in_llama_cpps_words(fake_llama, tmp_path, asked):
    missing = tmp_path / "missing.gguf"
    says = rf"does not load {missing}: fake: error loading model: .* is not there"
    with pytest.raises(PrError, match=says):
        probe(fake_llama, missing, **asked)


def test_a_library_that_is_none_is_told_of(fake_llama, tmp_path, asked):
    broken = tmp_path / "libllama.so"
    broken.write_bytes(b"\x7fELF and nothing more")
    with pytest.raises(PrError, match=re.escape(str(broken))):
        probe(Library("pr x", broken, fake_llama.layout, "key"), model(tmp_path), **asked)


def test_a_function_that_the_header_promises_and_the_library_lacks_is_named(
    fake_llama, older_fake_llama, tmp_path, asked
):
    mixed = Library("main x", fake_llama.path, older_fake_llama.layout, "key")
    asked |= {"blame": InfrastructureError}
    with pytest.raises(InfrastructureError, match="undefined symbol: llama_load_model_from_file"):
        probe(mixed, model(tmp_path), **asked)
