"""Two conditions each way, and the run's verdict from its recipes'."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.domain import Effect, Verdict
from harness.judge import decide, identical, smallest_effect_pct

LIMIT_PCT = 1.0


def effect(pct: float, low: float, high: float) -> Effect:
    """An effect given in percent."""
    return Effect(*(math.log1p(p / 100) for p in (pct, low, high)))


@pytest.mark.parametrize(
    ("pct", "low", "high", "verdict"),
    [
        (6.0, 4.1, 7.9, Verdict.WORSE),
        (2.0, 0.1, 4.0, Verdict.WORSE),
        (2.0, -0.1, 4.0, Verdict.INCONCLUSIVE),  # beyond the limit, but maybe by chance
        (0.9, 0.5, 1.3, Verdict.INCONCLUSIVE),  # surely worse, but maybe under the limit
        (0.9, 0.8, 0.95, Verdict.SAME),  # surely worse, by less than matters
        (0.0, -0.5, 0.5, Verdict.SAME),
        (0.0, -3.0, 3.0, Verdict.INCONCLUSIVE),
        (-3.0, -7.0, 0.5, Verdict.SAME),  # no harm for sure, a help perhaps
        (-0.5, -0.9, -0.1, Verdict.SAME),  # surely better, by less than matters
        (-6.0, -8.0, -4.0, Verdict.BETTER),
    ],
)
def test_verdicts(pct: float, low: float, high: float, verdict: Verdict) -> None:
    assert decide(effect(pct, low, high), LIMIT_PCT) is verdict


def test_the_limit_is_the_user_s() -> None:
    assert decide(effect(6.0, 4.1, 7.9), 5.0) is Verdict.WORSE
    assert decide(effect(6.0, 4.1, 7.9), 7.0) is Verdict.INCONCLUSIVE
    assert decide(effect(6.0, 4.1, 7.9), 8.0) is Verdict.SAME


def test_equal_files_are_the_same_even_without_tolerance() -> None:
    assert decide(Effect(0.0, 0.0, 0.0), 0.0) is Verdict.SAME


ORDER = [Verdict.BETTER, Verdict.SAME, Verdict.INCONCLUSIVE, Verdict.WORSE]


@given(
    point=st.floats(-2, 2),
    below=st.floats(0, 1),
    above=st.floats(0, 1),
    limit=st.floats(0, 50),
    shift=st.floats(0, 2),
)
def test_more_divergence_never_improves_the_verdict(
    point: float, below: float, above: float, limit: float, shift: float
) -> None:
    before = Effect(point, point - below, point + above)
    after = Effect(*(x + shift for x in (before.ln_ratio, before.low, before.high)))
    assert ORDER.index(decide(after, limit)) >= ORDER.index(decide(before, limit))


def test_mistakes_are_refused() -> None:
    with pytest.raises(ValueError, match="limit_pct is -1"):
        decide(effect(0, -1, 1), -1)
    with pytest.raises(ValueError, match="outside"):
        decide(Effect(0.5, -0.1, 0.1), LIMIT_PCT)


def test_identical_files() -> None:
    result = identical("IQ1_M")
    assert result.recipe == "IQ1_M"
    assert result.verdict is Verdict.SAME
    assert result.note == "identical files"
    assert result.equal_size == result.per_gb == result.frontier == Effect(0.0, 0.0, 0.0)


def test_the_smallest_effect_is_the_half_width_but_never_under_the_limit() -> None:
    wide, narrow = Effect(0.1, -0.1, 0.4), Effect(0.1, 0.099, 0.101)
    assert smallest_effect_pct(wide, LIMIT_PCT) == pytest.approx(100 * math.expm1(0.2))
    assert smallest_effect_pct(narrow, LIMIT_PCT) == pytest.approx(1.0)
    seen = Effect(math.log1p(0.222), math.log1p(0.222) - 0.2, 1.0)
    assert decide(seen, LIMIT_PCT) is Verdict.WORSE  # one just above `wide`'s figure
