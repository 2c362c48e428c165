"""Main's offer at a size: neighbours in size, no extrapolation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.judge import bracket, frontier_line, mixing_line, per_gb_ratio
from harness.judge.lines import KLD_FLOOR

files = st.lists(
    st.tuples(st.integers(1, 10**12), st.floats(1e-6, 10)),
    min_size=2,
    max_size=8,
    unique_by=lambda f: f[0],
)


def test_halfway_between_two_files() -> None:
    assert mixing_line(15, [10, 20], [0.4, 0.1]) == pytest.approx(0.25)
    assert frontier_line(15, [10, 20], [0.4, 0.1]) == pytest.approx(0.2)


def test_only_the_neighbours_in_size_count_in_any_order() -> None:
    assert mixing_line(15, [30, 20, 5, 10], [9.0, 0.1, 9.0, 0.4]) == pytest.approx(0.25)


def test_a_dominated_neighbour_still_is_one() -> None:
    # 12 is larger and worse than 10; the written rule takes it, the convex hull would not.
    assert mixing_line(11, [10, 12, 20], [0.4, 0.6, 0.1]) == pytest.approx(0.5)


@pytest.mark.parametrize("size", [9, 21])
def test_outside_main_s_range_there_is_no_offer(size: int) -> None:
    assert mixing_line(size, [10, 20], [0.4, 0.1]) is None
    assert frontier_line(size, [10, 20], [0.4, 0.1]) is None


def test_main_s_own_file_at_equal_size() -> None:
    for size, kld in ((10, 0.4), (20, 0.1)):
        assert mixing_line(size, [10, 20], [0.4, 0.1]) == pytest.approx(kld)
    assert mixing_line(10, [10], [0.4]) == pytest.approx(0.4)


def test_of_files_of_one_size_the_preferred_counts_else_the_best() -> None:
    sizes, klds = [10, 10, 20], [0.4, 0.3, 0.1]
    assert bracket(10, sizes, klds).low == 1
    assert bracket(10, sizes, klds, preferred=0).low == 0
    assert bracket(15, sizes, klds, preferred=0).low == 0
    assert bracket(15, sizes, klds).low == 1


def test_per_gb() -> None:
    assert per_gb_ratio(20, 0.1, 10, 0.2) == pytest.approx(1.0)
    assert per_gb_ratio(20, 0.1, 10, 0.4) == pytest.approx(0.5)
    assert per_gb_ratio(10, 0.0, 10, 0.0) == 1.0  # nothing to tell below the floor


def test_lists_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match="2 sizes, but 1 KLDs"):
        mixing_line(15, [10, 20], [0.4])


@given(files=files, share=st.floats(0, 1), factor=st.integers(2, 1000))
def test_the_unit_of_size_does_not_matter(files, share: float, factor: int) -> None:
    sizes, klds = [f[0] for f in files], [f[1] for f in files]
    size = round(min(sizes) + share * (max(sizes) - min(sizes)))
    size = min(max(size, min(sizes)), max(sizes))
    scaled = [factor * s for s in sizes]
    assert mixing_line(factor * size, scaled, klds) == pytest.approx(mixing_line(size, sizes, klds))
    assert frontier_line(factor * size, scaled, klds) == pytest.approx(
        frontier_line(size, sizes, klds)
    )


@given(files=files, share=st.floats(0, 1))
def test_the_frontier_is_never_above_the_mixing_line(files, share: float) -> None:
    sizes, klds = [f[0] for f in files], [f[1] for f in files]
    size = min(sizes) + share * (max(sizes) - min(sizes))
    size = min(max(size, min(sizes)), max(sizes))
    mixed = mixing_line(size, sizes, klds)
    assert min(klds) * (1 - 1e-9) <= frontier_line(size, sizes, klds) <= mixed * (1 + 1e-9)
    assert mixed <= max(klds) * (1 + 1e-9)
    assert mixed >= KLD_FLOOR
