"""Write TinyScout's weights as a BF16 GGUF that llama.cpp loads as ``llama4``.

python -m training.export --work work --out tinyscout-bf16.gguf
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import gguf
import numpy as np
import torch
from torch import Tensor
from training.corpus import BOS, EOS
from training.model import Shape, TinyScout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder with weights.pt")
    parser.add_argument("--out", type=Path, required=True, help="GGUF to write")
    parser.add_argument("--logits", type=Path, help="write this code's logits of one chunk, too")
    args = parser.parse_args()
    shape = Shape()
    state = load_weights(args.work)
    writer = gguf.GGUFWriter(args.out, "llama4")
    write_metadata(writer, shape)
    write_tokenizer(writer, args.work / "tokenizer.json", shape)
    for name, tensor in tensors(state, shape):
        add_tensor(writer, name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB")
    if args.logits is not None:
        write_logits(args.logits, args.work, state, shape)


@torch.no_grad()
def write_logits(path: Path, work: Path, state: dict[str, Tensor], shape: Shape) -> None:
    """Keep the last 32 positions' logits of the first evaluation chunk.

    The weights are those of the GGUF (rounded to BF16 where it rounds), the
    arithmetic is float32: what llama.cpp's logits of the file must agree with.
    """
    model = TinyScout(shape)
    model.load_state_dict(
        {n: t if is_exact(n, t) else t.bfloat16().float() for n, t in state.items()}
    )
    model.eval()
    tokens = np.fromfile(work / "evaluation.u16", dtype=np.uint16)[: shape.n_ctx].astype(np.int64)
    tokens[0] = 0
    logits = model(torch.from_numpy(tokens)[None])[0, -33:-1].numpy()
    np.savez_compressed(path, tokens=tokens.astype(np.int32), logits=logits.astype(np.float32))


def is_exact(name: str, tensor: Tensor) -> bool:
    """Norms and the router stay F32, as in converted models; the rest is BF16."""
    return tensor.dim() < 2 or "router" in name or "ffn_gate_inp" in name


def load_weights(work: Path) -> dict[str, Tensor]:
    """Return the finished weights, or those of the last checkpoint while training goes on."""
    final = work / "weights.pt"
    if final.exists():
        state = torch.load(final, weights_only=True)
    else:
        state = torch.load(work / "checkpoint.pt", weights_only=True)["model"]
    TinyScout(Shape()).load_state_dict(state)  # a missing or misshapen weight stops here
    return state


def write_metadata(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_name("TinyScout")
    writer.add_description("A small Llama 4 for tests of quantization; not for use as a model")
    writer.add_license("mit")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    writer.add_context_length(shape.n_ctx)
    writer.add_embedding_length(shape.n_embd)
    writer.add_block_count(shape.n_layer)
    writer.add_feed_forward_length(shape.n_ff)
    writer.add_expert_feed_forward_length(shape.n_ff)
    writer.add_interleave_moe_layer_step(1)
    writer.add_expert_count(shape.n_expert)
    writer.add_expert_used_count(1)
    writer.add_head_count(shape.n_head)
    writer.add_head_count_kv(shape.n_head_kv)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(shape.rope_freq_base)
    writer.add_layer_norm_rms_eps(shape.rms_eps)
    writer.add_vocab_size(shape.n_vocab)


def write_tokenizer(writer: gguf.GGUFWriter, path: Path, shape: Shape) -> None:
    model = json.loads(path.read_text(encoding="utf-8"))["model"]
    by_id = sorted(model["vocab"], key=model["vocab"].__getitem__)
    if len(by_id) != shape.n_vocab:
        raise SystemExit(f"{path} has {len(by_id)} tokens, the model {shape.n_vocab}")
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(by_id)
    writer.add_token_types([control if token in (BOS, EOS) else normal for token in by_id])
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    writer.add_token_merges(merges)
    writer.add_bos_token_id(model["vocab"][BOS])
    writer.add_eos_token_id(model["vocab"][EOS])
    writer.add_add_bos_token(True)


def tensors(state: dict[str, Tensor], shape: Shape) -> list[tuple[str, Tensor]]:
    """Name the weights as llama.cpp does; experts are stacked ``[n_expert, n_out, n_in]``."""
    named = [
        ("token_embd.weight", state["embedding.weight"]),
        ("output_norm.weight", state["norm.weight"]),
        ("output.weight", state["output.weight"]),
    ]
    for il in range(shape.n_layer):
        ours, theirs = f"layers.{il}", f"blk.{il}"
        named += [
            (f"{theirs}.attn_norm.weight", state[f"{ours}.attn_norm.weight"]),
            (f"{theirs}.attn_q.weight", state[f"{ours}.attention.q.weight"]),
            (f"{theirs}.attn_k.weight", state[f"{ours}.attention.k.weight"]),
            (f"{theirs}.attn_v.weight", state[f"{ours}.attention.v.weight"]),
            (f"{theirs}.attn_output.weight", state[f"{ours}.attention.o.weight"]),
            (f"{theirs}.ffn_norm.weight", state[f"{ours}.ffn_norm.weight"]),
            (f"{theirs}.ffn_gate_inp.weight", state[f"{ours}.moe.router.weight"]),
        ]
        for part in ("gate", "up", "down"):
            experts = [
                state[f"{ours}.moe.experts.{e}.{part}.weight"] for e in range(shape.n_expert)
            ]
            named.append((f"{theirs}.ffn_{part}_exps.weight", torch.stack(experts)))
            shared = state[f"{ours}.moe.shared.{part}.weight"]
            named.append((f"{theirs}.ffn_{part}_shexp.weight", shared))
    return named


def add_tensor(writer: gguf.GGUFWriter, name: str, tensor: Tensor) -> None:
    if is_exact(name, tensor):
        writer.add_tensor(name, tensor.float().numpy())
        return
    bits = tensor.to(torch.bfloat16).contiguous().view(torch.int16).numpy().view(np.uint8)
    writer.add_tensor(name, bits, raw_dtype=gguf.GGMLQuantizationType.BF16)


if __name__ == "__main__":
    main()
