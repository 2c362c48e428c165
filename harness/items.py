"""The gate as pytest nodes: one collector, and one item a recipe (``quant-gate::IQ2_XXS``)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.domain import ItemResult, Progress, Verdict
from harness.errors import HarnessError, InfrastructureError
from harness.judge import mark_dominated
from harness.options import GateConfig
from harness.report.failure import failure_text
from harness.report.results import (
    ItemError,
    Outcome,
    junit_properties,
    outcome_from_json,
    outcome_to_json,
    run_verdict,
)

if TYPE_CHECKING:
    from harness.gate import Gate

NAME = "quant-gate"


class Regression(Exception):
    """A recipe is worse; its text is the whole story."""


class Inconclusive(Exception):
    """A recipe can't be told to be worse or not."""


class GateRun:
    """The gate of this process, opened and prepared at most once.

    Parameters
    ----------
    config : GateConfig
    progress : Progress
    rerun : recipe -> str
        The command that runs one recipe again.
    folder : Path
        Where the user stands.
    """

    def __init__(
        self,
        config: GateConfig,
        progress: Progress,
        rerun: Callable[[str], str],
        folder: Path,
    ) -> None:
        from harness import gate

        self.config = config
        self.gate: Gate = gate.Gate(config, progress)
        self.names: tuple[str, ...] = ()
        self.error: HarnessError | None = None
        self._rerun = rerun
        self._folder = folder
        self._commits: list[str] | None = None
        self._opened = self._prepared = False

    def open(self) -> None:
        """Check the input. Raises HarnessErrors."""
        if not self._opened:
            self.gate.open()
            self._opened = True
            self.names = self.names or tuple(recipe.name for recipe in self.gate.recipes)

    def prepare(self) -> None:
        """Build, once; what fails is kept for the items (`ready`)."""
        if self._prepared or self.error is not None:
            return
        self._prepared = True
        try:
            self.open()
            self._require_same_commits()
            self.gate.prepare()
        except HarnessError as error:
            self.error = error

    def ready(self) -> Gate:
        """Return the gate, prepared. Raises the HarnessError that prevents it, to every item."""
        self.prepare()
        if self.error is not None:
            raise self.error
        return self.gate

    def measure(self, name: str) -> ItemResult:
        """Run one recipe. Raises HarnessErrors."""
        gate = self.ready()
        return gate.run(next(recipe for recipe in gate.recipes if recipe.name == name))

    def failure(self, result: ItemResult) -> str:
        """The text of a recipe that did not pass."""
        rerun = self._rerun(result.recipe)
        return failure_text(result, self.config.limit_pct, rerun, self._folder)

    def commits(self) -> list[str]:
        """The SHAs of main and of the PR."""
        return [self.gate.source.main.sha, self.gate.source.pr.sha]

    def to_worker(self) -> str:
        """What a worker must know, as text."""
        error = ItemError.of(self.error).__dict__ if self.error is not None else None
        return json.dumps({"names": self.names, "commits": self.commits(), "error": error})

    def from_controller(self, text: str) -> None:
        """Take over in a worker what the controller found."""
        told = json.loads(text)
        self.names = tuple(told["names"])
        self._commits = told["commits"]
        if told["error"] is not None:
            self.error = ItemError(**told["error"]).as_exception()

    def _require_same_commits(self) -> None:
        """A branch may be pushed to while the workers start; half a run of each is no run."""
        if self._commits is not None and self._commits != self.commits():
            raise InfrastructureError(
                f"the commits moved while the run started: {self._commits} -> {self.commits()}",
                hint="run again",
            )


class Tally:
    """What a run has found so far: gathered by the controller, shown by the display."""

    def __init__(self, run: GateRun) -> None:
        self.header: list[tuple[str, str]] = []
        self.selected: tuple[str, ...] = ()
        self.exit_code: int | None = None  # None: nothing ran
        self.trouble = ""
        self.results_path = run.config.report_dir / "results.json"
        self._run = run
        self._outcomes: dict[str, Outcome] = {}

    def add(self, outcome: Outcome) -> None:
        """Note how a recipe ended."""
        self._outcomes[outcome.recipe] = outcome

    @property
    def names(self) -> tuple[str, ...]:
        """All recipes of the run, in their order."""
        return self._run.names

    @property
    def outcomes(self) -> list[Outcome]:
        """What ended so far, in the order of the recipes, dominated files marked."""
        ended = [self._outcomes[name] for name in self.names if name in self._outcomes]
        marked = mark_dominated([o.result for o in ended if o.result is not None])
        results = {result.recipe: result for result in marked}
        return [replace(outcome, result=results.get(outcome.recipe)) for outcome in ended]

    @property
    def not_run(self) -> list[str]:
        """The recipes that were to run and did not."""
        return [n for n in self.names if n in self.selected and n not in self._outcomes]

    @property
    def verdict(self) -> Verdict | None:
        """The run's."""
        return run_verdict(self.outcomes, self.not_run)


class GateCollector(pytest.Collector):
    """Stands for the gate in pytest's tree; its set-up is the builds."""

    def __init__(self, *, run: GateRun, wanted: tuple[str, ...], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.run = run
        self.wanted = wanted

    def collect(self) -> Iterator[pytest.Item]:
        """One item a recipe."""
        for name in self.wanted:
            yield QuantItem.from_parent(self, name=name)

    def setup(self) -> None:
        """Raise what prevents every item."""
        self.run.ready()


class QuantItem(pytest.Item):
    """A recipe: measured in the set-up, where trouble is an ERROR; judged in the call."""

    parent: GateCollector
    result: ItemResult | None = None

    def setup(self) -> None:
        """Quantize, evaluate, judge."""
        self.result = self.parent.run.measure(self.name)
        self.user_properties += junit_properties(self.result)

    def runtest(self) -> None:
        """Raise Regression or Inconclusive by the verdict."""
        assert self.result is not None, "set-up has passed"
        verdict = self.result.judgement.verdict
        if verdict is Verdict.WORSE:
            raise Regression(self.parent.run.failure(self.result))
        if verdict is Verdict.INCONCLUSIVE:
            raise Inconclusive(self.parent.run.failure(self.result))

    def reportinfo(self) -> tuple[Path, None, str]:
        """Where the item is said to be: in no file."""
        return self.config.rootpath / NAME, None, f"{NAME} {self.name}"


def tell(item: QuantItem, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
    """Put the outcome on the report that decides, and our own errors' text without a traceback."""
    error = call.excinfo.value if call.excinfo is not None else None
    if isinstance(error, HarnessError | Regression | Inconclusive):
        report.longrepr = str(error)
    outcome = None
    if report.when == "call" or (report.failed and report.when == "setup"):
        outcome = Outcome(item.name, result=item.result)
        if isinstance(error, HarnessError):
            outcome = Outcome(item.name, error=ItemError.of(error))
        elif error is not None and not isinstance(error, Regression | Inconclusive):
            text = f"{type(error).__name__}: {error}"
            outcome = Outcome(item.name, error=ItemError("internal", text))
    if outcome is not None:
        # text, because xdist carries plain values only
        vars(report)["quant_gate"] = json.dumps(outcome_to_json(outcome))


def outcome_of(report: pytest.TestReport) -> Outcome | None:
    """The outcome that `tell` put on the report, here or in a worker."""
    told = vars(report).get("quant_gate")
    return outcome_from_json(json.loads(told)) if told is not None else None
