"""Make a model's baseline from its BF16 GGUF: tokenize, evaluate, reduce, describe."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness import score
from harness.baseline.format import FORMAT_VERSION, BaselineWriter
from harness.baseline.manifest import Manifest, save_manifest
from harness.domain import I32, Progress
from harness.errors import InfrastructureError, UsageError
from harness.gguf_file import GgufInfo, model_sha256, read_gguf
from harness.runtime.client import evaluate, probe, tokenize
from harness.runtime.library import Library
from harness.store import Store, disk_full_is_clear

_BASELINE = "baseline.npz"


@dataclass(frozen=True)
class BaselineRequest:
    """What to make: files, the protocol, and what the manifest tells of them.

    ``n_chunks`` None takes the whole text; ``epsilon`` is the share of the
    reference's probability that the file may fold into one bucket.
    """

    name: str
    folder: Path
    bf16: Path
    corpus: Path
    corpus_name: str
    imatrix: Path | None
    recipes: tuple[str, ...]
    n_ctx: int
    n_chunks: int | None
    epsilon: float
    llama_cpp: str
    threads: int
    sequences: int
    gpu_layers: int
    timeout_s: float


def make_baseline(
    request: BaselineRequest, library: Library, store: Store, log: Path, progress: Progress
) -> Manifest:
    """Evaluate the BF16 model on ``library`` and write baseline and manifest.

    The blob appears whole or not at all. Raises UsageError for a corpus that
    is too short or a model without a vocabulary, InfrastructureError where the
    library fails.
    """
    model = read_gguf(request.bf16)
    tokens = corpus_tokens(request, model, library, log)
    request.folder.mkdir(parents=True, exist_ok=True)
    target = request.folder / _BASELINE
    temporary = target.with_suffix(f".{os.getpid()}.tmp")
    try:
        with disk_full_is_clear(request.folder):
            nll = _write(temporary, tokens, model, request, library, log, progress)
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    manifest = _describe(request, model, target, tokens, float(np.exp(nll)), store)
    save_manifest(request.folder, manifest)
    return manifest


def corpus_tokens(request: BaselineRequest, model: GgufInfo, library: Library, log: Path) -> I32:
    """Tokenize the corpus and cut it as llama-perplexity does: int32 [n_chunks, n_ctx].

    The text is tokenized once, special tokens added, and cut into consecutive
    chunks; the first token of each becomes BOS where the vocabulary asks for it.
    """
    if not request.corpus.is_file():
        raise UsageError(f"no such corpus file: {request.corpus}")
    blame = InfrastructureError
    info = probe(library, model.path, timeout_s=request.timeout_s, log=log, blame=blame)
    text = request.corpus.read_text(encoding="utf-8")
    stream = tokenize(library, model.path, text, timeout_s=request.timeout_s, log=log, blame=blame)
    available = stream.size // request.n_ctx
    wanted = available if request.n_chunks is None else request.n_chunks
    if wanted < 1 or wanted > available:
        raise UsageError(
            f"the corpus is too short: {request.corpus} has {stream.size:,} tokens, that is "
            f"{available} chunks of {request.n_ctx}; {max(wanted, 1)} are asked for",
            hint="give a longer text, or fewer --chunks",
        )
    tokens = stream[: wanted * request.n_ctx].reshape(wanted, request.n_ctx).copy()
    if info.add_bos:
        tokens[:, 0] = info.bos
    return tokens


def _write(
    path: Path,
    tokens: I32,
    model: GgufInfo,
    request: BaselineRequest,
    library: Library,
    log: Path,
    progress: Progress,
) -> float:
    """Write the blob; return the reference's mean NLL in nats."""
    first = request.n_ctx // 2
    total = 0.0
    with BaselineWriter(path, tokens, model.n_vocab) as writer:
        for number, logits in evaluate(
            library,
            model.path,
            tokens,
            n_vocab=model.n_vocab,
            first=first,
            threads=request.threads,
            sequences=request.sequences,
            gpu_layers=request.gpu_layers,
            timeout_s=request.timeout_s,
            log=log,
            blame=InfrastructureError,
            progress=progress,
            what=f"BF16 baseline of {request.name}",
        ):
            chunk = score.reduce_logits(logits, tokens[number, first + 1 :], request.epsilon)
            writer.add(number, chunk)
            total -= float(chunk.next_logp.mean())
    return total / len(tokens)


def _describe(
    request: BaselineRequest, model: GgufInfo, blob: Path, tokens: I32, ppl: float, store: Store
) -> Manifest:
    def relative(path: Path) -> str:
        return os.path.relpath(path.resolve(), request.folder.resolve())

    imatrix = request.imatrix
    return Manifest(
        format_version=FORMAT_VERSION,
        metrics_version=score.METRICS_VERSION,
        name=request.name,
        architecture=model.architecture,
        model_file=relative(model.path),
        model_sha256=model_sha256(model.path, store),
        model_bytes=model.size_bytes,
        n_vocab=model.n_vocab,
        vocabulary=model.vocabulary,
        imatrix_file=relative(imatrix) if imatrix is not None else None,
        imatrix_sha256=store.sha256_of(imatrix) if imatrix is not None else None,
        corpus_name=request.corpus_name,
        corpus_sha256=hashlib.sha256(request.corpus.read_bytes()).hexdigest(),
        baseline_file=blob.name,
        baseline_sha256=store.sha256_of(blob),
        n_ctx=request.n_ctx,
        n_chunks=len(tokens),
        epsilon=request.epsilon,
        ppl=ppl,
        llama_cpp=request.llama_cpp,
        recipes=request.recipes,
    )
