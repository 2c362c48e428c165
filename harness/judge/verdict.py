"""From effects to verdicts."""

from __future__ import annotations

import math

from harness.domain import Effect, Judgement, Verdict


def decide(effect: Effect, limit_pct: float) -> Verdict:
    """Two conditions each way: statistics and practice must agree.

    WORSE where the lower bound is above 0 (one-sided 97.5 %) and the ratio itself
    is beyond the limit. Where the upper bound is not above the limit no harm is
    done: BETTER if moreover that bound is under 0 and the ratio is beyond the limit
    the other way, else SAME. Anything else is INCONCLUSIVE.

    Along a shift of the whole effect upwards the order is BETTER, SAME,
    INCONCLUSIVE, WORSE: more divergence never improves the verdict.

    Raises
    ------
    ValueError
        ``limit_pct`` is negative, or the effect's bounds do not enclose it.
    """
    if not effect.low <= effect.ln_ratio <= effect.high:
        raise ValueError(f"{effect.ln_ratio} is outside [{effect.low}, {effect.high}]")
    limit = _ln_limit(limit_pct)
    if effect.low > 0 and effect.ln_ratio > limit:
        return Verdict.WORSE
    if effect.high > limit:
        return Verdict.INCONCLUSIVE
    if effect.high < 0 and effect.ln_ratio < -limit:
        return Verdict.BETTER
    return Verdict.SAME


def identical(recipe: str) -> Judgement:
    """Judge a recipe whose two files are equal byte by byte: SAME, nothing measured."""
    none = Effect(0.0, 0.0, 0.0)
    return Judgement(
        recipe=recipe,
        verdict=Verdict.SAME,
        decided_by=None,
        equal_size=none,
        per_gb=none,
        frontier=none,
        same_top_diff=None,
        note="identical files",
    )


def smallest_effect_pct(effect: Effect, limit_pct: float) -> float:
    """Percent of worsening that a run of this precision tells as WORSE, at even odds.

    It takes an effect larger than its own lower half-width, and beyond the limit.

    Raises
    ------
    ValueError
        ``limit_pct`` is negative.
    """
    half_width = effect.ln_ratio - effect.low
    return 100 * math.expm1(max(half_width, _ln_limit(limit_pct)))


def _ln_limit(limit_pct: float) -> float:
    if not limit_pct >= 0:
        raise ValueError(f"limit_pct is {limit_pct}, not 0 or more")
    return math.log1p(limit_pct / 100)
