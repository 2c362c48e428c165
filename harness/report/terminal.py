"""The gate on a terminal: the line of a recipe, the summary table, the last line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.domain import Effect, ItemResult, SideFigures, Summary, Verdict
from harness.errors import ExitCode
from harness.report import figures
from harness.report.failure import deciding_effect
from harness.report.results import Outcome

MEANING = {
    ExitCode.PASSED: "no recipe is worse",
    ExitCode.REGRESSION: "a regression",
    ExitCode.USAGE: "usage",
    ExitCode.INCONCLUSIVE: "inconclusive: more chunks may tell",
    ExitCode.PR_BROKEN: "the PR does not build or run",
    ExitCode.INFRASTRUCTURE: "infrastructure: the PR is not to blame",
}


def item_figures(outcome: Outcome, width: int) -> str:
    """The figures that matter, as many as fit into ``width`` columns, foremost first.

    ``KLD 0.1432 -> 0.1518  +6.0 %  same top 81.2 -> 80.4 %  1.024 GB (=)``
    """
    if outcome.result is None:
        text = outcome.error.message.splitlines()[0] if outcome.error else "no result"
        return text if len(text) <= width else f"{text[: max(0, width - 3)]}..."
    line = ""
    for part in _parts(outcome.result):
        longer = f"{line}  {part}" if line else part
        if line and len(longer) > width:
            continue
        line = longer
    return line


def summary_tables(outcomes: Sequence[Outcome], width: int) -> list[str]:
    """The closing table; on a narrow terminal its columns go on below, under the recipes again."""
    if not outcomes:
        return []
    biggest = max((o.result.pr.size_bytes for o in outcomes if o.result), default=0)
    columns = [
        [title, *(show(o) for o in outcomes)]
        for title, show in _columns(*figures.unit_for(biggest))
    ]
    lines: list[str] = []
    first, rest = columns[0], columns[1:]
    while rest:
        taken = [first]
        while rest and (len(taken) == 1 or _width([*taken, rest[0]]) <= width):
            taken.append(rest.pop(0))
        lines += ["", *_rows(taken)] if lines else _rows(taken)
    return [*lines, *_dominated_lines(outcomes)]


def _dominated_lines(outcomes: Sequence[Outcome]) -> list[str]:
    """Which files another one of the same side makes pointless."""
    judgements = [o.result.judgement for o in outcomes if o.result is not None]
    pairs = [
        *(("main", j.recipe, j.dominated_main) for j in judgements),
        *(("the PR", j.recipe, j.dominated_pr) for j in judgements),
    ]
    return [
        f"dominated on {side}: {recipe}; {better} is no larger and diverges no more"
        for side, recipe, better in pairs
        if better
    ]


def closing_line(
    outcomes: Sequence[Outcome], not_run: Sequence[str], verdict: Verdict | None, exit_code: int
) -> str:
    """The verdict of the whole run, what it rests on, and what the exit code means."""
    groups = [
        f"{len(names)} {word.lower()}" + (f": {', '.join(names)}" if word in _NAMED else "")
        for word in _WORDS
        if (names := [o.recipe for o in outcomes if o.word == word])
    ]
    if not_run:
        groups.append(f"{len(not_run)} not run: {', '.join(not_run)}")
    known = {int(code): text for code, text in MEANING.items()}
    meaning = f": {known[exit_code]}" if exit_code in known else ""
    head = verdict.value if verdict is not None else "no verdict"
    return f"quant-gate: {head} ({'; '.join(groups) or 'nothing ran'}), exit {exit_code}{meaning}"


_WORDS = ("WORSE", "ERROR", "INCONCLUSIVE", "BETTER", "SAME")
_NAMED = ("WORSE", "ERROR", "INCONCLUSIVE")


def _parts(result: ItemResult) -> list[str]:
    main, pr = result.main, result.pr
    unit, scale = figures.unit_for(pr.size_bytes)
    size = f"{pr.size_bytes / scale:.3f} {unit}"
    if main is not None:
        size += f" ({figures.growth(main.size_bytes, pr.size_bytes)})"
    if pr.summary is None:
        return [part for part in (size, result.judgement.note) if part]
    parts = [f"KLD {_both(result, lambda s: figures.kld(s.mean_kld))}"]
    effect = deciding_effect(result.judgement)
    if effect is not None:
        parts.append(f"{figures.pct(effect.pct)} %")
    parts.append(f"same top {_both(result, lambda s: figures.share(s.same_top))} %")
    parts.append(size)
    return parts


@dataclass(frozen=True)
class _Effects:
    """Shows one reading of each outcome; ``=`` where the files are the same and none is needed."""

    name: str

    def change(self, outcome: Outcome) -> str:
        effect = self._measured(outcome)
        if effect is not None:
            return f"{figures.pct(effect.pct)} %"
        return "=" if outcome.result is not None and outcome.result.pr.summary is None else "-"

    def interval(self, outcome: Outcome) -> str:
        effect = self._measured(outcome)
        return figures.interval(effect) if effect is not None else "-"

    def _measured(self, outcome: Outcome) -> Effect | None:
        if outcome.result is None or outcome.result.pr.summary is None:
            return None
        effect: Effect | None = getattr(outcome.result.judgement, self.name)
        return effect


def _columns(unit: str, scale: float) -> list[tuple[str, Callable[[Outcome], str]]]:
    def side(outcome: Outcome, show: Callable[[SideFigures], str]) -> str:
        if outcome.result is None:
            return "-"
        main, pr = outcome.result.main, outcome.result.pr
        if main is None:
            return show(pr)
        return f"{show(pr)} =" if show(main) == show(pr) else f"{show(main)} -> {show(pr)}"

    def statistic(show: Callable[[Summary], str]) -> Callable[[Outcome], str]:
        return lambda o: _both(o.result, show) if o.result else "-"

    equal_size, per_gb = _Effects("equal_size"), _Effects("per_gb")
    return [
        ("recipe", lambda o: o.recipe),
        ("verdict", lambda o: o.word),
        ("mean KLD, nats", statistic(lambda s: figures.kld(s.mean_kld))),
        ("equal size", equal_size.change),
        ("95 % CI", equal_size.interval),
        (f"size, {unit}", lambda o: side(o, lambda f: f"{f.size_bytes / scale:.3f}")),
        ("per GB", per_gb.change),
        ("same top, %", statistic(lambda s: figures.share(s.same_top))),
        ("PPL", statistic(lambda s: figures.ppl(s.ppl))),
        ("bpw", lambda o: side(o, lambda f: f"{f.bpw:.3f}")),
    ]


def _both(result: ItemResult, show: Callable[[Summary], str]) -> str:
    if result.pr.summary is None:
        return "-"
    if result.main is None or result.main.summary is None:
        return show(result.pr.summary)
    return f"{show(result.main.summary)} -> {show(result.pr.summary)}"


def _rows(columns: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in columns]
    return [
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in zip(*columns, strict=True)
    ]


def _width(columns: Sequence[Sequence[str]]) -> int:
    return sum(max(map(len, column)) for column in columns) + 2 * (len(columns) - 1)
