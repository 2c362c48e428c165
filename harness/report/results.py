"""``results.json``: outcomes to JSON and back, the run's verdict and its exit code."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from harness.domain import (
    Effect,
    ItemResult,
    Judgement,
    Policy,
    SideFigures,
    Summary,
    TensorChange,
    Verdict,
)
from harness.errors import ExitCode, HarnessError, InfrastructureError, PrError, UsageError

SCHEMA_VERSION = 1

# What is certain about the PR comes before what another run may tell differently.
PRECEDENCE = (
    ExitCode.REGRESSION,
    ExitCode.PR_BROKEN,
    ExitCode.USAGE,
    ExitCode.INFRASTRUCTURE,
    ExitCode.INCONCLUSIVE,
    ExitCode.PASSED,
)

KIND = {
    ExitCode.USAGE: "usage",
    ExitCode.PR_BROKEN: "pr",
    ExitCode.INFRASTRUCTURE: "infrastructure",
}


@dataclass(frozen=True)
class ItemError:
    """Why a recipe got no verdict: ``kind`` says whose fault it is.

    "usage", "pr", "infrastructure", or "internal": an error of the harness itself.
    """

    kind: str
    message: str
    hint: str = ""
    log: str | None = None

    @classmethod
    def of(cls, error: HarnessError) -> ItemError:
        """The error as data."""
        log = str(error.log) if error.log is not None else None
        return cls(KIND[error.exit_code], error.message, error.hint, log)

    @property
    def exit_code(self) -> ExitCode:
        """With what a run ends because of it; a fault of the harness is infrastructure."""
        codes = {kind: code for code, kind in KIND.items()}
        return codes.get(self.kind, ExitCode.INFRASTRUCTURE)

    def as_exception(self) -> HarnessError:
        """The error as it was raised, in another process perhaps."""
        kinds = {"usage": UsageError, "pr": PrError}
        log = Path(self.log) if self.log is not None else None
        return kinds.get(self.kind, InfrastructureError)(self.message, hint=self.hint, log=log)


@dataclass(frozen=True)
class Outcome:
    """How a recipe's item ended: with a result, or with an error."""

    recipe: str
    result: ItemResult | None = None
    error: ItemError | None = None

    @property
    def word(self) -> str:
        """The verdict, or ERROR."""
        return self.result.judgement.verdict.value if self.result is not None else "ERROR"

    @property
    def exit_code(self) -> ExitCode:
        """With what a run of this recipe alone ends."""
        if self.error is not None or self.result is None:
            return self.error.exit_code if self.error else ExitCode.INFRASTRUCTURE
        return {
            Verdict.WORSE: ExitCode.REGRESSION,
            Verdict.INCONCLUSIVE: ExitCode.INCONCLUSIVE,
        }.get(self.result.judgement.verdict, ExitCode.PASSED)


def run_verdict(outcomes: Sequence[Outcome], not_run: Sequence[str] = ()) -> Verdict | None:
    """WORSE if a recipe is, else None if one has no verdict, else the gravest of them."""
    words = {outcome.word for outcome in outcomes}
    if Verdict.WORSE in words:
        return Verdict.WORSE
    if not outcomes or not_run or "ERROR" in words:
        return None
    return next(v for v in (Verdict.INCONCLUSIVE, Verdict.BETTER, Verdict.SAME) if v in words)


def run_exit_code(outcomes: Sequence[Outcome]) -> ExitCode:
    """The first of `PRECEDENCE` that a recipe ends with."""
    codes = {outcome.exit_code for outcome in outcomes}
    return next((code for code in PRECEDENCE if code in codes), ExitCode.PASSED)


def results_json(
    facts: Mapping[str, object],
    outcomes: Sequence[Outcome],
    not_run: Sequence[str],
    exit_code: int,
) -> str:
    """The text of ``results.json``.

    ``facts`` are the run's own keys (commits, model, policy …); ``outcomes`` in
    the order of the recipes; ``not_run`` the recipes that an early end left out.
    Numbers are exact and finite; what is not finite or not measured is null.
    """
    verdict = run_verdict(outcomes, not_run)
    whole = {
        "schema_version": SCHEMA_VERSION,
        "verdict": verdict and verdict.value,
        "exit_code": int(exit_code),
        **facts,
        "not_run": list(not_run),
        "items": [outcome_to_json(outcome) for outcome in outcomes],
    }
    return json.dumps(_finite(whole), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def outcome_to_json(outcome: Outcome) -> dict[str, Any]:
    """One entry of ``items``: plain JSON values only."""
    result = outcome.result
    judgement = result.judgement if result is not None else None
    return {
        "recipe": outcome.recipe,
        "verdict": judgement.verdict.value if judgement else None,
        "error": asdict(outcome.error) if outcome.error else None,
        "main": _side_to_json(result.main) if result else None,
        "pr": _side_to_json(result.pr) if result else None,
        "decided_by": judgement.decided_by and judgement.decided_by.value if judgement else None,
        **{name: _effect_to_json(judgement, name) for name in _EFFECTS},
        "dominated_main": judgement.dominated_main if judgement else "",
        "dominated_pr": judgement.dominated_pr if judgement else "",
        "neighbours": list(judgement.neighbours) if judgement else [],
        "note": judgement.note if judgement else "",
        "changed_tensors": [asdict(c) for c in result.changed_tensors] if result else [],
        "seconds": result.seconds if result else None,
        "logs": dict(result.logs) if result else {},
    }


def outcome_from_json(entry: Mapping[str, Any]) -> Outcome:
    """The outcome that `outcome_to_json` wrote."""
    error = ItemError(**entry["error"]) if entry["error"] else None
    if entry["verdict"] is None:
        return Outcome(entry["recipe"], error=error)
    judgement = Judgement(
        recipe=entry["recipe"],
        verdict=Verdict(entry["verdict"]),
        decided_by=Policy(entry["decided_by"]) if entry["decided_by"] else None,
        dominated_main=entry["dominated_main"],
        dominated_pr=entry["dominated_pr"],
        neighbours=tuple(entry["neighbours"]),
        note=entry["note"],
        **{name: Effect(**entry[name]) if entry[name] else None for name in _EFFECTS},
    )
    pr = _side_from_json(entry["pr"])
    assert pr is not None, "a verdict without the PR's file"
    result = ItemResult(
        recipe=entry["recipe"],
        judgement=judgement,
        main=_side_from_json(entry["main"]),
        pr=pr,
        changed_tensors=tuple(TensorChange(**c) for c in entry["changed_tensors"]),
        seconds=entry["seconds"],
        logs=dict(entry["logs"]),
    )
    return Outcome(entry["recipe"], result=result, error=error)


def junit_properties(result: ItemResult) -> list[tuple[str, object]]:
    """The figures as name and value, for a JUnit file's test case."""
    sides = [("main", result.main), ("pr", result.pr)]
    found: list[tuple[str, object]] = [("verdict", result.judgement.verdict.value)]
    for side, figures in sides:
        if figures is not None:
            found += [(f"{side}_size_bytes", figures.size_bytes), (f"{side}_bpw", figures.bpw)]
        if figures is not None and figures.summary is not None:
            found += [(f"{side}_{n}", getattr(figures.summary, n)) for n in _PROPERTIES]
    for name in _EFFECTS:
        effect = getattr(result.judgement, name)
        if effect is not None:
            found += [(f"{name}_{k}", v) for k, v in asdict(effect).items()]
    return [(name, float(v) if isinstance(v, float) else v) for name, v in found]


_PROPERTIES = ("n_tokens", "mean_kld", "p99_kld", "same_top", "ppl", "rms_delta_p")
_EFFECTS = ("equal_size", "per_gb", "frontier", "same_top_diff")
_STATISTICS = tuple(f.name for f in fields(Summary))
_COUNTS = ("n_chunks", "n_tokens")


def _effect_to_json(judgement: Judgement | None, name: str) -> dict[str, float] | None:
    effect: Effect | None = getattr(judgement, name, None)
    return {key: float(value) for key, value in asdict(effect).items()} if effect else None


def _side_to_json(side: SideFigures | None) -> dict[str, Any] | None:
    if side is None:
        return None
    statistics = asdict(side.summary) if side.summary else dict.fromkeys(_STATISTICS)
    plain = {
        k: v if v is None else int(v) if k in _COUNTS else float(v) for k, v in statistics.items()
    }
    return {
        "size_bytes": int(side.size_bytes),
        "bpw": float(side.bpw),
        "sha256": side.sha256,
    } | plain


def _side_from_json(entry: Mapping[str, Any] | None) -> SideFigures | None:
    if entry is None:
        return None
    statistics = {name: entry[name] for name in _STATISTICS}
    measured = statistics["n_tokens"] is not None
    known: dict[str, Any] = {k: math.nan if v is None else v for k, v in statistics.items()}
    summary = Summary(**known) if measured else None
    return SideFigures(entry["size_bytes"], entry["bpw"], entry["sha256"], summary)


def _finite(value: Any) -> Any:
    """The same JSON value with null where a number is not finite: JSON knows no NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value
