"""The manifest of a model's folder below ``baselines/``: what belongs together, by hash."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import harness
from harness.baseline.format import FORMAT_VERSION
from harness.errors import InfrastructureError, UsageError
from harness.gguf_file import GgufInfo
from harness.store import write_atomically

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """What a baseline was made from; hashes are SHA-256 of file contents.

    ``model_file``, ``imatrix_file`` and ``baseline_file`` are relative to the
    folder, or absolute. ``vocabulary`` digests the token list
    (`harness.gguf_file.GgufInfo`). ``ppl`` is the reference's own perplexity.
    """

    format_version: int
    metrics_version: int
    name: str
    architecture: str
    model_file: str
    model_sha256: str
    model_bytes: int
    n_vocab: int
    vocabulary: str
    imatrix_file: str | None
    imatrix_sha256: str | None
    corpus_name: str
    corpus_sha256: str
    baseline_file: str
    baseline_sha256: str
    n_ctx: int
    n_chunks: int
    epsilon: float
    ppl: float
    llama_cpp: str
    recipes: tuple[str, ...]


def find_folder(name: str, cwd: Path) -> Path:
    """Return the folder of model ``name``: a path, or a folder of the shipped ``baselines/``."""
    shipped = _shipped_baselines()
    candidates = [cwd / name, shipped / name]
    for folder in candidates:
        if (folder / MANIFEST).is_file():
            return folder
    if (cwd / name).is_file():
        raise UsageError(
            f"--quant-model={name} is a file; it takes a folder with a {MANIFEST}",
            hint=f"make one with: python -m harness baseline --bf16 {name} …",
        )
    known = sorted(p.parent.name for p in shipped.glob(f"*/{MANIFEST}"))
    raise InfrastructureError(
        f"no baseline for the model {name!r}: neither {candidates[0]} nor {candidates[1]} "
        f"has a {MANIFEST}",
        hint=f"known models: {', '.join(known) or 'none'}; "
        "make another's with: python -m harness baseline",
    )


def load_manifest(folder: Path) -> Manifest:
    """Read a folder's manifest. Raises InfrastructureError where it can't be used."""
    path = folder / MANIFEST
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = data["format_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InfrastructureError(f"{path} can't be read: {error!r}") from None
    if version != FORMAT_VERSION:
        raise InfrastructureError(
            f"{path} has format version {version}, this quant-gate reads {FORMAT_VERSION}",
            hint="update the older of the two, or make the baseline again",
        )
    try:
        return Manifest(**{**data, "recipes": tuple(data["recipes"])})
    except (KeyError, TypeError) as error:
        raise InfrastructureError(f"{path} is no manifest: {error}") from None


def save_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest into ``folder``."""
    text = json.dumps(asdict(manifest), indent=2) + "\n"
    write_atomically(folder / MANIFEST, text.encode())


def require_same_model(manifest: Manifest, model: GgufInfo, sha256: str) -> None:
    """Raise UsageError where the BF16 model is not the one that the baseline was made from."""
    pairs: list[tuple[str, object, object]] = [
        ("architecture", manifest.architecture, model.architecture),
        ("vocabulary size in tokens", manifest.n_vocab, model.n_vocab),
        ("vocabulary digest", manifest.vocabulary, model.vocabulary),
        ("size in bytes", manifest.model_bytes, model.size_bytes),
        ("SHA-256", manifest.model_sha256, sha256),
    ]
    for what, expected, found in pairs:
        if expected != found:
            raise UsageError(
                f"the baseline {manifest.name!r} is of another model than {model.path}: "
                f"{what} {expected} in its manifest, {found} in the file",
                hint="give the model it was made from with --quant-bf16=FILE, or make "
                "this one's baseline with: python -m harness baseline",
            )


def _shipped_baselines() -> Path:
    package = Path(harness.__file__).resolve().parent
    bundled = package / "_baselines"
    return bundled if bundled.is_dir() else package.parent / "baselines"
