"""The options: each one's spellings, help and values. Their defaults are `config._defaults`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.options.values import (
    number,
    one_of,
    to_names,
    to_path,
    to_place,
    to_policy,
    to_text,
    to_words,
    whole,
)


@dataclass(frozen=True)
class Option:
    """One option in its three spellings: ``--quant-types``, ini ``quant_types``, TOML ``types``.

    ``parse`` gets the texts given (one, unless ``repeated``) and the folder that
    relative paths are seen from, and raises ValueError naming what is legal.
    ``default`` is what ``--help`` shows.
    """

    field: str
    flag: str
    metavar: str
    help: str
    default: str
    parse: Callable[[list[str], Path], object]
    repeated: bool = False

    @property
    def ini(self) -> str:
        """The name in an ini file, and of the parsed option."""
        return self.flag.removeprefix("--").replace("-", "_")

    @property
    def key(self) -> str:
        """The key in TOML."""
        return self.flag.removeprefix("--").removeprefix("quant-")


OPTIONS: tuple[Option, ...] = (
    Option(
        "main_branch",
        "--main-branch",
        "REF",
        "What to compare with.",
        "the repo's main branch",
        to_text,
    ),
    Option(
        "main_at",
        "--main-at",
        "{merge-base,tip}",
        "Take main where the PR left it, or at its tip.",
        "merge-base",
        one_of("merge-base", "tip"),
    ),
    Option(
        "repo",
        "--quant-repo",
        "REPO",
        "llama.cpp's repo: a path, a URL, or demo.",
        "the llama.cpp clone around you, else demo",
        to_place,
    ),
    Option(
        "recipes",
        "--quant-types",
        "LIST",
        "Recipes, separated by commas; may be repeated.",
        "the model's ladder",
        to_names,
        repeated=True,
    ),
    Option(
        "model",
        "--quant-model",
        "NAME|DIR",
        "The model: a shipped one, or a folder with a baseline.",
        "tinyscout",
        to_place,
    ),
    Option(
        "bf16",
        "--quant-bf16",
        "FILE",
        "The model's BF16 GGUF.",
        "the one that the baseline names",
        to_path,
    ),
    Option(
        "imatrix",
        "--quant-imatrix",
        "FILE",
        "The importance matrix for both sides.",
        "the one that the baseline names",
        to_path,
    ),
    Option(
        "chunks",
        "--quant-chunks",
        "N",
        "Chunks of the corpus to measure.",
        "all of the baseline",
        whole(1),
    ),
    Option(
        "evaluator",
        "--quant-evaluator",
        "{auto,main,own,pinned}",
        "Whose library evaluates: main's for both files, each side's own, or "
        "llama-cpp-python's; auto takes main's unless the PR touches inference.",
        "auto",
        one_of("auto", "main", "own", "pinned"),
    ),
    Option(
        "policy",
        "--quant-policy",
        "{equal-size,per-gb,frontier}",
        "Which reading of worse per GB decides.",
        "equal-size",
        to_policy,
    ),
    Option(
        "limit_pct",
        "--quant-limit",
        "PCT",
        "Percent of divergence more than main offers that still passes.",
        "1",
        number(0),
    ),
    Option(
        "cmake_args",
        "--quant-cmake-args",
        "ARGS",
        "Arguments for cmake, as in a shell, e.g. -DGGML_CUDA=ON; may be repeated.",
        "none",
        to_words,
        repeated=True,
    ),
    Option("jobs", "--quant-jobs", "N", "Compile jobs.", "one a CPU", whole(1)),
    Option(
        "threads",
        "--quant-threads",
        "N",
        "Threads that quantize and evaluate.",
        "one a CPU, shared among xdist's workers",
        whole(1),
    ),
    Option(
        "sequences", "--quant-sequences", "N", "Chunks decoded together in a batch.", "4", whole(1)
    ),
    Option(
        "gpu_layers",
        "--quant-gpu-layers",
        "N",
        "Layers on the GPU; a CPU build ignores it.",
        "999: all",
        whole(0),
    ),
    Option(
        "timeout_s",
        "--quant-timeout",
        "S",
        "Seconds without an answer after which an evaluation is ended.",
        "600",
        number(0, above=True),
    ),
    Option(
        "report_dir",
        "--quant-report-dir",
        "DIR",
        "Folder for results.json and logs.",
        ".quant-gate",
        to_path,
    ),
    Option(
        "cache_dir",
        "--quant-cache-dir",
        "DIR",
        "Folder for checkouts, builds, files, scores.",
        "$QUANT_GATE_CACHE, else the user's cache folder",
        to_path,
    ),
    Option(
        "cache_gb",
        "--quant-cache-size",
        "GB",
        "GB (10^9 bytes) of quantized files to keep.",
        "20",
        number(0),
    ),
)
