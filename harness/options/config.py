"""The merged configuration of a run."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError
from harness.options.files import named_recipes, toml_tables
from harness.options.table import OPTIONS, Option

if TYPE_CHECKING:  # at run time only once a gate runs: plain pytest must not pay for numpy
    from harness.domain import Policy, Recipe

PR_BRANCH = "pr_branch"


@dataclass(frozen=True)
class GateConfig:
    """What a run was asked to do; every option's value, checked, with units in the names.

    ``recipes`` are names in the order asked for, empty for the model's default
    ladder; ``named_recipes`` are those that the configuration defines.
    """

    pr_branch: str
    main_branch: str | None
    main_at: str  # "merge-base" or "tip"
    repo: str | None  # None: the llama.cpp clone that one stands in, else the demo
    recipes: tuple[str, ...]
    named_recipes: Mapping[str, Recipe]
    model: str  # a folder's name below baselines/, or a path to such a folder
    bf16: Path | None
    imatrix: Path | None
    chunks: int | None
    evaluator: str  # "auto", "main", "own" or "pinned"
    policy: Policy
    limit_pct: float
    cmake_args: tuple[str, ...]
    jobs: int
    threads: int
    sequences: int  # chunks decoded together in a batch
    gpu_layers: int
    timeout_s: float  # a child that answers nothing for so long is ended
    report_dir: Path
    cache_dir: Path
    cache_gb: float


def add_options(parser: Any) -> None:
    """Add every option and its ini twin to pytest's parser."""
    group = parser.getgroup("quant-gate", "llama.cpp quantization gate (quant-gate)")
    group.addoption(
        "--pr-branch",
        dest=PR_BRANCH,
        metavar="REF",
        help="Compare REF (branch, tag, SHA, owner:branch, #PR) with main and run one item a "
        "recipe instead of the folder's tests. Without it the gate does nothing.",
    )
    for option in OPTIONS:
        text = f"{option.help} (default: {option.default})".replace("%", "%%")
        group.addoption(
            option.flag,
            dest=option.ini,
            metavar=option.metavar,
            action="append" if option.repeated else "store",
            help=text,
        )
        kind = "args" if option.repeated else "string"
        parser.addini(option.ini, f"Default of {option.flag}.", type=kind, default=None)


def read_config(
    given: argparse.Namespace,
    ini: Callable[[str], Any],
    ini_folder: Path,
    folder: Path,
    rootpath: Path,
) -> GateConfig:
    """Merge command line, ini file, quant-gate.toml, pyproject.toml and defaults, in this order.

    Parameters
    ----------
    given : Namespace
        The command line; options that were not given are None.
    ini : name -> str, list of str or None
        The ini file's values.
    ini_folder, folder : Path
        Where relative paths of the ini file and of the command line are seen from.
    rootpath : Path
        pytest's; TOML files are looked for from ``folder`` up to it.

    Raises
    ------
    UsageError
        A value or key is not legal; says where it stands and what is legal.
    """
    tables = toml_tables(folder, rootpath, [o.key for o in OPTIONS])
    values = _defaults(folder)
    values["named_recipes"] = named_recipes(tables)
    for option in OPTIONS:
        candidates = [
            ("", option.flag, getattr(given, option.ini), folder),
            ("the ini file: ", option.ini, ini(option.ini), ini_folder),
            *(
                (f"{t.path}: ", option.key, t.entries.get(option.key), t.path.parent)
                for t in tables
            ),
        ]
        for where, name, raw, base in candidates:
            if raw is not None and raw != []:
                values[option.field] = _parse(option, where + name, raw, base)
                break
    return GateConfig(pr_branch=getattr(given, PR_BRANCH), **values)


def rerun_command(given: argparse.Namespace, recipe: str) -> str:
    """The command that runs one recipe with the same options, and the same ladder around it."""
    words = ["pytest", f"--pr-branch={getattr(given, PR_BRANCH)}"]
    for option in OPTIONS:
        value = getattr(given, option.ini)
        if value is not None and value != []:
            texts = value if isinstance(value, list) else [value]
            words += [f"{option.flag}={text}" for text in texts]
    return shlex.join([*words, f"quant-gate::{recipe}"])


def default_cache_dir() -> Path:
    """Where builds, files and scores are kept: $QUANT_GATE_CACHE, else the user's cache folder."""
    from platformdirs import user_cache_path

    given = os.environ.get("QUANT_GATE_CACHE")
    return Path(given).absolute() if given else user_cache_path("quant-gate")


def _parse(option: Option, where: str, raw: object, base: Path) -> object:
    several = list(raw) if isinstance(raw, list | tuple) else [raw]
    if any(isinstance(v, bool) or not isinstance(v, str | int | float) for v in several):
        raise UsageError(f"{where}: {raw!r} is no {option.metavar}")
    if len(several) > 1 and not option.repeated:
        raise UsageError(f"{where}: one {option.metavar} is wanted, not {len(several)}")
    try:
        return option.parse([str(value) for value in several], base)
    except ValueError as error:
        shown = raw if not isinstance(raw, list) else ", ".join(map(str, raw))
        raise UsageError(f"{where}: {str(shown)!r}: {error}") from None


def _defaults(folder: Path) -> dict[str, Any]:
    from harness.domain import Policy

    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    cpus = len(os.sched_getaffinity(0))
    return {
        "main_branch": None,
        "main_at": "merge-base",
        "repo": None,
        "recipes": (),
        "model": "tinyscout",
        "bf16": None,
        "imatrix": None,
        "chunks": None,
        "evaluator": "auto",
        "policy": Policy.EQUAL_SIZE,
        "limit_pct": 1.0,
        "cmake_args": (),
        "jobs": cpus,
        "threads": max(1, cpus // workers),
        "sequences": 4,
        "gpu_layers": 999,
        "timeout_s": 600.0,
        "report_dir": folder / ".quant-gate",
        "cache_dir": default_cache_dir(),
        "cache_gb": 20.0,
    }
