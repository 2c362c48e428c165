"""Texts for people: the failure's full verdict, lines and tables that fit a terminal."""

from dataclasses import fields
from pathlib import Path

import pytest

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
from harness.report import figures
from harness.report.failure import changed_lines, failure_text
from harness.report.results import ItemError, Outcome
from harness.report.terminal import closing_line, item_figures, summary_tables

FOLDER = Path("/home/me/llama.cpp")


def summary(kld, same_top):
    values = dict.fromkeys((f.name for f in fields(Summary)), 0.5)
    counts = {"n_chunks": 64, "n_tokens": 16320}
    return Summary(**values | counts | {"mean_kld": kld, "same_top": same_top, "ppl": 12.345678})


def result(verdict=Verdict.WORSE, policy=Policy.EQUAL_SIZE, pr_bytes=1_024_000_000, **changes):
    effect = Effect(0.0583, 0.0402, 0.0760)
    judgement = Judgement(
        "IQ2_XXS",
        verdict,
        policy,
        equal_size=effect,
        per_gb=Effect(0.01, 0.0, 0.02),
        frontier=None,
        same_top_diff=None,
    )
    given = {
        "judgement": judgement,
        "main": SideFigures(1_024_000_000, 2.2, "e", summary(0.1432, 0.812)),
        "pr": SideFigures(pr_bytes, 2.2, "f", summary(0.1518, 0.804)),
        "changed_tensors": tuple(
            TensorChange(f"blk.{i}.attn_v.weight", "Q4_K", "Q3_K") for i in range(32)
        ),
        "logs": {"main": "m", "pr": str(FOLDER / ".quant-gate/logs/pr/IQ2_XXS.txt")},
    }
    return ItemResult(recipe="IQ2_XXS", seconds=1.0, **given | changes)


def test_the_whole_text_of_a_regression():
    rerun = "pytest --pr-branch=mine quant-gate::IQ2_XXS"
    assert failure_text(result(), 1.0, rerun, FOLDER) == (
        "IQ2_XXS: mean KLD 0.1432 -> 0.1518 nats/token "
        "(+6.0 % at equal size, 95 % CI +4.1 … +7.9); limit +1 %\n"
        "  same top   81.2 % -> 80.4 %\n"
        "  file size  1.024 GB (unchanged)\n"
        "  changed    blk.*.attn_v.weight Q4_K -> Q3_K (32 tensors)\n"
        "  readings   +1.0 % per GB\n"
        "  log        .quant-gate/logs/pr/IQ2_XXS.txt\n"
        "  rerun      pytest --pr-branch=mine quant-gate::IQ2_XXS"
    )


def test_the_reading_that_decided_is_named():
    text = failure_text(result(policy=Policy.PER_GB, pr_bytes=1_100_000_000), 2.5, "", FOLDER)
    assert "(+1.0 % per GB, 95 % CI +0.00 … +2.0); limit +2.5 %" in text
    assert "1.024 GB -> 1.100 GB (+7.4 %)" in text
    assert "readings   +6.0 % at equal size" in text


def test_a_type_that_main_does_not_know():
    text = failure_text(result(main=None, changed_tensors=()), 1, "", FOLDER)
    assert text.startswith("IQ2_XXS: mean KLD 0.1518 nats/token (")
    assert "  same top   80.4 %\n  file size  1.024 GB\n" in text
    assert "changed" not in text


def test_an_inconclusive_recipe_says_on_what():
    text = failure_text(result(Verdict.INCONCLUSIVE), 1, "", FOLDER)
    assert text.splitlines()[0].endswith("; limit +1 %: too close to call on 64 chunks")


def test_changed_tensors_are_summed_up_by_kind():
    changes = [
        TensorChange("token_embd.weight", "Q4_K", "Q8_0"),
        TensorChange("blk.0.ffn_down_exps.weight", "Q2_K", "Q3_K"),
        TensorChange("blk.12.ffn_down_exps.weight", "Q2_K", "Q3_K"),
        TensorChange("blk.13.ffn_down_exps.weight", "Q2_K", "Q4_K"),
    ]
    assert changed_lines(changes) == [
        "blk.*.ffn_down_exps.weight Q2_K -> Q3_K (2 tensors)",
        "token_embd.weight Q4_K -> Q8_0 (1 tensor)",
        "blk.*.ffn_down_exps.weight Q2_K -> Q4_K (1 tensor)",
    ]
    many = [TensorChange(f"t{i}", "A", "B") for i in range(20)]
    assert len(changed_lines(many)) == 9
    assert changed_lines(many)[-1].startswith("… and 12 more kinds")


@pytest.mark.parametrize(
    ("value", "text"),
    [(6.04, "+6.0"), (-0.551, "-0.55"), (-0.001, "+0.00"), (0.0, "+0.00"), (120.4, "+120"),
     (0.999, "+1.0"), (-99.97, "-100")],
)  # fmt: skip
def test_percent(value, text):
    assert figures.pct(value) == text


def test_small_models_are_told_in_megabytes():
    assert figures.sizes(5_124_000, 5_200_000) == "5.124 MB -> 5.200 MB (+1.5 %)"


@pytest.mark.parametrize("width", [40, 43, 60, 80])
def test_figures_fit_and_the_foremost_stay(width):
    text = item_figures(Outcome("A", result()), width)
    assert len(text) <= width
    assert text.startswith("KLD 0.1432 -> 0.1518  +6.0 %")
    full = "KLD 0.1432 -> 0.1518  +6.0 %  same top 81.2 -> 80.4 %  1.024 GB (=)"
    assert (text == full) == (width == 80)


def test_an_error_is_cut_to_its_line():
    text = item_figures(Outcome("A", error=ItemError("pr", "no " * 50 + "\nmore")), 40)
    assert len(text) == 40
    assert text.endswith("...")


@pytest.mark.parametrize("width", [60, 80, 200])
def test_tables_fit_and_lose_nothing(width):
    outcomes = [Outcome("IQ2_XXS", result(pr_bytes=1_100_000_000)), Outcome("Q4_K_M", result())]
    outcomes.append(Outcome("Q8_0", error=ItemError("pr", "it crashed")))
    lines = summary_tables(outcomes, width)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for part in ["WORSE", "ERROR", "0.1432 -> 0.1518", "+6.0 %", "+4.1 … +7.9", "+1.0 %",
                 "1.024 -> 1.100", "1.024 =", "81.2 -> 80.4", "12.346 -> 12.346", "2.200 =",
                 "recipe", "verdict", "mean KLD, nats", "size, GB", "PPL", "bpw"]:  # fmt: skip
        assert part in text
    assert ("" in lines) == (width < 100), "columns go on below only where they must"


def test_the_last_line():
    outcomes = [Outcome("A", result()), Outcome("B", error=ItemError("pr", "x"))]
    assert closing_line(outcomes, ["C"], Verdict.WORSE, 1) == (
        "quant-gate: WORSE (1 worse: A; 1 error: B; 1 not run: C), exit 1: a regression"
    )
    assert closing_line([], ["C"], None, 2) == "quant-gate: no verdict (1 not run: C), exit 2"
