"""What a recipe would give, without quantizing: llama-quantize --dry-run."""

from __future__ import annotations

import re
from pathlib import Path

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from harness import sandbox
from harness.domain import Build, Recipe
from harness.quantize.files import QuantizeInputs

_LINE = re.compile(r"^\[\s*\d+/\s*\d+\]\s+(\S+)\s.*?(?:->.*\((\w+)\))?\s*$")


def planned_bytes(build: Build, recipe: Recipe, inputs: QuantizeInputs, log: Path) -> int | None:
    """Return the bytes of tensor data that the recipe would give; None if the tree can't say.

    Trees from before ``--dry-run`` end with an error, and a type that this
    gguf package does not know has no size: None for both.
    """
    command = [str(build.quantize), "--dry-run"]
    if inputs.imatrix is not None:
        command += ["--imatrix", str(inputs.imatrix)]
    command += [*recipe.arguments, str(inputs.model.path), recipe.ftype, str(inputs.threads)]
    types: dict[str, str | None] = {}

    def on_line(line: str) -> None:
        match = _LINE.match(line)
        if match is not None:
            types[match[1]] = match[2]

    finished = sandbox.run(command, log=log, timeout_s=600.0, on_line=on_line)
    if finished.returncode != 0 or types.keys() != inputs.model.types.keys():
        return None
    total = 0
    for tensor in inputs.model.tensors:
        new_type = types[tensor.name]
        if new_type is None:
            total += tensor.size_bytes
            continue
        by_name = {t.name.upper(): t for t in GGMLQuantizationType}
        known = by_name.get(new_type.upper())
        if known is None:
            return None
        block, block_bytes = GGML_QUANT_SIZES[known]
        total += tensor.n_elements // block * block_bytes
    return total
