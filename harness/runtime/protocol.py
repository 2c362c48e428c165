"""The frames that parent and child exchange: a fixed header, then the payload.

The parent trusts nothing that it reads: a header is checked before a byte of
its payload is taken, so that a wrong one costs no memory.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

MAGIC = b"QGL1"
_HEADER = struct.Struct("<4sIIIIQ")
HEADER_BYTES = _HEADER.size
MAX_TEXT_BYTES = 1 << 16


class Kind(IntEnum):
    """What a frame carries."""

    REQUEST = 1  # JSON: what the child shall do
    TEXT = 2  # UTF-8 to be tokenized
    TOKENS = 3  # int32 [rows, cols]
    INFO = 4  # JSON: the model's vocabulary
    LOGITS = 5  # float32 [rows, cols] of one chunk
    ERROR = 6  # UTF-8: why the child gives up
    END = 7  # nothing: the answer is complete


_ITEM_BYTES = {kind: 4 if kind in (Kind.TOKENS, Kind.LOGITS) else 1 for kind in Kind}


class BadFrame(ValueError):
    """What was read is no frame; the message says why."""


@dataclass(frozen=True)
class Header:
    """A frame's kind and shape: ``rows`` × ``cols`` items; bytes and text are one row."""

    kind: Kind
    chunk: int
    rows: int
    cols: int

    @property
    def n_bytes(self) -> int:
        """Bytes of payload that follow."""
        return self.rows * self.cols * _ITEM_BYTES[self.kind]

    def pack(self) -> bytes:
        """Return the header's bytes."""
        return _HEADER.pack(MAGIC, self.kind, self.chunk, self.rows, self.cols, self.n_bytes)


def unpack(data: bytes) -> Header:
    """Read a header.

    Raises
    ------
    BadFrame
        Wrong magic, unknown kind, or a byte count that does not follow from the shape.
    """
    if len(data) != HEADER_BYTES:
        raise BadFrame(f"a header of {len(data)} bytes instead of {HEADER_BYTES}")
    magic, kind, chunk, rows, cols, n_bytes = _HEADER.unpack(data)
    if magic != MAGIC:
        raise BadFrame(f"a header that begins with {magic!r} instead of {MAGIC!r}")
    try:
        header = Header(Kind(kind), chunk, rows, cols)
    except ValueError:
        raise BadFrame(f"a frame of unknown kind {kind}") from None
    if header.n_bytes != n_bytes:
        raise BadFrame(
            f"a {header.kind.name} frame of {n_bytes} bytes where"
            f" {rows} x {cols} asks for {header.n_bytes}"
        )
    return header


def write_frame(
    write: Callable[[memoryview], int],
    kind: Kind,
    payload: bytes | memoryview = b"",
    *,
    chunk: int = 0,
    shape: tuple[int, int] | None = None,
) -> None:
    """Write a whole frame; ``write`` takes bytes and says how many it took.

    ``payload`` is any contiguous buffer; ``shape`` is (rows, cols), by default one row of bytes.
    """
    body = memoryview(payload)
    body = body.cast("B") if body.nbytes else memoryview(b"")  # an empty view can't be cast
    rows, cols = shape or (1, len(body))
    header = Header(kind, chunk, rows, cols)
    if header.n_bytes != len(body):
        raise BadFrame(f"{len(body)} bytes are no {kind.name} frame of {rows} x {cols}")
    for part in (memoryview(header.pack()), body):
        while part:
            part = part[write(part) :]


def read_header(read: Callable[[memoryview], None]) -> Header:
    """Read the next header; ``read`` fills a buffer or raises."""
    data = bytearray(HEADER_BYTES)
    read(memoryview(data))
    return unpack(bytes(data))


def read_bytes(read: Callable[[memoryview], None], header: Header) -> bytearray:
    """Read the payload that belongs to ``header``."""
    data = bytearray(header.n_bytes)
    read(memoryview(data))
    return data
