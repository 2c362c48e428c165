"""Open all that a run measures against, and refuse what does not belong together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.baseline.format import Baseline, open_baseline
from harness.baseline.manifest import Manifest, find_folder, load_manifest, require_same_model
from harness.errors import InfrastructureError, UsageError
from harness.gguf_file import GgufInfo, model_sha256, read_gguf
from harness.score import METRICS_VERSION
from harness.store import Store


@dataclass(frozen=True)
class Reference:
    """A model's BF16 GGUF, imatrix and baseline, checked against their manifest.

    ``n_chunks`` is how many of the baseline's chunks this run scores.
    """

    manifest: Manifest
    model: GgufInfo
    imatrix: Path | None
    imatrix_sha256: str
    baseline: Baseline
    n_chunks: int


def open_reference(
    name: str,
    *,
    bf16: Path | None,
    imatrix: Path | None,
    chunks: int | None,
    store: Store,
    cwd: Path,
) -> Reference:
    """Open the model ``name`` (see `find_folder`); ``bf16`` and ``imatrix`` override its files.

    Raises UsageError for files that are wrong, InfrastructureError for a
    baseline that is missing or damaged. Hashes of large files are kept in the
    store by path, size and time of change.
    """
    folder = find_folder(name, cwd)
    manifest = load_manifest(folder)
    model = read_gguf(bf16 or folder / manifest.model_file)
    require_same_model(manifest, model, model_sha256(model.path, store))
    imatrix_path, imatrix_sha256 = _open_imatrix(folder, manifest, imatrix, store)
    return Reference(
        manifest=manifest,
        model=model,
        imatrix=imatrix_path,
        imatrix_sha256=imatrix_sha256,
        baseline=_open_baseline(folder, manifest, store),
        n_chunks=_chunks(manifest, chunks),
    )


def _open_imatrix(
    folder: Path, manifest: Manifest, override: Path | None, store: Store
) -> tuple[Path | None, str]:
    if override is not None:
        if not override.is_file():
            raise UsageError(f"no such imatrix file: {override}")
        return override.resolve(), store.sha256_of(override)
    if manifest.imatrix_file is None:
        return None, ""
    path = (folder / manifest.imatrix_file).resolve()
    if not path.is_file():
        raise UsageError(f"the imatrix of {manifest.name!r} is missing: {path}")
    found = store.sha256_of(path)
    if found != manifest.imatrix_sha256:
        raise UsageError(
            f"{path} is not the imatrix of {manifest.name!r}: SHA-256 {manifest.imatrix_sha256} "
            f"in its manifest, {found} in the file",
            hint="name another one on purpose with --quant-imatrix=FILE",
        )
    return path, found


def _open_baseline(folder: Path, manifest: Manifest, store: Store) -> Baseline:
    path = folder / manifest.baseline_file
    found = store.sha256_of(path) if path.is_file() else manifest.baseline_sha256
    if found != manifest.baseline_sha256:
        raise InfrastructureError(
            f"{path} is not the baseline of {manifest.name!r}: SHA-256 "
            f"{manifest.baseline_sha256} in its manifest, {found} in the file",
            hint="restore both from the same commit, or make the baseline again",
        )
    if manifest.metrics_version != METRICS_VERSION:
        raise InfrastructureError(
            f"the baseline of {manifest.name!r} is for metrics version "
            f"{manifest.metrics_version}, this quant-gate has {METRICS_VERSION}",
            hint="make it again with: python -m harness baseline",
        )
    baseline = open_baseline(path)
    if (baseline.n_chunks, baseline.n_ctx) != (manifest.n_chunks, manifest.n_ctx):
        raise InfrastructureError(
            f"{path} has {baseline.n_chunks} chunks of {baseline.n_ctx} tokens, its manifest "
            f"says {manifest.n_chunks} of {manifest.n_ctx}"
        )
    return baseline


def _chunks(manifest: Manifest, wanted: int | None) -> int:
    if wanted is None:
        return manifest.n_chunks
    if wanted > manifest.n_chunks:
        raise UsageError(
            f"the corpus is too short: {wanted} chunks asked for, the baseline "
            f"{manifest.name!r} has {manifest.n_chunks} of {manifest.n_ctx} tokens",
            hint=f"--quant-chunks={manifest.n_chunks} or less, or make a longer baseline",
        )
    return wanted
