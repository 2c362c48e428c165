"""Small GGUF files for tests: real files, made with the gguf package, of random weights."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

TENSORS = ("token_embd.weight", "blk.0.attn_v.weight", "output.weight")


def write_gguf(
    path: Path,
    *,
    tensors: tuple[str, ...] = TENSORS,
    n_rows: int = 32,
    tokens: tuple[str, ...] = ("<s>", "a", "b", "c"),
    architecture: str = "llama",
    quantized: gguf.GGMLQuantizationType | None = None,
    types: dict[str, gguf.GGMLQuantizationType] | None = None,
) -> Path:
    """Write a GGUF of ``[n_rows, 256]`` tensors; ``types`` overrides ``quantized`` by name."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(list(tokens))
    rng = np.random.default_rng(7)
    for name in tensors:
        data = rng.standard_normal((n_rows, 256)).astype(np.float32)
        kind = (types or {}).get(name, quantized)
        if kind is None:
            writer.add_tensor(name, data)
        else:
            writer.add_tensor(name, gguf.quants.quantize(data, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
