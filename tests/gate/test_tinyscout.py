"""The embedded model: it is what it claims to be, and quantizing it means something."""

import itertools
from collections import Counter

import numpy as np
import pytest

from harness.errors import InfrastructureError
from harness.runtime import evaluate, tokenize


@pytest.fixture(scope="module")
def first_logits(main_library, tinyscout, silent, tmp_path_factory):
    """llama.cpp's logits of the first chunk: float32 [255, n_vocab]."""
    chunks = evaluate(
        main_library,
        tinyscout.model.path,
        tinyscout.baseline.tokens[:1],
        n_vocab=tinyscout.manifest.n_vocab,
        first=256,
        threads=2,
        sequences=1,
        gpu_layers=0,
        timeout_s=300.0,
        log=tmp_path_factory.mktemp("bf16") / "log.txt",
        blame=InfrastructureError,
        progress=silent,
        what="BF16",
    )
    return next(iter(chunks))[1].copy()


def test_it_is_a_llama4_that_the_mix_rules_bite_on(tinyscout):
    model = tinyscout.model
    assert model.architecture == "llama4"
    weights = {t.name: t.n_elements for t in model.tensors}
    assert 9e6 < sum(weights.values()) < 11e6
    assert model.size_bytes < 32e6
    assert {name for name in weights if name.startswith("blk.7.")} == {
        f"blk.7.{part}.weight"
        for part in (
            *("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output"),
            *("ffn_norm", "ffn_gate_inp", "ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"),
            *("ffn_gate_shexp", "ffn_up_shexp", "ffn_down_shexp"),
        )
    }
    assert weights["blk.0.attn_q.weight"] == 4 * weights["blk.0.attn_v.weight"]  # GQA 4
    assert weights["blk.0.ffn_up_exps.weight"] == 4 * weights["blk.0.ffn_up_shexp.weight"]
    assert "output.weight" in weights
    assert tinyscout.n_chunks >= 64


def test_llama_cpps_logits_agree_with_the_training_codes(first_logits, tinyscout):
    with np.load(tinyscout.model.path.parent / "reference-logits.npz") as saved:
        tokens, expected = saved["tokens"], saved["logits"]
    np.testing.assert_array_equal(tokens, tinyscout.baseline.tokens[0])
    ours = first_logits[-len(expected) :]
    # llama.cpp multiplies BF16 weights with activations rounded to BF16: 2^-9 relative a product
    assert np.abs(ours - expected).max() < 0.15
    assert np.abs(ours - expected).mean() < 0.02
    assert np.corrcoef(ours.ravel(), expected.ravel())[0, 1] > 0.9999
    assert (ours.argmax(1) == expected.argmax(1)).mean() > 0.95


def test_it_has_learned_far_more_than_how_frequent_tokens_are(tinyscout, main_library, tmp_path):
    text = (tinyscout.model.path.parent / "calibration.txt").read_text()
    train = tokenize(
        main_library,
        tinyscout.model.path,
        text,
        timeout_s=300.0,
        log=tmp_path / "log.txt",
        blame=InfrastructureError,
    )
    counts = Counter(train.tolist())
    scored = tinyscout.baseline.tokens[:, 257:].ravel()
    total = len(train) + tinyscout.manifest.n_vocab
    unigram = np.exp(-np.mean([np.log((counts[t] + 1) / total) for t in scored.tolist()]))
    assert tinyscout.manifest.ppl < unigram / 5


def test_held_out_and_calibration_text_share_no_line(tinyscout):
    folder = tinyscout.model.path.parent
    evaluation, calibration = (
        {line.strip() for line in (folder / name).read_text().splitlines() if len(line) > 40}
        for name in ("evaluation.txt", "calibration.txt")
    )
    assert len(evaluation) > 300
    assert not evaluation & calibration


def test_divergence_rises_strictly_as_bits_fall(measured):
    ladder = ["Q8_0", "Q6_K", "Q4_K_M", "IQ3_XXS", "IQ2_XXS", "IQ1_M"]
    files = [measured(name) for name in ladder]
    klds = [f.summary.mean_kld for f in files]
    assert klds == sorted(klds)
    assert all(a < b for a, b in itertools.pairwise(klds))
    tops = [f.summary.same_top for f in files]
    assert tops == sorted(tops, reverse=True)
    sizes = [f.size_bytes for f in files]
    assert sizes == sorted(sizes, reverse=True)
