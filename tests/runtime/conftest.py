from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from fake_llama import HEADER, OLDER_HEADER, SOURCE, make_tree

from harness.domain import Build, Side
from harness.errors import PrError
from harness.runtime import Library, branch_library


class Quiet:
    def step(self, what, done, total):
        pass

    def finish(self, what):
        pass


@pytest.fixture
def asked(tmp_path):
    """What every request needs."""
    return {"timeout_s": 120.0, "log": tmp_path / "log.txt", "blame": PrError}


@pytest.fixture
def quiet():
    return Quiet()


@pytest.fixture(scope="session")
def fake_llama(tmp_path_factory):
    """A libllama of some hundred lines, with the names of today."""
    return _built(tmp_path_factory.mktemp("today"), HEADER, [])


@pytest.fixture(scope="session")
def older_fake_llama(tmp_path_factory):
    """The same with the names of 2024."""
    return _built(tmp_path_factory.mktemp("older"), OLDER_HEADER, ["-DOLDER"])


def _built(folder: Path, header: str, flags: list[str]) -> Library:
    tree = make_tree(folder, header)
    (tree / "llama.c").write_text(SOURCE)
    library = tree / "libllama.so"
    command = ["gcc", "-shared", "-fPIC", *flags, f"-I{tree / 'include'}", "llama.c"]
    subprocess.run([*command, "-o", str(library)], cwd=tree, check=True)
    build = Build(Side.PR, "key", tree, tree, tree / "llama-quantize", library)
    return branch_library(build, "pr 1a2b3c4", PrError)
