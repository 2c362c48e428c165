"""Texts of options to values; each raises ValueError naming what is legal.

A parser gets the texts given (one, unless the option may be repeated) and the
folder that relative paths are seen from.
"""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.domain import Policy

NAME = r"[A-Za-z0-9][A-Za-z0-9_.+-]*"


def to_text(texts: list[str], _base: Path) -> str:
    """One text that is not empty."""
    if not texts[0].strip():
        raise ValueError("it is empty")
    return texts[0].strip()


def to_place(texts: list[str], base: Path) -> str:
    """A name or URL as it is; what begins with ``.`` or ``~`` is a path."""
    name = to_text(texts, base)
    return str(to_path(texts, base)) if name.startswith((".", "~")) else name


def to_path(texts: list[str], base: Path) -> Path:
    """A path, absolute."""
    return Path(os.path.normpath(base / Path(to_text(texts, base)).expanduser()))


def one_of(*legal: str) -> Callable[[list[str], Path], str]:
    """Make a parser of one of the ``legal`` words."""

    def parse(texts: list[str], base: Path) -> str:
        if to_text(texts, base) not in legal:
            raise ValueError(f"legal are {', '.join(legal)}")
        return to_text(texts, base)

    return parse


def to_policy(texts: list[str], base: Path) -> Policy:
    """A policy by its name."""
    from harness.domain import Policy

    return Policy(one_of(*(p.value for p in Policy))(texts, base))


def whole(least: int) -> Callable[[list[str], Path], int]:
    """Make a parser of whole numbers of at least ``least``."""

    def parse(texts: list[str], base: Path) -> int:
        if not re.fullmatch(r"[+-]?[0-9]+", to_text(texts, base)) or int(texts[0]) < least:
            raise ValueError(f"a whole number of at least {least} is legal")
        return int(texts[0])

    return parse


def number(least: float, *, above: bool = False) -> Callable[[list[str], Path], float]:
    """Make a parser of numbers of at least, or ``above``, ``least``."""

    def parse(texts: list[str], base: Path) -> float:
        try:
            value = float(to_text(texts, base).removesuffix("%"))
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or value < least or (above and value == least):
            raise ValueError(f"a number {'above' if above else 'of at least'} {least:g} is legal")
        return value

    return parse


def to_names(texts: list[str], _base: Path) -> tuple[str, ...]:
    """Names of recipes, separated by commas; each once."""
    names = [name.strip() for text in texts for name in text.split(",") if name.strip()]
    if not names or not all(re.fullmatch(NAME, name) for name in names):
        raise ValueError("names of recipes are legal, separated by commas: IQ2_XXS,Q4_K_M")
    return tuple(dict.fromkeys(names))


def to_words(texts: list[str], _base: Path) -> tuple[str, ...]:
    """Words as a shell splits them."""
    return tuple(word for text in texts for word in shlex.split(text))
