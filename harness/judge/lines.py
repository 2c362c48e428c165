"""What main offers at a size: the three readings of "worse per GB" as point estimates.

Sizes and KLDs are all they need, so they also read a published table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from harness.domain import F64

KLD_FLOOR = 1e-7
"""Nats per token; below it rounding speaks, so logarithms take no smaller KLD."""


@dataclass(frozen=True)
class Bracket:
    """Two of main's files, by index, around a size; ``weight`` is the share of ``high``."""

    low: int
    high: int
    weight: float


def mixing_line(size: float, sizes: Sequence[float], klds: Sequence[float]) -> float | None:
    """Main's KLD at ``size``, linear in bytes between its two neighbours in size.

    Giving some layers the smaller neighbour's type and the others the larger
    one's reaches about this line without any cleverness.

    The neighbours are those in size, as the rule is written, even where one of
    them is dominated (larger than another of main's files and worse). The lower
    convex hull of main's files would be the stricter alternative: it leaves such
    a file out, but then compares with two files that may be far from the PR's.

    Parameters
    ----------
    size : float
        Of the PR's file, in the unit of ``sizes``.
    sizes, klds : sequences of equal length
        Main's files in any order; KLD in nats per token.

    Returns
    -------
    float or None
        Nats per token; None where main's sizes do not bracket ``size``: there is
        no extrapolation.
    """
    return _line(size, sizes, klds, mix)


def frontier_line(size: float, sizes: Sequence[float], klds: Sequence[float]) -> float | None:
    """Main's KLD at ``size`` with ln KLD linear in bytes; see `mixing_line`.

    The shape that rate-distortion theory expects, and never above the mixing line.
    """
    return _line(size, sizes, klds, log_mix)


def per_gb_ratio(pr_size: float, pr_kld: float, main_size: float, main_kld: float) -> float:
    """(KLD_pr · size_pr) / (KLD_main · size_main); under 1 is better. The article's reading."""
    return (max(pr_kld, KLD_FLOOR) * pr_size) / (max(main_kld, KLD_FLOOR) * main_size)


def bracket(
    size: float, sizes: Sequence[float], klds: Sequence[float], preferred: int | None = None
) -> Bracket | None:
    """Main's neighbours in size around ``size``.

    A file of exactly that size is both neighbours; of several files of one size
    the ``preferred`` index counts, else the one of the lowest KLD.

    Raises
    ------
    ValueError
        ``sizes`` and ``klds`` differ in length.
    """
    if len(sizes) != len(klds):
        raise ValueError(f"{len(sizes)} sizes, but {len(klds)} KLDs")

    def rank(i: int) -> tuple[bool, float]:
        return i != preferred, klds[i]

    below = [i for i, s in enumerate(sizes) if s <= size]
    above = [i for i, s in enumerate(sizes) if s >= size]
    if not below or not above:
        return None
    low = min(below, key=lambda i: (-sizes[i], rank(i)))
    high = min(above, key=lambda i: (sizes[i], rank(i)))
    span = sizes[high] - sizes[low]
    return Bracket(low, high, (size - sizes[low]) / span if span else 0.0)


def mix(low: F64, high: F64, weight: float) -> F64:
    """ln KLD of the mixing line between two files' KLDs, elementwise."""
    return ln_kld((1 - weight) * low + weight * high)


def log_mix(low: F64, high: F64, weight: float) -> F64:
    """ln KLD of the frontier between two files' KLDs, elementwise."""
    return (1 - weight) * ln_kld(low) + weight * ln_kld(high)


def ln_kld(kld: F64) -> F64:
    """ln of a KLD in nats, of `KLD_FLOOR` at least."""
    return np.log(np.maximum(kld, KLD_FLOOR))


def _line(
    size: float, sizes: Sequence[float], klds: Sequence[float], shape: Callable[..., F64]
) -> float | None:
    around = bracket(size, sizes, klds)
    if around is None:
        return None
    low, high = np.float64(klds[around.low]), np.float64(klds[around.high])
    return float(np.exp(shape(low, high, around.weight)))
