"""Recipes: the targets that a file can be quantized to, and which of them a tree knows."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Collection, Mapping
from pathlib import Path

from harness.domain import Recipe
from harness.errors import UsageError

# The article's Q2_K_L is no llama.cpp type: Q2_K with larger embedding and output.
SHIPPED = {
    "Q2_K_L": Recipe(
        "Q2_K_L",
        "Q2_K",
        ("--token-embedding-type", "q8_0", "--output-tensor-type", "q8_0"),
    )
}

# ftypes some of whose tensors llama-quantize refuses to make without an imatrix
# (`tensor_requires_imatrix` in llama.cpp's src/llama-quant.cpp)
NEEDS_IMATRIX = frozenset(
    ["IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "IQ3_XS", "Q2_K_S"]
)

# Not quantizations: nothing diverges, or nothing is compared.
UNQUANTIZED = frozenset(["F32", "F16", "BF16", "COPY"])

# For models that were trained for them; in others they are no step of the ladder.
SPECIAL = frozenset(["Q1_0", "Q2_0", "TQ1_0", "TQ2_0", "MXFP4_MOE", "NVFP4"])

_OPTION = re.compile(r'\{\s*"([A-Z0-9_]+)"\s*,\s*LLAMA_FTYPE_\w+\s*,\s*"([^"]*)"')

# What a recipe may pass on: how tensors are typed, never where files are written.
_ARGUMENTS = {
    "--token-embedding-type": 1,
    "--output-tensor-type": 1,
    "--tensor-type": 1,
    "--leave-output-tensor": 0,
    "--pure": 0,
    "--include-weights": 1,
    "--exclude-weights": 1,
    "--allow-requantize": 0,
}


def parse_recipe(name: str, named: Mapping[str, Recipe], known: Collection[str] = ()) -> Recipe:
    """Return the recipe called ``name``: one from the configuration, a shipped one, or an ftype.

    ``known`` are the ftypes of the trees at hand; empty skips the check. Raises
    UsageError naming the closest known ones.
    """
    recipe = named.get(name) or SHIPPED.get(name.upper()) or Recipe(name.upper(), name.upper())
    if known and recipe.ftype not in known:
        names = sorted({*known, *named, *SHIPPED} - UNQUANTIZED)
        close = difflib.get_close_matches(recipe.ftype, names, n=3) or names
        raise UsageError(
            f"unknown recipe {name!r}: neither branch's llama-quantize knows "
            f"the type {recipe.ftype}",
            hint=f"did you mean {', '.join(close)}?",
        )
    return recipe


def named_recipe(name: str, text: str) -> Recipe:
    """Parse ``"Q2_K --token-embedding-type q8_0"``, a recipe's text in the configuration."""
    words = shlex.split(text)
    if not words or words[0].startswith("-"):
        raise UsageError(
            f"recipe {name}: {text!r} does not begin with a type",
            hint=f'{name} = "Q2_K --token-embedding-type q8_0"',
        )
    _check_arguments(name, words[1:])
    return Recipe(name, words[0].upper(), tuple(words[1:]))


def _check_arguments(name: str, words: list[str]) -> None:
    i = 0
    while i < len(words):
        if words[i] not in _ARGUMENTS:
            raise UsageError(
                f"recipe {name}: {words[i]!r} is no argument that a recipe may pass on",
                hint=f"allowed: {', '.join(_ARGUMENTS)}",
            )
        i += 1 + _ARGUMENTS[words[i]]
    if i > len(words):
        raise UsageError(f"recipe {name}: {words[-1]} lacks its value")


def ftypes_of(tree: Path) -> frozenset[str]:
    """Return the ftypes that the tree's llama-quantize knows, read from its source.

    Reading takes milliseconds where asking the tool takes a build. Empty when
    the tree has no such table; the tool itself then judges the name.
    """
    for folder in ("tools", "examples"):
        source = tree / folder / "quantize" / "quantize.cpp"
        if source.is_file():
            return frozenset(n for n, _ in _OPTION.findall(source.read_text(errors="replace")))
    return frozenset()


def aliases_of(tree: Path) -> frozenset[str]:
    """Return the names that only stand for another type (``Q4_K`` for ``Q4_K_M``)."""
    for folder in ("tools", "examples"):
        source = tree / folder / "quantize" / "quantize.cpp"
        if source.is_file():
            found = _OPTION.findall(source.read_text(errors="replace"))
            return frozenset(name for name, text in found if text.startswith("alias"))
    return frozenset()


def needs_imatrix(ftype: str) -> bool:
    """Say whether llama-quantize refuses the type without an importance matrix."""
    return ftype in NEEDS_IMATRIX


def require_imatrix(recipes: Collection[Recipe], imatrix: Path | None) -> None:
    """Raise UsageError, before anything is built, where a recipe can't do without an imatrix."""
    if imatrix is not None:
        return
    needy = [r.name for r in recipes if needs_imatrix(r.ftype)]
    if needy:
        raise UsageError(
            f"{', '.join(needy)}: llama-quantize makes no such file without an "
            "importance matrix, and none is given",
            hint="--quant-imatrix=FILE (make one with llama-imatrix), or leave these types out",
        )
