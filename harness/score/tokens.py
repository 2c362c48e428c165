"""Score a chunk's logits against the BF16 reference, token by token."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.domain import F32, F64, Bool, ReferenceChunk
from harness.score.softmax import check_logits, exponentials, row_blocks

MASS_TOLERANCE = 1e-3
"""How far a reference row may be from summing to 1 before it is taken for a mistake."""

_TINY = 1e-290  # sums below lose digits to denormals and are taken again, shifted


@dataclass(frozen=True)
class ChunkScores:
    """`TokenScores` of one chunk: each array is ``[n_scored]``, KLD and NLLs in nats."""

    kld: F64
    nll: F64
    nll_base: F64
    delta_p: F64
    same_top: Bool


def score_chunk(logits: F32, reference: ReferenceChunk) -> ChunkScores:
    """Per-token divergence of a quantized model from the reference.

    With p the reference and q the softmax of ``logits``, a row's divergence is

        KLD = Σ_kept p(v)·(ln p(v) − ln q(v)) + p_rest·(ln p_rest − ln q_rest)

    over the tokens that the reference keeps and the bucket of all others. It is a
    true KLD: 0 for equal distributions, and never above the KLD over all tokens
    (data processing inequality). Everything is float64. q_rest is the sum over
    the tokens that are not kept, never 1 − Σ_kept, so no digits cancel however
    small it is. What rounding leaves below 0 is set to 0.

    Parameters
    ----------
    logits : float32 [n_scored, n_vocab]
        Row ``i`` predicts ``reference.next_ids[i]``.
    reference : ReferenceChunk
        Of the same tokens and vocabulary.

    Returns
    -------
    ChunkScores
        Δp = q(t) − p(t) and NLLs of the token t that follows, and whether the
        argmaxes agree (of equal logits the lowest id counts, as in llama-perplexity).

    Raises
    ------
    ValueError
        A shape, dtype or id does not fit, a logit is not finite, or the
        reference is no distribution: a mistake of the program, since the
        runtime has checked the child's answer before.
    """
    check_logits(logits, len(reference.next_ids))
    _check_reference(reference, logits.shape[1])
    n_scored = len(logits)
    kld, nll = np.empty(n_scored), np.empty(n_scored)
    same_top = np.empty(n_scored, dtype=np.bool_)
    for rows in row_blocks(*logits.shape):
        kld[rows], nll[rows], same_top[rows] = _score_rows(logits, reference, rows)
    return ChunkScores(
        kld=kld,
        nll=nll,
        nll_base=-reference.next_logp,
        delta_p=np.exp(-nll) - np.exp(reference.next_logp),
        same_top=same_top,
    )


def _score_rows(logits: F32, reference: ReferenceChunk, rows: slice) -> tuple[F64, F64, Bool]:
    block = logits[rows]
    n_rows, n_vocab = block.shape
    parts = exponentials(block)
    bounds = reference.offsets[rows.start : rows.stop + 1]
    kept = slice(int(bounds[0]), int(bounds[-1]))
    starts, counts = bounds[:-1] - bounds[0], np.diff(bounds)
    places = np.repeat(n_vocab * np.arange(n_rows), counts) + reference.ids[kept]

    logp, rest_logp = reference.logp[kept], reference.rest_logp[rows]
    p, p_rest = np.exp(logp), np.exp(rest_logp)
    _check_mass(np.add.reduceat(p, starts) + p_rest, rows.start)

    ln_q = block.ravel()[places].astype(np.float64)
    ln_q -= np.repeat(parts.shift, counts)
    ln_q -= np.repeat(parts.ln_total, counts)
    kld = np.add.reduceat(_terms(p, logp, ln_q), starts)

    parts.exps.ravel()[places] = 0.0
    with np.errstate(divide="ignore"):
        ln_rest = np.log(parts.exps.sum(axis=1))
    for i in np.flatnonzero((ln_rest < np.log(_TINY)) & (p_rest > 0)):
        kept_here = places[starts[i] : starts[i] + counts[i]] - n_vocab * i
        ln_rest[i] = _ln_sum_of_others(block[i], kept_here, parts.shift[i])
    kld += _terms(p_rest, rest_logp, ln_rest - parts.ln_total)

    following = block[np.arange(n_rows), reference.next_ids[rows]]
    nll = parts.ln_total - (following - parts.shift)
    return np.maximum(kld, 0.0), nll, parts.top_ids == reference.top_ids[rows]


def _terms(p: F64, ln_p: F64, ln_q: F64) -> F64:
    """p·(ln p − ln q), and 0 where p is 0, whatever the logarithms are."""
    with np.errstate(invalid="ignore"):
        terms = p * (ln_p - ln_q)
    terms[p == 0] = 0.0
    return terms


def _ln_sum_of_others(row: F32, kept: NDArray[np.int64], shift: float) -> float:
    """Ln Σ exp(logit − shift) over the tokens not kept, where the plain sum underflows."""
    others = np.delete(row.astype(np.float64), kept)
    largest = others.max()
    return float(largest - shift + np.log(np.exp(others - largest).sum()))


def _check_reference(reference: ReferenceChunk, n_vocab: int) -> None:
    n_scored, offsets, ids = len(reference.next_ids), reference.offsets, reference.ids
    for name in ("rest_logp", "next_logp", "top_ids"):
        length = len(getattr(reference, name))
        if length != n_scored:
            raise ValueError(f"reference.{name} has {length} rows, next_ids has {n_scored}")
    if len(offsets) != n_scored + 1:
        raise ValueError(f"reference.offsets has {len(offsets)} entries, not {n_scored + 1}")
    counts = np.diff(offsets)
    if offsets[0] != 0 or offsets[-1] != len(ids) or len(ids) != len(reference.logp):
        raise ValueError(
            f"reference.offsets span {offsets[0]} to {offsets[-1]}, "
            f"but there are {len(ids)} ids and {len(reference.logp)} log-probabilities"
        )
    if (counts < 1).any():
        raise ValueError(f"reference row {int(np.argmin(counts))} keeps no token")
    if ids.min() < 0 or ids.max() >= n_vocab:
        raise ValueError(
            f"reference ids reach from {ids.min()} to {ids.max()}, n_vocab is {n_vocab}"
        )
    if reference.next_ids.min() < 0 or reference.next_ids.max() >= n_vocab:
        raise ValueError(f"next_ids reach {reference.next_ids.max()}, n_vocab is {n_vocab}")
    rising = np.diff(ids) > 0
    rising[offsets[1:-1] - 1] = True  # from one row to the next ids may fall
    if not rising.all():
        raise ValueError("reference ids of a row do not rise: a token twice, or unsorted")
    full = (counts == n_vocab) & np.isfinite(reference.rest_logp)
    if full.any():
        i = int(np.argmax(full))
        raise ValueError(
            f"reference row {i} keeps all {n_vocab} tokens, yet its rest is "
            f"{reference.rest_logp[i]} nats, not -inf"
        )


def _check_mass(mass: F64, first_row: int) -> None:
    near = np.abs(mass - 1) <= MASS_TOLERANCE  # False for NaN
    if not near.all():
        i = int(np.argmin(near))
        raise ValueError(f"reference row {first_row + i} sums to {mass[i]:.6f}, not 1")
