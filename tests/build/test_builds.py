"""The build room on a tiny project of llama.cpp's shape: it configures, compiles, links."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from harness.build import build, build_key, compile_cache, toolchain
from harness.domain import Build, Checkout, Commit, Side
from harness.errors import InfrastructureError, PrError
from harness.store import STAMP, Store, digest

N_MODELS = 10

CMAKE = """\
cmake_minimum_required(VERSION 3.14)
project(llama C CXX)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
if(EXISTS "${CMAKE_SOURCE_DIR}/wait")
    execute_process(COMMAND sleep 600)
endif()
if(NO_GOOD)
    message(FATAL_ERROR "NO_GOOD is on")
endif()
# As trees up to the middle of 2025 do.
file(WRITE ${CMAKE_SOURCE_DIR}/src/build-info.h "#define BUILD 1")
if(EXISTS ${CMAKE_SOURCE_DIR}/.git)
    message(FATAL_ERROR "the build sees .git")
endif()
add_subdirectory(src)
add_executable(llama-quantize quantize.cpp)
target_link_libraries(llama-quantize PRIVATE llama)
add_executable(llama-perplexity EXCLUDE_FROM_ALL quantize.cpp)
target_link_libraries(llama-perplexity PRIVATE llama)
"""

SRC_CMAKE = """\
file(GLOB MODELS ${CMAKE_CURRENT_SOURCE_DIR}/models/*.cpp)
add_library(ggml ggml.c)
target_include_directories(ggml PUBLIC .)
add_library(llama ${MODELS})
target_link_libraries(llama PUBLIC ggml)
set_target_properties(llama ggml PROPERTIES VERSION 1.2.3 SOVERSION 1)
"""


@dataclass
class Steps:
    """A Progress that remembers."""

    seen: list[tuple[str, int, int]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    def step(self, what: str, done: int, total: int) -> None:
        self.seen.append((what, done, total))

    def finish(self, what: str) -> None:
        self.ended.append(what)


def write_tree(path: Path) -> Path:
    models = path / "src" / "models"
    models.mkdir(parents=True)
    (path / "CMakeLists.txt").write_text(CMAKE)
    (path / "src" / "CMakeLists.txt").write_text(SRC_CMAKE)
    (path / "src" / "ggml.h").write_text("#include <stdio.h>\nint ggml(int);\n")
    (path / "src" / "ggml.c").write_text('#include "ggml.h"\nint ggml(int x) { return x; }\n')
    for i in range(N_MODELS):
        (models / f"model{i}.cpp").write_text(
            f'extern "C" {{\n#include "../ggml.h"\n}}\n'
            f"int model{i}() {{ return ggml({i}) + (__FILE__[0] == 0); }}\n"
        )
    (path / "quantize.cpp").write_text(
        "#include <cstdio>\nint model0();\n"
        'int main() { std::puts("usage: llama-quantize …"); return 1 + model0(); }\n'
    )
    return path


def make_read_only(path: Path) -> None:
    for entry in [path, *path.rglob("*")]:
        entry.chmod(0o555 if entry.is_dir() else 0o444)


def checkout(path: Path, side: Side = Side.MAIN) -> Checkout:
    """Return the folder's content as a commit: its tree hash follows the bytes."""
    files = [f for f in path.rglob("*") if f.is_file() and f.name not in ("wait", ".git")]
    tree = digest(sorted((str(f.relative_to(path)), f.read_text()) for f in files))
    ref = "master" if side is Side.MAIN else "my-branch"
    return Checkout(Commit(side, ref, f"{tree[:10]:a<40}", tree, "a commit"), path)


@dataclass
class Bench:
    """A store, and one call that builds a tree there."""

    folder: Path
    store: Store
    steps: Steps

    @property
    def log(self) -> Path:
        return self.folder / "logs" / "build.txt"

    def tree(self, name: str) -> Path:
        return write_tree(self.folder / name)

    def build(
        self, path: Path, side: Side = Side.MAIN, *args: str, targets: tuple[str, ...] = ()
    ) -> Build:
        return build(
            checkout(path, side), self.store, targets=targets, cmake_args=args, jobs=2,
            log=self.log, progress=self.steps,
        )  # fmt: skip

    def cache_use(self, built: Build) -> dict[str, int]:
        found: dict[str, int] = self.store.stamp("builds", built.key)["compile_cache"]
        return found

    def entries(self) -> list[str]:
        return sorted(e.name for e in self.store.folder("builds").iterdir())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, Store(tmp_path / "cache"), Steps())


@pytest.fixture(scope="module")
def main_built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bench, Build]:
    """main, built once for the tests that only look; its compile cache is warm."""
    folder = tmp_path_factory.mktemp("main")
    bench = Bench(folder, Store(folder / "cache"), Steps())
    tree = bench.tree("master")
    (tree / ".git").write_text("gitdir: elsewhere")
    make_read_only(tree)
    return bench, bench.build(tree)


@pytest.fixture
def warm(main_built: tuple[Bench, Build], tmp_path: Path) -> Bench:
    """A bench of its own over main's store and compile cache."""
    return Bench(tmp_path, main_built[0].store, Steps())


# ---- a build that works ----------------------------------------------------------


def test_binaries_run_where_the_entry_lies(main_built: tuple[Bench, Build]) -> None:
    bench, built = main_built
    assert built.folder == bench.store.root / "builds" / built.key
    ended = subprocess.run([built.quantize], capture_output=True, text=True, env={}, check=False)
    assert (ended.returncode, ended.stdout) == (1, "usage: llama-quantize …\n")
    assert built.library.is_symlink()
    assert built.library.resolve().name == "libllama.so.1.2.3"
    assert built.library.resolve().is_file()


def test_only_binaries_are_kept(main_built: tuple[Bench, Build]) -> None:
    bench, built = main_built
    assert sorted(p.name for p in built.folder.iterdir()) == ["bin", STAMP]
    assert sorted(p.name for p in (built.folder / "bin").iterdir()) == [
        "libggml.so", "libggml.so.1", "libggml.so.1.2.3",
        "libllama.so", "libllama.so.1", "libllama.so.1.2.3", "llama-quantize",
    ]  # fmt: skip
    assert bench.entries() == [built.key]


def test_the_checkout_stays_as_it_is(main_built: tuple[Bench, Build]) -> None:
    _, built = main_built
    assert not (built.checkout / "src" / "build-info.h").exists()


def test_no_daemon_is_left(main_built: tuple[Bench, Build]) -> None:
    root = str(main_built[0].store.root)
    for process in psutil.process_iter():
        try:
            if "sccache" in process.name():
                assert root not in process.environ().get("SCCACHE_DIR", "")
        except psutil.Error:
            continue


def test_progress_counts_compile_steps(main_built: tuple[Bench, Build]) -> None:
    bench, _ = main_built
    what = f"build main {checkout(bench.folder / 'master').commit.short}"
    assert {w for w, _, _ in bench.steps.seen} == {what}
    assert bench.steps.seen[0] == (what, 0, 0)
    done, total = bench.steps.seen[-1][1:]
    assert done == total > N_MODELS
    assert bench.steps.ended == [what]


def test_a_second_build_costs_nothing(warm: Bench) -> None:
    start = time.monotonic()
    built = warm.build(warm.tree("same-content-elsewhere"), Side.PR)
    assert built.side is Side.PR
    assert warm.steps.seen == []
    assert not warm.log.exists()
    assert time.monotonic() - start < 5


def test_a_pr_elsewhere_compiles_only_its_change(warm: Bench) -> None:
    def cached() -> dict[Path, bytes]:
        folder = warm.store.folder("compile-cache")
        return {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()}

    before = cached()
    tree = warm.tree("a-much-longer-path/of/the-pr")
    (tree / "src/models/model3.cpp").write_text("int model3() { return 33; }\n")
    built = warm.build(tree, Side.PR)
    assert warm.cache_use(built) == {"hits": N_MODELS + 1, "misses": 1}
    assert cached() == before, "main must never link what a PR compiled"


def test_flags_and_targets_are_obeyed(warm: Bench) -> None:
    tree = warm.tree("master")
    built = warm.build(tree, Side.MAIN, "-DCMAKE_BUILD_TYPE=Debug", targets=("llama-perplexity",))
    assert (built.folder / "bin" / "llama-perplexity").exists()
    assert built.quantize.exists()
    sections = subprocess.check_output(["readelf", "-S", "-W", built.library], text=True)
    assert ".debug_info" in sections, "the user's -DCMAKE_BUILD_TYPE wins"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("ccache") is None, reason="needs ccache")
def test_ccache_hits_too_where_sccache_is_missing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_sccache(name: str) -> Path | None:
        return None if name == "sccache" else toolchain.packaged_or_none(name)

    monkeypatch.setattr(compile_cache, "packaged_or_none", no_sccache)
    bench.build(bench.tree("master"))
    (folder,) = bench.store.folder("compile-cache").iterdir()

    def objects() -> set[str]:
        return {f.name for f in folder.rglob("*") if f.name.endswith(("R", "M"))}

    before = objects()
    assert len(before) >= N_MODELS + 2
    tree = bench.tree("somewhere/else")
    (tree / "src/models/model3.cpp").write_text("int model3() { return 33; }\n")
    bench.build(tree, Side.PR)
    shown = subprocess.check_output(
        ["ccache", "--print-stats"], env={**os.environ, "CCACHE_DIR": str(folder)}, text=True
    )
    counts = {k: int(v) for k, v in (line.split("\t") for line in shown.splitlines())}
    assert counts["direct_cache_hit"] + counts["preprocessed_cache_hit"] == N_MODELS + 1
    assert objects() == before, "a PR only reads"


# ---- what makes a build another one ------------------------------------------------


def test_the_key_follows_all_that_changes_the_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = checkout(write_tree(tmp_path / "main"))
    other_tree = write_tree(tmp_path / "other")
    (other_tree / "quantize.cpp").write_text("int main() {}\n")
    keys = [
        build_key(main),
        build_key(checkout(other_tree)),
        build_key(main, ["-DGGML_NATIVE=OFF"]),
        build_key(main, ["-DGGML_NATIVE=OFF", "-DGGML_NATIVE=ON"]),
        build_key(main, targets=["llama-perplexity"]),
    ]
    shim = tmp_path / "c++"
    shim.write_text("#!/bin/sh\necho another compiler 1.0\n")
    shim.chmod(0o755)
    keys.append(build_key(main, [f"-DCMAKE_CXX_COMPILER={shim}"]))
    monkeypatch.setenv("CXX", str(shim))
    keys.append(build_key(main))
    shim.write_text("#!/bin/sh\necho another compiler 1.1\n")
    keys.append(build_key(main))
    monkeypatch.setattr(toolchain, "_processor", lambda: "x86_64 without avx2")
    keys.append(build_key(main))
    assert len(set(keys)) == len(keys)


def test_the_key_ignores_what_does_not(tmp_path: Path) -> None:
    main, pr = write_tree(tmp_path / "main"), write_tree(tmp_path / "pr")
    assert build_key(checkout(main)) == build_key(checkout(pr, Side.PR))
    assert build_key(checkout(main)) == build_key(checkout(main), (), ["llama-quantize"])


# ---- a build that fails ------------------------------------------------------------


@pytest.mark.parametrize("side", Side)
def test_code_that_does_not_compile(warm: Bench, side: Side) -> None:
    tree = warm.tree("broken")
    (tree / "src/models/model3.cpp").write_text("int model3() { return missing; }\n")
    kind = PrError if side is Side.PR else InfrastructureError
    before = warm.entries()
    with pytest.raises(kind) as caught:
        warm.build(tree, side)
    message = str(caught.value)
    assert "src/models/model3.cpp:1:23: error: 'missing' was not declared" in message
    assert "/work/tree" not in message
    assert str(warm.log) in message
    assert checkout(tree).commit.short in message
    assert ("not the PR's fault" in message) == (side is Side.MAIN)
    assert "the PR (my-branch" in message or side is Side.MAIN
    assert "missing" in warm.log.read_text()
    assert warm.entries() == before
    assert warm.steps.ended == [warm.steps.seen[0][0]]


def test_cmake_that_fails(warm: Bench) -> None:
    with pytest.raises(PrError, match=r"CMakeLists.txt:\d+ \(message\): NO_GOOD is on"):
        warm.build(warm.tree("broken"), Side.PR, "-DNO_GOOD=ON")


def test_a_tool_that_does_not_start_is_no_build(warm: Bench) -> None:
    tree = warm.tree("crashing")
    (tree / "quantize.cpp").write_text("int main() { __builtin_trap(); }\n")
    before = warm.entries()
    with pytest.raises(PrError, match=r"llama-quantize --help ends with SIG(ILL|TRAP)"):
        warm.build(tree, Side.PR)
    assert warm.entries() == before


def test_an_unknown_target(warm: Bench) -> None:
    with pytest.raises(InfrastructureError, match="unknown target 'llama-nothing'"):
        warm.build(warm.tree("master"), targets=("llama-nothing",))


def test_no_compiler_is_said_before_cmake_starts(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = bench.tree("master")
    monkeypatch.setenv("PATH", str(bench.folder))
    with pytest.raises(InfrastructureError, match="no C compiler found") as caught:
        bench.build(tree, Side.PR)
    assert "apt-get install" in caught.value.hint
    monkeypatch.undo()
    with pytest.raises(InfrastructureError, match=r"CMAKE_CXX_COMPILER=g\+\+-99"):
        bench.build(tree, Side.PR, "-DCMAKE_CXX_COMPILER=g++-99")
    assert not bench.log.exists()


def test_cuda_without_nvcc(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDACXX", "/no/such/nvcc")
    with pytest.raises(InfrastructureError, match="no CUDA compiler found"):
        bench.build(bench.tree("master"), Side.PR, "-DGGML_CUDA=ON")
    build_key(checkout(bench.folder / "master"), ["-DGGML_CUDA=OFF"])


def test_a_nearly_full_disk_is_said_before_cmake_starts(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil._ntuple_diskusage(100e9, 99e9, 1e9)  # type: ignore[attr-defined]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(InfrastructureError, match=r"1.00 GB free, a build needs 2.00 GB"):
        bench.build(bench.tree("master"), Side.PR)
    assert not bench.log.exists()
    assert bench.entries() == []


# ---- two at a time, and one that is killed -----------------------------------------

ALONE = """
import json, sys
from pathlib import Path
from harness.build import build
from harness.domain import Checkout, Commit, Side
from harness.store import Store

class Quiet:
    def step(self, *_): pass
    def finish(self, *_): pass

path, tree, root, log = sys.argv[1:]
commit = Commit(Side.MAIN, "master", "c" * 40, tree, "a commit")
checkout = Checkout(commit, Path(path))
built = build(checkout, Store(Path(root)), jobs=1, log=Path(log), progress=Quiet())
print(json.dumps([built.key, str(built.quantize)]))
"""


def build_elsewhere(bench: Bench, path: Path, log: str) -> subprocess.Popen[str]:
    commit = checkout(path).commit
    return subprocess.Popen(
        [sys.executable, "-c", ALONE, path, commit.tree, bench.store.root, bench.folder / log],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_racing_processes_make_one_build(bench: Bench) -> None:
    tree = bench.tree("master")
    racing = [build_elsewhere(bench, tree, f"{i}.txt") for i in range(2)]
    answers = [json.loads(process.communicate()[0]) for process in racing]
    assert [process.returncode for process in racing] == [0, 0]
    assert answers[0] == answers[1]
    assert bench.entries() == [answers[0][0]]
    assert len(list(bench.folder.glob("?.txt"))) == 1, "only one has compiled"
    assert subprocess.run([answers[0][1]], stdout=subprocess.DEVNULL, check=False).returncode == 1


def test_a_killed_build_leaves_nothing_valid(bench: Bench) -> None:
    tree = bench.tree("master")
    (tree / "wait").touch()
    process = build_elsewhere(bench, tree, "killed.txt")
    sleeper = wait_for_sleep_below(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    sleeper.wait(10)
    key = build_key(checkout(tree))
    assert bench.store.find("builds", key) is None

    (tree / "wait").unlink()
    built = bench.build(tree)
    assert bench.entries() == [built.key] == [key], "the killed build's folder is gone too"


def wait_for_sleep_below(pid: int) -> psutil.Process:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for process in psutil.Process(pid).children(recursive=True):
            try:
                if process.name() == "sleep":
                    return process
            except psutil.Error:
                continue
        time.sleep(0.05)
    raise AssertionError("CMake never came to its sleep")
