"""The pipeline, readable as prose: refs, source, build, quantize, runtime, score, judge.

`Gate.open` is cheap and finds the user's mistakes, `Gate.prepare` builds,
`Gate.run` answers for one recipe. Everything that costs is kept by content in
the store, so that a second run, another recipe or another process finds it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from harness import build, judge, quantize, sandbox, source
from harness.baseline import open_reference
from harness.domain import (
    Build,
    Checkout,
    ItemResult,
    Judgement,
    Measurement,
    Progress,
    QuantizedFile,
    Recipe,
    Side,
    SideFigures,
    Source,
    TensorChange,
)
from harness.errors import InfrastructureError, PrError, UsageError
from harness.ladder import MainLadder
from harness.measure import Evaluation, measure
from harness.options import GateConfig
from harness.quantize import QuantizeInputs
from harness.runtime.choice import EvaluatorChoice, choose_evaluator
from harness.runtime.library import Library, branch_library, pinned_library
from harness.store import Store

_MOST_BYTES = 5_000_000_000  # of checkouts, of builds, of scores
_SPARED_S = 24 * 3600.0  # another run may be using them
_IN_USE_S = 600.0  # a file just made waits for its evaluation, which then holds its lock


@dataclass(frozen=True)
class _Made:
    """What `prepare` makes.

    ``libraries`` are what evaluates each side's files, ``ftypes`` what each
    tree's llama-quantize knows.
    """

    builds: dict[Side, Build]
    libraries: dict[Side, Library]
    ftypes: dict[Side, frozenset[str]]


class Gate:
    """One comparison of a PR with main; lives as long as the pytest session."""

    source: Source
    recipes: tuple[Recipe, ...]

    def __init__(self, config: GateConfig, progress: Progress) -> None:
        self._config = config
        self._progress = progress
        self._store = Store(config.cache_dir)
        self._made: _Made | None = None
        self._opened = time.time()

    # ---- before anything takes long -------------------------------------------

    def open(self) -> None:
        """Check the input and resolve both refs. Raises a HarnessError for what can't work."""
        config = self._config
        self._reference = open_reference(
            config.model,
            bf16=config.bf16,
            imatrix=config.imatrix,
            chunks=config.chunks,
            store=self._store,
            cwd=Path.cwd(),
        )
        names = config.recipes or self._reference.manifest.recipes
        parsed = (quantize.parse_recipe(name, config.named_recipes) for name in names)
        wanted = tuple(dict.fromkeys(parsed))
        quantize.require_imatrix(wanted, self._reference.imatrix)
        if config.evaluator == "pinned":
            pinned_library()
        self._repository = source.open_repository(
            config.repo, self._store, self._progress, Path.cwd()
        )
        self.source = source.resolve(
            self._repository, config.pr_branch, config.main_branch, config.main_at
        )
        if self.source.main.sha == self.source.pr.sha:
            raise UsageError(
                f"{config.pr_branch} has no commits of its own: it and main "
                f"({self.source.main.ref}) are both {self.source.main.short}",
                hint="is it merged already? --main-branch=REF names what to compare it with",
            )
        self._require_known(wanted)
        self.recipes = wanted

    def describe(self) -> list[tuple[str, str]]:
        """Return the header's lines as (name, text)."""
        reference, config = self._reference, self._config
        manifest = reference.manifest
        main, pr = self.source.main, self.source.pr
        at = " (merge base)" if config.main_at == "merge-base" else ""
        return [
            ("repo", self.source.repo),
            ("main", f"{main.short} {main.ref}{at}: {main.subject}"),
            ("pr", f"{pr.short} {pr.ref}: {pr.subject}"),
            (
                "model",
                f"{manifest.name} ({manifest.architecture}, BF16 {manifest.model_bytes / 1e9:.3f} "
                f"GB, sha256 {manifest.model_sha256[:12]})",
            ),
            (
                "corpus",
                f"{manifest.corpus_name}, {reference.n_chunks} of {manifest.n_chunks} chunks of "
                f"{manifest.n_ctx} tokens (BF16 PPL {manifest.ppl:.3f} on all)",
            ),
            ("imatrix", f"sha256 {reference.imatrix_sha256[:12]}" if reference.imatrix else "none"),
            ("recipes", ", ".join(r.name for r in self.recipes)),
            ("policy", f"{config.policy}, limit +{config.limit_pct:g} %"),
            ("evaluator", f"{self._evaluator.mode} ({self._evaluator.reason})"),
            ("sandbox", sandbox.describe()),
        ]

    # ---- minutes, once ---------------------------------------------------------

    def prepare(self) -> None:
        """Build both sides; what is built already costs nothing. Raises HarnessErrors."""
        self._prepared()

    def _prepared(self) -> _Made:
        if self._made is None:
            trees = self._checkouts
            builds = {side: self._build(trees[side]) for side in (Side.MAIN, Side.PR)}
            ftypes = {side: quantize.ftypes_of(tree.path) for side, tree in trees.items()}
            self._made = _Made(builds, self._libraries(builds), ftypes)
        return self._made

    @cached_property
    def _checkouts(self) -> dict[Side, Checkout]:
        sides = {Side.MAIN: self.source.main, Side.PR: self.source.pr}
        return {
            side: source.checkout(self._repository, commit, self._store)
            for side, commit in sides.items()
        }

    def _require_known(self, recipes: tuple[Recipe, ...]) -> None:
        """A type that neither tree knows is a typing error; one that only the PR knows is news."""
        known = frozenset[str]().union(
            *(quantize.ftypes_of(tree.path) for tree in self._checkouts.values())
        )
        named = {**self._config.named_recipes, **{r.name: r for r in recipes}}
        for recipe in recipes:
            quantize.parse_recipe(recipe.name, named, known)

    def _build(self, checkout: Checkout) -> Build:
        config = self._config
        return build.build(
            checkout,
            self._store,
            targets=("llama-quantize",),
            cmake_args=config.cmake_args,
            jobs=config.jobs,
            log=self._log(checkout.commit.side, "build"),
            progress=self._progress,
        )

    @cached_property
    def _evaluator(self) -> EvaluatorChoice:
        return choose_evaluator(self._config.evaluator, self.source.changed_paths)

    def _libraries(self, builds: dict[Side, Build]) -> dict[Side, Library]:
        if self._evaluator.mode == "pinned":
            return dict.fromkeys(Side, pinned_library())
        name = f"main {self.source.main.short}"
        main = branch_library(builds[Side.MAIN], name, InfrastructureError)
        if self._evaluator.mode == "main":
            return dict.fromkeys(Side, main)
        pr = branch_library(builds[Side.PR], f"pr {self.source.pr.short}", PrError)
        return {Side.MAIN: main, Side.PR: pr}

    # ---- one recipe -------------------------------------------------------------

    def run(self, recipe: Recipe) -> ItemResult:
        """Quantize, evaluate and judge one recipe. Raises HarnessErrors, never passes on doubt."""
        try:
            return self._run(recipe)
        finally:
            self._evict()

    def _run(self, recipe: Recipe) -> ItemResult:
        started = time.monotonic()
        # main first: what fails on both sides is not the PR's fault
        main_file = self._quantized(Side.MAIN, recipe) if self._main_knows(recipe) else None
        pr_file = self._quantized(Side.PR, recipe)
        if main_file is not None and self._is_same(main_file, pr_file):
            same = _figures(pr_file, None)
            return self._result(recipe, judge.identical(recipe.name), same, same, (), started)
        main = self._measured(Side.MAIN, recipe, main_file) if main_file is not None else None
        pr = self._measured(Side.PR, recipe, pr_file)
        ladder = self._ladder.around(recipe, main, pr_file)
        judgement = judge.judge(
            recipe.name, pr, main, ladder, self._config.policy, self._config.limit_pct
        )
        return self._result(
            recipe,
            judgement,
            _figures(main_file, main) if main_file is not None else None,
            _figures(pr_file, pr),
            quantize.changed_tensors(main_file, pr_file) if main_file is not None else (),
            started,
        )

    def close(self) -> None:
        """Keep the cache within its bounds."""
        self._evict()
        for kind in ("checkouts", "builds", "scores"):
            self._store.evict(kind, _MOST_BYTES, spared_s=_SPARED_S)

    def _main_knows(self, recipe: Recipe) -> bool:
        known = self._prepared().ftypes[Side.MAIN]
        return not known or recipe.ftype in known

    def _is_same(self, main: QuantizedFile, pr: QuantizedFile) -> bool:
        """The same bytes on the same library diverge alike; nothing need be measured."""
        libraries = self._prepared().libraries
        return main.sha256 == pr.sha256 and libraries[Side.MAIN].key == libraries[Side.PR].key

    def _quantized(self, side: Side, recipe: Recipe) -> QuantizedFile:
        return quantize.quantize(
            self._prepared().builds[side],
            recipe,
            self._inputs,
            self._store,
            self._log(side, f"{recipe.name}.quantize"),
            self._progress,
        )

    def _measured(self, side: Side, recipe: Recipe, file: QuantizedFile) -> Measurement:
        config = self._config
        return measure(
            file,
            lambda: self._quantized(side, recipe),
            self._prepared().libraries[side],
            self._reference,
            Evaluation(config.threads, config.sequences, config.gpu_layers, config.timeout_s),
            self._store,
            blame=PrError if side is Side.PR else InfrastructureError,
            what=f"evaluate {side} {recipe.name}",
            log=self._log(side, recipe.name),
            progress=self._progress,
        )

    @cached_property
    def _ladder(self) -> MainLadder:
        made = self._prepared()
        main = made.builds[Side.MAIN]
        return MainLadder(
            recipes=self.recipes,
            known=made.ftypes[Side.MAIN],
            has_imatrix=self._reference.imatrix is not None,
            plan=lambda recipe: quantize.planned_bytes(
                main, recipe, self._inputs, self._log(Side.MAIN, f"{recipe.name}.plan")
            ),
            quantized=lambda recipe: self._quantized(Side.MAIN, recipe),
            measured=lambda recipe: self._measured(
                Side.MAIN, recipe, self._quantized(Side.MAIN, recipe)
            ),
        )

    # ---- small things -----------------------------------------------------------

    @cached_property
    def _inputs(self) -> QuantizeInputs:
        reference = self._reference
        return QuantizeInputs(
            model=reference.model,
            model_sha256=reference.manifest.model_sha256,
            imatrix=reference.imatrix,
            imatrix_sha256=reference.imatrix_sha256,
            threads=self._config.threads,
        )

    def _evict(self) -> None:
        """Keep the cache within its bound, between recipes."""
        self._store.evict("quantized", int(self._config.cache_gb * 1e9), spared_s=_IN_USE_S)

    def _log(self, side: Side, name: str) -> Path:
        return self._config.report_dir / "logs" / side.value / f"{name}.txt"

    def _result(
        self,
        recipe: Recipe,
        judgement: Judgement,
        main: SideFigures | None,
        pr: SideFigures,
        changed: tuple[TensorChange, ...],
        started: float,
    ) -> ItemResult:
        # what an earlier run measured has no log of this one
        paths = {side.value: self._log(side, recipe.name) for side in Side}
        logs = {
            side: str(path)
            for side, path in paths.items()
            if path.exists() and path.stat().st_mtime >= self._opened
        }
        seconds = time.monotonic() - started
        return ItemResult(recipe.name, judgement, main, pr, changed, seconds, logs)


def _figures(file: QuantizedFile, measured: Measurement | None) -> SideFigures:
    summary = measured.summary if measured is not None else None
    return SideFigures(file.size_bytes, file.bpw, file.sha256, summary)
