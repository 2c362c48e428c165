"""What a recipe that did not pass says: a full verdict first, then what led to it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from harness.domain import Effect, ItemResult, Judgement, Policy, TensorChange, Verdict
from harness.report import figures

MOST_CHANGES = 8


def failure_text(result: ItemResult, limit_pct: float, rerun: str, folder: Path) -> str:
    """Tell of a WORSE or INCONCLUSIVE recipe.

    Parameters
    ----------
    result : ItemResult
    limit_pct : float
        The limit of the run, in percent.
    rerun : str
        The command that runs this recipe again.
    folder : Path
        Where the user stands; paths below it are shown relative to it.
    """
    main = result.main
    facts = [
        ("same top", _same_top(result)),
        ("file size", figures.sizes(main.size_bytes if main else None, result.pr.size_bytes)),
        *(("changed", line) for line in (changed_lines(result.changed_tensors) if main else [])),
        ("readings", _other_readings(result.judgement)),
        ("note", result.judgement.note),
        *(("log", shown_path(log, folder)) for log in _logs(result)),
        ("rerun", rerun),
    ]
    lines = [f"{result.recipe}: {_headline(result)}; {_limit(result, limit_pct)}"]
    lines += [f"  {name:<10} {text}" for name, text in facts if text]
    return "\n".join(lines)


def changed_lines(changes: Iterable[TensorChange]) -> list[str]:
    """Sum the changed tensors up: ``blk.*.attn_v.weight Q4_K -> Q3_K (32 tensors)``."""
    groups = Counter(
        f"{re.sub(r'^blk[.][0-9]+[.]', 'blk.*.', c.name)} {c.main_type} -> {c.pr_type}"
        for c in changes
    )
    lines = [f"{what} ({n} tensor{'s' if n > 1 else ''})" for what, n in groups.most_common()]
    if len(lines) > MOST_CHANGES:
        rest = len(lines) - MOST_CHANGES
        lines = [*lines[:MOST_CHANGES], f"… and {rest} more kinds; results.json names every tensor"]
    return lines or ["no tensor's type; the bytes differ"]


def deciding_effect(judgement: Judgement) -> Effect | None:
    """The effect of the reading that decided."""
    return _readings(judgement)[judgement.decided_by] if judgement.decided_by else None


def shown_path(path: str, folder: Path) -> str:
    """The path as seen from ``folder``."""
    return str(Path(path).relative_to(folder)) if Path(path).is_relative_to(folder) else path


def _headline(result: ItemResult) -> str:
    main, pr = result.main and result.main.summary, result.pr.summary
    if pr is None:
        return "nothing was measured"
    before = f"{figures.kld(main.mean_kld)} -> " if main else ""
    text = f"mean KLD {before}{figures.kld(pr.mean_kld)} nats/token"
    effect = deciding_effect(result.judgement)
    if effect is None or result.judgement.decided_by is None:
        return text
    reading = figures.READING[result.judgement.decided_by]
    return f"{text} ({figures.pct(effect.pct)} % {reading}, 95 % CI {figures.interval(effect)})"


def _limit(result: ItemResult, limit_pct: float) -> str:
    limit = f"limit {figures.limit(limit_pct)}"
    if result.judgement.verdict is Verdict.INCONCLUSIVE:
        summary = result.pr.summary
        return f"{limit}: too close to call" + (f" on {summary.n_chunks} chunks" if summary else "")
    return limit


def _same_top(result: ItemResult) -> str:
    if result.pr.summary is None:
        return ""
    pr = f"{figures.share(result.pr.summary.same_top)} %"
    if result.main is None or result.main.summary is None:
        return pr
    return f"{figures.share(result.main.summary.same_top)} % -> {pr}"


def _other_readings(judgement: Judgement) -> str:
    return ", ".join(
        f"{figures.pct(effect.pct)} % {figures.READING[reading]}"
        for reading, effect in _readings(judgement).items()
        if effect is not None and reading is not judgement.decided_by
    )


def _readings(judgement: Judgement) -> dict[Policy, Effect | None]:
    return {
        Policy.EQUAL_SIZE: judgement.equal_size,
        Policy.PER_GB: judgement.per_gb,
        Policy.FRONTIER: judgement.frontier,
    }


def _logs(result: ItemResult) -> list[str]:
    """The PR's log where there is one: the change is on its side."""
    return [result.logs["pr"]] if "pr" in result.logs else list(result.logs.values())
