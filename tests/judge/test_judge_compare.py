"""The judge on files with per-token scores: pairing, policy, floor, notes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.domain import Policy, Verdict
from harness.judge import judge
from harness.judge.compare import MIN_CHUNKS
from harness.judge.lines import KLD_FLOOR

GB = 10**9
ORDER = [Verdict.BETTER, Verdict.SAME, Verdict.INCONCLUSIVE, Verdict.WORSE]


@pytest.fixture(scope="session")
def ladder(measurement, hardness):
    """Main's files: Q2 at 10 GB, Q3 at 14 GB, Q4 at 20 GB."""
    return [
        measurement("Q4", 20 * GB, 0.1 * hardness),
        measurement("Q2", 10 * GB, 0.4 * hardness),
        measurement("Q3", 14 * GB, 0.2 * hardness),
    ]


@pytest.fixture(scope="session")
def judged(measurement, hardness, ladder):
    """Judge a PR's Q2 of the given size and KLD against main's."""

    def judged(
        size_gb: float,
        kld: float,
        policy: Policy = Policy.EQUAL_SIZE,
        jitter: float = 0.01,
        limit: float = 1.0,
    ):
        noise = 1 + jitter * np.random.default_rng(5).normal(size=len(hardness))
        pr = measurement("Q2", round(size_gb * GB), kld * hardness * noise / noise.mean())
        return judge("Q2", pr, ladder[1], ladder, policy, limit)

    return judged


def test_equal_size_is_main_s_own_file(judged) -> None:
    result = judged(10, 0.44)
    assert result.neighbours == ("Q2",)
    assert result.verdict is Verdict.WORSE
    assert result.equal_size.pct == pytest.approx(10, abs=0.5)
    assert result.equal_size == result.per_gb == result.frontier


def test_a_bigger_file_that_lowers_kld_is_still_worse_at_equal_size(judged) -> None:
    result = judged(12, 0.33)  # main's line gives 0.3 there
    assert result.neighbours == ("Q2", "Q3")
    assert result.per_gb.pct == pytest.approx(-1, abs=0.5)
    assert result.equal_size.pct == pytest.approx(10, abs=0.5)
    assert result.frontier.pct == pytest.approx(100 * (0.33 / math.sqrt(0.08) - 1), abs=0.5)
    assert result.verdict is Verdict.WORSE
    assert result.decided_by is Policy.EQUAL_SIZE


def test_the_policy_asked_for_decides(judged) -> None:
    by = {policy: judged(12, 0.295, policy) for policy in Policy}
    assert by[Policy.EQUAL_SIZE].verdict is Verdict.BETTER
    assert by[Policy.PER_GB].verdict is Verdict.BETTER
    assert by[Policy.FRONTIER].verdict is Verdict.WORSE
    assert all(result.decided_by is policy for policy, result in by.items())


def test_pairing_cancels_what_makes_chunks_hard(measurement, hardness, judged) -> None:
    paired = judged(10, 0.44).equal_size
    alone = np.random.default_rng(6).permutation(hardness)
    pr, main = measurement("Q2", GB, 0.44 * alone), measurement("Q2", GB, 0.4 * hardness)
    unpaired = judge("Q2", pr, main, [main], Policy.EQUAL_SIZE, 1.0).equal_size
    assert paired.ln_ratio == pytest.approx(unpaired.ln_ratio, abs=0.01)
    assert (paired.high - paired.low) * 10 < unpaired.high - unpaired.low


def test_equal_scores_and_sizes_are_the_same(ladder) -> None:
    for main in ladder:
        result = judge(main.recipe, main, main, ladder, Policy.EQUAL_SIZE, 0.0)
        assert result.verdict is Verdict.SAME
        assert result.equal_size.ln_ratio == 0
        assert result.equal_size.low == result.equal_size.high == 0


def test_below_main_s_range_per_gb_decides_and_the_note_says_why(judged) -> None:
    result = judged(9.5, 0.44)
    assert result.decided_by is Policy.PER_GB
    assert result.verdict is Verdict.WORSE
    assert result.note == (
        "no main file brackets 9.50 GB: main's smallest is 10.00 GB, so per-gb decides"
    )


def test_sizes_in_a_note_are_told_apart(measurement, hardness, ladder) -> None:
    pr = measurement("Q4", 20 * GB + 32, 0.1 * hardness)
    note = judge("Q4", pr, ladder[0], ladder, Policy.FRONTIER, 1.0).note
    assert "20.00000003 GB: main's largest is 20.00000000 GB" in note


@pytest.mark.parametrize("policy", list(Policy))
def test_without_any_reading_it_is_inconclusive(measurement, hardness, ladder, policy) -> None:
    pr = measurement("Q1", 5 * GB, 0.9 * hardness)
    result = judge("Q1", pr, None, ladder, policy, 1.0)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.decided_by is None
    assert "main has no file of Q1" in result.note
    assert ("brackets 5.00 GB" in result.note) == (policy is not Policy.PER_GB)


def test_under_the_floor_there_is_no_difference(measurement, hardness) -> None:
    pr = measurement("Q8", 11 * GB, 9e-8 * hardness)
    main = measurement("Q8", 10 * GB, 1e-9 * hardness)
    neighbour = measurement("F16", 12 * GB, 0 * hardness)
    for policy in Policy:
        result = judge("Q8", pr, main, [main, neighbour], policy, 1.0)
        assert result.verdict is Verdict.SAME
        assert "floor of 1e-07 nats" in result.note
    assert judge("Q8", pr, main, [main, neighbour], policy, 1.0).equal_size.ln_ratio == 0


def test_one_side_above_the_floor_is_judged(measurement, hardness) -> None:
    pr = measurement("Q8", 10 * GB, 2 * KLD_FLOOR * hardness)
    main = measurement("Q8", 10 * GB, 0 * hardness)
    result = judge("Q8", pr, main, [main], Policy.EQUAL_SIZE, 1.0)
    assert result.verdict is Verdict.WORSE
    assert result.equal_size.pct == pytest.approx(100)


def test_a_pr_under_the_floor_can_still_be_better(measurement, hardness) -> None:
    pr = measurement("Q8", 10 * GB, 0 * hardness)
    main = measurement("Q8", 10 * GB, 2 * KLD_FLOOR * hardness)
    result = judge("Q8", pr, main, [main], Policy.EQUAL_SIZE, 1.0)
    assert result.verdict is Verdict.BETTER
    assert result.equal_size.pct == pytest.approx(-50)


def test_of_main_s_files_of_one_size_its_own_of_the_recipe_counts(measurement, hardness) -> None:
    main = measurement("Q2", 10 * GB, 0.4 * hardness)
    twin = measurement("Q2_alt", 10 * GB, 0.3 * hardness)
    result = judge("Q2", main, main, [twin, main], Policy.EQUAL_SIZE, 1.0)
    assert result.neighbours == ("Q2",)
    assert result.verdict is Verdict.SAME


def test_an_inconclusive_note_says_what_could_have_been_seen(judged) -> None:
    result = judged(10, 0.4, jitter=0.3)
    assert result.verdict is Verdict.INCONCLUSIVE
    half_width = 100 * math.expm1(result.equal_size.ln_ratio - result.equal_size.low)
    assert result.note == f"64 chunks can tell a change of about {half_width:.1f} % or more"


def test_too_few_chunks_give_no_verdict(measurement) -> None:
    few = np.ones(MIN_CHUNKS - 1)
    for n, verdict in ((0, Verdict.INCONCLUSIVE), (1, Verdict.WORSE)):
        chunks = np.append(few, np.ones(n))
        pr, main = measurement("Q2", GB, chunks), measurement("Q2", GB, 0.5 * chunks)
        result = judge("Q2", pr, main, [main], Policy.EQUAL_SIZE, 1.0)
        assert result.verdict is verdict
        assert (f"{MIN_CHUNKS - 1} chunks" in result.note) == (n == 0)


def test_the_note_names_the_file_of_main_that_beats_the_pr_s(judged) -> None:
    # The trial's case: a bigger IQ2_XXS, where main's IQ2_S is smaller and better.
    result = judged(16, 0.25)
    assert result.verdict is Verdict.WORSE
    assert result.note == "main's Q3 is no larger and no worse"


def test_same_top_is_a_ratio_of_disagreement(measurement, hardness) -> None:
    main = measurement("Q2", GB, hardness, same_top=0.8)
    for same_top, ln_ratio in ((0.6, math.log(2)), (0.9, math.log(0.5))):
        pr = measurement("Q2", GB, hardness, same_top=same_top)
        diff = judge("Q2", pr, main, [main], Policy.EQUAL_SIZE, 1.0).same_top_diff
        assert diff.ln_ratio == pytest.approx(ln_ratio)
    for same_top, other in ((1.0, main), (0.8, measurement("Q2", GB, hardness, same_top=1.0))):
        pr = measurement("Q2", GB, hardness, same_top=same_top)
        assert judge("Q2", pr, other, [other], Policy.EQUAL_SIZE, 1.0).same_top_diff is None


def test_resamples_that_miss_every_disagreement_leave_the_interval_finite(
    measurement, hardness
) -> None:
    main = measurement("Q2", GB, hardness)
    same_top = np.ones_like(main.scores.same_top)
    same_top[5, 3] = False  # a third of the resamples miss chunk 5
    pr = replace(main, scores=replace(main.scores, same_top=same_top))
    diff = judge("Q2", pr, main, [main], Policy.EQUAL_SIZE, 1.0).same_top_diff
    assert diff.ln_ratio == pytest.approx(math.log(1 / 1280 / 0.2))
    assert diff.low == pytest.approx(math.log(0.5 / 1280 / 0.2))


def test_other_chunks_are_refused(measurement, hardness, ladder) -> None:
    pr = measurement("Q2", 10 * GB, hardness[:-1])
    with pytest.raises(ValueError, match=r"\(63, 20\), main's Q2 \(64, 20\)"):
        judge("Q2", pr, ladder[1], ladder, Policy.EQUAL_SIZE, 1.0)


@settings(max_examples=25, deadline=None)
@given(
    size=st.sampled_from([9.5, 10, 12, 16, 21]),
    kld=st.floats(0.02, 1),
    growth=st.floats(1, 3),
    jitter=st.sampled_from([0.0, 0.02, 0.3]),
    policy=st.sampled_from(Policy),
)
def test_more_divergence_never_improves_the_verdict(
    judged, size: float, kld: float, growth: float, jitter: float, policy: Policy
) -> None:
    before = judged(size, kld, policy, jitter).verdict
    after = judged(size, kld * growth, policy, jitter).verdict
    assert ORDER.index(after) >= ORDER.index(before)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_the_order_of_chunks_does_not_move_the_ratios(measurement, hardness, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(hardness))
    noise = np.random.default_rng(1).lognormal(0, 0.1, len(hardness))

    def points(order: np.ndarray) -> list[float]:
        files = [
            measurement("Q2", 10 * GB, (0.4 * hardness)[order]),
            measurement("Q3", 14 * GB, (0.2 * hardness * noise)[order]),
        ]
        pr = measurement("Q2", 12 * GB, (0.3 * hardness * noise)[order])
        result = judge("Q2", pr, files[0], files, Policy.EQUAL_SIZE, 1.0)
        effects = (result.equal_size, result.per_gb, result.frontier, result.same_top_diff)
        return [e.ln_ratio for e in effects]

    assert points(order) == pytest.approx(points(np.arange(len(hardness))), abs=1e-12)


@settings(max_examples=10, deadline=None)
@given(factor=st.integers(2, 1000), size=st.sampled_from([10, 12, 16]))
def test_scaling_every_size_changes_nothing(measurement, hardness, factor, size) -> None:
    def readings(scale: int):
        files = [
            measurement("Q2", 10 * scale, 0.4 * hardness),
            measurement("Q3", 14 * scale, 0.2 * hardness),
            measurement("Q4", 20 * scale, 0.1 * hardness),
        ]
        pr = measurement("Q2", size * scale, 0.3 * hardness**1.1)
        result = judge("Q2", pr, files[0], files, Policy.EQUAL_SIZE, 1.0)
        return [
            (e.ln_ratio, e.low, e.high) for e in (result.equal_size, result.frontier, result.per_gb)
        ]

    for scaled, plain in zip(readings(factor), readings(1), strict=True):
        assert scaled == pytest.approx(plain, abs=1e-12)


def test_the_interval_is_the_same_every_time(judged) -> None:
    assert judged(12, 0.33) == judged(12, 0.33)


def test_the_interval_holds_the_truth_about_as_often_as_it_says(measurement) -> None:
    rng = np.random.default_rng(11)
    n_runs, n_chunks, truth = 1000, 64, math.log(1.1)
    held = 0
    for _ in range(n_runs):
        chunks = rng.lognormal(0, 0.5, n_chunks)
        noise = rng.lognormal(-0.02, 0.2, n_chunks)  # mean 1
        pr = measurement("Q2", 12 * GB, 1.1 * 0.3 * chunks * noise)
        low = measurement("Q2", 10 * GB, 0.4 * chunks * rng.lognormal(-0.02, 0.2, n_chunks))
        high = measurement("Q3", 14 * GB, 0.2 * chunks * rng.lognormal(-0.02, 0.2, n_chunks))
        effect = judge("Q2", pr, low, [low, high], Policy.EQUAL_SIZE, 1.0).equal_size
        held += effect.low <= truth <= effect.high
    assert 0.92 <= held / n_runs <= 0.975
