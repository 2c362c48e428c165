"""A small world of repositories: upstream, a fork of it, and a contributor's clone."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import git
import pytest

from harness.store import Store

UPSTREAM, FORK, CLONE = "hub/ggml-org/llama.cpp", "hub/ikawrakow/llama.cpp", "work/llama.cpp"


@dataclass
class Steps:
    """A Progress that remembers what it was told."""

    names: list[str] = field(default_factory=list)

    def step(self, what: str, done: int, total: int) -> None:
        assert done >= 0
        assert total == 0 or done <= total
        self.names.append(what)

    def finish(self, what: str) -> None:
        assert what in self.names


@dataclass(frozen=True)
class World:
    upstream: git.Repo
    fork: git.Repo
    clone: git.Repo

    @property
    def clone_path(self) -> Path:
        return Path(self.clone.working_dir)


def commit(repo: git.Repo, message: str, files: dict[str, str]) -> str:
    """Write files, commit them, and return the commit's SHA."""
    for name, text in files.items():
        path = Path(repo.working_dir) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        repo.git.add("--force", "--", name)
    repo.git.commit("--quiet", "--allow-empty", "--message", message)
    return repo.head.commit.hexsha


@pytest.fixture(autouse=True, scope="session")
def _own_git_configuration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    home = tmp_path_factory.mktemp("git")
    (home / "config").write_text("[user]\nname = Ada\nemail = ada@example.org\n")
    (home / "template").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_CONFIG_GLOBAL", str(home / "config"))
        patch.setenv("GIT_TEMPLATE_DIR", str(home / "template"))
        yield


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


@pytest.fixture
def steps() -> Steps:
    return Steps()


@pytest.fixture
def commit_files():
    return commit


@pytest.fixture(scope="session")
def world_once(_own_git_configuration: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the repositories once; tests get copies.

    upstream (``hub/ggml-org/llama.cpp``): main b1 - b2, and a branch ``feature``
    that left main at b1; pull request 12727 left it there too. The fork
    (``hub/ikawrakow/llama.cpp``) has a branch ``iq2/mix``. The clone
    (``work/llama.cpp``) is of upstream.
    """
    home = tmp_path_factory.mktemp("world")
    _make_world(home)
    return home


def _make_world(home: Path) -> None:
    upstream = git.Repo.init(home / UPSTREAM, initial_branch="master")
    quant = {"src/llama-quant.cpp": "int q = 1;\n", "include/llama.h": "// API\n"}
    commit(upstream, "First", quant | {"README.md": "llama\n"})
    upstream.create_tag("b1")
    upstream.git.checkout("--quiet", "-b", "feature")
    commit(upstream, "quant : a better mix", {"src/llama-quant.cpp": "int q = 2;\n"})
    upstream.git.checkout("--quiet", "-b", "pull", "b1")
    commit(upstream, "quant : mix of PR 12727", {"src/llama-quant.cpp": "int q = 12727;\n"})
    upstream.git.update_ref("refs/pull/12727/head", "HEAD")
    upstream.git.checkout("--quiet", "master")
    upstream.git.branch("-D", "pull")
    commit(upstream, "Somebody else's", {"src/llama-model.cpp": "int m = 1;\n"})
    upstream.create_tag("b2")
    fork = upstream.clone(home / FORK)
    fork.git.checkout("--quiet", "-b", "iq2/mix", "b1")
    commit(fork, "quant : the fork's mix", {"src/llama-quant.cpp": "int q = 3;\n"})
    upstream.clone(home / CLONE)


@pytest.fixture
def world(world_once: Path, tmp_path: Path) -> World:
    for name in (UPSTREAM, FORK, CLONE):
        shutil.copytree(world_once / name, tmp_path / name)
    upstream, fork, clone = (git.Repo(tmp_path / name) for name in (UPSTREAM, FORK, CLONE))
    clone.git.remote("set-url", "origin", f"file://{upstream.working_dir}")
    return World(upstream, fork, clone)
