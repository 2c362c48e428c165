"""Recipes that another one of their ladder makes pointless."""

from __future__ import annotations

import numpy as np

from harness.judge import dominated_by, identical, mark_dominated

CHUNKS = np.ones(8)


def files(measurement, **sizes_and_klds):
    return [measurement(name, size, kld * CHUNKS) for name, (size, kld) in sizes_and_klds.items()]


def test_no_larger_and_no_worse(measurement) -> None:
    ladder = files(
        measurement,
        small=(10, 0.4),
        larger_worse=(12, 0.5),
        larger_equal=(12, 0.4),
        equal_worse=(10, 0.45),
        larger_better=(14, 0.2),
    )
    assert dominated_by(ladder) == dict.fromkeys(
        ("larger_worse", "larger_equal", "equal_worse"), "small"
    )


def test_the_best_of_several_is_named(measurement) -> None:
    ladder = files(measurement, a=(10, 0.4), b=(11, 0.3), c=(12, 0.5))
    assert dominated_by(ladder) == {"c": "b"}


def test_equal_files_do_not_dominate_each_other(measurement) -> None:
    assert dominated_by(files(measurement, a=(10, 0.4), b=(10, 0.4))) == {}


def test_each_side_is_marked_by_its_own_ladder(measurement) -> None:
    mains = files(measurement, a=(10, 0.4), b=(12, 0.5))
    prs = files(measurement, a=(13, 0.4), b=(12, 0.3))
    a, b = mark_dominated([identical("a"), identical("b")], mains, prs)
    assert (a.dominated_main, a.dominated_pr) == ("", "b")
    assert (b.dominated_main, b.dominated_pr) == ("a", "")
