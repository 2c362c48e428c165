"""A bootstrap over chunks that draws the same chunks for every file."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from harness.domain import F64, Effect

N_RESAMPLES = 4000
SEED = 20250409
CONFIDENCE = 0.95


@lru_cache(maxsize=2)
def chunk_weights(n_chunks: int) -> F64:
    """Weights that turn per-chunk values into means, of the sample and of each resample.

    The unit is the chunk, since tokens of a chunk are correlated, and every file
    gets the same weights, since all files are scored on the same chunks: so
    what makes a chunk hard for both sides cancels in their ratio.

    Returns
    -------
    float64 [1 + N_RESAMPLES, n_chunks], read-only
        Row 0 weighs each chunk once (the sample itself), row 1 and up as often
        as a draw of ``n_chunks`` chunks with replacement has it. Rows sum to 1.
        The seed is fixed: the same scores always give the same interval.
    """
    draws = np.random.default_rng(SEED).multinomial(
        n_chunks, np.full(n_chunks, 1 / n_chunks), size=N_RESAMPLES
    )
    weights = np.vstack([np.ones(n_chunks), draws]) / n_chunks
    weights.setflags(write=False)
    return weights


def effect_of(ln_ratios: F64) -> Effect:
    """The sample's log ratio (entry 0) with the percentile interval of the resamples'.

    The interval always holds the sample's own value.
    """
    point = float(ln_ratios[0])
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(ln_ratios[1:], (tail, 1 - tail)).tolist()
    return Effect(point, min(low, point), max(high, point))
