"""results.json: what goes in comes out, nothing is NaN, and the run's verdict and exit code."""

import json
import math
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from harness.errors import InfrastructureError, PrError, UsageError
from harness.report.results import (
    ItemError,
    Outcome,
    outcome_from_json,
    outcome_to_json,
    results_json,
    run_exit_code,
    run_verdict,
)

numbers = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 10**9)
effects = st.none() | st.builds(Effect, numbers, numbers, numbers)
summaries = st.builds(
    Summary, **{f.name: counts if f.name.startswith("n_") else numbers for f in fields(Summary)}
)
sides = st.builds(SideFigures, counts, numbers, st.text(), st.none() | summaries)
judgements = st.builds(
    Judgement,
    recipe=st.just("IQ2_XXS"),
    verdict=st.sampled_from(Verdict),
    decided_by=st.none() | st.sampled_from(Policy),
    equal_size=effects,
    per_gb=effects,
    frontier=effects,
    same_top_diff=effects,
    dominated_main=st.text(),
    dominated_pr=st.text(),
    neighbours=st.lists(st.text()).map(tuple),
    note=st.text(),
)
item_results = st.builds(
    ItemResult,
    recipe=st.just("IQ2_XXS"),
    judgement=judgements,
    main=st.none() | sides,
    pr=sides,
    changed_tensors=st.lists(st.builds(TensorChange, st.text(), st.text(), st.text())).map(tuple),
    seconds=numbers,
    logs=st.dictionaries(st.text(), st.text()),
)
errors = st.builds(ItemError, st.sampled_from(["pr", "internal"]), st.text(), st.text(), st.text())
outcomes = st.builds(Outcome, st.just("IQ2_XXS"), result=item_results) | st.builds(
    Outcome, st.just("IQ2_XXS"), error=errors
)


@given(outcomes)
def test_what_goes_in_comes_out(outcome):
    carried = json.loads(json.dumps(outcome_to_json(outcome), allow_nan=False))
    assert outcome_from_json(carried) == outcome


@given(numbers)
def test_numbers_are_exact(value):
    effect = Effect(value, value, value)
    judgement = Judgement("A", Verdict.SAME, None, effect, None, None, None)
    result = ItemResult("A", judgement, None, SideFigures(1, 1.0, "", None), (), 0.0)
    told = json.loads(results_json({}, [Outcome("A", result)], [], 0))
    assert told["items"][0]["equal_size"]["ln_ratio"] == value


def test_nothing_is_nan():
    nan = Summary(**{f.name: math.inf for f in fields(Summary)} | {"n_chunks": 1, "n_tokens": 2})
    judgement = Judgement(
        "A", Verdict.SAME, None, Effect(math.nan, -math.inf, math.inf), None, None, None
    )
    result = ItemResult("A", judgement, None, SideFigures(1, math.nan, "", nan), (), math.nan)

    def refuse(constant):
        raise AssertionError(constant)

    text = results_json({"chunks": math.nan}, [Outcome("A", result)], [], 0)
    told = json.loads(text, parse_constant=refuse)
    assert told["items"][0]["pr"]["mean_kld"] is None
    assert told["items"][0]["pr"]["n_tokens"] == 2


@pytest.mark.parametrize("kind", [UsageError, PrError, InfrastructureError])
def test_an_error_survives_the_way_to_a_worker(kind, tmp_path):
    error = kind("what", hint="help", log=tmp_path / "log")
    back = ItemError(**json.loads(json.dumps(vars(ItemError.of(error))))).as_exception()
    assert (type(back), str(back)) == (kind, str(error))


def outcome(word):
    if word in ("usage", "pr", "infrastructure", "internal"):
        return Outcome(word, error=ItemError(word, "text"))
    judgement = Judgement(word, Verdict(word), None, None, None, None, None)
    result = ItemResult(word, judgement, None, SideFigures(1, 1.0, "", None), (), 0.0)
    return Outcome(word, result=result)


def test_what_is_certain_about_the_pr_comes_first():
    words = ["WORSE", "pr", "usage", "infrastructure", "INCONCLUSIVE", "SAME"]
    codes = [1, 11, 4, 12, 10, 0]
    for i, code in enumerate(codes):
        assert run_exit_code([outcome(word) for word in words[i:]]) == code
        assert run_exit_code([outcome(word) for word in reversed(words[i:])]) == code
    assert run_exit_code([outcome("internal"), outcome("BETTER")]) == 12


@pytest.mark.parametrize(
    ("words", "not_run", "verdict"),
    [
        (["SAME", "BETTER"], [], "BETTER"),
        (["SAME"], [], "SAME"),
        (["INCONCLUSIVE", "BETTER"], [], "INCONCLUSIVE"),
        (["SAME", "infrastructure"], [], None),
        (["WORSE", "infrastructure"], ["Q8_0"], "WORSE"),
        (["SAME"], ["Q8_0"], None),
        ([], [], None),
    ],
)
def test_verdict_of_the_run(words, not_run, verdict):
    assert run_verdict([outcome(word) for word in words], not_run) == verdict
