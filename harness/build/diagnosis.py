"""Reads a failed build's log: the first error, and whether the code is to blame."""

from __future__ import annotations

import re
from collections.abc import Iterable

_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

_CAUSES = tuple(
    re.compile(pattern)
    for pattern in (
        # GNU, clang: file:line:column: error: …; also "fatal error", "internal compiler error"
        r"^\s*\S.*?:\d+(:\d+)?: (fatal |internal compiler )?error: .+",
        r"^\s*\S+:\d+: Error: .+",  # assembler
        r"^\s*\S.*?\(\d+\): (catastrophic )?error( #?[\w-]+)?: .+",  # nvcc
        r"^\s*nvcc (fatal|error)\s*: .+",
        r"^\s*ptxas .*?\b(fatal|error)\s*: .+",
        r"^.*: (undefined reference to|multiple definition of) .+",  # GNU ld
        r"^.*\bld(\.\w+)?: (error: |cannot find |.*: undefined ).*",
        r"^(mold|wild): (error|fatal): .+",
        r"^.*: error while loading shared libraries: .+",
        r"^.*: symbol lookup error: .+",
        r"^\s*(\S+/)?(cc|c\+\+|g?cc|g\+\+|clang(\+\+)?)(-\d+)?: (fatal )?error: .+",
    )
)
_CMAKE = re.compile(r"^CMake Error.*")
_LAST_RESORT = re.compile(r"^(ninja: (error|fatal): .+|collect2: error: .+|.*\berror: .+)", re.I)

_NOT_THE_CODE = (
    (
        re.compile(
            r"Killed signal terminated program|terminated with signal 9 \[Killed\]"
            r"|virtual memory exhausted|^(\S*(cc1\w*|ld|as)|LLVM ERROR): out of memory"
        ),
        "the machine ran out of memory",
        "compile less at a time: --quant-jobs=1",
    ),
    (
        re.compile(r": (No space left on device|Disk quota exceeded)"),
        "no space left on the disk",
        "free some, or put the cache elsewhere with --quant-cache-dir=DIR",
    ),
    (
        re.compile(r"^sccache: (error|caused by)"),
        "the compile cache failed",
        "remove compile-cache/ in the folder that --quant-cache-dir names",
    ),
)


def first_error(lines: Iterable[str]) -> str | None:
    """Return the line that says what is wrong: a compiler's, a linker's or CMake's first.

    What merely follows from it (``ninja: build stopped``, ``ld returned 1``)
    is returned only when there is nothing better.
    """
    last_resort = None
    remaining = iter(lines)
    for raw in remaining:
        line = _COLOUR.sub("", raw).rstrip()
        if _CMAKE.match(line):
            return _cmake_error(line, remaining)
        if line.startswith("collect2:") or "ld returned" in line:
            last_resort = last_resort or line
        elif any(cause.match(line) for cause in _CAUSES):
            return line.strip()
        elif _LAST_RESORT.match(line):
            last_resort = last_resort or line.strip()
    return last_resort


def not_the_codes_fault(lines: Iterable[str]) -> tuple[str, str] | None:
    """Return what the machine lacked and what helps, if the log says so."""
    for line in lines:
        for pattern, what, hint in _NOT_THE_CODE:
            if pattern.search(line):
                return what, hint
    return None


def _cmake_error(first: str, following: Iterable[str]) -> str:
    """Join ``CMake Error at file:line (command):`` with the message below it."""
    message: list[str] = []
    for raw in following if first.endswith(":") else ():
        line = _COLOUR.sub("", raw).strip()
        if line:
            message.append(line)
        elif message:
            break
    return " ".join([first, *message])
