"""Which of main's recipes bracket a size: the two between which main is interpolated."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.domain import Recipe


def bracketing_recipes(
    size_bytes: int,
    configured: Sequence[Recipe],
    spare: Sequence[Recipe],
    size_of: Callable[[Recipe], int],
) -> list[Recipe]:
    """Return the recipe next below and the one next above ``size_bytes``, where there are such.

    ``configured`` recipes come first; only on the side where none of them is
    does a ``spare`` one serve, the nearest. ``size_of`` tells the bytes of
    main's file. A configured recipe of just this size is the answer alone.
    """
    below: Recipe | None = None
    above: Recipe | None = None
    for candidates in (configured, spare):
        sized = [(size_of(recipe), recipe) for recipe in candidates]
        if below is None:
            smaller = [pair for pair in sized if pair[0] <= size_bytes]
            below = max(smaller, key=lambda pair: pair[0])[1] if smaller else None
        if above is None:
            larger = [pair for pair in sized if pair[0] >= size_bytes]
            above = min(larger, key=lambda pair: pair[0])[1] if larger else None
        if below is not None and above is not None:
            break
    found = [recipe for recipe in (below, above) if recipe is not None]
    return found[:1] if len(found) == 2 and found[0].name == found[1].name else found
