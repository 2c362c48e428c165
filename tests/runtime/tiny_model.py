"""A Llama with random weights, small enough to be made and decoded in a moment."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

N_VOCAB = 3 + 256 + 61
N_CTX_TRAIN = 256
_N_LAYER, _N_EMBD, _N_HEAD, _N_HEAD_KV, _N_FF = 2, 64, 4, 2, 128


def write_tiny_model(path: Path, *, seed: int = 0) -> Path:
    """Write a GGUF of architecture llama: 2 layers, 64 wide, a vocabulary of bytes and words."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(N_CTX_TRAIN)
    writer.add_block_count(_N_LAYER)
    writer.add_embedding_length(_N_EMBD)
    writer.add_feed_forward_length(_N_FF)
    writer.add_head_count(_N_HEAD)
    writer.add_head_count_kv(_N_HEAD_KV)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(_N_EMBD // _N_HEAD)
    writer.add_vocab_size(N_VOCAB)
    _add_vocabulary(writer)
    random = np.random.default_rng(seed)
    kv = _N_EMBD * _N_HEAD_KV // _N_HEAD
    shapes = {"token_embd": (N_VOCAB, _N_EMBD), "output": (N_VOCAB, _N_EMBD)}
    norms = ["output_norm"]
    for layer in range(_N_LAYER):
        b = f"blk.{layer}."
        shapes |= {
            b + "attn_q": (_N_EMBD, _N_EMBD),
            b + "attn_k": (kv, _N_EMBD),
            b + "attn_v": (kv, _N_EMBD),
            b + "attn_output": (_N_EMBD, _N_EMBD),
            b + "ffn_gate": (_N_FF, _N_EMBD),
            b + "ffn_up": (_N_FF, _N_EMBD),
            b + "ffn_down": (_N_EMBD, _N_FF),
        }
        norms += [b + "attn_norm", b + "ffn_norm"]
    for name, shape in shapes.items():
        weights = random.standard_normal(shape) / np.sqrt(shape[1])
        writer.add_tensor(f"{name}.weight", weights.astype(np.float32))
    for name in norms:
        writer.add_tensor(f"{name}.weight", np.ones(_N_EMBD, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_vocabulary(writer: gguf.GGUFWriter) -> None:
    words = [f"▁w{i}" for i in range(N_VOCAB - 3 - 256)]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), *words]
    kinds = (
        [gguf.TokenType.UNKNOWN, *[gguf.TokenType.CONTROL] * 2]
        + [gguf.TokenType.BYTE] * 256
        + [gguf.TokenType.NORMAL] * len(words)
    )
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * (3 + 256) + [-float(i) for i in range(len(words))])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(True)
