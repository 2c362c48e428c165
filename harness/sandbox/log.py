"""A child's output: a log of bounded size, and lines as they come."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path

MAX_BYTES = 64_000_000
TAIL_BYTES = 1_000_000
MAX_LINE_BYTES = 65_536


class BoundedLog:
    """What a child printed, in a file of at most ``max_bytes``.

    The head is written as it comes (``tail -f`` works); of what no longer
    fits, the last ``tail_bytes`` are kept in memory and written by `close`.
    """

    def __init__(
        self,
        path: Path,
        *,
        append: bool = False,
        max_bytes: int = MAX_BYTES,
        tail_bytes: int = TAIL_BYTES,
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("ab" if append else "wb", buffering=0)
        self._room = max_bytes - tail_bytes
        self._tail_bytes = tail_bytes
        self._beyond = 0  # bytes that came after the head was full
        self._recent = bytearray()

    def note(self, text: str) -> None:
        """Write a line of the harness's own; `tail` doesn't show it."""
        self._file.write(text.encode() + b"\n")

    def write(self, data: bytes) -> None:
        """Add output. Raises OSError when the disk is full."""
        self._recent += data
        if len(self._recent) > 2 * self._tail_bytes:
            del self._recent[: -self._tail_bytes]
        head = data[: self._room]
        self._room -= len(head)
        self._beyond += len(data) - len(head)
        if head:
            self._file.write(head)

    def tail(self, n: int) -> tuple[str, ...]:
        """Return the last ``n`` lines (of the last megabyte)."""
        text = bytes(self._recent[-self._tail_bytes :]).decode(errors="replace")
        return tuple(text.splitlines()[-n:]) if n > 0 else ()

    def close(self) -> None:
        """Write the tail that didn't fit, and say what is missing before it."""
        if self._file.closed:
            return
        with self._file, contextlib.suppress(OSError):  # full disk: `write` told
            kept = min(self._beyond, self._tail_bytes)
            if self._beyond > kept:
                self.note(f"\n[… {self._beyond - kept:,} bytes left out: the log was full …]")
            if kept:
                self._file.write(self._recent[-kept:])


class Lines:
    """Cuts bytes into lines (``\\n`` or ``\\r``) for a callback; overlong ones in pieces."""

    def __init__(self, on_line: Callable[[str], None] | None) -> None:
        self._on_line = on_line
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Add output; calls back for each line that is complete."""
        if self._on_line is None:
            return
        *lines, self._rest = re.split(rb"[\r\n]+", self._rest + data)
        if len(self._rest) > MAX_LINE_BYTES:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            self._on_line(line.decode(errors="replace"))

    def finish(self) -> None:
        """Call back for a last line without an end."""
        if self._on_line is not None and self._rest:
            self._on_line(self._rest.decode(errors="replace"))
