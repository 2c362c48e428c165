"""How fast a chunk is scored: run with ``pytest tests/benchmarks --benchmark-enable``.

To beat: llama-perplexity's loop took 3.2 ms a token at 202,048 entries on one
core, a plain NumPy version 0.7 ms.
"""

from __future__ import annotations

import numpy as np
import pytest

from harness.domain import F32, I32
from harness.score import reduce_logits, score_chunk


def chunk(n_scored: int, n_vocab: int) -> tuple[F32, F32, I32]:
    rng = np.random.default_rng(0)
    # A few hundred to a few thousand tokens hold all but 1e-4, as in language models.
    base = (6 * rng.normal(size=(n_scored, n_vocab))).astype(np.float32)
    noisy = (base + 0.3 * rng.normal(size=base.shape)).astype(np.float32)
    return base, noisy, rng.integers(0, n_vocab, n_scored).astype(np.int32)


@pytest.mark.parametrize(
    ("n_scored", "n_vocab", "epsilon"), [(255, 2048, 1e-4), (255, 2048, 0.0), (8, 202_048, 1e-4)]
)
def test_score_chunk_speed(benchmark, n_scored: int, n_vocab: int, epsilon: float) -> None:
    base, noisy, following = chunk(n_scored, n_vocab)
    reference = reduce_logits(base, following, epsilon)
    scores = benchmark(score_chunk, noisy, reference)
    assert 0 < scores.kld.mean() < 1


@pytest.mark.parametrize(("n_scored", "n_vocab"), [(255, 2048), (8, 202_048)])
def test_reduce_logits_speed(benchmark, n_scored: int, n_vocab: int) -> None:
    base, _, following = chunk(n_scored, n_vocab)
    reference = benchmark(reduce_logits, base, following, 1e-4)
    assert len(reference.ids) < base.size
