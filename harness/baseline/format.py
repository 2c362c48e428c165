"""The baseline's file: the BF16 reference of every scored token, compact and readable by chunk.

A plain ``.npz`` (a zip of ``.npy`` members, readable with `numpy.load`), so
that any chunk is read alone and writing streams. Members, with ``NNNNN`` the
chunk's number:

``tokens``         int32 [n_chunks, n_ctx], the token stream, BOS in place
``NNNNN/counts``   uint32 [n_scored], tokens kept per row
``NNNNN/ids``      the kept tokens, ascending within a row, as differences to the one before
                   (a row's first: the id itself); uint16 or uint32 as byte planes
``NNNNN/codes``    √p of the kept tokens in steps of 1/65535; uint16 as byte planes
``NNNNN/rest``     float32 [n_scored], ln p of all other tokens together (−inf: none)
``NNNNN/next``     float32 [n_scored], ln p of the token that really follows, exact
``NNNNN/top``      int32 [n_scored], argmax of the full distribution

Byte planes are uint8 [itemsize, n_kept], low bytes first: deflate finds little in
interleaved 16-bit numbers, but the planes of high bytes nearly vanish.

Kept are the tokens that hold all but ``epsilon`` of p. Steps of √p weigh alike
wherever they fall: a rounding of Δ in √p moves the KLD by 2Δ² nats, be p large
or small, so digits go where they count. On reading, a row is scaled to sum to 1
again, so that it is a true distribution: the KLD to it is never negative, and an
identical model scores that rounding alone, about 4e-11 nats a kept token.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.domain import I32, ReferenceChunk
from harness.errors import InfrastructureError

FORMAT_VERSION = 1
STEPS = 65535
_DAMAGE = (
    *(KeyError, ValueError, OSError, EOFError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error),
)


class BaselineWriter:
    """Writes a baseline chunk by chunk; use it as a context manager."""

    def __init__(self, path: Path, tokens: I32, n_vocab: int) -> None:
        self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9)
        self._id_dtype = np.dtype("<u2" if n_vocab <= 1 << 16 else "<u4")
        self._member("tokens", tokens.astype(np.int32))

    def __enter__(self) -> BaselineWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._zip.close()

    def add(self, number: int, chunk: ReferenceChunk) -> None:
        """Append chunk ``number``."""
        codes = np.rint(np.exp(chunk.logp / 2) * STEPS)
        stem = f"{number:05d}"
        self._member(f"{stem}/counts", np.diff(chunk.offsets).astype(np.uint32))
        steps = _differences(chunk.ids, chunk.offsets).astype(self._id_dtype)
        self._member(f"{stem}/ids", _to_planes(steps))
        self._member(f"{stem}/codes", _to_planes(np.clip(codes, 1, STEPS).astype("<u2")))
        self._member(f"{stem}/rest", chunk.rest_logp.astype(np.float32))
        self._member(f"{stem}/next", chunk.next_logp.astype(np.float32))
        self._member(f"{stem}/top", chunk.top_ids.astype(np.int32))

    def _member(self, name: str, array: NDArray[Any]) -> None:
        # a fixed date, so that the same content is the same file
        info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
        info.compress_type = zipfile.ZIP_DEFLATED
        with self._zip.open(info, "w", force_zip64=True) as file:
            np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)


@dataclass(frozen=True)
class Baseline:
    """An opened baseline file; chunks are read when asked for."""

    path: Path
    tokens: I32

    @property
    def n_chunks(self) -> int:
        """Chunks in the file."""
        return int(self.tokens.shape[0])

    @property
    def n_ctx(self) -> int:
        """Tokens a chunk."""
        return int(self.tokens.shape[1])

    def chunk(self, number: int) -> ReferenceChunk:
        """Read chunk ``number``. Raises InfrastructureError where the file is damaged."""
        return next(self.chunks([number]))

    def chunks(self, numbers: list[int]) -> Iterator[ReferenceChunk]:
        """Read the chunks ``numbers`` in that order."""
        with _opened(self.path) as members:
            for number in numbers:
                try:
                    yield _decode(members, number, self.tokens)
                except _DAMAGE as error:
                    raise _damaged(self.path, f"chunk {number}: {error}") from None


def open_baseline(path: Path) -> Baseline:
    """Open a baseline. Raises InfrastructureError when it is missing or damaged."""
    if not path.is_file():
        raise InfrastructureError(
            f"the baseline is missing: {path}", hint="make it with: python -m harness baseline"
        )
    try:
        with _opened(path) as members:
            return Baseline(path, np.asarray(members["tokens"], dtype=np.int32))
    except _DAMAGE as error:
        raise _damaged(path, str(error)) from None


def _opened(path: Path) -> Any:
    return np.load(path, allow_pickle=False)


def _damaged(path: Path, why: str) -> InfrastructureError:
    return InfrastructureError(
        f"the baseline {path} is damaged ({path.stat().st_size:,} bytes): {why}",
        hint="restore it (git checkout), or make it again with: python -m harness baseline",
    )


def _decode(members: Any, number: int, tokens: I32) -> ReferenceChunk:
    stem = f"{number:05d}"
    counts = np.asarray(members[f"{stem}/counts"], dtype=np.int64)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    codes = _from_planes(members[f"{stem}/codes"]).astype(np.float64)
    steps = _from_planes(members[f"{stem}/ids"]).astype(np.int64)
    rest = np.asarray(members[f"{stem}/rest"], dtype=np.float64)
    if (
        offsets[-1] != codes.size
        or codes.min(initial=1) < 1
        or counts.size != rest.size
        or counts.min(initial=1) < 1
    ):
        raise ValueError("its members do not fit together")
    logp = 2 * np.log(codes / STEPS)
    total = np.log(np.add.reduceat(np.exp(logp), offsets[:-1]) + np.exp(rest))
    first = tokens.shape[1] // 2
    return ReferenceChunk(
        offsets=offsets,
        ids=_sums(steps, offsets).astype(np.int32),
        logp=logp - np.repeat(total, counts),
        rest_logp=rest - total,
        next_ids=tokens[number, first + 1 :],
        next_logp=np.asarray(members[f"{stem}/next"], dtype=np.float64),
        top_ids=np.asarray(members[f"{stem}/top"], dtype=np.int32),
    )


def _to_planes(array: NDArray[Any]) -> NDArray[np.uint8]:
    """[n] of a little-endian type -> uint8 [itemsize, n]."""
    return np.ascontiguousarray(array.view(np.uint8).reshape(array.size, array.itemsize).T)


def _from_planes(planes: NDArray[np.uint8]) -> NDArray[Any]:
    if planes.dtype != np.uint8 or planes.ndim != 2 or planes.shape[0] not in (2, 4):
        raise ValueError(f"byte planes of {planes.dtype} {planes.shape}")
    return np.ascontiguousarray(planes.T).view(f"<u{planes.shape[0]}").ravel()


def _differences(ids: I32, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each id less the one before it; a row's first stays as it is."""
    steps = ids.astype(np.int64)
    steps[1:] -= ids[:-1]
    steps[offsets[:-1]] = ids[offsets[:-1]]
    return steps


def _sums(steps: NDArray[np.int64], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Undo `_differences`."""
    total = np.cumsum(steps)
    first = offsets[:-1]
    before = total[first] - steps[first]
    return total - np.repeat(before, np.diff(offsets))
