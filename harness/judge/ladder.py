"""Main's two files around a size: those between which its offer there is interpolated."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.domain import Measurement, Recipe


def neighbours(
    size_bytes: int,
    candidates: Sequence[Recipe],
    estimate: Callable[[Recipe], int],
    measured: Callable[[Recipe], Measurement],
) -> list[Measurement]:
    """Return main's files next below and next above ``size_bytes``, where there are such.

    ``estimate`` (bytes) only orders the candidates; what counts is the size of
    the files that ``measured`` makes, and it is called for as few as possible.
    A larger file that is no better than the one below is no offer of main's:
    the next one counts. A file of just this size is the answer alone.
    """
    order = sorted(candidates, key=estimate)
    lower = [recipe for recipe in order if estimate(recipe) <= size_bytes]
    upper = [recipe for recipe in order if estimate(recipe) > size_bytes]
    below: Measurement | None = None
    while lower and below is None:
        found = measured(lower[-1])
        if found.size_bytes <= size_bytes:
            below = found
        else:  # the estimate was a little low
            upper.insert(0, lower[-1])
        lower.pop()
    for recipe in upper:
        if below is not None and below.size_bytes == size_bytes:
            break
        found = measured(recipe)
        if found.size_bytes <= size_bytes:  # the estimate was a little high
            below = found
        elif below is None or found.summary.mean_kld < below.summary.mean_kld:
            return [found] if below is None else [below, found]
    return [below] if below is not None else []
