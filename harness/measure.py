"""One quantized file, evaluated and scored against the baseline; kept by content."""

from __future__ import annotations

import contextlib
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from harness import runtime, score
from harness.baseline import Reference
from harness.domain import Measurement, Progress, QuantizedFile, TokenScores
from harness.errors import HarnessError
from harness.store import Store, digest, file_sha256, remove_tree

_SCORES = "scores.npz"


@dataclass(frozen=True)
class Evaluation:
    """How files are decoded: ``threads`` and chunks a batch, layers on the GPU, patience."""

    threads: int
    sequences: int
    gpu_layers: int
    timeout_s: float


def measure(
    file: QuantizedFile,
    remake: Callable[[], QuantizedFile],
    library: runtime.Library,
    reference: Reference,
    evaluation: Evaluation,
    store: Store,
    *,
    blame: type[HarnessError],
    what: str,
    log: Path,
    progress: Progress,
) -> Measurement:
    """Score ``file`` on ``library`` over the reference's chunks, or find it scored already.

    ``remake`` makes the file again where the store has dropped it meanwhile.
    Raises ``blame`` when the child that decodes dies, hangs or lies.
    """
    key = digest(
        file.sha256,
        library.key,
        reference.manifest.baseline_sha256,
        reference.n_chunks,
        score.METRICS_VERSION,
        # a GPU rounds otherwise than a CPU: main's figures must not come from the other one
        evaluation.gpu_layers,
        os.environ.get("CUDA_VISIBLE_DEVICES"),
    )

    def fill(folder: Path) -> dict[str, object]:
        with _in_use(file, remake, store) as present:
            scores = _evaluate(present, library, reference, evaluation, blame, what, log, progress)
        np.savez(folder / _SCORES, **asdict(scores))
        return {"recipe": file.recipe, "sha256": file.sha256, "library": library.name}

    try:
        scores = _load(store.make("scores", key, fill))
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
        with store.lock("scores", key):  # damaged since they were written: score again
            remove_tree(store.folder("scores") / key)
        scores = _load(store.make("scores", key, fill))
    return Measurement(
        recipe=file.recipe,
        size_bytes=file.size_bytes,
        bpw=file.bpw,
        sha256=file.sha256,
        summary=score.summarize(scores),
        scores=scores,
    )


def _load(folder: Path) -> TokenScores:
    with np.load(folder / _SCORES) as saved:
        return TokenScores(**saved)


@contextlib.contextmanager
def _in_use(
    file: QuantizedFile, remake: Callable[[], QuantizedFile], store: Store
) -> Iterator[QuantizedFile]:
    """Hold the file's entry, so that no other process drops it.

    It is made again where one just did, and where its bytes are no longer those
    that were hashed when it was made.
    """
    while True:
        with store.lock("quantized", file.path.parent.name):
            if file.path.exists() and file_sha256(file.path) == file.sha256:
                yield file
                return
            remove_tree(file.path.parent)
        file = remake()


def _evaluate(
    file: QuantizedFile,
    library: runtime.Library,
    reference: Reference,
    evaluation: Evaluation,
    blame: type[HarnessError],
    what: str,
    log: Path,
    progress: Progress,
) -> TokenScores:
    manifest, n_chunks = reference.manifest, reference.n_chunks
    logits_by_chunk = runtime.evaluate(
        library,
        file.path,
        reference.baseline.tokens[:n_chunks],
        n_vocab=manifest.n_vocab,
        first=manifest.n_ctx // 2,
        threads=evaluation.threads,
        sequences=evaluation.sequences,
        gpu_layers=evaluation.gpu_layers,
        timeout_s=evaluation.timeout_s,
        log=log,
        blame=blame,
        progress=progress,
        what=what,
    )
    references = reference.baseline.chunks(list(range(n_chunks)))
    return score.stack(
        [
            score.score_chunk(logits, chunk)
            for (_, logits), chunk in zip(logits_by_chunk, references, strict=True)
        ]
    )
