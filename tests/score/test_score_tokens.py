"""Per-token scores: equal to a plain loop, exact where it is hard, and lawful."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from harness.domain import ReferenceChunk
from harness.score import ChunkScores, reduce_logits, score_chunk
from harness.score.softmax import BLOCK_ELEMENTS


def chunk(
    seed: int, n_scored: int = 12, n_vocab: int = 300, noise: float = 0.5, spread: float = 3.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A reference's logits, a noisy copy of them, and the tokens that follow."""
    rng = np.random.default_rng(seed)
    base = (spread * rng.normal(size=(n_scored, n_vocab))).astype(np.float32)
    noisy = (base + noise * rng.normal(size=base.shape)).astype(np.float32)
    return base, noisy, rng.integers(0, n_vocab, n_scored).astype(np.int32)


def naive(logits: np.ndarray, reference: ReferenceChunk) -> ChunkScores:
    """The definition, one token and one vocabulary entry at a time."""
    kld, nll, delta_p, same = [], [], [], []
    for i, row in enumerate(logits.astype(np.float64)):
        top = max(row)
        ln_total = math.log(math.fsum(math.exp(z - top) for z in row))
        ln_q = [z - top - ln_total for z in row]
        ids = reference.ids[reference.offsets[i] : reference.offsets[i + 1]].tolist()
        logp = reference.logp[reference.offsets[i] : reference.offsets[i + 1]].tolist()
        terms = [math.exp(lp) * (lp - ln_q[v]) for v, lp in zip(ids, logp, strict=True)]
        others = [math.exp(ln_q[v]) for v in set(range(len(row))) - set(ids)]
        p_rest = math.exp(reference.rest_logp[i])
        if p_rest > 0:
            terms.append(p_rest * (reference.rest_logp[i] - math.log(math.fsum(others))))
        t = reference.next_ids[i]
        kld.append(math.fsum(terms))
        nll.append(-ln_q[t])
        delta_p.append(math.exp(ln_q[t]) - math.exp(reference.next_logp[i]))
        same.append(ln_q.index(max(ln_q)) == reference.top_ids[i])
    return ChunkScores(
        np.array(kld), np.array(nll), -reference.next_logp, np.array(delta_p), np.array(same)
    )


@pytest.mark.parametrize("epsilon", [0.0, 1e-6, 1e-3, 0.2])
@pytest.mark.parametrize("n_vocab", [2, 300])
def test_scores_equal_a_plain_loop_over_the_definition(epsilon: float, n_vocab: int) -> None:
    base, noisy, following = chunk(1, n_vocab=n_vocab)
    reference = reduce_logits(base, following, epsilon)
    fast, slow = score_chunk(noisy, reference), naive(noisy, reference)
    assert_allclose(fast.kld, slow.kld, rtol=1e-12, atol=1e-14)
    assert_allclose(fast.nll, slow.nll, rtol=1e-13)
    assert_allclose(fast.delta_p, slow.delta_p, rtol=1e-10, atol=1e-15)
    assert_array_equal(fast.nll_base, slow.nll_base)
    assert_array_equal(fast.same_top, slow.same_top)
    assert fast.same_top.any() or n_vocab == 2


def test_without_a_bucket_it_is_the_textbook_kld() -> None:
    base, noisy, following = chunk(2)
    ln_p = base - np.log(np.exp(base.astype(np.float64)).sum(axis=1, keepdims=True))
    ln_q = noisy - np.log(np.exp(noisy.astype(np.float64)).sum(axis=1, keepdims=True))
    textbook = (np.exp(ln_p) * (ln_p - ln_q)).sum(axis=1)
    scores = score_chunk(noisy, reduce_logits(base, following, 0.0))
    assert_allclose(scores.kld, textbook, rtol=1e-10)
    rows = np.arange(len(base))
    assert_allclose(
        scores.delta_p, (np.exp(ln_q) - np.exp(ln_p))[rows, following], rtol=1e-9, atol=1e-15
    )


def test_scores_do_not_depend_on_how_rows_are_cut_into_blocks() -> None:
    n_vocab = BLOCK_ELEMENTS // 3  # blocks of three rows, the last one shorter
    base, noisy, following = chunk(3, n_scored=7, n_vocab=n_vocab)
    reference = reduce_logits(base, following, 1e-4)
    together = score_chunk(noisy, reference)
    for i in range(7):
        alone = score_chunk(
            noisy[i : i + 1], reduce_logits(base[i : i + 1], following[i : i + 1], 1e-4)
        )
        assert_allclose(together.kld[i], alone.kld[0], rtol=1e-12)
        assert_allclose(together.nll[i], alone.nll[0], rtol=1e-14)
        assert together.same_top[i] == alone.same_top[0]


@pytest.mark.parametrize("epsilon", [0.0, 1e-12, 1e-6, 1e-3])
@pytest.mark.parametrize("spread", [0.0, 3.0, 30.0])
def test_identical_logits_diverge_by_rounding_only(epsilon: float, spread: float) -> None:
    base, _, following = chunk(4, n_vocab=2048, spread=spread)
    scores = score_chunk(base, reduce_logits(base, following, epsilon))
    assert scores.kld.max() <= 1e-12
    assert scores.kld.min() >= 0
    assert_allclose(scores.delta_p, 0, atol=1e-14)
    assert scores.same_top.all()


def test_a_tiny_bucket_keeps_its_digits() -> None:
    # q_rest is 1e-40 of the whole: as 1 - sum of the kept it would be 0 or noise.
    base = np.array([[0.0, -1.0, -20.0, -21.0]], dtype=np.float32)
    other = np.array([[0.0, -1.0, -92.0, -93.0]], dtype=np.float32)
    reference = reduce_logits(base, np.array([0], dtype=np.int32), 1e-6)
    assert reference.ids.tolist() == [0, 1]
    p_rest = math.exp(reference.rest_logp[0])
    kld = score_chunk(other, reference).kld[0]
    # The bucket loses 72 nats, and the kept tokens share out what it held.
    assert kld == pytest.approx(p_rest * (72 - 1), rel=1e-6)
    assert_allclose(kld, naive(other, reference).kld[0], rtol=1e-6)


def test_a_bucket_beyond_the_range_of_floats_stays_finite() -> None:
    base = np.array([[0.0, -1.0, -12.0, -13.0]], dtype=np.float32)
    other = np.array([[0.0, -1.0, -5000.0, -5001.0]], dtype=np.float32)
    reference = reduce_logits(base, np.array([1], dtype=np.int32), 1e-4)
    kld = score_chunk(other, reference).kld[0]
    assert kld == pytest.approx(math.exp(reference.rest_logp[0]) * 4988, rel=1e-3)


def test_the_order_of_logits_in_memory_does_not_matter() -> None:
    base, noisy, following = chunk(6)
    reference = reduce_logits(base, following, 0.05)
    by_columns = score_chunk(np.asfortranarray(noisy), reference)
    assert_allclose(by_columns.kld, score_chunk(noisy, reference).kld, rtol=1e-12)


def test_of_equal_logits_the_lowest_id_is_the_top() -> None:
    base = np.array([[1.0, 2.0, 0.0], [1.0, 2.0, 0.0]], dtype=np.float32)
    tied = np.array([[2.0, 2.0, 0.0], [0.0, 2.0, 2.0]], dtype=np.float32)
    reference = reduce_logits(base, np.array([0, 0], dtype=np.int32), 0.0)
    assert score_chunk(tied, reference).same_top.tolist() == [False, True]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    epsilons=st.lists(st.floats(0, 0.9), min_size=2, max_size=4),
    noise=st.floats(0, 5),
)
def test_kld_is_never_negative_and_never_rises_when_buckets_merge(
    seed: int, epsilons: list[float], noise: float
) -> None:
    base, noisy, following = chunk(seed, n_scored=5, n_vocab=40, noise=noise)
    klds = [score_chunk(noisy, reduce_logits(base, following, e)).kld for e in sorted(epsilons)]
    for finer, coarser in pairwise(klds):
        assert (coarser >= 0).all()
        assert (coarser <= finer + 1e-12).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), shift=st.floats(-50, 50, width=16))
def test_a_constant_added_to_a_row_changes_nothing(seed: int, shift: float) -> None:
    base, noisy, following = chunk(seed, n_scored=3, n_vocab=50)
    reference = reduce_logits(base, following, 1e-2)
    # Multiples of 1/256 keep float32 sums exact.
    noisy = (np.round(noisy * 256) / 256).astype(np.float32)
    shifted = noisy + np.float32(round(shift * 256) / 256)
    assert_allclose(
        score_chunk(shifted, reference).kld, score_chunk(noisy, reference).kld, atol=1e-12
    )


def a_reference() -> ReferenceChunk:
    base, _, following = chunk(5, n_scored=4, n_vocab=30)
    return reduce_logits(base, following, 1e-2)


def swapped(ids: np.ndarray) -> np.ndarray:
    ids = ids.copy()
    ids[[0, 1]] = ids[[1, 0]]
    return ids


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: replace(r, next_ids=r.next_ids[:-1]), "shape"),
        (lambda r: replace(r, top_ids=r.top_ids[:-1]), "top_ids has 3 rows, next_ids has 4"),
        (lambda r: replace(r, offsets=r.offsets[:-1]), "offsets has 4 entries, not 5"),
        (lambda r: replace(r, logp=r.logp[:-1]), "log-probabilities"),
        (lambda r: replace(r, offsets=r.offsets * (r.offsets != r.offsets[1])), "keeps no token"),
        (lambda r: replace(r, ids=r.ids + 30), "n_vocab is 30"),
        (lambda r: replace(r, next_ids=r.next_ids + 30), "n_vocab is 30"),
        (lambda r: replace(r, ids=swapped(r.ids)), "do not rise"),
        (lambda r: replace(r, logp=r.logp + 0.1), "sums to 1.1"),
        (lambda r: replace(r, logp=r.logp * np.nan), "sums to nan"),
    ],
)
def test_a_reference_that_does_not_fit_is_refused(change, words: str) -> None:
    logits = np.zeros((4, 30), dtype=np.float32)
    score_chunk(logits, a_reference())  # as it is, it fits
    with pytest.raises(ValueError, match=words):
        score_chunk(logits, change(a_reference()))


def test_a_row_beyond_the_first_block_is_named_by_its_number_in_the_chunk() -> None:
    n_vocab = BLOCK_ELEMENTS // 2
    logits = np.zeros((5, n_vocab), dtype=np.float32)
    reference = reduce_logits(logits, np.zeros(5, dtype=np.int32), 0.5)
    rest_logp = reference.rest_logp.copy()
    rest_logp[3] = 0
    with pytest.raises(ValueError, match=r"row 3 sums to 1\.5"):
        score_chunk(logits, replace(reference, rest_logp=rest_logp))


def test_a_rest_where_every_token_is_kept_is_refused() -> None:
    base, _, following = chunk(5, n_scored=4, n_vocab=30)
    reference = reduce_logits(base, following, 0.0)
    with pytest.raises(ValueError, match="keeps all 30 tokens"):
        score_chunk(base, replace(reference, rest_logp=np.full(4, -30.0)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0), (3, 17)])
def test_a_logit_that_is_not_finite_is_refused(bad: float, place: tuple[int, int]) -> None:
    logits = np.zeros((4, 30), dtype=np.float32)
    logits[place] = bad
    with pytest.raises(ValueError, match="not finite"):
        score_chunk(logits, a_reference())
    with pytest.raises(ValueError, match="not finite"):
        reduce_logits(logits, np.zeros(4, dtype=np.int32), 0.1)


def test_logits_of_another_dtype_or_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="float64, not float32"):
        score_chunk(np.zeros((4, 30)), a_reference())
    with pytest.raises(ValueError, match=r"shape \(3, 30\), not \(4, n_vocab\)"):
        score_chunk(np.zeros((3, 30), dtype=np.float32), a_reference())
