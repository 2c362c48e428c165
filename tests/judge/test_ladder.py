import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.domain import Recipe
from harness.judge import neighbours

CHUNKS = np.ones(8)


@pytest.fixture(scope="session")
def around(measurement):
    """Bracket a size among files given as name=(bytes, KLD); ``off`` falsifies the estimates."""

    def run(size, off=0, **files):
        calls = []

        def measured(recipe):
            calls.append(recipe.name)
            size_bytes, kld = files[recipe.name]
            return measurement(recipe.name, size_bytes, kld * CHUNKS)

        found = neighbours(
            size,
            [Recipe(name, name) for name in files],
            lambda recipe: files[recipe.name][0] + off,
            measured,
        )
        return [m.recipe for m in found], calls

    return run


LADDER = {"a": (10, 0.4), "b": (20, 0.3), "c": (30, 0.2), "d": (40, 0.1)}


def test_the_nearest_on_either_side_and_no_other_is_measured(around):
    assert around(25, **LADDER) == (["b", "c"], ["b", "c"])


def test_a_file_of_just_this_size_is_the_answer_alone(around):
    assert around(20, **LADDER) == (["b"], ["b"])


def test_outside_there_is_one_neighbour_at_most(around):
    assert around(5, **LADDER)[0] == ["a"]
    assert around(50, **LADDER)[0] == ["d"]
    assert around(50) == ([], [])


def test_a_larger_file_that_is_no_better_is_no_offer(around):
    files = {**LADDER, "c": (30, 0.35)}
    assert around(25, **files)[0] == ["b", "d"]


@pytest.mark.parametrize("off", [-3, 3])
def test_the_real_sizes_decide_where_estimates_are_off(around, off):
    assert around(28, off=off, **LADDER)[0] == ["b", "c"]
    assert around(32, off=off, **LADDER)[0] == ["c", "d"]


@given(st.integers(0, 60), st.integers(-5, 5), st.lists(st.integers(1, 50), unique=True))
def test_what_is_found_encloses_the_size_without_a_gap(around, size, off, sizes):
    files = {f"R{i}": (s, 1 / s) for i, s in enumerate(sizes)}
    found = sorted(files[name][0] for name in around(size, off=off, **files)[0])
    if size in sizes:
        assert found == [size]
    elif any(s < size for s in sizes) and any(s > size for s in sizes):
        assert found == [max(s for s in sizes if s < size), min(s for s in sizes if s > size)]
