"""The reference keeps the fewest tokens that hold 1 − ε, and what it keeps is exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from harness.score import reduce_logits


def probabilities(logits: np.ndarray) -> np.ndarray:
    exps = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return exps / exps.sum(axis=1, keepdims=True)


def kept_rows(reference) -> list[np.ndarray]:
    return np.split(reference.ids, reference.offsets[1:-1])


def logits_of(*rows: list[float]) -> np.ndarray:
    return np.log(np.array(rows)).astype(np.float32)


def ids(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int32)


def test_the_smallest_tokens_go_while_they_fit_the_budget() -> None:
    logits = logits_of([0.01, 0.5, 0.02, 0.4, 0.07])
    reference = reduce_logits(logits, ids(1), 0.05)
    assert reference.ids.tolist() == [1, 3, 4]
    assert np.exp(reference.rest_logp[0]) == pytest.approx(0.03)
    assert np.exp(reference.logp) == pytest.approx([0.5, 0.4, 0.07])
    assert reduce_logits(logits, ids(1), 0.11).ids.tolist() == [1, 3]
    assert reduce_logits(logits, ids(1), 0.0999).ids.tolist() == [1, 3, 4]


def test_the_token_that_follows_stays_however_unlikely() -> None:
    reference = reduce_logits(logits_of([0.01, 0.5, 0.02, 0.4, 0.07]), ids(0), 0.05)
    assert reference.ids.tolist() == [0, 1, 3, 4]
    assert np.exp(reference.next_logp[0]) == pytest.approx(0.01)
    assert np.exp(reference.rest_logp[0]) == pytest.approx(0.02)


def test_its_probability_counts_so_another_token_may_go() -> None:
    # {0, 1} hold 0.94: with the 0.05 kept for token 2 anyway, token 3's 0.04 fits the budget.
    reference = reduce_logits(logits_of([0.5, 0.44, 0.01, 0.05]), ids(2), 0.05)
    assert reference.ids.tolist() == [0, 1, 2]


def test_epsilon_zero_keeps_every_token_even_without_probability() -> None:
    logits = np.array([[0.0, -2000.0, 1.0]], dtype=np.float32)
    reference = reduce_logits(logits, ids(0), 0.0)
    assert reference.ids.tolist() == [0, 1, 2]
    assert np.isfinite(reference.logp).all()
    assert reference.rest_logp.tolist() == [-np.inf]


def test_of_equal_probabilities_the_lower_ids_stay() -> None:
    reference = reduce_logits(np.zeros((1, 10), dtype=np.float32), ids(7), 0.55)
    assert reference.ids.tolist() == [0, 1, 2, 3, 7]
    assert reference.top_ids.tolist() == [0]


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10**6), epsilon=st.floats(1e-9, 0.9), spread=st.sampled_from([0.1, 2, 9])
)
def test_kept_is_enough_fewest_sorted_and_sums_to_one(
    seed: int, epsilon: float, spread: float
) -> None:
    rng = np.random.default_rng(seed)
    logits = (spread * rng.normal(size=(4, 60))).astype(np.float32)
    following = rng.integers(0, 60, 4).astype(np.int32)
    p = probabilities(logits)
    reference = reduce_logits(logits, following, epsilon)
    mass = np.add.reduceat(np.exp(reference.logp), reference.offsets[:-1])
    assert_allclose(mass + np.exp(reference.rest_logp), 1, rtol=1e-12)
    assert_allclose(np.exp(reference.next_logp), p[np.arange(4), following], rtol=1e-10)
    assert (reference.top_ids == logits.argmax(axis=1)).all()
    for row, kept in enumerate(kept_rows(reference)):
        assert following[row] in kept
        assert (np.diff(kept) > 0).all()
        assert p[row, kept].sum() >= 1 - epsilon - 1e-12
        # Fewest: the least of the others no longer fits into the bucket.
        others = [p[row, v] for v in kept if v != following[row]]
        dropped = 1 - p[row, kept].sum()
        assert not others or dropped + min(others) > epsilon - 1e-12


def test_a_large_vocabulary_shrinks_to_what_matters() -> None:
    rng = np.random.default_rng(0)
    logits = (3 * rng.normal(size=(3, 202_048))).astype(np.float32)
    reference = reduce_logits(logits, ids(0, 1, 2), 0.01)
    p = probabilities(logits)
    for row, kept in enumerate(kept_rows(reference)):
        by_size = np.sort(p[row])[::-1]
        fewest = int(np.searchsorted(np.cumsum(by_size), 0.99)) + 1
        assert fewest <= len(kept) <= fewest + 1


@pytest.mark.parametrize("epsilon", [-0.1, 1.0, float("nan")])
def test_epsilon_outside_its_range_is_refused(epsilon: float) -> None:
    with pytest.raises(ValueError, match="epsilon is"):
        reduce_logits(np.zeros((1, 4), dtype=np.float32), ids(0), epsilon)


def test_next_ids_outside_the_vocabulary_are_refused() -> None:
    with pytest.raises(ValueError, match="n_vocab is 4"):
        reduce_logits(np.zeros((2, 4), dtype=np.float32), ids(0, 4), 0.1)
