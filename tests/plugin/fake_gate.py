"""A gate that needs no llama.cpp, for tests of the plugin; loaded with ``-p fake_gate``.

What it does is written in the environment variable FAKE_GATE as JSON:
``recipes`` name -> how it ends, ``open`` and ``prepare`` -> how these end
("" well, else an error kind), ``seconds`` -> how long a recipe takes.
"""

from __future__ import annotations

import json
import os
import sys
import time
import types
from pathlib import Path

from harness.errors import InfrastructureError, PrError, UsageError

ERRORS = {"usage": UsageError, "pr": PrError, "infrastructure": InfrastructureError}
DEFAULT = {
    "recipes": {"IQ1_M": "SAME", "IQ2_XXS": "SAME", "Q4_K_M": "SAME"},
    "open": "",
    "prepare": "",
    "seconds": 0,
}
SIZES = {"IQ1_M": 24_570_000_000, "IQ2_XXS": 28_560_000_000, "Q4_K_M": 62_000_000_000}


class FakeGate:
    def __init__(self, config, progress):
        from harness.domain import Recipe

        self.config, self.progress = config, progress
        self.plan = DEFAULT | json.loads(os.environ.get("FAKE_GATE", "{}"))
        names = config.recipes or tuple(self.plan["recipes"])
        self._recipes = tuple(Recipe(name, name) for name in names)

    def open(self):
        from harness.domain import Commit, Side, Source

        note("open")
        fail(self.plan["open"], "demo has no branch 'mine'", "--quant-repo=PATH")
        self.source = Source(
            repo="demo",
            main=Commit(Side.MAIN, "master", "a" * 40, "c" * 40, "quant : tidy"),
            pr=Commit(Side.PR, self.config.pr_branch, "b" * 40, "d" * 40, "quant : better mix"),
            changed_paths=("src/llama-quant.cpp",),
        )
        self.recipes = self._recipes

    def describe(self):
        return [("main", "aaaaaaaaaa quant : tidy"), ("model", "tinyscout")]

    def prepare(self):
        note("prepare")
        self.progress.step("build pr", 1, 2)
        fail(
            self.plan["prepare"],
            "the PR does not compile: llama-quant.cpp:12: error: expected ';'",
            "",
        )
        self.progress.finish("build pr")

    def run(self, recipe):
        note(f"run {recipe.name}")
        time.sleep(self.plan["seconds"])
        print("a word to stdout that must not reach the terminal")
        ending = self.plan["recipes"].get(recipe.name, "SAME")
        if ending == "bug":
            raise RuntimeError("a bug of the harness")
        if ending == "die":
            os._exit(9)
        if ending == "interrupt":
            raise KeyboardInterrupt
        fail(
            ending if ending in ERRORS else "", f"{recipe.name}: llama-quantize ended with 134", ""
        )
        return result(recipe.name, ending)

    def close(self):
        note("close")


def fail(kind, message, hint=""):
    if kind:
        raise ERRORS[kind](message, hint=hint, log=Path("logs/pr.txt"))


def note(what):
    """Record what was called, in which process."""
    if "PYTEST_CURRENT_TEST" in os.environ and what == "prepare":
        what = "prepare within an item"
    with Path("calls.txt").open("a") as calls:
        print(os.environ.get("PYTEST_XDIST_WORKER", "main"), what, file=calls)


def result(name, verdict, **changes):
    """An ItemResult with the given verdict; SAME ones were not measured if named IQ1_M."""
    from harness.domain import (
        Effect,
        ItemResult,
        Judgement,
        Policy,
        SideFigures,
        TensorChange,
        Verdict,
    )

    low, point, high = {
        "WORSE": (0.0402, 0.0583, 0.0760),
        "BETTER": (-0.09, -0.08, -0.07),
        "INCONCLUSIVE": (-0.02, 0.02, 0.06),
    }.get(verdict, (-0.001, 0.0, 0.001))
    is_measured = name != "IQ1_M"
    effect = Effect(point, low, high)
    size = SIZES.get(name, 1_024_000_000)
    judgement = Judgement(
        recipe=name,
        verdict=Verdict(verdict),
        decided_by=Policy.EQUAL_SIZE if is_measured else None,
        equal_size=effect if is_measured else None,
        per_gb=Effect(point / 2, low / 2, high / 2) if is_measured else None,
        frontier=None,
        same_top_diff=None,
        note="" if is_measured else "identical files",
    )
    return ItemResult(
        recipe=name,
        judgement=judgement,
        main=SideFigures(size, 2.25, "e" * 64, summary(0.1432, 0.812) if is_measured else None),
        pr=SideFigures(size, 2.25, "f" * 64, summary(0.1518, 0.804) if is_measured else None),
        changed_tensors=tuple(
            TensorChange(f"blk.{i}.attn_v.weight", "Q4_K", "Q3_K") for i in range(32)
        )
        if verdict == "WORSE"
        else (),
        seconds=1.5,
        logs={"pr": str(Path.cwd() / ".quant-gate" / "logs" / "pr" / f"{name}.txt")},
    )


def summary(kld, same_top):
    from dataclasses import fields

    from harness.domain import Summary

    values = {f.name: 0.5 for f in fields(Summary)}
    counts = {"n_chunks": 64, "n_tokens": 16320}
    return Summary(**values | counts | {"mean_kld": kld, "same_top": same_top, "ppl": 12.345})


module = types.ModuleType("harness.gate")
module.Gate = FakeGate


def pytest_configure(config):
    """Loaded as a plugin it takes the gate's place, in xdist's workers too."""
    import harness

    sys.modules["harness.gate"] = harness.gate = module
