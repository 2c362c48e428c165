"""The real pipeline: real llama.cpp trees, real builds, the cache that a user's runs share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from gate_runs import Run, run_pytest

from harness.baseline import Reference, open_reference
from harness.build import build
from harness.domain import Build, Checkout, Recipe
from harness.errors import InfrastructureError
from harness.measure import Evaluation, measure
from harness.options import default_cache_dir
from harness.quantize import QuantizeInputs, parse_recipe, quantize
from harness.runtime import Library, branch_library
from harness.source import checkout, open_repository, resolve
from harness.store import Store


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory):
    """Run the gate on a demo branch; each branch once a session."""
    done: dict[tuple[str, ...], Run] = {}

    def run(*arguments: str) -> Run:
        if arguments not in done:
            done[arguments] = run_pytest(tmp_path_factory.mktemp("gate"), *arguments)
        return done[arguments]

    return run


class Quiet:
    def step(self, what, done, total):
        pass

    def finish(self, what):
        pass


@pytest.fixture(scope="session")
def store() -> Store:
    return Store(default_cache_dir())


@pytest.fixture(scope="session")
def demo_main(store) -> Checkout:
    """The demo's main: a real llama.cpp tree."""
    repository = open_repository("demo", store, Quiet(), Path.cwd())
    found = resolve(repository, "main", "main", "tip")
    return checkout(repository, found.main, store)


@pytest.fixture(scope="session")
def main_build(demo_main, store, tmp_path_factory) -> Build:
    return build(
        demo_main,
        store,
        targets=("llama-quantize",),
        cmake_args=(),
        jobs=os.cpu_count() or 1,
        log=tmp_path_factory.mktemp("build") / "build.txt",
        progress=Quiet(),
    )


@pytest.fixture(scope="session")
def main_library(main_build) -> Library:
    return branch_library(main_build, "main", InfrastructureError)


@pytest.fixture(scope="session")
def tinyscout(store) -> Reference:
    return open_reference(
        "tinyscout", bf16=None, imatrix=None, chunks=None, store=store, cwd=Path("/nonexistent")
    )


@pytest.fixture(scope="session")
def quantized(main_build, tinyscout, store, tmp_path_factory):
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
        return quantize(main_build, recipe, inputs, store, logs / name, Quiet())

    return make


@pytest.fixture(scope="session")
def measured(quantized, main_library, tinyscout, store, tmp_path_factory):
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
            progress=Quiet(),
        )

    return run


