"""A real llama.cpp for every room: the demo's main, built once in the cache of a user's runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.build import build
from harness.domain import Build, Checkout
from harness.errors import InfrastructureError
from harness.options import default_cache_dir
from harness.runtime import Library, branch_library
from harness.source import checkout, open_repository, resolve
from harness.store import Store


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
def silent() -> Quiet:
    """Progress that nobody watches."""
    return Quiet()
