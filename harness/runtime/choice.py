"""Which library evaluates: main's for both files, each side's own, or the pinned one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Paths that can't change what a GGUF's logits are: they quantize, or build nothing we load.
_NOT_INFERENCE = (
    "src/llama-quant.",
    "tools/quantize/",
    "tools/imatrix/",
    "tools/perplexity/",
    "tools/server/",
    "examples/",
    "tests/",
    "docs/",
    "media/",
    "models/",
    "scripts/",
    "grammars/",
    "gguf-py/",
    "conversion/",
    "requirements",
    "convert_",
    "ci/",
    ".github/",
    ".devops/",
)


@dataclass(frozen=True)
class EvaluatorChoice:
    """``mode`` is "main", "own" or "pinned"; ``reason`` says why, for the header."""

    mode: str
    reason: str


def choose_evaluator(option: str, changed_paths: Sequence[str]) -> EvaluatorChoice:
    """Resolve ``--quant-evaluator``: ``auto`` reads the paths that the PR changes.

    Where the PR leaves inference alone, both files run on main's library, so
    that no kernel change can pose as a quantizer change. Where it touches
    inference, each file runs on its own.
    """
    if option != "auto":
        return EvaluatorChoice(option, "as asked for")
    touching = [path for path in changed_paths if touches_inference(path)]
    if not touching:
        return EvaluatorChoice("main", "the PR changes nothing that evaluates")
    more = f" and {len(touching) - 1} more" if len(touching) > 1 else ""
    return EvaluatorChoice("own", f"the PR touches inference: {touching[0]}{more}")


def touches_inference(path: str) -> bool:
    """Say whether a change to ``path`` could change the logits of a given GGUF.

    ``ggml-quants.c`` holds quantizers and dequantizers, so it counts.
    """
    if path.endswith((".md", ".txt")) and not path.endswith("CMakeLists.txt"):
        return False
    return not path.startswith(_NOT_INFERENCE)
