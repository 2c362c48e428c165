"""The parent's side: starts the worker, asks, and believes nothing without a check."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness import sandbox
from harness.domain import F32, I32, Progress
from harness.errors import HarnessError
from harness.runtime.answers import Answers
from harness.runtime.decode import ModelInfo
from harness.runtime.library import Library
from harness.runtime.protocol import Kind, write_frame

_PIPE_BYTES = 1 << 20


def evaluate(
    library: Library,
    gguf: Path,
    tokens: I32,
    *,
    n_vocab: int,
    first: int,
    threads: int,
    sequences: int,
    gpu_layers: int,
    timeout_s: float,
    log: Path,
    blame: type[HarnessError],
    progress: Progress,
    what: str,
) -> Iterator[tuple[int, F32]]:
    """Decode chunks in a child process and yield the logits of their scored positions.

    The child decodes the next batch while the caller works on this one.

    Parameters
    ----------
    tokens : int32 [n_chunks, n_ctx]
        Decoded as they are: BOS is where the caller put it.
    n_vocab : int
        What the model's vocabulary has to be.
    first : int
        The first scored position (llama-perplexity: n_ctx/2); the last is n_ctx−2.
    sequences : int
        Chunks decoded together in a batch.
    gpu_layers : int
        Layers to offload.
    timeout_s : float
        A child that takes longer for its next answer is ended.
    log : Path
        Gets what the child prints.
    blame : type of HarnessError
        Raised for whatever the library does wrong: PrError or InfrastructureError.
    what : str
        The step's name for ``progress`` and in errors.

    Yields
    ------
    (chunk, float32 [n_scored, n_vocab])
        In the order of the chunks; every logit is finite.

    Raises
    ------
    HarnessError
        ``blame``, with the log's last lines: the child died, hung, did not load
        the file, or answered short, misshapen or with a logit that is not finite.
    """
    n_chunks, n_ctx = tokens.shape
    request = _request(
        library,
        gguf,
        "evaluate",
        shape=[n_chunks, n_ctx],
        first=first,
        sequences=sequences,
        threads=threads,
        gpu_layers=gpu_layers,
    )
    frames = ((Kind.TOKENS, np.ascontiguousarray(tokens, dtype=np.int32)),)
    progress.step(what, 0, n_chunks)
    with _asked(library, request, frames, threads, timeout_s, log, blame, what) as answers:
        info = answers.info()
        if info.n_vocab != n_vocab:
            raise answers.failure(f"n_vocab is {info.n_vocab} where the baseline has {n_vocab}")
        for chunk in range(n_chunks):
            logits = answers.logits(chunk, n_ctx - 1 - first, n_vocab)
            if chunk == n_chunks - 1:  # here, so that no caller can stop short of the check
                answers.end()
            yield chunk, logits
            progress.step(what, chunk + 1, n_chunks)
    progress.finish(what)


def tokenize(
    library: Library,
    gguf: Path,
    text: str,
    *,
    timeout_s: float,
    log: Path,
    blame: type[HarnessError],
) -> I32:
    """Tokenize with a model's vocabulary, in a child process.

    As llama-perplexity does: the tokens begin (and end) as the vocabulary asks
    for, and special tokens written out in the text stay text. Parameters are
    those of `evaluate`.

    Returns
    -------
    int32 [n_tokens], each in [0, n_vocab)
    """
    data = np.frombuffer(text.encode(), dtype=np.uint8).reshape(1, -1)
    request = _request(library, gguf, "tokenize")
    what = f"tokenize with {gguf.name}"
    frames = ((Kind.TEXT, data),)
    with _asked(library, request, frames, 1, timeout_s, log, blame, what) as answers:
        n_vocab = answers.info().n_vocab
        tokens = answers.tokens(at_most=data.size + 16)
        if tokens.size and not 0 <= tokens.min() <= tokens.max() < n_vocab:
            raise answers.failure(f"it sent a token outside its vocabulary of {n_vocab}")
        answers.end()
    return tokens


def probe(
    library: Library, gguf: Path, *, timeout_s: float, log: Path, blame: type[HarnessError]
) -> ModelInfo:
    """Return what a model says of its vocabulary; parameters are those of `evaluate`."""
    request = _request(library, gguf, "probe")
    what = f"open {gguf.name}"
    with _asked(library, request, (), 1, timeout_s, log, blame, what) as answers:
        info = answers.info()
        answers.end()
    return info


def _request(library: Library, gguf: Path, task: str, **more: Any) -> dict[str, Any]:
    return {
        "task": task,
        "library": str(library.path.absolute()),
        "layout": library.layout.to_json() if library.layout else None,
        "gguf": str(gguf.absolute()),
        "gpu_layers": 0,
        **more,
    }


@contextlib.contextmanager
def _asked(
    library: Library,
    request: dict[str, Any],
    frames: Sequence[tuple[Kind, np.ndarray[Any, Any]]],
    threads: int,
    timeout_s: float,
    log: Path,
    blame: type[HarnessError],
    what: str,
) -> Iterator[Answers]:
    """Start a worker on a request; its whole tree is ended with the block."""
    with contextlib.ExitStack() as stack:
        question = _in_memory(request, frames)
        stack.callback(os.close, question)
        source, sink = os.pipe()
        stack.callback(os.close, source)
        with contextlib.suppress(OSError):  # a smaller pipe is slower, nothing else
            fcntl.fcntl(sink, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        try:
            child = sandbox.start(
                worker_command(sink),
                log=log,
                pass_fds=(sink,),
                stdin=question,
                environment=_environment(library, threads),
            )
        finally:
            os.close(sink)
        stack.enter_context(child)
        yield Answers(child, source, timeout_s, log, blame, f"{what} on {library.name}")


def worker_command(sink: int) -> list[str]:
    """Return the command that answers on descriptor ``sink``."""
    return [sys.executable, "-P", "-m", "harness.runtime.worker", str(sink)]


def _in_memory(request: dict[str, Any], frames: Sequence[tuple[Kind, np.ndarray[Any, Any]]]) -> int:
    """Return a descriptor to read the request from: neither a full disk nor a pipe can block."""
    descriptor = os.memfd_create("quant-gate-request")
    with open(descriptor, "wb", closefd=False) as file:
        write_frame(file.write, Kind.REQUEST, json.dumps(request).encode())
        for kind, array in frames:
            rows, cols = array.shape
            write_frame(file.write, kind, array.data, shape=(rows, cols))
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _environment(library: Library, threads: int) -> dict[str, str]:
    """Return what the worker needs to find itself, its NumPy and the ggml beside its libllama."""
    packages = [Path(__file__).parents[2], Path(np.__file__).parents[1]]
    own = {Path(sysconfig.get_path("purelib")), Path(sysconfig.get_path("platlib"))}
    folder = str(library.path.absolute().parent)
    return {
        "PYTHONPATH": os.pathsep.join(str(path) for path in packages if path not in own),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "LD_LIBRARY_PATH": folder,
        "LLAMA_CPP_LIB_PATH": folder,
        "OMP_NUM_THREADS": str(threads),
        # Spinning threads starve whoever shares the cores, the scoring parent first of all
        # (seen on two shared cores: 1.6 s instead of 5.5 s).
        "OMP_WAIT_POLICY": "passive",
        "OPENBLAS_NUM_THREADS": "1",
        "GGML_NO_BACKTRACE": "1",  # a debugger's pages would push the reason out of the last lines
    }
