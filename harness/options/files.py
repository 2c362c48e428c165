"""quant-gate.toml and pyproject.toml's [tool.quant-gate]: found, read, keys checked."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError
from harness.options import values

if TYPE_CHECKING:
    from harness.domain import Recipe


@dataclass(frozen=True)
class Table:
    """The gate's part of a TOML file."""

    path: Path
    entries: Mapping[str, Any]


def toml_tables(folder: Path, rootpath: Path, keys: Collection[str]) -> list[Table]:
    """Return quant-gate.toml's table and pyproject.toml's, each the nearest one.

    Looks from ``folder`` up to ``rootpath``. Raises UsageError for a key that is
    neither among ``keys`` nor ``recipes``, or a file that is no TOML.
    """
    above = [f for f in (folder, *folder.parents) if f.is_relative_to(rootpath)]
    found = []
    for name, is_ours in (("quant-gate.toml", True), ("pyproject.toml", False)):
        for place in above or [folder, rootpath]:
            path = place / name
            if not path.is_file():
                continue
            loaded = _load_toml(path)
            table = loaded if is_ours else loaded.get("tool", {}).get("quant-gate")
            if table is not None:
                _check_keys(path, table, [*keys, "recipes"])
                found.append(Table(path, table))
                break
    return found


def named_recipes(tables: Sequence[Table]) -> dict[str, Recipe]:
    """Return the recipes that ``[recipes]`` defines; of two files the first one's."""
    named: dict[str, Recipe] = {}
    for table in reversed(tables):
        recipes = table.entries.get("recipes", {})
        if not isinstance(recipes, Mapping):
            raise UsageError(
                f"{table.path}: recipes is a table of names",
                hint='NAME = "FTYPE --tensor-type ffn_down=q4_k"',
            )
        for name, text in recipes.items():
            named[name] = _named_recipe(table.path, name, text)
    return named


def _load_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a TOML file: {error}") from error


def _check_keys(path: Path, table: Mapping[str, Any], legal: Collection[str]) -> None:
    if not isinstance(table, Mapping):
        raise UsageError(f"{path}: [tool.quant-gate] is a table of options, not {table!r}")
    for key in table:
        if key == "pr-branch":
            raise UsageError(
                f"{path}: pr-branch is no key: it starts the gate, so it stands on the command "
                "line only",
                hint="pytest --pr-branch=REF",
            )
        if key not in legal:
            close = difflib.get_close_matches(key, legal, n=1)
            raise UsageError(
                f"{path}: unknown key {key!r}; legal are {', '.join(sorted(legal))}",
                hint=f"did you mean {close[0]}?" if close else "",
            )


def _named_recipe(path: Path, name: str, text: object) -> Recipe:
    from harness.quantize.recipes import named_recipe

    if not re.fullmatch(values.NAME, name):
        raise UsageError(f"{path}: recipe name {name!r}: legal are letters, digits, _ . + -")
    if not isinstance(text, str):
        raise UsageError(f"{path}: recipe {name} is {text!r}, not a string like 'Q2_K --pure'")
    try:
        return named_recipe(name, text)
    except UsageError as error:
        raise UsageError(f"{path}: {error.message}", hint=error.hint) from error
    except ValueError as error:  # unbalanced quotes
        raise UsageError(f"{path}: recipe {name} is {text!r}: {error}") from error
