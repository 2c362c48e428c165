"""A child that does what the model's name says, well or badly; see test_lying_worker.py."""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
import time
from pathlib import Path

from harness.runtime.protocol import Header, Kind, read_bytes, read_header, write_frame

N_VOCAB = 5


def main() -> None:
    header = read_header(read)
    request = json.loads(read_bytes(read, header))
    mode = Path(request["gguf"]).stem
    n_chunks, n_ctx = request["shape"]
    rows = n_ctx - 1 - request["first"]
    if mode == "garbled-info":
        send(Kind.INFO, b"{]")
    if mode == "error":
        send(Kind.ERROR, b"the tensors are not to its liking")
        return
    info = {"n_vocab": N_VOCAB + (mode == "other-vocabulary"), "add_bos": True, "bos": 1}
    if mode == "lying-info":
        info["n_vocab"] = "5"
    send(Kind.INFO, json.dumps(info).encode())
    for chunk in range(n_chunks):
        values = [float(chunk)] * (rows * N_VOCAB)
        if chunk == n_chunks - 1:
            misbehave(mode, chunk, rows, values)
        send_logits(chunk, rows, N_VOCAB, values)
    if mode == "one-chunk-more":
        send_logits(n_chunks, rows, N_VOCAB, values)
    send(Kind.END, b"x" if mode == "long-end" else b"")
    if mode == "frame-after-end":
        send(Kind.END)
    if mode == "stays":
        time.sleep(600)
    if mode == "exit-7-after-end":
        sys.exit(7)


def misbehave(mode: str, chunk: int, rows: int, values: list[float]) -> None:
    if mode == "exit-3":
        print("fake: I give up", flush=True)
        os._exit(3)
    if mode == "exit-0":
        os._exit(0)
    if mode in ("SIGSEGV", "SIGKILL"):
        os.kill(os.getpid(), getattr(signal, mode))
    if mode == "hangs":
        time.sleep(600)
    if mode == "drips":
        for byte in Header(Kind.LOGITS, chunk, rows, N_VOCAB).pack():
            os.write(SINK, bytes([byte]))
            time.sleep(0.3)
    if mode in ("nan", "inf", "-inf"):
        values[-1] = float(mode)
    if mode == "row-missing":
        send_logits(chunk, rows - 1, N_VOCAB, values[N_VOCAB:])
    if mode == "column-missing":
        send_logits(chunk, rows, N_VOCAB - 1, values[rows:])
    if mode == "chunk-missing":
        send(Kind.END)
    if mode == "chunk-twice":
        send_logits(chunk - 1, rows, N_VOCAB, values)
    if mode == "vast":
        os.write(SINK, Header(Kind.LOGITS, chunk, 2**32 - 1, 2**20).pack())
    if mode == "truncated":
        os.write(SINK, Header(Kind.LOGITS, chunk, rows, N_VOCAB).pack() + b"12345678")
        os._exit(0)
    if mode == "no-frames":
        os.write(SINK, b"perplexity: 5.0, all is well, please believe me")
    if mode == "flood":
        for line in range(100_000):
            print(f"{line} and so on and so forth, to fill the pipe of the log")


def send_logits(chunk: int, rows: int, cols: int, values: list[float]) -> None:
    payload = struct.pack(f"<{len(values)}f", *values)
    write_frame(write, Kind.LOGITS, payload, chunk=chunk, shape=(rows, cols))


def send(kind: Kind, payload: bytes = b"") -> None:
    write_frame(write, kind, payload)


def write(part: memoryview) -> int:
    return os.write(SINK, part)


def read(buffer: memoryview) -> None:
    assert os.readv(0, [buffer]) == len(buffer)


SINK = int(sys.argv[1])
main()
