"""Recipe -> GGUF, by the branch's own llama-quantize."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import sandbox
from harness.domain import (
    Build,
    Progress,
    QuantizedFile,
    Recipe,
    Side,
    Tensor,
    TensorChange,
)
from harness.errors import HarnessError, InfrastructureError, PrError
from harness.gguf_file import GgufInfo, read_gguf
from harness.store import Store, digest, file_sha256

_COUNTER = re.compile(r"^\[\s*(\d+)/\s*(\d+)\]")
_FILE = "model.gguf"
_IMATRIX = "imatrix.gguf"
_FORMAT = 1  # of an entry: raise it when its record or the command's meaning changes
_TIMEOUT_S = 24 * 3600.0


@dataclass(frozen=True)
class QuantizeInputs:
    """What both sides share: the BF16 model, the imatrix, and their content hashes."""

    model: GgufInfo
    model_sha256: str
    imatrix: Path | None
    imatrix_sha256: str
    threads: int


def quantize(
    build: Build,
    recipe: Recipe,
    inputs: QuantizeInputs,
    store: Store,
    log: Path,
    progress: Progress,
) -> QuantizedFile:
    """Make the recipe's file with the build's llama-quantize, or find it made already.

    Raises PrError or InfrastructureError, by the side, when the tool fails, and
    InfrastructureError when the disk can't take the file.
    """
    key = digest(
        _FORMAT,
        build.key,
        recipe.ftype,
        recipe.arguments,
        inputs.model_sha256,
        inputs.imatrix_sha256,
    )

    def fill(folder: Path) -> dict[str, object]:
        _require_space(folder, inputs.model)
        target = folder / _FILE
        _run(build, recipe, inputs, target, log, progress)
        info = _read_result(build, recipe, target, log)
        _require_complete(build, recipe, inputs.model, info, log)
        return {
            "recipe": recipe.name,
            "sha256": file_sha256(target),
            "size_bytes": target.stat().st_size,
            "tensors": [[t.name, t.ggml_type, t.n_elements, t.size_bytes] for t in info.tensors],
        }

    folder = store.make("quantized", key, fill)
    record = store.stamp("quantized", key)
    return QuantizedFile(
        recipe=recipe.name,
        path=folder / _FILE,
        sha256=record["sha256"],
        size_bytes=record["size_bytes"],
        tensors=tuple(Tensor(*t) for t in record["tensors"]),
    )


def changed_tensors(main: QuantizedFile, pr: QuantizedFile) -> tuple[TensorChange, ...]:
    """Return the tensors to which the two files give different types, in the file's order."""
    before: Mapping[str, str] = {t.name: t.ggml_type for t in main.tensors}
    after: Mapping[str, str] = {t.name: t.ggml_type for t in pr.tensors}
    names = [*before, *(n for n in after if n not in before)]
    return tuple(
        TensorChange(n, before.get(n, "none"), after.get(n, "none"))
        for n in names
        if before.get(n) != after.get(n)
    )


def _run(
    build: Build,
    recipe: Recipe,
    inputs: QuantizeInputs,
    target: Path,
    log: Path,
    progress: Progress,
) -> None:
    command = [str(build.quantize)]
    link = target.with_name(_IMATRIX)
    if inputs.imatrix is not None:
        # llama-quantize writes the name into the file: one name, wherever the imatrix lies
        link.symlink_to(inputs.imatrix)
        command += ["--imatrix", _IMATRIX]
    command += [*recipe.arguments, str(inputs.model.path.resolve()), target.name, recipe.ftype]
    command.append(str(inputs.threads))
    what = f"quantize {build.side} {recipe.name}"

    def on_line(line: str) -> None:
        match = _COUNTER.match(line)
        if match is not None:
            progress.step(what, int(match[1]), int(match[2]))

    finished = sandbox.run(
        command,
        log=log,
        cwd=target.parent,
        # gdb's backtrace would push the reason out of the log's last lines
        environment={"GGML_NO_BACKTRACE": "1"},
        timeout_s=_TIMEOUT_S,
        on_line=on_line,
    )
    progress.finish(what)
    link.unlink(missing_ok=True)
    if finished.returncode == 0 and target.exists():
        return
    ending = f"ended by {finished.signal}" if finished.signal else f"exit {finished.returncode}"
    free = shutil.disk_usage(target.parent).free
    tail = finished.tail(15)
    if any(_sounds_full(line) for line in tail) or free < 1 << 20:
        raise InfrastructureError(
            f"{recipe.name}: no space left for {build.side}'s file: {free / 1e9:.2f} GB free "
            f"in {target.parent.parent}",
            hint="free some, or put the cache elsewhere with --quant-cache-dir=DIR",
            log=log,
        )
    raise _blame(build)(
        f"{recipe.name}: {build.side}'s llama-quantize failed ({ending}): {_reason(tail)}", log=log
    )


def _sounds_full(line: str) -> bool:
    return "No space left" in line or "basic_ios::clear: iostream error" in line


def _reason(tail: Sequence[str]) -> str:
    """The line that says why, of a log's last ones."""
    for line in tail:
        if re.search(r"error|abort|assert|fail|fatal|exception", line, re.IGNORECASE):
            return line.strip()
    return tail[-1].strip() if tail else "it printed nothing"


def _read_result(build: Build, recipe: Recipe, target: Path, log: Path) -> GgufInfo:
    try:
        return read_gguf(target)
    except HarnessError as error:
        raise _blame(build)(
            f"{recipe.name}: {build.side}'s llama-quantize wrote no readable file: {error.message}",
            log=log,
        ) from None


def _require_complete(
    build: Build, recipe: Recipe, model: GgufInfo, made: GgufInfo, log: Path
) -> None:
    """Refuse a file that lacks weights: fewer bytes would otherwise look like a gain."""
    before = {t.name: t.n_elements for t in model.tensors}
    after = {t.name: t.n_elements for t in made.tensors}
    wrong = [n for n in before if after.get(n) != before[n]] + [n for n in after if n not in before]
    if wrong:
        raise _blame(build)(
            f"{recipe.name}: {build.side}'s file has not the model's tensors: {wrong[0]} has "
            f"{after.get(wrong[0], 0):,} weights, the model {before.get(wrong[0], 0):,} "
            f"({len(wrong)} such)",
            log=log,
        )


def _require_space(folder: Path, model: GgufInfo) -> None:
    free = shutil.disk_usage(folder).free
    if free < model.size_bytes:
        raise InfrastructureError(
            f"too little space to quantize {model.path.name}: {free / 1e9:.2f} GB free in "
            f"{folder.parent}, the model has {model.size_bytes / 1e9:.2f} GB",
            hint="free some, or put the cache elsewhere with --quant-cache-dir=DIR",
        )


def _blame(build: Build) -> type[HarnessError]:
    return PrError if build.side is Side.PR else InfrastructureError
