import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.baseline import BaselineWriter, open_baseline
from harness.errors import InfrastructureError
from harness.score import reduce_logits, score_chunk, stack, summarize

N_VOCAB, N_CTX = 97, 16
FIRST = N_CTX // 2


def make_logits(seed, n_chunks=3, n_vocab=N_VOCAB, spread=3.0):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, n_vocab, (n_chunks, N_CTX)).astype(np.int32)
    logits = rng.normal(0, spread, (n_chunks, N_CTX - 1 - FIRST, n_vocab)).astype(np.float32)
    return tokens, logits


def write(path, tokens, logits, epsilon):
    with BaselineWriter(path, tokens, logits.shape[-1]) as writer:
        for i, rows in enumerate(logits):
            writer.add(i, reduce_logits(rows, tokens[i, FIRST + 1 :], epsilon))
    return open_baseline(path)


def test_an_identical_model_scores_the_rounding_alone(tmp_path):
    for epsilon in (0.0, 1e-3, 1e-2):
        tokens, logits = make_logits(1)
        baseline = write(tmp_path / f"{epsilon}.npz", tokens, logits, epsilon)
        scores = stack([score_chunk(rows, baseline.chunk(i)) for i, rows in enumerate(logits)])
        summary = summarize(scores)
        assert 0 <= summary.mean_kld < 1e-7
        assert summary.same_top == 1
        assert summary.ppl == pytest.approx(summary.ppl_base, rel=1e-6)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 1e-4, 1e-2, 0.3]), st.floats(0.1, 20))
def test_what_is_read_is_a_distribution_close_to_what_was_written(
    tmp_path_factory, seed, epsilon, spread
):
    tokens, logits = make_logits(seed, n_chunks=1, spread=spread)
    path = tmp_path_factory.mktemp("b") / "b.npz"
    chunk = write(path, tokens, logits, epsilon).chunk(0)
    mass = np.add.reduceat(np.exp(chunk.logp), chunk.offsets[:-1]) + np.exp(chunk.rest_logp)
    np.testing.assert_allclose(mass, 1, atol=1e-12)
    exact = reduce_logits(logits[0], tokens[0, FIRST + 1 :], epsilon)
    np.testing.assert_array_equal(chunk.ids, exact.ids)
    np.testing.assert_array_equal(chunk.offsets, exact.offsets)
    np.testing.assert_array_equal(chunk.top_ids, exact.top_ids)
    np.testing.assert_array_equal(chunk.next_ids, tokens[0, FIRST + 1 :])
    np.testing.assert_allclose(chunk.next_logp, exact.next_logp, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(np.exp(chunk.logp / 2), np.exp(exact.logp / 2), atol=4e-5)


def test_a_smaller_file_never_shows_more_divergence(tmp_path):
    tokens, logits = make_logits(2)
    quantized = logits + np.random.default_rng(3).normal(0, 0.3, logits.shape).astype(np.float32)
    klds, sizes = [], []
    for epsilon in (0.0, 1e-3, 1e-2, 1e-1):
        baseline = write(tmp_path / f"{epsilon}.npz", tokens, logits, epsilon)
        rows = [score_chunk(q, baseline.chunk(i)) for i, q in enumerate(quantized)]
        klds.append(summarize(stack(rows)).mean_kld)
        sizes.append(baseline.path.stat().st_size)
    assert all(a >= b - 1e-7 for a, b in itertools.pairwise(klds))
    assert all(a > b for a, b in itertools.pairwise(sizes))


def test_any_chunk_is_read_alone_and_in_any_order(tmp_path):
    tokens, logits = make_logits(4, n_chunks=5)
    baseline = write(tmp_path / "b.npz", tokens, logits, 1e-2)
    in_order = list(baseline.chunks([0, 1, 2, 3, 4]))
    for number in (3, 0, 4):
        np.testing.assert_array_equal(baseline.chunk(number).ids, in_order[number].ids)
    assert (baseline.n_chunks, baseline.n_ctx) == (5, N_CTX)


def test_the_same_content_is_the_same_file(tmp_path):
    tokens, logits = make_logits(5)
    a = write(tmp_path / "a.npz", tokens, logits, 1e-2).path.read_bytes()
    assert a == write(tmp_path / "b.npz", tokens, logits, 1e-2).path.read_bytes()


def test_a_large_vocabulary_keeps_its_ids(tmp_path):
    tokens, logits = make_logits(6, n_chunks=1, n_vocab=70_000)
    chunk = write(tmp_path / "b.npz", tokens, logits, 1e-3).chunk(0)
    assert chunk.ids.max() > 1 << 16


@pytest.mark.parametrize("damage", ["truncate", "flip", "not a zip"])
def test_a_damaged_baseline_is_never_scored_against(tmp_path, damage):
    tokens, logits = make_logits(7)
    path = write(tmp_path / "b.npz", tokens, logits, 1e-2).path
    data = bytearray(path.read_bytes())
    if damage == "truncate":
        data = data[: len(data) // 2]
    elif damage == "flip":
        data[len(data) // 2] ^= 0xFF
    else:
        data = bytearray(b"hello")
    path.write_bytes(data)
    with pytest.raises(InfrastructureError, match="is damaged"):
        list(open_baseline(path).chunks([0, 1, 2]))


def test_a_missing_baseline_tells_how_to_make_one(tmp_path):
    with pytest.raises(InfrastructureError, match="baseline is missing") as caught:
        open_baseline(tmp_path / "absent.npz")
    assert "python -m harness baseline" in caught.value.hint
