"""CLI, ini and [tool.quant-gate] TOML -> one frozen GateConfig."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.domain import Policy, Recipe


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
