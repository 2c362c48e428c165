"""A compile cache that hits across checkouts, so that a PR costs its own change.

Both caches strip the build's folder from what they hash (``SCCACHE_BASEDIRS``,
``CCACHE_BASEDIR``); `builds` lets every compile name its sources below that folder.
A PR may read the cache and never writes it: main must not link what a PR left there.
"""

from __future__ import annotations

import contextlib
import json
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness import sandbox
from harness.build.toolchain import packaged_or_none
from harness.domain import Side
from harness.store import Store, remove_tree

_MAX_SIZE = "2G"
_START_WITHIN_S = 60.0


@dataclass(frozen=True)
class CompileCache:
    """What a build is told: the launcher (None: compile without a cache) and its environment."""

    launcher: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def cmake_args(self) -> tuple[str, ...]:
        """CMake's settings that put the launcher before the compilers."""
        if self.launcher is None:
            return ()
        return tuple(f"-DCMAKE_{language}_COMPILER_LAUNCHER={self.launcher}"
                     for language in ("C", "CXX"))  # fmt: skip

    def statistics(self, log: Path) -> dict[str, int]:
        """Return ``hits`` and ``misses`` of sccache since it was started; empty if unknown."""
        if self.launcher is None or self.launcher.name != "sccache":
            return {}
        command = [str(self.launcher), "--show-stats", "--stats-format=json"]
        shown = sandbox.run(command, log=log, environment=self.environment, timeout_s=30)
        with contextlib.suppress(ValueError, KeyError):
            stats = json.loads("\n".join(shown.last_lines))["stats"]
            return {
                "hits": sum(stats["cache_hits"]["counts"].values()),
                "misses": sum(stats["cache_misses"]["counts"].values()),
            }
        return {}


@contextlib.contextmanager
def compile_cache(
    store: Store, side: Side, processor: str, basedirs: tuple[Path, Path]
) -> Iterator[CompileCache]:
    """Hold a compile cache for one build: sccache, else ccache, else none.

    ``processor`` keys the instruction set, which neither cache hashes
    (``-march=native``). ``basedirs`` are the source and the build folder as
    the compiler is told them, side by side in one folder.
    """
    sccache, ccache = packaged_or_none("sccache"), packaged_or_none("ccache")
    launcher = sccache or ccache
    if launcher is None:
        yield CompileCache()
        return
    folder = store.folder("compile-cache") / f"{launcher.name}-{processor}"
    folder.mkdir(exist_ok=True)
    if launcher == ccache:
        yield CompileCache(ccache, _ccache_environment(folder, side, basedirs))
        return
    # Two sccache servers over one folder race and break builds, says its manual.
    with (
        store.lock("compile-cache", folder.name),
        _sccache_server(launcher, folder, side, basedirs) as cache,
    ):
        yield cache


def _ccache_environment(folder: Path, side: Side, basedirs: tuple[Path, Path]) -> dict[str, str]:
    environment = {
        "CCACHE_DIR": str(folder),
        "CCACHE_BASEDIR": str(basedirs[0].parent),
        "CCACHE_NOHASHDIR": "1",
        "CCACHE_MAXSIZE": _MAX_SIZE,
    }
    return environment | ({"CCACHE_READONLY": "1"} if side is Side.PR else {})


@contextlib.contextmanager
def _sccache_server(
    sccache: Path, folder: Path, side: Side, basedirs: tuple[Path, Path]
) -> Iterator[CompileCache]:
    """Run a server of our own on a socket of our own; it ends with the build.

    The path of a socket has at most 107 bytes, so it can't be below the store.
    A server that doesn't come up costs time, not the build: it goes on without.
    """
    private = Path(tempfile.mkdtemp(prefix="qg-", dir="/tmp"))
    environment = {
        "SCCACHE_SERVER_UDS": str(private / "s"),
        "SCCACHE_DIR": str(folder),
        "SCCACHE_CACHE_SIZE": _MAX_SIZE,
        "SCCACHE_BASEDIRS": ":".join(map(str, basedirs)),
        "SCCACHE_LOCAL_RW_MODE": "READ_ONLY" if side is Side.PR else "READ_WRITE",
        "SCCACHE_IDLE_TIMEOUT": "0",
        "SCCACHE_IGNORE_SERVER_IO_ERROR": "1",  # compile without the cache then
    }
    try:
        with sandbox.start(
            [str(sccache)],
            log=private / "server.txt",
            environment=environment | {"SCCACHE_START_SERVER": "1", "SCCACHE_NO_DAEMON": "1"},
        ) as server:
            if _comes_up(server, private / "s"):
                yield CompileCache(sccache, environment)
            else:
                yield CompileCache()
    finally:
        remove_tree(private)


def _comes_up(server: sandbox.Child, address: Path) -> bool:
    deadline = time.monotonic() + _START_WITHIN_S
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.connect(str(address))
            return True
        time.sleep(0.02)
    return False
