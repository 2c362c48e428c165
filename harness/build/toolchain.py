"""The programs that a build needs, found before it starts, and their identity."""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InfrastructureError
from harness.store import digest

_ON = re.compile(r"-D\s*GGML_CUDA(:\w+)?=(1|ON|YES|TRUE|Y)", re.IGNORECASE)
_CHANGES_CODE = ("NVCC_CCBIN", "NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS", "CUDAHOSTCXX")


@dataclass(frozen=True)
class Toolchain:
    """cmake and ninja, and what else decides the bytes of a build.

    ``identity`` names each compiler's path and version and the processor: llama.cpp
    compiles for the machine that it is on (``-march=native``).
    """

    cmake: Path
    ninja: Path
    identity: Mapping[str, str]

    @property
    def processor(self) -> str:
        """A short key of the instruction set."""
        return digest(self.identity["processor"])[:12]


def find_toolchain(cmake_args: Sequence[str]) -> Toolchain:
    """Return the programs for a build with these CMake arguments.

    Raises InfrastructureError with the command that installs what is missing.
    """
    cmake = _packaged("cmake")
    ninja = _packaged("ninja")
    programs = {"cmake": cmake, "ninja": ninja}
    programs["c"] = _compiler(
        cmake_args, "CMAKE_C_COMPILER", "CC", ("cc", "gcc", "clang"), "C compiler", "gcc"
    )
    programs["cxx"] = _compiler(
        cmake_args, "CMAKE_CXX_COMPILER", "CXX", ("c++", "g++", "clang++"), "C++ compiler", "g++"
    )
    if any(_ON.match(arg) for arg in cmake_args):
        programs["cuda"] = _compiler(
            cmake_args,
            "CMAKE_CUDA_COMPILER",
            "CUDACXX",
            ("nvcc",),
            "CUDA compiler",
            "nvidia-cuda-toolkit",
        )
    identity = {
        # cmake and ninja come with each Python environment; where they lie changes no code
        name: _version(path) if name in ("cmake", "ninja") else f"{path} {_version(path)}"
        for name, path in programs.items()
    }
    identity |= {name: os.environ[name] for name in _CHANGES_CODE if name in os.environ}
    return Toolchain(cmake, ninja, identity | {"processor": _processor()})


def packaged_or_none(name: str) -> Path | None:
    """Return a program of this Python environment, else of the PATH, else None."""
    scripts = sysconfig.get_path("scripts")
    found = shutil.which(name, path=scripts) or shutil.which(name)
    return None if found is None else Path(found).absolute()


def _packaged(name: str) -> Path:
    found = packaged_or_none(name)
    if found is None:
        raise InfrastructureError(f"{name} is not installed", hint=f"pip install {name}")
    return found


def _compiler(
    cmake_args: Sequence[str],
    setting: str,
    variable: str,
    names: Sequence[str],
    what: str,
    package: str,
) -> Path:
    """Return the compiler that CMake will take: by argument, by environment, by name."""
    given = [a.split("=", 1)[1] for a in cmake_args if re.match(rf"-D\s*{setting}(:\w+)?=", a)]
    if given:
        wanted, told_by = given[-1], setting
    else:
        wanted, told_by = (shlex.split(os.environ.get(variable, "")) or [""])[0], variable
    for name in (wanted,) if wanted else names:
        if found := shutil.which(name):
            return Path(found).absolute()
    said = f"{told_by}={wanted}" if wanted else f"none of {', '.join(names)} is in PATH"
    raise InfrastructureError(
        f"no {what} found ({said})", hint=f"apt-get install {package}, or set {variable}"
    )


def _version(program: Path) -> str:
    try:
        done = subprocess.run(
            [program, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise InfrastructureError(f"{program} does not start: {error}") from error
    return done.stdout.strip()


def _processor() -> str:
    """Return the machine and its instruction sets."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = [line.partition(":")[2] for line in lines if line.startswith(("flags", "Features"))]
    return f"{platform.machine()} {' '.join(sorted(set(' '.join(flags).split())))}"
