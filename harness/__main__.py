"""``python -m harness``: what is done beside a gate run. For now: make a model's baseline."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

from harness import build, source
from harness.baseline.make import BaselineRequest, make_baseline
from harness.domain import Side
from harness.errors import HarnessError, InfrastructureError, UsageError
from harness.gguf_file import read_gguf
from harness.options import default_cache_dir
from harness.quantize import parse_recipe
from harness.report.progress import StreamProgress
from harness.runtime.library import Library, branch_library, pinned_library
from harness.store import Store


def main(arguments: list[str] | None = None) -> int:
    """Run a command; a HarnessError becomes its text and its exit code."""
    args = _parser().parse_args(arguments)
    try:
        return _baseline(args)
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        return int(error.exit_code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m harness", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser(
        "baseline",
        help="evaluate a BF16 GGUF and store what a gate run measures against",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    make.add_argument("--bf16", type=Path, required=True, metavar="FILE", help="the BF16 GGUF")
    make.add_argument("--corpus", type=Path, required=True, metavar="FILE", help="UTF-8 text")
    make.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    make.add_argument("--name", metavar="NAME", help="the model's name; else the folder's")
    make.add_argument("--corpus-name", metavar="NAME", help="else the corpus file's name")
    make.add_argument("--imatrix", type=Path, metavar="FILE", help="for both sides' files")
    make.add_argument(
        "--types",
        default="IQ1_M,IQ2_XXS,Q2_K_L,IQ3_XXS,Q4_K_M",
        metavar="LIST",
        help="recipes that a gate run takes by default",
    )
    make.add_argument("--ctx", type=int, default=512, metavar="TOKENS", help="tokens a chunk")
    make.add_argument("--chunks", type=int, metavar="N", help="the whole text where not given")
    make.add_argument(
        "--epsilon",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="share of BF16's probability folded into one bucket; 0 keeps all tokens",
    )
    make.add_argument("--repo", metavar="REPO", help="llama.cpp: path, URL or demo")
    make.add_argument("--ref", metavar="REF", help="what to build of it; else its main branch")
    make.add_argument("--pinned", action="store_true", help="use llama-cpp-python's own library")
    make.add_argument("--cmake-args", default="", metavar="ARGS", help="e.g. -DGGML_CUDA=ON")
    make.add_argument("--jobs", type=int, default=_cores(), metavar="N", help="compile jobs")
    make.add_argument("--threads", type=int, default=_cores(), metavar="N", help="CPU threads")
    make.add_argument("--sequences", type=int, default=4, metavar="N", help="chunks a batch")
    make.add_argument("--gpu-layers", type=int, default=999, metavar="N", help="999: all")
    make.add_argument("--timeout", type=float, default=600, metavar="S", help="of silence")
    make.add_argument(
        "--cache-dir",
        type=Path,
        metavar="DIR",
        default=default_cache_dir(),
        help="builds and checkouts",
    )
    return parser


def _baseline(args: argparse.Namespace) -> int:
    _require_sound(args)
    store = Store(args.cache_dir.resolve())
    progress = StreamProgress(sys.stderr)
    log = store.folder("logs") / f"baseline-{os.getpid()}.txt"
    library, description = _library(args, store, log, progress)
    folder = args.out.resolve()
    request = BaselineRequest(
        name=args.name or folder.name,
        folder=folder,
        bf16=args.bf16,
        corpus=args.corpus,
        corpus_name=args.corpus_name or args.corpus.name,
        imatrix=args.imatrix,
        recipes=tuple(name.strip() for name in args.types.split(",") if name.strip()),
        n_ctx=args.ctx,
        n_chunks=args.chunks,
        epsilon=args.epsilon,
        llama_cpp=description,
        threads=args.threads,
        sequences=args.sequences,
        gpu_layers=args.gpu_layers,
        timeout_s=args.timeout,
    )
    manifest = make_baseline(request, library, store, log, progress)
    size = (folder / manifest.baseline_file).stat().st_size
    print(
        f"{folder}: {manifest.n_chunks} chunks of {manifest.n_ctx} tokens, "
        f"BF16 PPL {manifest.ppl:.4f}, {size / 1e6:.2f} MB"
    )
    print(f"use it with: pytest --pr-branch=REF --quant-model={args.out}")
    return 0


def _require_sound(args: argparse.Namespace) -> None:
    """Find what can't work before anything is built."""
    for name, path in (("bf16", args.bf16), ("corpus", args.corpus), ("imatrix", args.imatrix)):
        if path is not None and not path.is_file():
            raise UsageError(f"--{name}: no such file: {path}")
    read_gguf(args.bf16)
    try:
        args.corpus.read_text(encoding="utf-8")
        shlex.split(args.cmake_args)
    except UnicodeDecodeError as error:
        raise UsageError(f"--corpus: {args.corpus} is not UTF-8: {error}") from None
    except ValueError as error:
        raise UsageError(f"--cmake-args: {error}: {args.cmake_args}") from None
    if args.ctx < 8 or args.ctx % 2:
        raise UsageError(f"--ctx: {args.ctx} tokens; an even number of 8 at least is wanted")
    if not 0 <= args.epsilon < 1:
        raise UsageError(f"--epsilon: {args.epsilon}; a share from 0 to below 1 is wanted")
    for name in args.types.split(","):
        parse_recipe(name.strip(), {})


def _library(
    args: argparse.Namespace, store: Store, log: Path, progress: StreamProgress
) -> tuple[Library, str]:
    if args.pinned:
        library = pinned_library()
        return library, library.name
    repository = source.open_repository(args.repo, store, progress, Path.cwd())
    found = source.resolve(repository, args.ref or "main", args.ref, "tip")
    checkout = source.checkout(repository, found.main, store)
    made = build.build(
        checkout,
        store,
        targets=("llama-quantize",),
        cmake_args=shlex.split(args.cmake_args),
        jobs=args.jobs,
        log=log.with_suffix(".build.txt"),
        progress=progress,
    )
    name = f"{Side.MAIN} {found.main.short}"
    return branch_library(made, name, InfrastructureError), f"{found.main.sha} ({found.repo})"


def _cores() -> int:
    return len(os.sched_getaffinity(0))


if __name__ == "__main__":
    sys.exit(main())
