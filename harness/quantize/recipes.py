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

# llama.cpp's types in the order of size, each better than the one before: what main offers.
# Legacy types and those for models trained in them are no step of it.
RUNGS = (
    *("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "IQ3_XS", "IQ3_S"),
    *("IQ3_M", "IQ4_XS", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K", "Q8_0", "BF16"),
)
RUNGS_WITHOUT_IMATRIX = ("Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L")

_OPTION = re.compile(r'\{\s*"([A-Z0-9_]+)"\s*,\s*LLAMA_FTYPE_\w+\s*,')

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
        names = sorted({*known, *named, *SHIPPED} - UNQUANTIZED - {recipe.name, recipe.ftype})
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


def rungs(
    recipe: Recipe, configured: Collection[Recipe], known: Collection[str], has_imatrix: bool
) -> list[Recipe]:
    """Return the recipes whose main files may stand beside the PR's file of ``recipe``.

    Main's own file of it, and main's types: a fixed list, so that a verdict
    does not depend on which other recipes a run was asked for. Plain types that
    are configured and not in the list (a fork's) are taken, too.
    """
    names = list(RUNGS if has_imatrix else (*RUNGS_WITHOUT_IMATRIX, *RUNGS))
    names += [r.ftype for r in configured if not r.arguments]
    own = recipe if not known or recipe.ftype in known else None
    plain = [
        Recipe(name, name)
        for name in dict.fromkeys(names)
        if name in known and (has_imatrix or not needs_imatrix(name))
    ]
    return [*([own] if own else []), *(r for r in plain if r != own)]


def ftypes_of(tree: Path) -> frozenset[str]:
    """Return the ftypes that the tree's llama-quantize knows, read from its source.

    Reading takes milliseconds where asking the tool takes a build. Empty when
    the tree has no such table; the tool itself then judges the name.
    """
    for folder in ("tools", "examples"):
        source = tree / folder / "quantize" / "quantize.cpp"
        if source.is_file():
            return frozenset(_OPTION.findall(source.read_text(errors="replace")))
    return frozenset()


def needs_imatrix(ftype: str) -> bool:
    """Say whether llama-quantize refuses the type without an importance matrix."""
    return ftype in NEEDS_IMATRIX


def _wants_imatrix(recipe: Recipe) -> bool:
    types = {word.rpartition("=")[2].upper() for word in recipe.arguments}
    return needs_imatrix(recipe.ftype) or bool(types & (NEEDS_IMATRIX - {"Q2_K_S"}))


def require_imatrix(recipes: Collection[Recipe], imatrix: Path | None) -> None:
    """Raise UsageError, before anything is built, where a recipe can't do without an imatrix."""
    if imatrix is not None:
        return
    needy = [r.name for r in recipes if _wants_imatrix(r)]
    if needy:
        raise UsageError(
            f"{', '.join(needy)}: llama-quantize makes no such file without an "
            "importance matrix, and none is given",
            hint="--quant-imatrix=FILE (make one with llama-imatrix), or leave these types out",
        )
