"""Measurements made of per-chunk KLDs, as the judge's tests need them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from harness.domain import Measurement, TokenScores
from harness.score import summarize

N_SCORED = 20


def make_measurement(
    recipe: str, size_bytes: int, chunk_klds: Sequence[float], same_top: float = 0.8
) -> Measurement:
    """A file whose chunks have these mean KLDs; tokens differ within a chunk."""
    chunk_klds = np.asarray(chunk_klds, dtype=np.float64)
    shape = (len(chunk_klds), N_SCORED)
    kld = chunk_klds[:, None] * np.linspace(0.5, 1.5, N_SCORED)
    n_same = round(same_top * N_SCORED)
    ones = np.ones(shape)
    scores = TokenScores(
        kld=kld,
        nll=2 * ones,
        nll_base=1.9 * ones,
        delta_p=-0.01 * ones,
        same_top=np.broadcast_to(np.arange(N_SCORED) < n_same, shape),
    )
    return Measurement(recipe, size_bytes, 4.0, f"sha-{recipe}", summarize(scores), scores)


@pytest.fixture(scope="session")
def measurement() -> Callable[..., Measurement]:
    return make_measurement


@pytest.fixture(scope="session")
def hardness() -> np.ndarray:
    """How hard each of 64 chunks is, for every file alike; mean 1."""
    values = np.random.default_rng(3).lognormal(0, 0.4, 64)
    return values / values.mean()
