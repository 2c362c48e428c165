"""TinyScout in PyTorch: Llama 4 as llama.cpp's ``src/models/llama4.cpp`` computes it.

Every layer has one shared expert and ``N_EXPERT`` routed ones of which one is
used; the sigmoid of its router logit scales the expert's *input*. Q and K get
interleaved RoPE and then a weightless RMS norm where ``(il + 1) % 4 != 0``, and
neither on every fourth layer.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Shape:
    """Hyperparameters; widths are multiples of 256 so that K- and IQ-types apply."""

    n_vocab: int = 2048
    n_embd: int = 256
    n_layer: int = 8
    n_head: int = 4
    n_head_kv: int = 1
    n_expert: int = 4
    n_ff: int = 256
    n_ctx: int = 512
    rope_freq_base: float = 10000.0
    rms_eps: float = 1e-5
    no_rope_step: int = 4

    @property
    def head_dim(self) -> int:
        return self.n_embd // self.n_head

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


class RMSNorm(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape.n_embd))
        self.eps = shape.rms_eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), self.eps)


class Attention(nn.Module):
    def __init__(self, shape: Shape, use_rope: bool) -> None:
        super().__init__()
        self.shape, self.use_rope = shape, use_rope
        kv = shape.n_head_kv * shape.head_dim
        self.q = nn.Linear(shape.n_embd, shape.n_embd, bias=False)
        self.k = nn.Linear(shape.n_embd, kv, bias=False)
        self.v = nn.Linear(shape.n_embd, kv, bias=False)
        self.o = nn.Linear(shape.n_embd, shape.n_embd, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        s = self.shape
        batch, length, _ = x.shape
        q = self.q(x).view(batch, length, s.n_head, s.head_dim)
        k = self.k(x).view(batch, length, s.n_head_kv, s.head_dim)
        v = self.v(x).view(batch, length, s.n_head_kv, s.head_dim)
        if self.use_rope:
            q = F.rms_norm(rotate(q, cos, sin), (s.head_dim,), None, s.rms_eps)
            k = F.rms_norm(rotate(k, cos, sin), (s.head_dim,), None, s.rms_eps)
        k = k.repeat_interleave(s.n_head // s.n_head_kv, dim=2)
        v = v.repeat_interleave(s.n_head // s.n_head_kv, dim=2)
        q, k, v = (t.to(x.dtype).transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o(y.transpose(1, 2).reshape(batch, length, s.n_embd))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Interleaved RoPE: pairs are neighbours (2i, 2i+1)."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


class FeedForward(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate = nn.Linear(shape.n_embd, shape.n_ff, bias=False)
        self.up = nn.Linear(shape.n_embd, shape.n_ff, bias=False)
        self.down = nn.Linear(shape.n_ff, shape.n_embd, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class MixtureOfExperts(nn.Module):
    """Top-1 routing; tokens are sent to their expert rather than all experts run."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.router = nn.Linear(shape.n_embd, shape.n_expert, bias=False)
        self.experts = nn.ModuleList(FeedForward(shape) for _ in range(shape.n_expert))
        self.shared = FeedForward(shape)
        self.balance = torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        with torch.autocast("cpu", enabled=False):
            logits = F.linear(flat.float(), self.router.weight)
        top, chosen = logits.max(dim=-1)
        scaled = flat * torch.sigmoid(top).unsqueeze(-1).to(flat.dtype)
        order = torch.argsort(chosen, stable=True)
        counts = torch.bincount(chosen, minlength=len(self.experts))
        parts = scaled[order].split(counts.tolist())
        routed = torch.cat([expert(p) for expert, p in zip(self.experts, parts, strict=True)])
        if self.training:
            # Switch Transformer's balance term: n_expert * sum(share of tokens * share of p)
            share = counts.float() / chosen.numel()
            self.balance = len(self.experts) * (share * logits.softmax(-1).mean(0)).sum()
        out = torch.empty_like(routed).index_copy(0, order, routed)
        return (out + self.shared(flat)).view_as(x)


class Layer(nn.Module):
    def __init__(self, shape: Shape, index: int) -> None:
        super().__init__()
        self.attn_norm = RMSNorm(shape)
        self.attention = Attention(shape, use_rope=(index + 1) % shape.no_rope_step != 0)
        self.ffn_norm = RMSNorm(shape)
        self.moe = MixtureOfExperts(shape)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.attention(self.attn_norm(x), cos, sin)
        return x + self.moe(self.ffn_norm(x))


class TinyScout(nn.Module):
    """Token ids ``[batch, length]`` int64 -> logits ``[batch, length, n_vocab]``."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.n_vocab, shape.n_embd)
        self.layers = nn.ModuleList(Layer(shape, i) for i in range(shape.n_layer))
        self.norm = RMSNorm(shape)
        self.output = nn.Linear(shape.n_embd, shape.n_vocab, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                residual = name.endswith(("o.weight", "down.weight"))
                std = 0.02 / (2 * shape.n_layer) ** 0.5 if residual else 0.02
                nn.init.normal_(parameter, std=std * (256 / shape.n_embd) ** 0.5 * 2)
        position = torch.arange(shape.n_ctx, dtype=torch.float32)
        exponent = torch.arange(0, shape.head_dim, 2, dtype=torch.float32) / shape.head_dim
        angle = position[:, None] * shape.rope_freq_base**-exponent
        self.register_buffer("cos", angle.cos()[:, None, :], persistent=False)
        self.register_buffer("sin", angle.sin()[:, None, :], persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        length = tokens.shape[1]
        for layer in self.layers:
            x = layer(x, self.cos[:length], self.sin[:length])
        return self.output(self.norm(x))

    def balance_loss(self) -> Tensor:
        return torch.stack([layer.moe.balance for layer in self.layers]).mean()
