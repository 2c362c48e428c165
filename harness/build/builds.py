"""One build an entry of the store: commit + flags + compiler -> binaries that start."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import sandbox
from harness.build.compile_cache import CompileCache, compile_cache
from harness.build.diagnosis import first_error, not_the_codes_fault
from harness.build.folders import keep_binaries, mirror, remove_leftovers
from harness.build.toolchain import Toolchain, find_toolchain
from harness.domain import Build, Checkout, Progress, Side
from harness.errors import HarnessError, InfrastructureError, PrError
from harness.store import Store, digest, remove_tree

QUANTIZE = "llama-quantize"
LIBRARY = "libllama.so"

_FORMAT = 1  # of an entry: raise it when its layout or the flags' meaning change
_NEEDED_BYTES = 2_000_000_000
_CONFIGURE_TIMEOUT_S = 1800.0
_COMPILE_TIMEOUT_S = 6 * 3600.0
_START_TIMEOUT_S = 120.0
_FLAGS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=ON",
    "-DLLAMA_CURL=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_SERVER=OFF",
    "-DGGML_CCACHE=OFF",
    # The binaries find their libraries beside themselves, wherever the entry is moved,
    # and those of CUDA where the linker found them.
    "-DCMAKE_BUILD_WITH_INSTALL_RPATH=ON",
    "-DCMAKE_INSTALL_RPATH=$ORIGIN",
    "-DCMAKE_INSTALL_RPATH_USE_LINK_PATH=ON",
)
_NINJA_STATUS = re.compile(r"^\[(\d+)/(\d+)\] ")


def build(
    checkout: Checkout,
    store: Store,
    *,
    targets: Sequence[str] = (QUANTIZE,),
    cmake_args: Sequence[str] = (),
    jobs: int,
    log: Path,
    progress: Progress,
) -> Build:
    """Return the checkout's build from the store, made now if it is not there.

    Parameters
    ----------
    targets
        Executables to build; llama-quantize, and with it libllama, always is one.
    cmake_args
        The user's; they come last, so they win.
    jobs
        Compilers at a time; each takes up to about 1 GB of memory.
    log
        Gets CMake's, ninja's and the binaries' output, only when something is built.
    progress
        Told of ``build main 1a2b3c4d5e``, in compile steps.

    Raises
    ------
    PrError
        When the PR's code can't be configured or compiled, or its tools don't start.
    InfrastructureError
        When main's can't, or a compiler, memory or disk space is missing.
    """
    toolchain = find_toolchain(cmake_args)
    task = _Task(checkout, store, toolchain, _all(targets), tuple(cmake_args), jobs, log, progress)
    key = _key(checkout, toolchain, targets, cmake_args)
    folder = store.find("builds", key) or store.make("builds", key, task.fill)
    programs = folder / "bin"
    return Build(
        side=checkout.commit.side,
        key=key,
        checkout=checkout.path,
        folder=folder,
        quantize=programs / QUANTIZE,
        library=programs / LIBRARY,
    )


def build_key(
    checkout: Checkout, cmake_args: Sequence[str] = (), targets: Sequence[str] = (QUANTIZE,)
) -> str:
    """Return the key of a build: code, flags, targets, compilers, processor.

    Raises InfrastructureError when a compiler, cmake or ninja is missing.
    """
    return _key(checkout, find_toolchain(cmake_args), targets, cmake_args)


def _key(
    checkout: Checkout, toolchain: Toolchain, targets: Sequence[str], cmake_args: Sequence[str]
) -> str:
    return digest(
        "build",
        _FORMAT,
        checkout.commit.tree,
        [*_FLAGS, *cmake_args],
        _all(targets),
        dict(toolchain.identity),
    )


def _all(targets: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({QUANTIZE, *targets}))


@dataclass(frozen=True)
class _Task:
    """What one build needs to know; `fill` is what the store calls to make the entry."""

    checkout: Checkout
    store: Store
    toolchain: Toolchain
    targets: tuple[str, ...]
    cmake_args: tuple[str, ...]
    jobs: int
    log: Path
    progress: Progress

    @property
    def what(self) -> str:
        return f"build {self.checkout.commit.side} {self.checkout.commit.short}"

    def fill(self, folder: Path) -> dict[str, Any]:
        """Build into ``folder`` and return what the stamp records."""
        self._require_disk()
        remove_leftovers(folder)
        started = time.monotonic()
        self.progress.step(self.what, 0, 0)
        try:
            statistics = self._compile(folder)
            self._require_start(folder / "bin")
        finally:
            self.progress.finish(self.what)
        return {
            "commit": self.checkout.commit.sha,
            "tree": self.checkout.commit.tree,
            "targets": self.targets,
            "cmake_args": self.cmake_args,
            "toolchain": dict(self.toolchain.identity),
            "compile_cache": statistics,
            "seconds": round(time.monotonic() - started, 1),
        }

    def _compile(self, folder: Path) -> dict[str, int]:
        """Compile in a folder that is removed again (gigabytes); keep ``bin/``.

        The compiler is told the sources by links beside the build folder, so that
        their paths differ between checkouts only in what a compile cache strips.
        """
        work = folder / "work"
        tree, made = work / "tree", work / "build"
        mirror(self.checkout.path.resolve(), tree)
        with compile_cache(
            self.store, self.checkout.commit.side, self.toolchain.processor, (tree, made)
        ) as cache:
            self._cmake(tree, made, cache)
            self._ninja(made, cache)
            statistics = cache.statistics(work / "statistics.txt")
        keep_binaries(made, folder / "bin", self.targets)
        remove_tree(work)
        return statistics

    def _cmake(self, tree: Path, made: Path, cache: CompileCache) -> None:
        ended = sandbox.run(
            [
                *(str(self.toolchain.cmake), "-G", "Ninja", "-S", str(tree), "-B", str(made)),
                f"-DCMAKE_MAKE_PROGRAM={self.toolchain.ninja}",
                *_FLAGS,
                *cache.cmake_args,
                *self.cmake_args,
            ],
            log=self.log,
            environment=_environment(made.parent, cache),
            timeout_s=_CONFIGURE_TIMEOUT_S,
        )
        if ended.returncode != 0:
            raise self._failed("can't be configured", ended, self._log_lines())

    def _ninja(self, made: Path, cache: CompileCache) -> None:
        def show(line: str) -> None:
            if match := _NINJA_STATUS.match(line):
                self.progress.step(self.what, int(match[1]), int(match[2]))

        ended = sandbox.run(
            [str(self.toolchain.ninja), "-C", str(made), "-j", str(self.jobs), *self.targets],
            log=self.log,
            append=True,
            environment=_environment(made.parent, cache),
            timeout_s=_COMPILE_TIMEOUT_S,
            on_line=show,
        )
        if ended.returncode != 0:
            raise self._failed("does not build", ended, self._log_lines())

    def _require_start(self, programs: Path) -> None:
        """Start every target once: one that lacks a library is no valid build."""
        for target in self.targets:
            ended = sandbox.run(
                [str(programs / target), "--help"],
                log=self.log,
                append=True,
                timeout_s=_START_TIMEOUT_S,
            )
            usage = any("usage" in line.lower() for line in ended.last_lines)
            if ended.returncode not in (0, 1) or not usage:
                how = ended.signal or f"exit code {ended.returncode}"
                what = f"builds, but {target} --help ends with {how}"
                raise self._failed(what, ended, ended.last_lines)
        if not (programs / LIBRARY).exists():
            raise self._failed(f"builds, but makes no {LIBRARY}", ended, ())

    def _log_lines(self) -> list[str]:
        with self.log.open(errors="replace") as lines:
            return list(lines)

    def _failed(self, what: str, ended: sandbox.Finished, output: Sequence[str]) -> HarnessError:
        """Return the error to raise: its kind by whose fault it is."""
        commit = self.checkout.commit
        name = "the PR" if commit.side is Side.PR else "main"
        message = f"{name} ({commit.ref}, {commit.short}) {what}"
        lack = not_the_codes_fault(output)
        if lack is not None:
            return InfrastructureError(f"{message}: {lack[0]}", hint=lack[1], log=self.log)
        if ended.timed_out:
            error = f"not done after {ended.seconds / 60:.0f} minutes"
        else:
            error = first_error(output) or " / ".join(ended.tail(3))
        if error:
            error = f"\n  error      {self._short(error)}"
        if commit.side is Side.PR:
            return PrError(f"{message}{error}", log=self.log)
        return InfrastructureError(f"{message}: not the PR's fault{error}", log=self.log)

    def _short(self, error: str) -> str:
        """Name the checkout's files as the repository does."""
        error = re.sub(r"\S*/work/tree/", "", error)
        return error.replace(f"{self.checkout.path.resolve()}{os.sep}", "")

    def _require_disk(self) -> None:
        free = shutil.disk_usage(self.store.root).free
        if free < _NEEDED_BYTES:
            raise InfrastructureError(
                f"{self.store.root}: {free / 1e9:.2f} GB free, "
                f"a build needs {_NEEDED_BYTES / 1e9:.2f} GB",
                hint="free some, or put the cache elsewhere with --quant-cache-dir=DIR",
            )


def _environment(work: Path, cache: CompileCache) -> dict[str, str]:
    return {
        "LC_ALL": "C",  # messages in English and ASCII, for `first_error`
        # A store below somebody's repository must not take that one's version.
        "GIT_CEILING_DIRECTORIES": str(work),
        **cache.environment,
    }
