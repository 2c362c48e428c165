"""Each outcome that a user can meet, on real branches of a real llama.cpp."""

import json
import re

import pytest
from gate_runs import run_pytest

LADDER = ["IQ1_M", "IQ2_XXS", "Q2_K_L", "IQ3_XXS", "Q4_K_M"]
QUIET = ("-q", "--quant-repo=demo")


def gate(demo_run, name):
    return demo_run(f"--pr-branch=demo/{name}", *QUIET)


def test_a_branch_that_helps_passes_with_real_figures(demo_run):
    run = gate(demo_run, "better")
    assert run.code == 0, run.output
    assert run.results["verdict"] == "BETTER"
    assert [i["recipe"] for i in run.results["items"]] == LADDER
    for item in run.results["items"]:
        for side in ("main", "pr"):
            figures = item[side]
            assert 2e6 < figures["size_bytes"] < 8e6
            if item["verdict"] == "BETTER":
                assert 0 < figures["mean_kld"] < 1
                assert 0.5 < figures["same_top"] < 1
    better = [i for i in run.results["items"] if i["verdict"] == "BETTER"]
    assert better
    assert all(i["equal_size"]["high"] < 0 for i in better)


def test_a_branch_that_harms_fails_and_names_recipe_figures_and_tensors(demo_run):
    run = gate(demo_run, "worse")
    assert run.code == 1, run.output
    worse = [i for i in run.results["items"] if i["verdict"] == "WORSE"]
    assert worse
    for item in worse:
        assert item["equal_size"]["low"] > 0
        assert item["changed_tensors"]
        first = next(
            line for line in run.output.splitlines() if f"{item['recipe']}: mean KLD" in line
        )
        assert f"{item['main']['mean_kld']:.4f}" in first
        assert f"{item['pr']['mean_kld']:.4f}" in first
        assert "95 % CI" in first
        change = item["changed_tensors"][0]
        kind = re.sub(r"^blk[.]\d+", "blk.*", change["name"])
        assert f"{kind} {change['main_type']} -> {change['pr_type']}" in run.output
        assert f"pytest --pr-branch=demo/worse --quant-repo=demo quant-gate::{item['recipe']}" in (
            run.output
        )


def test_a_bigger_file_with_less_divergence_can_still_be_worse(demo_run):
    run = gate(demo_run, "bigger-file")
    assert run.code == 1, run.output
    caught = [
        item
        for item in run.results["items"]
        if item["verdict"] == "WORSE"
        and item["pr"]["size_bytes"] > item["main"]["size_bytes"]
        and item["pr"]["mean_kld"] < item["main"]["mean_kld"]
    ]
    assert caught, run.output
    # the ratio of the article would have let it pass
    assert any(item["per_gb"]["ln_ratio"] < 0 for item in caught)


def test_no_change_ends_same_without_evaluating(demo_run):
    run = gate(demo_run, "no-change")
    assert run.code == 0, run.output
    assert run.results["verdict"] == "SAME"
    for item in run.results["items"]:
        assert item["verdict"] == "SAME"
        assert item["main"]["sha256"] == item["pr"]["sha256"]
        assert item["main"]["mean_kld"] is None
        assert item["note"] == "identical files"
    logs = run.folder / ".quant-gate" / "logs"
    assert not [p for p in logs.rglob("*.txt") if p.stem in LADDER]  # no evaluation's log


def test_a_branch_that_does_not_compile_is_the_prs_fault(demo_run):
    run = gate(demo_run, "does-not-compile")
    assert run.code == 11, run.output
    assert all(i["verdict"] is None and i["error"] for i in run.results["items"])
    assert "llama-quant.cpp" in run.output
    assert "error:" in run.output
    assert "Traceback" not in run.output


def test_a_branch_whose_tool_crashes_is_the_prs_fault(demo_run):
    run = gate(demo_run, "crashes")
    assert run.code == 11, run.output
    crashed = [i for i in run.results["items"] if i["verdict"] is None]
    assert crashed
    assert all(i["error"]["kind"] == "pr" for i in crashed)
    assert "SIGABRT" in run.output
    assert "Traceback" not in run.output


def test_a_second_run_measures_nothing_again(demo_run, tmp_path):
    first = gate(demo_run, "better")
    again = run_pytest(tmp_path, "--pr-branch=demo/better", *QUIET)
    assert again.code == 0, again.output
    assert [i["pr"] for i in again.results["items"]] == [i["pr"] for i in first.results["items"]]
    assert not list((tmp_path / ".quant-gate").rglob("*quantize.txt"))
    assert not list((tmp_path / ".quant-gate").rglob("build.txt"))


def test_two_workers_say_what_one_process_says(demo_run, tmp_path):
    alone = gate(demo_run, "worse")
    spread = run_pytest(tmp_path, "--pr-branch=demo/worse", *QUIET, "-n", "2")
    assert spread.code == alone.code, spread.output

    def figures(run):
        return [
            {k: item[k] for k in ("recipe", "verdict", "main", "pr", "equal_size", "per_gb")}
            for item in run.results["items"]
        ]

    assert figures(spread) == figures(alone)


@pytest.mark.parametrize("types", ["IQ1_M", "IQ1_M,IQ3_XXS", "Q4_K_M,IQ1_M"])
def test_a_verdict_does_not_depend_on_what_else_was_asked_for(demo_run, types):
    whole = gate(demo_run, "bigger-file").item("IQ1_M")
    other = demo_run("--pr-branch=demo/bigger-file", *QUIET, f"--quant-types={types}")
    for key in ("verdict", "equal_size", "per_gb", "frontier"):
        assert other.item("IQ1_M")[key] == whole[key]


def test_each_sides_own_library_says_the_same_where_inference_is_the_same(demo_run):
    """Two builds, one comment apart: nothing may be taken for a difference."""
    main = gate(demo_run, "better")
    run = demo_run("--pr-branch=demo/no-change", *QUIET, "--quant-evaluator=own", "-k", "IQ2_XXS")
    assert run.code == 0, run.output
    item = run.item("IQ2_XXS")
    assert item["verdict"] == "SAME"
    assert item["note"] != "identical files"
    assert item["pr"]["mean_kld"] == item["main"]["mean_kld"] > 0
    assert item["main"]["mean_kld"] == main.item("IQ2_XXS")["main"]["mean_kld"]


def test_the_pinned_library_measures_what_mains_does(demo_run, main_build, monkeypatch):
    """llama-cpp-python's own library is of the same release as the demo's main."""
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", str(main_build.library.parent))
    main = gate(demo_run, "better").item("IQ2_XXS")
    run = demo_run("--pr-branch=demo/better", *QUIET, "--quant-evaluator=pinned", "-k", "IQ2_XXS")
    assert run.code == 0, run.output
    assert "pinned" in run.results["evaluator"]
    pinned = run.item("IQ2_XXS")
    assert pinned["main"]["mean_kld"] == pytest.approx(main["main"]["mean_kld"], rel=1e-6)
    assert pinned["pr"]["mean_kld"] == pytest.approx(main["pr"]["mean_kld"], rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["--pr-branch=demo/bettr"], 4, "demo/better"),
        (["--pr-branch=main"], 4, "no commits of its own"),
        (["--pr-branch=demo/better", "--quant-types=IQ2_XXL"], 4, "IQ2_XXS"),
        (["--pr-branch=demo/better", "--quant-repo=/nonexistent"], 4, "/nonexistent"),
        (["--pr-branch=demo/better", "--quant-bf16=/nonexistent.gguf"], 4, "no such model file"),
        (["--pr-branch=demo/better", "--quant-chunks=9999"], 4, "corpus is too short"),
        (["--pr-branch=demo/better", "--quant-imatrix=/nonexistent"], 4, "no such imatrix file"),
        (["--pr-branch=demo/better", "--quant-model=unheard-of"], 12, "no baseline for the model"),
        (["--pr-branch=demo/better", "--quant-evaluator=pinned"], 4, "no pinned evaluator"),
        (["--pr-branch=demo/better", "--quant-limit=-1"], 4, "quant-limit"),
    ],
)
def test_bad_input_is_one_clear_error_before_anything_long(tmp_path, arguments, code, complaint):
    if not any(a.startswith("--quant-repo") for a in arguments):
        arguments = [*arguments, "--quant-repo=demo"]
    run = run_pytest(tmp_path, *arguments)
    assert run.code == code, run.output
    assert complaint in run.output
    assert "Traceback" not in run.output
    assert not list(tmp_path.rglob("build.txt"))


@pytest.mark.parametrize("damage", ["truncated", "not a GGUF"])
def test_a_damaged_model_is_refused_before_anything_long(tmp_path, tinyscout, damage):
    data = tinyscout.model.path.read_bytes()
    model = tmp_path / "model.gguf"
    model.write_bytes(data[: len(data) // 2] if damage == "truncated" else b"PK" + data[2:])
    run = run_pytest(tmp_path, "--pr-branch=demo/better", *QUIET, f"--quant-bf16={model}")
    assert run.code == 4, run.output
    assert damage in run.output
    assert "Traceback" not in run.output


def test_a_type_that_needs_an_imatrix_is_refused_without_one(tmp_path, tinyscout):
    folder = tmp_path / "no-imatrix"
    folder.mkdir()
    source = tinyscout.model.path.parent
    for name in ("tinyscout-bf16.gguf", "baseline.npz"):
        (folder / name).symlink_to(source / name)
    manifest = json.loads((source / "manifest.json").read_text())
    manifest.update(imatrix_file=None, imatrix_sha256=None)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    run = run_pytest(tmp_path, "--pr-branch=demo/better", *QUIET, "--quant-model=no-imatrix")
    assert run.code == 4, run.output
    assert "IQ1_M, IQ2_XXS, IQ3_XXS: llama-quantize makes no such file" in run.output
    assert "--quant-imatrix" in run.output


def test_results_are_plain_json(demo_run):
    text = json.dumps(gate(demo_run, "better").results, allow_nan=False)
    assert json.loads(text)["schema_version"] == 1
