"""What a GGUF says of itself: tensors, architecture, vocabulary. Reads headers, no weights."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from gguf import GGUFReader

from harness.domain import Tensor
from harness.errors import UsageError
from harness.store import Store

_SPLIT = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


@dataclass(frozen=True)
class GgufInfo:
    """The header of a GGUF, all its splits together.

    ``vocabulary`` is a digest of the token list and the special tokens: two
    files with the same one give a token id the same meaning.
    """

    path: Path
    architecture: str
    n_vocab: int
    vocabulary: str
    size_bytes: int
    tensors: tuple[Tensor, ...]

    @property
    def types(self) -> dict[str, str]:
        """Each tensor's ggml_type by name."""
        return {t.name: t.ggml_type for t in self.tensors}


def read_gguf(path: Path) -> GgufInfo:
    """Read the header of the GGUF at ``path`` (of a split model: its first file).

    Raises UsageError when the file is missing, not a GGUF, or truncated.
    """
    files = split_files(path)
    readers = [_open(file) for file in files]
    tensors = tuple(
        Tensor(t.name, t.tensor_type.name, int(t.n_elements), int(t.n_bytes))
        for reader in readers
        for t in reader.tensors
    )
    if not tensors:
        raise UsageError(f"{path} holds no tensors", hint="give the file that holds the weights")
    n_vocab, vocabulary = _vocabulary(readers[0])
    return GgufInfo(
        path=path,
        architecture=_string(readers[0], "general.architecture"),
        n_vocab=n_vocab,
        vocabulary=vocabulary,
        size_bytes=sum(f.stat().st_size for f in files),
        tensors=tensors,
    )


def split_files(path: Path) -> list[Path]:
    """Return all files of a model split as ``NAME-00001-of-0000N.gguf``, else just ``path``."""
    match = _SPLIT.search(path.name)
    if match is None:
        return [path]
    stem, total = path.name[: match.start()], int(match[2])
    files = [path.with_name(f"{stem}-{i:05d}-of-{total:05d}.gguf") for i in range(1, total + 1)]
    missing = [f.name for f in files if not f.exists()]
    if missing:
        raise UsageError(f"{path}: {len(missing)} of {total} splits are missing: {missing[0]} …")
    return files


def model_sha256(path: Path, store: Store) -> str:
    """Return the SHA-256 of a model; of a split one those of its files, joined by ``+``."""
    return "+".join(store.sha256_of(file) for file in split_files(path))


def _open(path: Path) -> GGUFReader:
    if not path.is_file():
        raise UsageError(f"no such model file: {path}")
    with path.open("rb") as file:
        magic = file.read(4)
    if magic != b"GGUF":
        raise UsageError(
            f"{path} is not a GGUF: it begins with {magic!r}, not b'GGUF'",
            hint="convert the model with llama.cpp's convert_hf_to_gguf.py --outtype bf16",
        )
    try:
        reader = GGUFReader(path)
    except Exception as error:  # the reader has no error type of its own
        if "GGMLQuantizationType" in str(error):
            raise UsageError(
                f"{path} has a tensor of a type that gguf {version('gguf')} does not know: {error}",
                hint="install a gguf package that knows it (pip install --upgrade gguf)",
            ) from None
        raise UsageError(
            f"{path} is truncated or damaged ({path.stat().st_size:,} bytes): {error}",
            hint="fetch the file again and compare its size and SHA-256",
        ) from None
    end = max((int(t.data_offset) + int(t.n_bytes) for t in reader.tensors), default=0)
    if end > path.stat().st_size:
        raise UsageError(
            f"{path} is truncated: its tensors end at byte {end:,}, "
            f"the file at {path.stat().st_size:,}"
        )
    return reader


def _string(reader: GGUFReader, key: str) -> str:
    field = reader.get_field(key)
    return str(field.contents()) if field is not None else ""


def _vocabulary(reader: GGUFReader) -> tuple[int, str]:
    field = reader.get_field("tokenizer.ggml.tokens")
    if field is None:
        return 0, ""
    state = hashlib.sha256()
    for index in field.data:
        token = bytes(field.parts[index])
        state.update(len(token).to_bytes(4, "little") + token)
    for key in ("model", "pre", "bos_token_id", "add_bos_token"):
        special = reader.get_field(f"tokenizer.ggml.{key}")
        state.update(repr(special.contents() if special is not None else None).encode())
    return len(field.data), state.hexdigest()
