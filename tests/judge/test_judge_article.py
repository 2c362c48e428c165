"""The article's table gives the figures that this project's rules were drawn from."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from harness.domain import Policy, Verdict
from harness.judge import frontier_line, judge, mixing_line, per_gb_ratio

TABLE = Path(__file__).with_name("scout_table.csv")


def columns() -> dict[str, dict[str, float]]:
    with TABLE.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name != "metric"]
    return {name: {row["metric"]: float(row[name]) for row in rows} for name in names}


COLUMNS = columns()
MAIN = {name: c for name, c in COLUMNS.items() if name.endswith("(main)")}
SIZES = [c["size_gb"] for c in MAIN.values()]
KLDS = [c["mean_kld"] for c in MAIN.values()]


def percent(ratio: float | None) -> float | None:
    return None if ratio is None else round(100 * (ratio - 1), 1)


def against(line, column: dict[str, float]) -> float | None:
    offer = line(column["size_gb"], SIZES, KLDS)
    return None if offer is None else column["mean_kld"] / offer


@pytest.mark.parametrize(
    ("ftype", "per_gb", "equal_size", "frontier"),
    [
        ("IQ1_M", -20.7, -15.2, -14.0),
        ("IQ2_XXS", -26.2, -25.1, -23.3),
        ("Q2_K_L", -29.1, None, None),
        ("IQ3_XXS", -27.5, None, None),
    ],
)
def test_the_three_readings(
    ftype: str, per_gb: float, equal_size: float | None, frontier: float | None
) -> None:
    pr, main = COLUMNS[f"{ftype} (mine)"], COLUMNS[f"{ftype} (main)"]
    ratio = per_gb_ratio(pr["size_gb"], pr["mean_kld"], main["size_gb"], main["mean_kld"])
    assert percent(ratio) == per_gb
    assert percent(against(mixing_line, pr)) == equal_size
    assert percent(against(frontier_line, pr)) == frontier


@pytest.mark.parametrize(
    ("column", "equal_size", "frontier"),
    [("IQ2_S (mine)", -28.4, -24.1), ("UD-IQ1_M (unsloth)", -20.8, -16.0)],
)
def test_files_that_main_has_not(column: str, equal_size: float, frontier: float) -> None:
    assert percent(against(mixing_line, COLUMNS[column])) == equal_size
    assert percent(against(frontier_line, COLUMNS[column])) == frontier


def test_perplexity_and_same_top_go_with_kld_as_the_reader_said() -> None:
    def values(metric: str) -> list[float]:
        return [c[metric] for c in COLUMNS.values()]

    ln_ppl = np.log(values("mean_ppl"))
    assert len(ln_ppl) == 11
    assert round(np.corrcoef(ln_ppl, values("mean_kld"))[0, 1], 3) == 0.988
    assert round(np.corrcoef(ln_ppl, values("same_top_pct"))[0, 1], 3) == -0.977


def judged(measurement, hardness, ftype: str):
    """The article's pair of files through the judge, as if each chunk had moved alike."""

    def file(column: str):
        c = COLUMNS[column]
        name = column.split()[0]
        return measurement(name, round(c["size_gb"] * 1e9), c["mean_kld"] * hardness)

    ladder = [file(name) for name in MAIN]
    main = next((m for m in ladder if m.recipe == ftype), None)
    return judge(ftype, file(f"{ftype} (mine)"), main, ladder, Policy.EQUAL_SIZE, 1.0)


def test_the_judge_gives_the_same_figures(measurement, hardness) -> None:
    result = judged(measurement, hardness, "IQ2_XXS")
    assert result.verdict is Verdict.BETTER
    assert result.decided_by is Policy.EQUAL_SIZE
    assert result.neighbours == ("IQ2_XXS", "Q2_K_L")
    assert [round(e.pct, 1) for e in (result.per_gb, result.equal_size, result.frontier)] == [
        -26.2,
        -25.1,
        -23.3,
    ]
    assert result.note == ""


def test_beyond_main_the_article_s_own_reading_decides_and_says_so(measurement, hardness) -> None:
    result = judged(measurement, hardness, "Q2_K_L")
    assert result.equal_size is None
    assert result.frontier is None
    assert result.decided_by is Policy.PER_GB
    assert result.verdict is Verdict.BETTER
    assert round(result.per_gb.pct, 1) == -29.1
    assert result.note.startswith(
        "no main file brackets 44.00 GB: main's largest is 41.66 GB, so per-gb decides"
    )


def test_a_recipe_of_the_pr_alone_is_held_against_main_s_line(measurement, hardness) -> None:
    result = judged(measurement, hardness, "IQ2_S")
    assert result.verdict is Verdict.BETTER
    assert result.per_gb is None
    assert result.same_top_diff is None
    assert round(result.equal_size.pct, 1) == -28.4
