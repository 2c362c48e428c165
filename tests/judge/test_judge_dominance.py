"""Recipes that another one of their ladder makes pointless."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from harness.domain import ItemResult, SideFigures
from harness.judge import dominated_by, identical, mark_dominated

CHUNKS = np.ones(8)


def test_no_larger_and_no_worse() -> None:
    ladder = {
        "small": (0.4, 10),
        "larger_worse": (0.5, 12),
        "larger_equal": (0.4, 12),
        "equal_worse": (0.45, 10),
        "larger_better": (0.2, 14),
    }
    assert dominated_by(ladder) == dict.fromkeys(
        ("larger_worse", "larger_equal", "equal_worse"), "small"
    )


def test_the_best_of_several_is_named() -> None:
    assert dominated_by({"a": (0.4, 10), "b": (0.3, 11), "c": (0.5, 12)}) == {"c": "b"}


def test_equal_files_do_not_dominate_each_other() -> None:
    assert dominated_by({"a": (0.4, 10), "b": (0.4, 10)}) == {}


def result(measurement, recipe, main, pr) -> ItemResult:
    def figures(size, kld):
        measured = measurement(recipe, size, kld * CHUNKS)
        return SideFigures(size, 4.0, "sha", measured.summary)

    return ItemResult(recipe, identical(recipe), figures(*main), figures(*pr), (), 1.0)


def test_each_side_is_marked_by_its_own_ladder(measurement) -> None:
    a = result(measurement, "a", main=(10, 0.4), pr=(13, 0.4))
    b = result(measurement, "b", main=(12, 0.5), pr=(12, 0.3))
    a, b = (marked.judgement for marked in mark_dominated([a, b]))
    assert (a.dominated_main, a.dominated_pr) == ("", "b")
    assert (b.dominated_main, b.dominated_pr) == ("a", "")


def test_what_was_not_measured_is_not_marked(measurement) -> None:
    a = result(measurement, "a", main=(10, 0.4), pr=(10, 0.4))
    b = result(measurement, "b", main=(12, 0.5), pr=(12, 0.5))
    unmeasured = replace(b, pr=replace(b.pr, summary=None), main=None)
    _, marked = mark_dominated([a, unmeasured])
    assert (marked.judgement.dominated_main, marked.judgement.dominated_pr) == ("", "")
