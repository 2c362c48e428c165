"""The one way in which logits become log-probabilities, for reference and scores alike.

Both go through `exponentials`, so a model scored against a reference of its own
logits differs from it by rounding only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from harness.domain import F32, F64, I32

BLOCK_ELEMENTS = 1 << 19
"""Logits widened to float64 at once: 4 MiB, whatever the vocabulary."""


@dataclass(frozen=True)
class Exponentials:
    """A block of rows on its way to probabilities.

    Attributes
    ----------
    exps : float64 [n_rows, n_vocab], C order
        exp(logit − shift), so 1 at the top of each row. The consumer may overwrite it.
    shift : float64 [n_rows]
        The row's largest logit.
    ln_total : float64 [n_rows], nats
        ln of the row's sum of ``exps``; ln p(v) = (logit(v) − shift) − ln_total.
    top_ids : int32 [n_rows]
        The row's argmax, the lowest id among equals.
    """

    exps: F64
    shift: F64
    ln_total: F64
    top_ids: I32


def exponentials(logits: F32) -> Exponentials:
    """exp of a block of rows, each shifted by its largest logit.

    Parameters
    ----------
    logits : float32 [n_rows, n_vocab], finite

    Raises
    ------
    ValueError
        A logit is NaN or infinite.
    """
    top = logits.argmax(axis=1)  # NumPy takes a NaN for the largest, so it shows in `shift`
    shift = logits[np.arange(len(logits)), top].astype(np.float64)
    finite = np.isfinite(shift) & np.isfinite(logits.min(axis=1))
    if not finite.all():
        raise ValueError(f"a logit of row {int(np.argmin(finite))} of the block is not finite")
    exps = logits.astype(np.float64, order="C")
    exps -= shift[:, None]
    np.exp(exps, out=exps)
    return Exponentials(exps, shift, np.log(exps.sum(axis=1)), top.astype(np.int32))


def row_blocks(n_rows: int, n_vocab: int) -> Iterator[slice]:
    """Cut ``n_rows`` rows into slices of at most `BLOCK_ELEMENTS` logits, at least a row each."""
    step = max(1, BLOCK_ELEMENTS // n_vocab)
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))


def check_logits(logits: F32, n_scored: int) -> None:
    """Raise ValueError unless ``logits`` is float32 ``[n_scored, n_vocab]``."""
    if logits.dtype != np.float32:
        raise ValueError(f"logits are {logits.dtype}, not float32")
    if logits.ndim != 2 or logits.shape[0] != n_scored or logits.shape[1] < 1:
        raise ValueError(f"logits have shape {logits.shape}, not ({n_scored}, n_vocab)")
