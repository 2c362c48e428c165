"""The frozen dataclasses that the rooms hand each other; nothing here does I/O.

Names are the field's: see ``docs/architecture.md``. ``main`` and ``pr`` are git
sides; ``baseline`` is the BF16 reference and never a git side.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
Bool = NDArray[np.bool_]


class Side(StrEnum):
    """A git side of the comparison."""

    MAIN = "main"
    PR = "pr"


class Verdict(StrEnum):
    """What the gate says of a recipe, and of the whole run."""

    BETTER = "BETTER"
    SAME = "SAME"
    WORSE = "WORSE"
    INCONCLUSIVE = "INCONCLUSIVE"


class Policy(StrEnum):
    """Which reading of "worse per GB" decides; all are reported."""

    EQUAL_SIZE = "equal-size"
    PER_GB = "per-gb"
    FRONTIER = "frontier"


class Progress(Protocol):
    """Told by every long step how far it is; `report.progress` shows it."""

    def step(self, what: str, done: int, total: int) -> None:
        """Say that ``what`` has done ``done`` of ``total`` (0 of 0: unknown)."""

    def finish(self, what: str) -> None:
        """Say that ``what`` ended."""


# ---- source -----------------------------------------------------------------


@dataclass(frozen=True)
class Commit:
    """A commit of one side. ``ref`` is what the user wrote, ``tree`` the hash of its content."""

    side: Side
    ref: str
    sha: str
    tree: str
    subject: str

    @property
    def short(self) -> str:
        """The first ten digits of the commit's SHA."""
        return self.sha[:10]


@dataclass(frozen=True)
class Source:
    """Both commits of a run and what the PR changed between them (paths in the repo)."""

    repo: str
    main: Commit
    pr: Commit
    changed_paths: tuple[str, ...]


@dataclass(frozen=True)
class Checkout:
    """A read-only tree of one commit at ``path``."""

    commit: Commit
    path: Path


# ---- build ------------------------------------------------------------------


@dataclass(frozen=True)
class Build:
    """A stamped build. ``key`` hashes the tree, the flags and the compiler.

    ``quantize`` is the branch's llama-quantize, ``library`` its libllama.
    """

    side: Side
    key: str
    checkout: Path
    folder: Path
    quantize: Path
    library: Path


# ---- quantize ---------------------------------------------------------------


@dataclass(frozen=True)
class Recipe:
    """A named target: a base ftype plus llama-quantize arguments."""

    name: str
    ftype: str
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tensor:
    """A tensor of a GGUF as stored there."""

    name: str
    ggml_type: str
    n_elements: int
    size_bytes: int


@dataclass(frozen=True)
class QuantizedFile:
    """A GGUF made by one side from one recipe.

    ``size_bytes`` is the size on disk, all splits together; ``tensor_bytes``
    the tensor data alone, from which bpw follows.
    """

    recipe: str
    path: Path
    sha256: str
    size_bytes: int
    tensors: tuple[Tensor, ...]

    @property
    def tensor_bytes(self) -> int:
        """Bytes of tensor data."""
        return sum(t.size_bytes for t in self.tensors)

    @property
    def bpw(self) -> float:
        """Bits per weight: 8 · bytes of tensor data / number of weights."""
        return 8 * self.tensor_bytes / sum(t.n_elements for t in self.tensors)


@dataclass(frozen=True)
class TensorChange:
    """A tensor that main and the PR give different types."""

    name: str
    main_type: str
    pr_type: str


# ---- baseline and score -----------------------------------------------------


@dataclass(frozen=True)
class ReferenceChunk:
    """The BF16 reference of one chunk's scored tokens, as the baseline keeps it.

    Row ``i`` keeps the tokens ``ids[offsets[i]:offsets[i+1]]`` with natural
    log-probabilities ``logp`` of the same slice; all other tokens together
    have ``rest_logp[i]`` (−inf where nothing is left). ``exp`` of a row's
    kept values and its rest sums to 1. The next token is always kept.

    Attributes
    ----------
    offsets : int64 [n_scored + 1]
    ids : int32 [n_kept]
    logp : float64 [n_kept], nats
    rest_logp : float64 [n_scored], nats
    next_ids : int32 [n_scored], the token that really follows
    next_logp : float64 [n_scored], nats
    top_ids : int32 [n_scored], argmax of the full reference distribution
    """

    offsets: NDArray[np.int64]
    ids: I32
    logp: F64
    rest_logp: F64
    next_ids: I32
    next_logp: F64
    top_ids: I32


@dataclass(frozen=True)
class TokenScores:
    """Per-token scores, each ``[n_chunks, n_scored]``.

    ``kld`` in nats; ``nll`` and ``nll_base`` in nats, of the token that really
    follows under the quantized model and the reference; ``delta_p`` is
    q(t) − p(t) in [−1, 1]; ``same_top`` says whether the argmaxes agree.
    """

    kld: F64
    nll: F64
    nll_base: F64
    delta_p: F64
    same_top: Bool

    @property
    def n_chunks(self) -> int:
        """Chunks scored."""
        return int(self.kld.shape[0])


@dataclass(frozen=True)
class Summary:
    """Statistics of a file over all scored tokens; llama-perplexity's set and the article's."""

    n_chunks: int
    n_tokens: int
    mean_kld: float
    median_kld: float
    max_kld: float
    p1_kld: float
    p5_kld: float
    p10_kld: float
    p90_kld: float
    p95_kld: float
    p99_kld: float
    p99_9_kld: float
    same_top: float
    ppl: float
    ppl_base: float
    ln_ppl_ratio: float
    mean_delta_p: float
    rms_delta_p: float
    min_delta_p: float
    max_delta_p: float


@dataclass(frozen=True)
class Measurement:
    """One file, measured: what `judge` compares."""

    recipe: str
    size_bytes: int
    bpw: float
    sha256: str
    summary: Summary
    scores: TokenScores


# ---- judge ------------------------------------------------------------------


@dataclass(frozen=True)
class Effect:
    """A log ratio of divergences, PR over main's offer; above 0 is worse.

    ``low`` and ``high`` are the 95 % interval of ``ln_ratio``.
    """

    ln_ratio: float
    low: float
    high: float

    @property
    def pct(self) -> float:
        """The ratio as a change in percent."""
        return float(100 * np.expm1(self.ln_ratio))


@dataclass(frozen=True)
class Judgement:
    """The verdict of one recipe and the readings that it rests on.

    ``decided_by`` is the reading that decided; ``note`` says why it is not the
    one asked for, or why nothing was measured. ``neighbours`` are the two
    main recipes between which main was interpolated.
    """

    recipe: str
    verdict: Verdict
    decided_by: Policy | None
    equal_size: Effect | None
    per_gb: Effect | None
    frontier: Effect | None
    same_top_diff: Effect | None
    dominated_main: str = ""
    dominated_pr: str = ""
    neighbours: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class SideFigures:
    """What the report tells of one side's file; ``summary`` is None when nothing was measured."""

    size_bytes: int
    bpw: float
    sha256: str
    summary: Summary | None


@dataclass(frozen=True)
class ItemResult:
    """One recipe's outcome as every output needs it."""

    recipe: str
    judgement: Judgement
    main: SideFigures | None
    pr: SideFigures
    changed_tensors: tuple[TensorChange, ...]
    seconds: float
    logs: dict[str, str] = field(default_factory=dict)
