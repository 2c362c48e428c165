"""The child: ``python -m harness.runtime.worker FD`` loads a library and answers one request.

The request comes on stdin, the answer goes to descriptor FD as frames; stdout
and stderr are a log, where llama.cpp writes. Whatever is wrong with the
library happens here, and the parent believes nothing that it can't check.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from harness.domain import F32
from harness.runtime.binding import bind
from harness.runtime.decode import DecodeError, loaded_model, logits_of, model_info, tokenize
from harness.runtime.layout import ApiLayout
from harness.runtime.protocol import MAX_TEXT_BYTES, Kind, read_bytes, read_header, write_frame


def main() -> None:
    """Answer the request on stdin and end the process."""
    results = int(sys.argv[1])
    try:
        _answer(results)
        write_frame(lambda part: os.write(results, part), Kind.END)
    except (DecodeError, OSError, AttributeError, ImportError) as error:
        text = str(error).encode()[:MAX_TEXT_BYTES]
        write_frame(lambda part: os.write(results, part), Kind.ERROR, text)
    # The answer is complete: what a backend's static destructors do now says nothing of it.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _answer(results: int) -> None:
    request = json.loads(_read(Kind.REQUEST))
    api = _api(request)
    gguf, task = Path(request["gguf"]), request["task"]
    decodes = task == "evaluate"
    with loaded_model(api, gguf, gpu_layers=request["gpu_layers"], vocab_only=not decodes) as model:
        info = json.dumps(asdict(model_info(api, model))).encode()
        write_frame(lambda part: os.write(results, part), Kind.INFO, info)
        if decodes:
            _evaluate(api, model, request, results)
        elif task == "tokenize":
            tokens = tokenize(api, model, bytes(_read(Kind.TEXT)))
            _send(results, Kind.TOKENS, 0, tokens.reshape(1, -1))


def _api(request: dict[str, Any]) -> Any:
    if request["layout"] is None:
        import llama_cpp.llama_cpp

        return llama_cpp.llama_cpp
    return bind(Path(request["library"]), ApiLayout.from_json(request["layout"]))


def _evaluate(api: Any, model: Any, request: dict[str, Any], results: int) -> None:
    """Decode, while a thread writes the batch before: the copy frees the library's memory."""
    n_chunks, n_ctx = request["shape"]
    tokens = np.frombuffer(_read(Kind.TOKENS), dtype=np.int32).reshape(n_chunks, n_ctx)
    batches: queue.Queue[tuple[int, F32] | None] = queue.Queue(maxsize=1)
    writer = threading.Thread(target=_write_batches, args=(batches, results))
    writer.start()
    try:
        for chunk, logits in logits_of(
            api,
            model,
            tokens,
            first=request["first"],
            sequences=request["sequences"],
            threads=request["threads"],
        ):
            batches.put((chunk, logits.copy()))
    finally:
        batches.put(None)
        writer.join()


def _write_batches(batches: queue.Queue[tuple[int, F32] | None], results: int) -> None:
    while (batch := batches.get()) is not None:
        first, logits = batch
        try:
            for i, rows in enumerate(logits):
                _send(results, Kind.LOGITS, first + i, rows)
        except BrokenPipeError:  # the parent has heard enough
            os._exit(1)


def _send(results: int, kind: Kind, chunk: int, array: np.ndarray[Any, Any]) -> None:
    rows, cols = array.shape
    write_frame(
        lambda part: os.write(results, part),
        kind,
        array.data,
        chunk=chunk,
        shape=(rows, cols),
    )


def _read(kind: Kind) -> bytearray:
    header = read_header(_read_stdin)
    if header.kind != kind:
        raise DecodeError(f"the request has {header.kind.name} where {kind.name} belongs")
    return read_bytes(_read_stdin, header)


def _read_stdin(buffer: memoryview) -> None:
    while buffer:
        n = os.readv(0, [buffer])
        if not n:
            raise DecodeError("the request ends too early")
        buffer = buffer[n:]


if __name__ == "__main__":
    main()
