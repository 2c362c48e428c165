"""What a judgement's note says beside the figures."""

from __future__ import annotations

from collections.abc import Sequence

from harness.domain import Measurement
from harness.judge.dominance import best_dominator, rank_of


def not_bracketed(size_bytes: int, main_sizes: Sequence[int]) -> str:
    """Why main offers nothing at ``size_bytes``; sizes shown so that they differ."""
    if not main_sizes:
        return "main has no measured file"
    end, name = (max(main_sizes), "largest")
    if size_bytes < min(main_sizes):
        end, name = (min(main_sizes), "smallest")
    pr_gb, main_gb = _distinct_gb(size_bytes, end)
    return f"no main file brackets {pr_gb} GB: main's {name} is {main_gb} GB"


def beaten_by_main(recipe: str, pr: Measurement, ladder: Sequence[Measurement]) -> str:
    """Which of main's other recipes beats the PR's file, if one does."""
    others = {m.recipe: rank_of(m) for m in ladder if m.recipe != recipe}
    better = best_dominator(rank_of(pr), others)
    return f"main's {better} is no larger and no worse" if better else ""


def too_small_to_see(n_chunks: int, smallest_pct: float) -> str:
    """What an inconclusive run could have told."""
    return f"{n_chunks} chunks can tell a change of about {smallest_pct:.1f} % or more"


def _distinct_gb(a: int, b: int) -> tuple[str, str]:
    """Both in GB = 10^9 bytes, with two decimals or as many as tell them apart."""
    for decimals in range(2, 10):
        texts = f"{a / 1e9:.{decimals}f}", f"{b / 1e9:.{decimals}f}"
        if texts[0] != texts[1] and float(texts[1]) > 0:
            break
    return texts
