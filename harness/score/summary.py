"""Chunks -> a file's token scores -> its summary, defined as llama-perplexity prints it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.domain import Summary, TokenScores
from harness.score.tokens import ChunkScores

METRICS_VERSION = 1
"""Raise it when the meaning of a score or statistic changes: stored scores are keyed by it."""


def stack(chunks: Sequence[ChunkScores]) -> TokenScores:
    """Put chunks of equal length on top of each other, in the order given.

    Raises
    ------
    ValueError
        There is no chunk, or their lengths differ.
    """
    lengths = {len(chunk.kld) for chunk in chunks}
    if len(lengths) != 1:
        raise ValueError(f"chunks of one length are needed, got lengths {sorted(lengths)}")
    return TokenScores(
        kld=np.stack([c.kld for c in chunks]),
        nll=np.stack([c.nll for c in chunks]),
        nll_base=np.stack([c.nll_base for c in chunks]),
        delta_p=np.stack([c.delta_p for c in chunks]),
        same_top=np.stack([c.same_top for c in chunks]),
    )


def summarize(scores: TokenScores) -> Summary:
    """A file's statistics over all scored tokens.

    The definitions are those of ``kl_divergence()`` in llama.cpp's
    ``tools/perplexity/perplexity.cpp``: PPL = exp(mean NLL), ln PPL ratio = mean
    NLL − mean NLL of the reference, RMS Δp = √(mean Δp²), percentiles linear
    between the order statistics around fraction·(n − 1). Two units differ: KLD
    is in nats as there, but same top and Δp are fractions (0.8123, where it
    prints 81.23 %). It computes percentiles in float32, so its last printed
    digit may differ.

    Raises
    ------
    ValueError
        There is no token.
    """
    if scores.kld.size == 0:
        raise ValueError(f"scores have shape {scores.kld.shape}: there is no token to summarize")
    p1, p5, p10, p50, p90, p95, p99, p99_9 = np.percentile(
        scores.kld, (1, 5, 10, 50, 90, 95, 99, 99.9), method="linear"
    ).tolist()
    mean_nll, mean_nll_base = float(scores.nll.mean()), float(scores.nll_base.mean())
    return Summary(
        n_chunks=scores.n_chunks,
        n_tokens=scores.kld.size,
        mean_kld=float(scores.kld.mean()),
        median_kld=p50,
        max_kld=float(scores.kld.max()),
        p1_kld=p1,
        p5_kld=p5,
        p10_kld=p10,
        p90_kld=p90,
        p95_kld=p95,
        p99_kld=p99,
        p99_9_kld=p99_9,
        same_top=float(scores.same_top.mean()),
        ppl=float(np.exp(mean_nll)),
        ppl_base=float(np.exp(mean_nll_base)),
        ln_ppl_ratio=mean_nll - mean_nll_base,
        mean_delta_p=float(scores.delta_p.mean()),
        rms_delta_p=float(np.sqrt(np.mean(scores.delta_p**2))),
        min_delta_p=float(scores.delta_p.min()),
        max_delta_p=float(scores.delta_p.max()),
    )
