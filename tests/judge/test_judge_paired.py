"""The bootstrap's weights are a sample of chunks, the same ones every time."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from harness.judge.paired import N_RESAMPLES, chunk_weights, effect_of


def test_the_first_row_is_the_sample_and_the_others_are_draws_of_as_many_chunks() -> None:
    weights = chunk_weights(16)
    assert weights.shape == (1 + N_RESAMPLES, 16)
    assert_allclose(weights[0], 1 / 16)
    assert_allclose(weights.sum(axis=1), 1)
    counts = weights[1:] * 16
    assert_allclose(counts, np.round(counts))
    assert_allclose(counts.mean(axis=0), 1, atol=0.1)
    assert len(np.unique(counts, axis=0)) > N_RESAMPLES / 2


def test_another_process_draws_the_same() -> None:
    first = chunk_weights(16)
    chunk_weights.cache_clear()  # as a new process starts
    assert_array_equal(chunk_weights(16), first)


def test_shared_weights_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="read-only"):
        chunk_weights(16)[0, 0] = 1


@pytest.mark.parametrize("point", [-5.0, 0.5, 5.0])
def test_the_interval_always_holds_the_sample(point: float) -> None:
    effect = effect_of(np.array([point, *np.linspace(0, 1, 1001)]))
    assert effect.ln_ratio == point
    assert effect.low == pytest.approx(min(0.025, point))
    assert effect.high == pytest.approx(max(0.975, point))
