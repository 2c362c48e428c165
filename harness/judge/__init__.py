"""Paired comparison of measured files -> verdicts; pure functions of data."""

from harness.judge.compare import judge
from harness.judge.dominance import dominated_by, mark_dominated
from harness.judge.ladder import neighbours
from harness.judge.lines import Bracket, bracket, frontier_line, mixing_line, per_gb_ratio
from harness.judge.verdict import decide, identical, smallest_effect_pct

__all__ = [
    "Bracket",
    "bracket",
    "decide",
    "dominated_by",
    "frontier_line",
    "identical",
    "judge",
    "mark_dominated",
    "mixing_line",
    "neighbours",
    "per_gb_ratio",
    "smallest_effect_pct",
]
