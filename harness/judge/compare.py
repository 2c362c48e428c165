"""Judge one recipe: the PR's file against what main offers, paired over chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.domain import F64, Effect, Judgement, Measurement, Policy, Verdict
from harness.judge.lines import KLD_FLOOR, Bracket, bracket, ln_kld, log_mix, mix
from harness.judge.notes import beaten_by_main, not_bracketed, too_small_to_see
from harness.judge.paired import chunk_weights, effect_of
from harness.judge.verdict import decide, smallest_effect_pct

MIN_CHUNKS = 8
"""With fewer chunks a bootstrap interval is far too narrow to rest a verdict on."""


@dataclass(frozen=True)
class _Reading:
    effect: Effect
    main_offer: float  # nats per token that the PR's KLD is held against


def judge(
    recipe: str,
    pr: Measurement,
    main: Measurement | None,
    ladder: Sequence[Measurement],
    policy: Policy,
    limit_pct: float,
) -> Judgement:
    """Compare the PR's file with main's offer under all three readings; ``policy`` decides.

    Every reading is ln of the PR's mean KLD over main's offer, so above 0 is
    worse, with a 95 % percentile interval from a bootstrap over chunks that
    draws the same chunks for the PR's file and main's. A KLD under `KLD_FLOOR`
    counts as the floor.

    - ``equal_size``: against `mixing_line` at the PR's size; main's own file
      where that has exactly this size; None outside main's range.
    - ``frontier``: against `frontier_line`, None likewise.
    - ``per_gb``: against main's file of the recipe, both times their bytes; None
      without one.
    - ``same_top_diff``: ln of the ratio of disagreement rates (1 − same top) of
      the PR's file and main's of the recipe, sizes disregarded; None without
      main's file or where either never disagrees.

    Where the reading asked for has no answer, ``per_gb`` decides and ``note``
    says why; where that has none either, the verdict is INCONCLUSIVE.

    Parameters
    ----------
    recipe : str
    pr, main : Measurement
        ``main`` is None for a recipe that only the PR has.
    ladder : sequence of Measurement
        All of main's, its own of the recipe and extra neighbours included.
    policy : Policy
    limit_pct : float
        A change of this many percent or less is no harm.

    Raises
    ------
    ValueError
        The measurements do not share their chunks, or ``limit_pct`` is negative.
    """
    _check_paired(pr, main, ladder)
    around = _around(pr, main, ladder)
    readings = _readings(pr, main, ladder, around)
    decided_by, notes = _who_decides(policy, readings, recipe, pr, ladder)
    verdict = Verdict.INCONCLUSIVE
    if decided_by is not None:
        verdict, note = _verdict(pr, readings[decided_by], limit_pct)
        notes.append(note)
    notes.append(beaten_by_main(recipe, pr, ladder))
    effects = {reading: found.effect for reading, found in readings.items()}
    return Judgement(
        recipe=recipe,
        verdict=verdict,
        decided_by=decided_by,
        equal_size=effects.get(Policy.EQUAL_SIZE),
        per_gb=effects.get(Policy.PER_GB),
        frontier=effects.get(Policy.FRONTIER),
        same_top_diff=_same_top_diff(pr, main),
        neighbours=_names(around, ladder),
        note="; ".join(filter(None, notes)),
    )


def _around(
    pr: Measurement, main: Measurement | None, ladder: Sequence[Measurement]
) -> Bracket | None:
    own = [i for i, m in enumerate(ladder) if main is not None and m.recipe == main.recipe]
    return bracket(
        pr.size_bytes,
        [m.size_bytes for m in ladder],
        [float(m.scores.kld.mean()) for m in ladder],
        preferred=own[0] if own else None,
    )


def _readings(
    pr: Measurement,
    main: Measurement | None,
    ladder: Sequence[Measurement],
    around: Bracket | None,
) -> dict[Policy, _Reading]:
    """Each reading that has an answer. Arrays hold the sample first, then the resamples."""
    pr_ln_kld = ln_kld(_mean_kld(pr))
    readings = {}
    if around is not None:
        low, high = _mean_kld(ladder[around.low]), _mean_kld(ladder[around.high])
        for policy, line in ((Policy.EQUAL_SIZE, mix), (Policy.FRONTIER, log_mix)):
            offer = line(low, high, around.weight)
            readings[policy] = _Reading(effect_of(pr_ln_kld - offer), float(np.exp(offer[0])))
    if main is not None:
        offer = ln_kld(_mean_kld(main))
        growth = np.log(pr.size_bytes / main.size_bytes)
        readings[Policy.PER_GB] = _Reading(
            effect_of(pr_ln_kld - offer + growth), float(np.exp(offer[0]))
        )
    return readings


def _who_decides(
    policy: Policy,
    readings: dict[Policy, _Reading],
    recipe: str,
    pr: Measurement,
    ladder: Sequence[Measurement],
) -> tuple[Policy | None, list[str]]:
    if policy in readings:
        return policy, []
    no_main = f"main has no file of {recipe}"
    if policy is Policy.PER_GB:
        return None, [no_main]
    why = not_bracketed(pr.size_bytes, [m.size_bytes for m in ladder])
    if Policy.PER_GB in readings:
        return Policy.PER_GB, [f"{why}, so {Policy.PER_GB} decides"]
    return None, [why, no_main]


def _verdict(pr: Measurement, reading: _Reading, limit_pct: float) -> tuple[Verdict, str]:
    n_chunks = pr.scores.n_chunks
    # A hair above the floor: the offer comes back from its logarithm.
    if max(float(pr.scores.kld.mean()), reading.main_offer) < KLD_FLOOR * (1 + 1e-9):
        return Verdict.SAME, f"both under the floor of {KLD_FLOOR:g} nats/token"
    if n_chunks < MIN_CHUNKS:
        return Verdict.INCONCLUSIVE, f"{n_chunks} chunks, a verdict needs {MIN_CHUNKS} at least"
    verdict = decide(reading.effect, limit_pct)
    if verdict is Verdict.INCONCLUSIVE:
        return verdict, too_small_to_see(n_chunks, smallest_effect_pct(reading.effect, limit_pct))
    return verdict, ""


def _same_top_diff(pr: Measurement, main: Measurement | None) -> Effect | None:
    if main is None or pr.scores.same_top.all() or main.scores.same_top.all():
        return None
    # A resample without any disagreement counts as half a token's.
    least = 0.5 / pr.scores.same_top.size
    pr_rate, main_rate = (
        np.maximum(_means(1.0 - m.scores.same_top.mean(axis=1)), least) for m in (pr, main)
    )
    return effect_of(np.log(pr_rate / main_rate))


def _mean_kld(measurement: Measurement) -> F64:
    return _means(measurement.scores.kld.mean(axis=1))


def _means(per_chunk: F64) -> F64:
    return chunk_weights(len(per_chunk)) @ per_chunk


def _names(around: Bracket | None, ladder: Sequence[Measurement]) -> tuple[str, ...]:
    if around is None:
        return ()
    return tuple(dict.fromkeys(ladder[i].recipe for i in (around.low, around.high)))


def _check_paired(pr: Measurement, main: Measurement | None, ladder: Sequence[Measurement]) -> None:
    for other in (*([main] if main else []), *ladder):
        if other.scores.kld.shape != pr.scores.kld.shape:
            raise ValueError(
                f"the PR's {pr.recipe} has scores {pr.scores.kld.shape}, main's {other.recipe} "
                f"{other.scores.kld.shape}: a paired comparison needs the same chunks"
            )
