"""Train TinyScout: seeded, restartable, on two cores in an evening.

    python -m training.train --work work --steps 2000 --decay-steps 400

Constant learning rate, then a linear decay over the last ``--decay-steps``; a
run that was stopped goes on from its last checkpoint, with the same batches as
if it had not been, and another ``--steps`` moves the end.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from training.model import Shape, TinyScout

SEED = 20261123
CLIP_NORM = 1.0
WARMUP_STEPS = 50
BALANCE_WEIGHT = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder that corpus.py filled")
    parser.add_argument("--steps", type=int, default=2000, help="optimizer steps in all")
    parser.add_argument("--decay-steps", type=int, default=400, help="last steps, lr falls to 0")
    parser.add_argument("--batch", type=int, default=16, help="sequences of n_ctx tokens a step")
    parser.add_argument("--lr", type=float, default=3e-3, help="peak learning rate of AdamW")
    parser.add_argument("--muon-lr", type=float, default=0.02, help="peak learning rate of Muon")
    parser.add_argument("--save-every", type=int, default=50, help="steps between checkpoints")
    args = parser.parse_args()

    shape = Shape()
    torch.manual_seed(SEED)
    model = TinyScout(shape)
    optimizers = make_optimizers(model, args.lr, args.muon_lr)
    checkpoint = args.work / "checkpoint.pt"
    first = resume(checkpoint, model, optimizers)
    tokens = np.fromfile(args.work / "train.u16", dtype=np.uint16)
    held_out = np.fromfile(args.work / "evaluation.u16", dtype=np.uint16)

    started = time.monotonic()
    for step in range(first, args.steps):
        scale = schedule(step, args.steps, args.decay_steps)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * scale
        loss = train_step(model, optimizers, batch_of(tokens, step, args.batch, shape.n_ctx))
        if (step + 1) % 10 == 0:
            rate = (step + 1 - first) * args.batch * shape.n_ctx / (time.monotonic() - started)
            print(f"step {step + 1} loss {loss:.4f} {rate:.0f} tokens/s", flush=True)
        if (step + 1) % args.save_every == 0 or step + 1 == args.steps:
            save(checkpoint, step + 1, model, optimizers)
        if (step + 1) % 200 == 0 or step + 1 == args.steps:
            print(f"step {step + 1} held-out {evaluate(model, held_out):.4f}", flush=True)
    torch.save(model.state_dict(), args.work / "weights.pt")
    (args.work / "shape.json").write_text(json.dumps(shape.as_dict(), indent=2) + "\n")


def make_optimizers(model: TinyScout, lr: float, muon_lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for the rest (embedding, output, router, norms)."""
    matrices, rest = [], []
    for name, parameter in model.named_parameters():
        is_matrix = name.startswith("layers.") and parameter.dim() == 2 and "router" not in name
        (matrices if is_matrix else rest).append(parameter)
    muon = torch.optim.Muon(
        [{"params": matrices, "peak_lr": muon_lr}], lr=muon_lr, weight_decay=0.1, momentum=0.95
    )
    adamw = torch.optim.AdamW(
        [{"params": rest, "peak_lr": lr}], lr=lr, betas=(0.9, 0.95), weight_decay=0.01
    )
    return [muon, adamw]


def schedule(step: int, steps: int, decay_steps: int) -> float:
    warm = min(1.0, (step + 1) / WARMUP_STEPS)
    return warm * min(1.0, (steps - step) / max(1, decay_steps))


def batch_of(tokens: np.ndarray, step: int, batch: int, n_ctx: int) -> Tensor:
    """Return the step's batch ``[batch, n_ctx + 1]``; it depends on the seed and the step alone."""
    rng = np.random.default_rng((SEED, step))
    starts = rng.integers(0, tokens.size - n_ctx - 1, size=batch)
    rows = np.stack([tokens[s : s + n_ctx + 1] for s in starts]).astype(np.int64)
    rows[:, 0] = 0  # evaluation chunks start with BOS too
    return torch.from_numpy(rows)


def train_step(model: TinyScout, optimizers: list[torch.optim.Optimizer], rows: Tensor) -> float:
    model.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(rows[:, :-1])
    loss = F.cross_entropy(logits.float().flatten(0, 1), rows[:, 1:].flatten())
    (loss + BALANCE_WEIGHT * model.balance_loss()).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return loss.item()


@torch.no_grad()
def evaluate(model: TinyScout, tokens: np.ndarray, chunks: int = 32) -> float:
    """Return the mean NLL in nats of the second half of ``chunks`` held-out chunks."""
    model.eval()
    n_ctx = model.shape.n_ctx
    rows = tokens[: tokens.size // n_ctx * n_ctx].reshape(-1, n_ctx).astype(np.int64)
    rows = rows[:: max(1, len(rows) // chunks)]
    rows[:, 0] = 0
    total, count = 0.0, 0
    for part in torch.from_numpy(rows).split(8):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(part)
        scored, target = logits[:, n_ctx // 2 : -1].float(), part[:, n_ctx // 2 + 1 :]
        total += F.cross_entropy(scored.flatten(0, 1), target.flatten(), reduction="sum").item()
        count += target.numel()
    return total / count


def save(path: Path, step: int, model: TinyScout, opts: list[torch.optim.Optimizer]) -> None:
    temporary = path.with_suffix(".tmp")
    state = {"model": model.state_dict(), "opts": [o.state_dict() for o in opts], "step": step}
    torch.save(state, temporary)
    temporary.replace(path)


def resume(path: Path, model: TinyScout, opts: list[torch.optim.Optimizer]) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    for optimizer, saved in zip(opts, state["opts"], strict=True):
        optimizer.load_state_dict(saved)
    print(f"goes on after step {state['step']}", flush=True)
    return int(state["step"])


if __name__ == "__main__":
    main()
