"""Make the BF16 reference of a chunk: what the divergence needs of full logits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.domain import F32, F64, I32, ReferenceChunk
from harness.score.softmax import check_logits, exponentials


def reduce_logits(logits: F32, next_ids: I32, epsilon: float) -> ReferenceChunk:
    """Keep of each row the fewest tokens that hold at least 1 − ε of its probability.

    The token that follows is always among them; of equal probabilities the lower
    id stays. The others' probability is summed from the smallest up, so the
    bucket is exact however small it is.

    Parameters
    ----------
    logits : float32 [n_scored, n_vocab]
        The BF16 model's.
    next_ids : int32 [n_scored]
        The token that really follows.
    epsilon : float in [0, 1)
        Probability that may go to the bucket; 0 keeps every token.

    Raises
    ------
    ValueError
        ``epsilon`` outside [0, 1), a shape, dtype or id that does not fit, or a
        logit that is not finite.
    """
    check_logits(logits, len(next_ids))
    n_scored, n_vocab = logits.shape
    if not 0 <= epsilon < 1:
        raise ValueError(f"epsilon is {epsilon}, not in [0, 1)")
    if n_scored and (next_ids.min() < 0 or next_ids.max() >= n_vocab):
        raise ValueError(
            f"next_ids reach from {next_ids.min()} to {next_ids.max()}, n_vocab is {n_vocab}"
        )
    kept_ids: list[I32] = []
    kept_logp: list[F64] = []
    rest_logp, next_logp = np.empty(n_scored), np.empty(n_scored)
    top_ids = np.empty(n_scored, dtype=np.int32)
    for i in range(n_scored):
        parts = exponentials(logits[i : i + 1])
        shift, ln_total = parts.shift[0], parts.ln_total[0]
        exps = parts.exps[0]
        ids, rest = _fewest(exps, int(next_ids[i]), epsilon * np.exp(ln_total))
        kept_ids.append(ids)
        kept_logp.append((logits[i, ids] - shift) - ln_total)
        rest_logp[i] = np.log(rest) - ln_total if rest > 0 else -np.inf
        next_logp[i] = (logits[i, next_ids[i]] - shift) - ln_total
        top_ids[i] = parts.top_ids[0]
    return ReferenceChunk(
        offsets=np.cumsum([0, *map(len, kept_ids)], dtype=np.int64),
        ids=np.concatenate(kept_ids) if kept_ids else np.empty(0, dtype=np.int32),
        logp=np.concatenate(kept_logp) if kept_logp else np.empty(0),
        rest_logp=rest_logp,
        next_ids=next_ids.astype(np.int32),
        next_logp=next_logp,
        top_ids=top_ids,
    )


def _fewest(weights: F64, next_id: int, budget: float) -> tuple[I32, float]:
    """Ids (ascending) that stay when the smallest weights, at most ``budget`` together, go.

    Weights under budget / n can go all at once, since n of them stay under the
    budget: only the few above it need sorting, which is what makes a
    vocabulary of 200,000 affordable.
    """
    if budget == 0:
        return np.arange(len(weights), dtype=np.int32), 0.0
    droppable = weights.copy()
    droppable[next_id] = 0.0  # stays, so it takes nothing of the budget
    large = droppable >= budget / len(weights)
    small_sum = float(droppable[~large].sum())
    candidates: NDArray[np.int64] = np.flatnonzero(large)
    order = np.argsort(-droppable[candidates], kind="stable")[::-1]
    sums = small_sum + np.cumsum(droppable[candidates][order])
    n_dropped = int(np.searchsorted(sums, budget, side="right"))
    kept = np.append(candidates[order[n_dropped:]], next_id)
    rest = sums[n_dropped - 1] if n_dropped else small_sum
    return np.sort(kept).astype(np.int32), float(rest)
