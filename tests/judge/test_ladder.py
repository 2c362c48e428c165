from hypothesis import given
from hypothesis import strategies as st

from harness.domain import Recipe
from harness.judge import bracketing_recipes


def recipes(sizes):
    return {Recipe(f"R{i}", "X"): size for i, size in enumerate(sizes)}


def bracket(size, configured, spare=()):
    known = recipes([*configured, *spare])
    names = list(known)
    found = bracketing_recipes(
        size, names[: len(configured)], names[len(configured) :], known.__getitem__
    )
    return [known[r] for r in found]


def test_the_nearest_on_either_side():
    assert bracket(25, [10, 20, 30, 40]) == [20, 30]


def test_a_recipe_of_just_this_size_is_the_answer_alone():
    assert bracket(20, [10, 20, 30]) == [20]


def test_a_spare_recipe_serves_only_where_none_is_configured():
    assert bracket(50, [10, 20], spare=[15, 45, 60, 90]) == [20, 60]
    assert bracket(5, [10, 20], spare=[1, 3, 6]) == [3, 10]


def test_nothing_brackets_what_lies_outside():
    assert bracket(99, [10, 20], spare=[30]) == [20]


@given(st.integers(0, 100), st.lists(st.integers(0, 100)), st.lists(st.integers(0, 100)))
def test_what_is_found_encloses_the_size(size, configured, spare):
    found = bracket(size, configured, spare)
    both = [*configured, *spare]
    if any(s <= size for s in both) and any(s >= size for s in both):
        assert min(found) <= size <= max(found)
    inside = [s for s in configured if min(found, default=0) < s < max(found, default=0)]
    assert not [s for s in inside if s != size and len(found) == 2]
