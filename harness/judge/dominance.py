"""Which recipes another one of the same side makes pointless."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness.domain import ItemResult, Measurement, SideFigures

Rank = tuple[float, int]  # mean KLD in nats, size in bytes


def mark_dominated(results: Sequence[ItemResult]) -> tuple[ItemResult, ...]:
    """Fill in, per result, the recipe that dominates its file on either side.

    ``dominated_main`` names main's recipe that beats main's file of the judged
    recipe, ``dominated_pr`` the PR's that beats the PR's; empty where none does
    or where one of the two was not measured.
    """
    on_main = dominated_by({r.recipe: rank for r in results if (rank := _rank_of(r.main))})
    on_pr = dominated_by({r.recipe: rank for r in results if (rank := _rank_of(r.pr))})
    return tuple(
        replace(
            result,
            judgement=replace(
                result.judgement,
                dominated_main=on_main.get(result.recipe, ""),
                dominated_pr=on_pr.get(result.recipe, ""),
            ),
        )
        for result in results
    )


def dominated_by(ladder: Mapping[str, Rank]) -> dict[str, str]:
    """Recipe -> the recipe of the same ladder that dominates it, for those dominated.

    A file is dominated by one that is no larger in bytes and no worse in mean
    KLD, and better in one of them. Of several the one of the lowest KLD is named.
    """
    found = ((recipe, best_dominator(rank, ladder)) for recipe, rank in ladder.items())
    return {recipe: better for recipe, better in found if better}


def best_dominator(rank: Rank, others: Mapping[str, Rank]) -> str:
    """Name the one of ``others`` that dominates ``rank`` with the lowest KLD; empty if none."""
    dominating = [recipe for recipe, other in others.items() if _dominates(other, rank)]
    return min(dominating, key=others.__getitem__, default="")


def rank_of(measurement: Measurement) -> Rank:
    """What dominance compares of a measured file."""
    return float(measurement.scores.kld.mean()), measurement.size_bytes


def _rank_of(figures: SideFigures | None) -> Rank | None:
    if figures is None or figures.summary is None:
        return None
    return figures.summary.mean_kld, figures.size_bytes


def _dominates(a: Rank, b: Rank) -> bool:
    return a != b and a[0] <= b[0] and a[1] <= b[1]
