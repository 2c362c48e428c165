"""Which recipes another one of the same side makes pointless."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.domain import Judgement, Measurement


def mark_dominated(
    judgements: Sequence[Judgement],
    mains: Sequence[Measurement],
    prs: Sequence[Measurement],
) -> tuple[Judgement, ...]:
    """Fill in, per judgement, the recipe that dominates its file on either side.

    ``dominated_main`` names main's recipe that beats main's file of the judged
    recipe, ``dominated_pr`` the PR's that beats the PR's; empty where none does.
    """
    on_main, on_pr = dominated_by(mains), dominated_by(prs)
    return tuple(
        replace(
            judgement,
            dominated_main=on_main.get(judgement.recipe, ""),
            dominated_pr=on_pr.get(judgement.recipe, ""),
        )
        for judgement in judgements
    )


def dominated_by(ladder: Sequence[Measurement]) -> dict[str, str]:
    """Recipe -> the recipe of the same ladder that dominates it, for those dominated.

    A file is dominated by one that is no larger in bytes and no worse in mean
    KLD, and better in one of them. Of several the one of the lowest KLD is named.
    """
    found = ((m.recipe, best_dominator(m, ladder)) for m in ladder)
    return {recipe: better.recipe for recipe, better in found if better is not None}


def best_dominator(file: Measurement, others: Sequence[Measurement]) -> Measurement | None:
    """The one of ``others`` that dominates ``file`` with the lowest KLD, if any does."""
    dominating = [m for m in others if _dominates(_rank(m), _rank(file))]
    return min(dominating, key=_rank, default=None)


def _dominates(a: tuple[float, int], b: tuple[float, int]) -> bool:
    return a != b and a[0] <= b[0] and a[1] <= b[1]


def _rank(file: Measurement) -> tuple[float, int]:
    return float(file.scores.kld.mean()), file.size_bytes
