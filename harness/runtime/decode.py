"""The decode loop over a C API: tokens -> logits.

``api`` is what `binding.bind` returns or the low-level module of
llama-cpp-python (`llama_cpp.llama_cpp`): both have the functions and structs
of llama.h under their names of today.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.domain import F32, I32


class DecodeError(Exception):
    """The library refused; the message names the function and what it said."""


@dataclass(frozen=True)
class ModelInfo:
    """A model's vocabulary: its size, whether a text begins with BOS, and BOS's id."""

    n_vocab: int
    add_bos: bool
    bos: int


@contextmanager
def loaded_model(api: Any, gguf: Path, *, gpu_layers: int, vocab_only: bool) -> Iterator[Any]:
    """Load a GGUF, free it afterwards.

    Raises
    ------
    DecodeError
        When llama.cpp does not load it; its own line is in the log.
    """
    api.llama_backend_init()
    params = api.llama_model_default_params()
    params.n_gpu_layers = gpu_layers
    params.vocab_only = vocab_only
    model = api.llama_model_load_from_file(str(gguf).encode(), params)
    if not model:
        raise DecodeError(f"llama.cpp does not load {gguf}")
    try:
        yield model
    finally:
        api.llama_model_free(model)
        api.llama_backend_free()


def model_info(api: Any, model: Any) -> ModelInfo:
    """Return what the model says of its vocabulary."""
    vocab = api.llama_model_get_vocab(model)
    return ModelInfo(
        n_vocab=int(api.llama_vocab_n_tokens(vocab)),
        add_bos=bool(api.llama_vocab_get_add_bos(vocab)),
        bos=int(api.llama_vocab_bos(vocab)),
    )


def tokenize(api: Any, model: Any, text: bytes) -> I32:
    """Tokenize UTF-8 text with what begins and ends it; special tokens written out stay text.

    Returns
    -------
    int32 [n_tokens]
    """
    vocab = api.llama_model_get_vocab(model)
    room = len(text) + 16  # a token stands for a byte at least; BOS, EOS and a blank come on top
    for _ in range(2):
        tokens = (ctypes.c_int32 * room)()
        n = api.llama_tokenize(vocab, text, len(text), tokens, room, True, False)
        if n >= 0:
            return np.array(tokens[:n], dtype=np.int32)
        room = -n
    raise DecodeError(f"llama_tokenize returned {n} for a text of {len(text)} bytes")


def logits_of(
    api: Any, model: Any, tokens: I32, *, first: int, sequences: int, threads: int
) -> Iterator[tuple[int, F32]]:
    """Decode chunks, several at once as sequences of their own.

    Parameters
    ----------
    tokens : int32 [n_chunks, n_ctx]
        Decoded as they are, at positions 0 … n_ctx−1.
    first : int
        The first scored position; the last one is n_ctx−2.
    sequences : int
        Chunks a call of llama_decode.

    Yields
    ------
    (chunk, float32 [n, n_scored, n_vocab])
        The index of the first of ``n`` chunks and their logits: the library's
        own memory, valid until the next is asked for.
    """
    n_chunks, n_ctx = tokens.shape
    n_vocab = model_info(api, model).n_vocab
    sequences = min(sequences, n_chunks)
    with _context(api, model, n_ctx=n_ctx, sequences=sequences, threads=threads) as context:
        for chunk in range(0, n_chunks, sequences):
            batch = _Batch(api, tokens[chunk : chunk + sequences], first)
            api.llama_memory_clear(api.llama_get_memory(context), True)
            returned = api.llama_decode(context, batch.struct)
            if returned != 0:
                raise DecodeError(
                    f"llama_decode returned {returned} for chunk {chunk}"
                    f" ({batch.n_tokens} tokens in {len(batch.tokens)} sequences)"
                )
            pointer = api.llama_get_logits(context)
            if not pointer:
                raise DecodeError(f"llama_get_logits returned nothing for chunk {chunk}")
            floats = ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float))
            yield chunk, np.ctypeslib.as_array(floats, (*batch.scored, n_vocab))


@contextmanager
def _context(api: Any, model: Any, *, n_ctx: int, sequences: int, threads: int) -> Iterator[Any]:
    params = api.llama_context_default_params()
    # One physical batch: cut in several, a sequence may fall into uneven pieces, and the
    # kernels round those otherwise (seen: logits 0.03 apart with 10 sequences instead of 1).
    params.n_ctx = params.n_batch = params.n_ubatch = n_ctx * sequences
    params.n_seq_max = sequences
    params.n_threads = params.n_threads_batch = threads
    if hasattr(params, "n_outputs_max_per_seq"):
        params.n_outputs_max_per_seq = 0  # no bound; its default of 1 suits generating
    context = api.llama_init_from_model(model, params)
    if not context:
        raise DecodeError(
            f"llama.cpp makes no context of {sequences} sequences of {n_ctx} tokens each"
        )
    try:
        yield context
    finally:
        api.llama_free(context)


class _Batch:
    """A llama_batch over NumPy's arrays, which live as long as this does.

    One chunk after the other; llama_get_logits returns its rows in this order,
    in whatever order the library decoded them.
    """

    def __init__(self, api: Any, tokens: I32, first: int) -> None:
        sequences, n_ctx = tokens.shape
        self.n_tokens = tokens.size
        self.scored = (sequences, n_ctx - 1 - first)
        self.tokens = np.ascontiguousarray(tokens, dtype=np.int32)
        self.pos = np.tile(np.arange(n_ctx, dtype=np.int32), sequences)
        self.n_seq_id = np.ones(self.n_tokens, dtype=np.int32)
        self.ids = np.repeat(np.arange(sequences, dtype=np.int32), n_ctx)
        self.seq_id = (self.ids.ctypes.data + self.ids.itemsize * np.arange(self.n_tokens)).astype(
            np.uintp
        )
        wanted = np.zeros((sequences, n_ctx), dtype=np.int8)
        wanted[:, first : n_ctx - 1] = 1
        self.logits = wanted
        self.struct = api.llama_batch()
        self.struct.n_tokens = self.n_tokens
        kinds = dict(type(self.struct)._fields_)
        for field, array in (
            ("token", self.tokens),
            ("pos", self.pos),
            ("n_seq_id", self.n_seq_id),
            ("seq_id", self.seq_id),
            ("logits", self.logits),
        ):
            setattr(self.struct, field, ctypes.cast(array.ctypes.data, kinds[field]))
