"""The real pipeline: real llama.cpp trees, real builds, the cache that a user's runs share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from gate_runs import Run, run_pytest

from harness.baseline import Reference, open_reference
from harness.domain import Recipe
from harness.errors import InfrastructureError
from harness.measure import Evaluation, measure
from harness.quantize import QuantizeInputs, parse_recipe, quantize


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory):
    """Run the gate on a demo branch; each branch once a session."""
    done: dict[tuple[str, ...], Run] = {}

    def run(*arguments: str) -> Run:
        if arguments not in done:
            done[arguments] = run_pytest(tmp_path_factory.mktemp("gate"), *arguments)
        return done[arguments]

    return run


@pytest.fixture(scope="session")
def tinyscout(store) -> Reference:
    return open_reference(
        "tinyscout", bf16=None, imatrix=None, chunks=None, store=store, cwd=Path("/nonexistent")
    )


@pytest.fixture(scope="session")
def quantized(main_build, tinyscout, store, silent, tmp_path_factory):
    """Main's file of a recipe, by name."""
    logs = tmp_path_factory.mktemp("quantize")
    inputs = QuantizeInputs(
        tinyscout.model,
        tinyscout.manifest.model_sha256,
        tinyscout.imatrix,
        tinyscout.imatrix_sha256,
        threads=os.cpu_count() or 1,
    )

    def make(name: str):
        recipe: Recipe = parse_recipe(name, {})
        return quantize(main_build, recipe, inputs, store, logs / name, silent)

    return make


@pytest.fixture(scope="session")
def measured(quantized, main_library, tinyscout, store, silent, tmp_path_factory):
    """Main's file of a recipe, measured against TinyScout's baseline."""
    logs = tmp_path_factory.mktemp("evaluate")

    def run(name: str):
        return measure(
            quantized(name),
            lambda: quantized(name),
            main_library,
            tinyscout,
            Evaluation(os.cpu_count() or 1, 4, 0, 600.0),
            store,
            blame=InfrastructureError,
            what=name,
            log=logs / name,
            progress=silent,
        )

    return run
