"""Main's ladder of files by size: what stands beside a PR's file, planned and then measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from harness import judge, quantize
from harness.domain import Measurement, QuantizedFile, Recipe


@dataclass(frozen=True)
class MainLadder:
    """Finds main's neighbours of a size and has no more measured than those.

    ``recipes`` are those of the run, ``known`` the types of main's tree;
    ``plan`` tells the bytes of tensor data that main gives a recipe, without
    quantizing (None: can't), ``quantized`` and ``measured`` make and score
    main's file.
    """

    recipes: tuple[Recipe, ...]
    known: frozenset[str]
    has_imatrix: bool
    plan: Callable[[Recipe], int | None]
    quantized: Callable[[Recipe], QuantizedFile]
    measured: Callable[[Recipe], Measurement]
    _planned: dict[Recipe, int | None] = field(default_factory=dict)

    def around(
        self, recipe: Recipe, main: Measurement | None, pr_file: QuantizedFile
    ) -> list[Measurement]:
        """Return main's files around the PR's size; just main's own at equal size."""
        if main is not None and main.size_bytes == pr_file.size_bytes:
            return [main]
        header_bytes = pr_file.size_bytes - pr_file.tensor_bytes  # names, vocabulary, padding
        rungs = quantize.rungs(recipe, self.recipes, self.known, self.has_imatrix)
        candidates = {
            rung: planned + header_bytes
            for rung in rungs
            if (planned := self._tensor_bytes(rung)) is not None
        }
        if main is not None:
            candidates[recipe] = main.size_bytes
        return judge.neighbours(
            pr_file.size_bytes, list(candidates), candidates.__getitem__, self.measured
        )

    def _tensor_bytes(self, recipe: Recipe) -> int | None:
        """Plan a recipe, once.

        A tree without dry runs must make the file to tell; that is done for what
        the run is about anyway, and None for other types.
        """
        if recipe not in self._planned:
            planned = self.plan(recipe)
            if planned is None and recipe in self.recipes:
                planned = self.quantized(recipe).tensor_bytes
            self._planned[recipe] = planned
        return self._planned[recipe]
