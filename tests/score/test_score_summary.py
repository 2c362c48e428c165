"""The summary's figures are llama-perplexity's definitions, written out here once more."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.domain import TokenScores
from harness.score import ChunkScores, stack, summarize


def scores(n_chunks: int = 3, n_scored: int = 255) -> TokenScores:
    rng = np.random.default_rng(7)
    shape = (n_chunks, n_scored)
    return TokenScores(
        kld=rng.lognormal(-3, 1.5, shape),
        nll=rng.exponential(2.0, shape),
        nll_base=rng.exponential(1.8, shape),
        delta_p=np.clip(rng.normal(-0.02, 0.1, shape), -1, 1),
        same_top=rng.random(shape) < 0.8,
    )


def tool_percentile(values: list[float], fraction: float) -> float:
    """The lambda ``percentile`` of perplexity.cpp, over sorted values."""
    p = fraction * (len(values) - 1)
    ip = int(p)
    p -= ip
    return (1 - p) * values[ip] + p * values[min(ip + 1, len(values) - 1)]


@pytest.mark.parametrize("n_chunks", [1, 2, 3])  # odd and even numbers of tokens
def test_kld_statistics(n_chunks: int) -> None:
    data = scores(n_chunks)
    summary = summarize(data)
    values = sorted(data.kld.ravel().tolist())
    half = len(values) // 2
    median = values[half] if len(values) % 2 else (values[half] + values[half - 1]) / 2
    assert summary.n_chunks == n_chunks
    assert summary.n_tokens == n_chunks * 255
    assert summary.mean_kld == pytest.approx(math.fsum(values) / len(values))
    assert summary.max_kld == values[-1]
    assert summary.median_kld == pytest.approx(median)
    for name, fraction in {
        "p1": 0.01,
        "p5": 0.05,
        "p10": 0.1,
        "p90": 0.9,
        "p95": 0.95,
        "p99": 0.99,
        "p99_9": 0.999,
    }.items():
        assert getattr(summary, f"{name}_kld") == pytest.approx(tool_percentile(values, fraction))


def test_perplexities_and_token_probabilities() -> None:
    data = scores()
    summary = summarize(data)
    n = data.kld.size
    nll, nll_base = math.fsum(data.nll.ravel()) / n, math.fsum(data.nll_base.ravel()) / n
    assert summary.ppl == pytest.approx(math.exp(nll))
    assert summary.ppl_base == pytest.approx(math.exp(nll_base))
    assert summary.ln_ppl_ratio == pytest.approx(nll - nll_base)
    assert summary.mean_delta_p == pytest.approx(math.fsum(data.delta_p.ravel()) / n)
    assert summary.rms_delta_p == pytest.approx(
        math.sqrt(math.fsum(d * d for d in data.delta_p.ravel().tolist()) / n)
    )
    assert summary.min_delta_p == data.delta_p.min()
    assert summary.max_delta_p == data.delta_p.max()
    assert summary.same_top == pytest.approx(int(data.same_top.sum()) / n)
    assert 0 <= summary.same_top <= 1


def a_chunk(n: int, kld: float) -> ChunkScores:
    ones = np.ones(n)
    return ChunkScores(kld * ones, 2 * ones, 3 * ones, -ones, np.zeros(n, dtype=np.bool_))


def test_chunks_are_stacked_in_their_order() -> None:
    stacked = stack([a_chunk(4, 0.1), a_chunk(4, 0.2)])
    assert stacked.n_chunks == 2
    assert stacked.kld.tolist() == [[0.1] * 4, [0.2] * 4]
    assert (stacked.nll == 2).all()
    assert (stacked.nll_base == 3).all()
    assert (stacked.delta_p == -1).all()
    assert stacked.same_top.shape == (2, 4)


def test_unequal_or_no_chunks_are_refused() -> None:
    with pytest.raises(ValueError, match=r"lengths \[4, 5\]"):
        stack([a_chunk(4, 0.1), a_chunk(5, 0.1)])
    with pytest.raises(ValueError, match=r"lengths \[\]"):
        stack([])
    with pytest.raises(ValueError, match="no token"):
        summarize(stack([a_chunk(0, 0.1)]))
