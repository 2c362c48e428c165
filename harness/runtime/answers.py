"""What comes back from the worker: each frame is checked before it is believed."""

from __future__ import annotations

import json
import os
import re
import select
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness import sandbox
from harness.domain import F32, I32
from harness.errors import HarnessError
from harness.runtime.decode import ModelInfo
from harness.runtime.protocol import (
    MAX_TEXT_BYTES,
    BadFrame,
    Header,
    Kind,
    read_bytes,
    read_header,
)

_LOG_LINES = 15
_EXIT_WITHIN_S = 10.0  # for a child that has said its last word


@dataclass(frozen=True)
class Answers:
    """The frames of one worker, read from descriptor ``source``.

    Every method raises ``blame`` with the reason and the log's last lines when
    the child dies, takes longer than ``timeout_s`` for a frame, or sends
    anything but what is due.
    """

    child: sandbox.Child
    source: int
    timeout_s: float
    log: Path
    blame: type[HarnessError]
    what: str

    def info(self) -> ModelInfo:
        """Return the model's vocabulary, which comes first."""
        header = self._next(Kind.INFO)
        try:
            data = json.loads(read_bytes(self._reader(), header))
            n_vocab, add_bos, bos = data["n_vocab"], data["add_bos"], data["bos"]
        except (ValueError, KeyError, TypeError):
            raise self.failure("what it says of its vocabulary can't be read") from None
        if type(n_vocab) is not int or type(add_bos) is not bool or type(bos) is not int:
            raise self.failure("what it says of its vocabulary has the wrong types")
        return ModelInfo(n_vocab, add_bos, bos)

    def logits(self, chunk: int, rows: int, cols: int) -> F32:
        """Return the logits of ``chunk``, float32 [rows, cols], all finite."""
        header = self._next(Kind.LOGITS)
        if header.chunk != chunk:
            raise self.failure(f"it sent chunk {header.chunk} where chunk {chunk} was due")
        if (header.rows, header.cols) != (rows, cols):
            raise self.failure(
                f"it sent {header.rows} rows of {header.cols} logits for chunk {chunk}"
                f" where {rows} of {cols} were due"
            )
        logits = np.empty((rows, cols), dtype=np.float32)
        self._reader()(logits.data.cast("B"))
        # min and max carry NaN on, and need no array of booleans as large as a quarter of it
        if not (np.isfinite(logits.min()) and np.isfinite(logits.max())):
            bad = int(np.count_nonzero(~np.isfinite(logits)))
            raise self.failure(
                f"{bad} of {logits.size} logits of chunk {chunk} are not finite (NaN or infinite)"
            )
        return logits

    def tokens(self, at_most: int) -> I32:
        """Return token ids, int32 [n_tokens]."""
        header = self._next(Kind.TOKENS)
        if header.rows != 1 or header.cols > at_most:
            raise self.failure(
                f"it sent {header.rows} x {header.cols} tokens where 1 x {at_most} is the most"
            )
        return np.frombuffer(read_bytes(self._reader(), header), dtype=np.int32)

    def end(self) -> None:
        """Take the end frame, nothing after it, and the child's exit code 0."""
        self._next(Kind.END)
        try:
            self._read(memoryview(bytearray(1)), time.monotonic() + self.timeout_s)
        except _Ended:
            pass
        except TimeoutError:
            raise self.failure(
                f"it did not end within {self.timeout_s:g} s of its answer"
            ) from None
        else:
            raise self.failure("it sent more than it was asked for")
        if self.child.wait(_EXIT_WITHIN_S) != 0:
            raise self.failure(f"after its answer {self._how_it_ended()}")

    def failure(self, why: str) -> HarnessError:
        """Return the error to raise: what happened, and what the child printed last."""
        lines = self.child.tail(_LOG_LINES)
        shown = "".join(f"\n    {line}" for line in lines)
        return self.blame(f"{self.what}: {why}{shown}", log=self.log)

    def _next(self, kind: Kind) -> Header:
        try:
            header = read_header(self._reader())
        except BadFrame as error:
            raise self.failure(f"its answer is malformed: {error}") from None
        small = header.kind in (Kind.INFO, Kind.ERROR, Kind.END)
        if small and header.n_bytes > MAX_TEXT_BYTES * (header.kind != Kind.END):
            raise self.failure(f"its {header.kind.name} frame has {header.n_bytes} bytes")
        if header.kind == Kind.ERROR:
            text = read_bytes(self._reader(), header).decode(errors="replace")
            self.child.wait(_EXIT_WITHIN_S)  # so that the log is complete
            raise self.failure(text + self._own_words())
        if header.kind != kind:
            raise self.failure(f"it sent {header.kind.name} where {kind.name} was due")
        return header

    def _reader(self) -> Callable[[memoryview], None]:
        """Return a function that fills a buffer, a whole frame's part within the timeout."""
        deadline = time.monotonic() + self.timeout_s

        def read(buffer: memoryview) -> None:
            size = len(buffer)
            try:
                self._read(buffer, deadline)
            except _Ended as ended:
                self.child.wait(_EXIT_WITHIN_S)
                part = f" ({ended.n_bytes} of {size} bytes)" if ended.n_bytes else ""
                raise self.failure(
                    f"{self._how_it_ended()} before its answer was complete{part}"
                ) from None
            except TimeoutError:
                raise self.failure(
                    f"no answer for {self.timeout_s:g} s; the child was ended"
                ) from None

        return read

    def _read(self, buffer: memoryview, deadline: float) -> None:
        size = len(buffer)
        while buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.source], [], [], left)[0]:
                raise TimeoutError
            n = os.readv(self.source, [buffer])
            if n == 0:
                raise _Ended(size - len(buffer))
            buffer = buffer[n:]

    def _how_it_ended(self) -> str:
        code = self.child.poll()
        if code is None:
            return "the child closed its pipe and lived on"
        if code < 0:
            hint = " (out of memory?)" if self.child.signal == "SIGKILL" else ""
            return f"the child was killed by {self.child.signal}{hint}"
        return f"the child ended with exit code {code}"

    def _own_words(self) -> str:
        """Return the last line of the log that speaks of an error, after a colon."""
        lines = [x for x in self.child.tail(_LOG_LINES) if re.search(r"error|fail", x, re.I)]
        specific = [x for x in lines if "error" in x.lower()] or lines
        return f": {specific[-1].strip()}" if specific else ""


class _Ended(Exception):
    """The pipe ended ``n_bytes`` into what was due."""

    def __init__(self, n_bytes: int) -> None:
        super().__init__()
        self.n_bytes = n_bytes
