from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.runtime.protocol import (
    HEADER_BYTES,
    BadFrame,
    Header,
    Kind,
    read_bytes,
    read_header,
    unpack,
    write_frame,
)

BYTE_KINDS = [Kind.REQUEST, Kind.TEXT, Kind.INFO, Kind.ERROR]
uint32 = st.integers(0, 2**32 - 1)


def reader(data: bytes):
    stream = io.BytesIO(data)

    def read(buffer: memoryview) -> None:
        assert stream.readinto(buffer) == len(buffer)

    return read


def trickle(sink: io.BytesIO, most: int):
    """A pipe takes what it likes of each write."""
    return lambda part: sink.write(part[:most])


@given(
    st.sampled_from([Kind.LOGITS, Kind.TOKENS]),
    uint32,
    st.integers(0, 5),
    st.integers(0, 7),
    st.integers(1, 30),
)
def test_arrays_survive_the_pipe(kind, chunk, rows, cols, most):
    array = np.arange(rows * cols, dtype=np.int32).reshape(rows, cols)
    sink = io.BytesIO()
    write_frame(trickle(sink, most), kind, array.data, chunk=chunk, shape=(rows, cols))
    read = reader(sink.getvalue())
    header = read_header(read)
    assert header == Header(kind, chunk, rows, cols)
    assert np.array_equal(np.frombuffer(read_bytes(read, header), np.int32), array.ravel())


@given(st.sampled_from(BYTE_KINDS), st.binary(max_size=100), st.integers(1, 30))
def test_bytes_survive_the_pipe(kind, data, most):
    sink = io.BytesIO()
    write_frame(trickle(sink, most), kind, data)
    read = reader(sink.getvalue())
    header = read_header(read)
    assert (header.kind, read_bytes(read, header)) == (kind, data)


@given(st.binary(max_size=2 * HEADER_BYTES))
def test_bytes_at_random_are_no_header(data):
    with pytest.raises(BadFrame):
        unpack(data)


@given(uint32, uint32, uint32, uint32, st.integers(0, 2**64 - 1))
def test_a_header_is_believed_only_if_its_byte_count_follows_from_its_shape(
    kind, chunk, rows, cols, n_bytes
):
    data = struct.pack("<4sIIIIQ", b"QGL1", kind % 10, chunk, rows, cols, n_bytes)
    try:
        header = unpack(data)
    except BadFrame:
        return
    assert header.pack() == data
    assert header.n_bytes == n_bytes


@given(st.sampled_from(Kind), uint32, uint32, uint32, st.integers(1, 2**20))
def test_a_byte_more_than_the_shape_has_is_refused(kind, chunk, rows, cols, extra):
    header = Header(kind, chunk, rows % 2**16, cols % 2**16)
    data = header.pack()
    assert unpack(data) == header
    with pytest.raises(BadFrame, match="bytes where"):
        unpack(data[:-8] + struct.pack("<Q", header.n_bytes + extra))


def test_a_payload_that_is_not_its_shape_is_not_sent():
    sink = io.BytesIO()
    with pytest.raises(BadFrame):
        write_frame(sink.write, Kind.LOGITS, b"12345678", shape=(1, 3))
    assert sink.getvalue() == b""
