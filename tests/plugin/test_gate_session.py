"""The gate as a pytest user meets it, with a gate that needs no llama.cpp."""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace

import pytest

import harness
import harness.session  # here, so that pytest in this process needn't load NumPy twice

HERE = Path(__file__).parent
MIXED = {
    "IQ1_M": "SAME",
    "IQ2_XXS": "WORSE",
    "Q2_K": "BETTER",
    "Q4_K_M": "INCONCLUSIVE",
}
OWN_TESTS = "def test_own(): pass\ndef test_bad(): assert False\n"
DROPPED = ("CI", "GITHUB_ACTIONS", "PYTEST_CURRENT_TEST")
COMMAND = ["-p", "fake_gate", "-p", "no:benchmark", "-p", "no:hypothesispytest"]


@pytest.fixture
def gate(pytester, monkeypatch):
    """Run pytest with the fake gate in a folder with tests of its own.

    In this process, or where workers or the process's end matter in one of its own.
    """
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.setitem(sys.modules, "harness.gate", sys.modules.get("harness.gate"))
    monkeypatch.setattr(harness, "gate", None, raising=False)
    for name in ("PYTEST_ADDOPTS", "CI", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)
    (pytester.path / "test_own.py").write_text(OWN_TESTS)

    def run(*arguments, plan=None, branch="demo/mine", apart=False):
        monkeypatch.setenv("FAKE_GATE", json.dumps(plan or {}))
        given = [] if branch is None else [f"--pr-branch={branch}"]
        apart = apart or "-n2" in arguments
        start = pytester.runpytest_subprocess if apart else pytester.runpytest_inprocess
        return start(*COMMAND, *given, *arguments)

    run.path = pytester.path
    return run


@pytest.fixture(params=[(), ("-n2",)], ids=["plain", "xdist"])
def how(request):
    return request.param


@pytest.fixture(scope="module", params=[(), ("-n2", "--dist=worksteal")], ids=["plain", "xdist"])
def mixed(request, tmp_path_factory):
    """One run with every verdict and an error, read by several tests."""
    folder = tmp_path_factory.mktemp("mixed")
    (folder / "test_own.py").write_text(OWN_TESTS)
    environment = {k: v for k, v in os.environ.items() if k not in DROPPED}
    environment |= {
        "PYTHONPATH": str(HERE),
        "FAKE_GATE": json.dumps({"recipes": MIXED | {"Q8_0": "pr"}}),
        "PYTEST_ADDOPTS": "",
        "COLUMNS": "80",
    }
    command = [sys.executable, "-m", "pytest", *COMMAND, "--pr-branch=demo/mine"]
    done = subprocess.run(
        [*command, "--junitxml=junit.xml", *request.param],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return SimpleNamespace(
        path=folder, ret=done.returncode, out=done.stdout, is_xdist=bool(request.param)
    )


def results(gate):
    return json.loads((gate.path / ".quant-gate" / "results.json").read_text())


def calls(gate):
    return (gate.path / "calls.txt").read_text().splitlines()


def test_without_the_option_pytest_is_as_it_was(gate):
    run = gate("-v", branch=None)
    run.assert_outcomes(passed=1, failed=1)
    run.stdout.no_fnmatch_line("*quant-gate:*")
    assert not (gate.path / ".quant-gate").exists()
    assert not (gate.path / "calls.txt").exists()


def test_plain_pytest_imports_nothing_heavy(pytester):
    pytester.makeconftest(
        """
        import sys
        def pytest_sessionfinish():
            heavy = {"numpy", "git", "gguf", "llama_cpp", "harness.domain",
                     "harness.items", "harness.session", "harness.gate"}
            print("HEAVY", sorted(heavy & set(sys.modules)), "harness.plugin" in sys.modules)
        """
    )
    command = [sys.executable, "-m", "pytest", "-s", "-p", "no:benchmark"]
    command += ["-p", "no:hypothesispytest", "-p", "no:xdist"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert "HEAVY [] True" in done.stdout


def test_recipes_take_the_place_of_the_folders_tests(gate):
    run = gate("-v")
    run.stdout.fnmatch_lines_random(
        ["*quant-gate::IQ1_M*", "*quant-gate::IQ2_XXS*", "*quant-gate::Q4_K_M*"]
    )
    run.stdout.no_fnmatch_line("*test_own*")
    assert run.ret == 0


def test_given_paths_run_too_and_their_failures_are_pytests_own(gate, how):
    run = gate(*how, "test_own.py")
    run.assert_outcomes(passed=4, failed=1)
    assert run.ret == 1


@pytest.mark.parametrize(
    ("arguments", "ran"),
    [
        (["quant-gate::IQ2_XXS"], ["IQ2_XXS"]),
        (["quant-gate::Q4_K_M", "quant-gate::IQ1_M"], ["IQ1_M", "Q4_K_M"]),
        (["quant-gate"], ["IQ1_M", "IQ2_XXS", "Q4_K_M"]),
        (["quant-gate::IQ2_XXS", "test_own.py::test_own"], ["IQ2_XXS"]),
        (["-k", "IQ and not M and not timeout"], ["IQ2_XXS"]),
        (["--deselect", "quant-gate::IQ1_M"], ["IQ2_XXS", "Q4_K_M"]),
        (["--quant-types=Q8_0,Q6_K", "--quant-types", "Q8_0"], ["Q8_0", "Q6_K"]),
    ],
)
def test_selection(gate, arguments, ran):
    run = gate(*arguments)
    assert run.ret == 0
    assert [item["recipe"] for item in results(gate)["items"]] == ran
    run.assert_outcomes(passed=len(ran) + ("test_own" in arguments[-1]))


def test_a_node_id_selects_with_xdist_too(gate):
    gate("-n2", "quant-gate::IQ2_XXS").assert_outcomes(passed=1)


def test_an_unknown_recipe_on_the_command_line_is_named(gate):
    run = gate("quant-gate::IQ9")
    assert run.ret == 4
    run.stderr.fnmatch_lines(["ERROR: no recipe 'IQ9' in this run; it has IQ1_M, IQ2_XXS, Q4_K_M"])
    assert not any("prepare" in call for call in calls(gate))


def test_collecting_is_cheap(gate):
    run = gate("--collect-only", "-q")
    run.stdout.fnmatch_lines(["quant-gate::IQ1_M", "quant-gate::IQ2_XXS", "quant-gate::Q4_K_M"])
    assert run.ret == 0
    assert {call.split(maxsplit=1)[1] for call in calls(gate)} == {"open", "close"}
    assert not (gate.path / ".quant-gate").exists()


@pytest.mark.parametrize(("kind", "code"), [("usage", 4), ("infrastructure", 12), ("pr", 11)])
def test_what_the_gate_can_not_open_ends_at_once(gate, kind, code):
    run = gate(plan={"open": kind})
    assert run.ret == code
    run.stderr.fnmatch_lines(["ERROR: demo has no branch 'mine'", "*help*--quant-repo=PATH"])
    assert "Traceback" not in run.stdout.str() + run.stderr.str()
    assert not any("prepare" in call for call in calls(gate))


def test_main_that_does_not_build_is_nobodys_fault(gate):
    run = gate(plan={"prepare": "infrastructure"})
    run.assert_outcomes(errors=3)
    assert run.ret == 12


def test_a_failed_build_is_an_error_of_each_item(gate, how):
    run = gate(*how, plan={"prepare": "pr"})
    run.assert_outcomes(errors=3)
    assert run.ret == 11
    run.stdout.fnmatch_lines(["*ERROR at setup of quant-gate IQ1_M*"])
    run.stdout.fnmatch_lines(["the PR does not compile: *expected ';'", "*log*logs/pr.txt"])
    assert "Traceback" not in run.stdout.str()
    assert "session.py" not in run.stdout.str()
    assert [item["error"]["kind"] for item in results(gate)["items"]] == ["pr"] * 3
    assert sum("prepare" in call for call in calls(gate)) == 1, "the workers hear of it"


def test_a_usage_error_of_the_preparation_ends_the_run(gate):
    run = gate(plan={"prepare": "usage"})
    assert run.ret == 4
    run.stderr.fnmatch_lines(["ERROR: the PR does not compile*"])
    assert not (gate.path / ".quant-gate" / "results.json").exists()


def test_the_builds_are_made_once_and_before_any_item(mixed):
    told = calls(mixed)
    first_run = min(i for i, call in enumerate(told) if " run " in call)
    assert told.index("main prepare") < first_run
    assert any(" run " in call for call in told if call.startswith("main")) != mixed.is_xdist


@pytest.mark.parametrize(
    ("recipes", "code", "verdict"),
    [
        ({"A": "SAME", "B": "BETTER"}, 0, "BETTER"),
        ({"A": "SAME", "B": "SAME"}, 0, "SAME"),
        ({"A": "WORSE", "B": "BETTER"}, 1, "WORSE"),
        ({"A": "INCONCLUSIVE", "B": "BETTER"}, 10, "INCONCLUSIVE"),
        ({"A": "INCONCLUSIVE", "B": "WORSE"}, 1, "WORSE"),
        ({"A": "pr", "B": "SAME"}, 11, None),
        ({"A": "infrastructure", "B": "INCONCLUSIVE"}, 12, None),
        ({"A": "infrastructure", "B": "pr"}, 11, None),
        ({"A": "infrastructure", "B": "pr", "C": "WORSE"}, 1, "WORSE"),
        ({"A": "bug", "B": "SAME"}, 12, None),
    ],
    ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else None,
)
def test_exit_codes(gate, recipes, code, verdict):
    run = gate(plan={"recipes": recipes})
    assert run.ret == code
    told = results(gate)
    assert (told["exit_code"], told["verdict"]) == (code, verdict)
    run.stdout.fnmatch_lines([f"quant-gate: {verdict or 'no verdict'} (*), exit {code}: *"])


def test_lines_texts_and_table(mixed):
    assert mixed.ret == 1
    out = pytest.LineMatcher(mixed.out.splitlines())
    out.fnmatch_lines_random(
        [
            "quant-gate::IQ1_M    SAME    24.570 GB (=)  identical files *%]",
            "quant-gate::IQ2_XXS  WORSE   KLD 0.1432 -> 0.1518  +6.0 %  28.560 GB (=) *%]",
            "quant-gate::Q2_K     BETTER  KLD 0.1432 -> 0.1518  -7.7 %  1.024 GB (=) *%]",
            "quant-gate::Q4_K_M   INCONCLUSIVE  KLD 0.1432 -> 0.1518  +2.0 % *%]",
            "quant-gate::Q8_0     ERROR   Q8_0: llama-quantize ended with 134 *%]",
            "IQ2_XXS: mean KLD 0.1432 -> 0.1518 nats/token (+6.0 % at equal size, "
            "95 % CI +4.1 … +7.9); limit +1 %",
            "  changed    blk.[*].attn_v.weight Q4_K -> Q3_K (32 tensors)",
            "  log        .quant-gate/logs/pr/IQ2_XXS.txt",
            "  rerun      pytest --pr-branch=demo/mine quant-gate::IQ2_XXS",
            "Q4_K_M: mean KLD *too close to call on 64 chunks",
            "results: .quant-gate/results.json",
            "*1 failed, 2 passed, 1 error, 1 inconclusive in*",
        ]
    )
    out.fnmatch_lines(
        [
            "recipe   verdict       mean KLD, nats    equal size  95 % CI *",
            *(f"{name} *" for name in [*MIXED, "Q8_0"]),
        ],
        consecutive=True,
    )
    out.fnmatch_lines(["quant-gate: WORSE (1 worse: IQ2_XXS; 1 error: Q8_0; 1 inconclusive: *"])
    for line in out.lines:
        if line.endswith("%]") or line.startswith(("recipe ", "IQ1_M ", "IQ2_XXS ")):
            assert len(line) <= 80
    assert "Traceback" not in mixed.out
    assert "must not reach the terminal\nquant-gate" not in mixed.out


def test_verbose_lines_end_with_the_figures(gate, how):
    run = gate(*how, "-v", plan={"recipes": MIXED})
    expected = {
        (): "quant-gate::IQ2_XXS WORSE  KLD 0.1432 -> 0.1518  +6.0 % *%]",
        ("-n2",): "[[]gw?[]] * WORSE quant-gate::IQ2_XXS * KLD 0.1432 -> 0.1518  +6.0 %",
    }
    run.stdout.fnmatch_lines([expected[how]])


def test_a_bug_keeps_its_traceback(gate):
    run = gate(plan={"recipes": {"A": "bug"}})
    run.stdout.fnmatch_lines(["*RuntimeError: a bug of the harness", "*fake_gate.py*RuntimeError"])
    assert run.ret == 12


def test_a_dead_worker_is_an_error_of_its_recipe(gate):
    run = gate("-n2", "--max-worker-restart=0", plan={"recipes": {"A": "die", "B": "SAME"}})
    assert run.ret != 0
    dead = next(item for item in results(gate)["items"] if item["recipe"] == "A")
    assert dead["verdict"] is None
    assert "crashed while running" in dead["error"]["message"]


def test_stop_at_the_first_failure_keeps_its_meaning(gate, how):
    run = gate(*how, "-x", plan={"recipes": {"A": "WORSE"} | dict.fromkeys("BCDEFG", "SAME")})
    assert run.ret == 1
    told = results(gate)
    assert told["items"][0]["verdict"] == "WORSE"
    assert set(told["not_run"]) | {i["recipe"] for i in told["items"]} == set("ABCDEFG")


def test_an_interrupted_run_leaves_what_it_found(gate):
    run = gate(apart=True, plan={"recipes": {"A": "SAME", "B": "interrupt", "C": "SAME"}})
    assert run.ret == 2
    told = results(gate)
    assert (told["verdict"], told["exit_code"], told["not_run"]) == (None, 2, ["B", "C"])
    assert [item["recipe"] for item in told["items"]] == ["A"]


def test_results_follow_the_recipes_whatever_the_workers_order(mixed):
    told = results(mixed)
    assert [item["recipe"] for item in told["items"]] == [*MIXED, "Q8_0"]
    assert (told["schema_version"], told["exit_code"], told["verdict"]) == (1, 1, "WORSE")
    assert (told["main_commit"], told["pr_commit"]) == ("a" * 40, "b" * 40)
    assert (told["policy"], told["limit_pct"], told["chunks"]) == ("equal-size", 1.0, 64)
    same, worse, *_, broken = told["items"]
    assert same["pr"]["mean_kld"] is None
    assert same["pr"]["size_bytes"] == 24_570_000_000
    assert worse["pr"]["mean_kld"] == 0.1518
    assert worse["equal_size"] == {"ln_ratio": 0.0583, "low": 0.0402, "high": 0.076}
    assert worse["frontier"] is None
    assert len(worse["changed_tensors"]) == 32
    assert broken["verdict"] is None
    assert broken["error"]["kind"] == "pr"
    assert broken["error"]["log"] == "logs/pr.txt"


def test_another_way_to_distribute(gate):
    run = gate("-n2", "--dist=loadfile", "-q")
    assert run.ret == 0
    assert len(results(gate)["items"]) == 3


def test_junit_carries_the_figures(mixed):
    cases = {c.get("name"): c for c in ET.parse(mixed.path / "junit.xml").iter("testcase")}
    assert set(cases) == {*MIXED, "Q8_0"}
    assert {case.get("classname") for case in cases.values()} == {"quant-gate"}
    properties = {p.get("name"): p.get("value") for p in cases["IQ2_XXS"].iter("property")}
    assert properties["pr_mean_kld"] == "0.1518"
    assert properties["pr_size_bytes"] == "28560000000"
    assert properties["verdict"] == "WORSE"
    assert "limit +1 %" in cases["IQ2_XXS"].find("failure").get("message")
    assert "llama-quantize ended with 134" in cases["Q8_0"].find("error").get("message")


def test_last_failed_runs_the_worse_recipe_alone(gate):
    gate(plan={"recipes": MIXED})
    gate("--lf", plan={"recipes": dict.fromkeys(MIXED, "SAME")})
    assert {item["recipe"] for item in results(gate)["items"]} == {"IQ2_XXS", "Q4_K_M"}


def test_without_a_terminal_reporter(gate):
    run = gate("-p", "no:terminal", plan={"recipes": MIXED})
    assert run.ret == 1
    assert run.stdout.str() == ""
    assert len(results(gate)["items"]) == 4


def test_header_says_what_is_compared(mixed):
    assert "quant-gate:\n  main   aaaaaaaaaa quant : tidy\n  model  tinyscout\n" in mixed.out


def test_the_folders_time_limit_is_not_the_gates(gate):
    (gate.path / "pytest.ini").write_text("[pytest]\ntimeout = 0.3\n")
    run = gate(apart=True, plan={"recipes": {"A": "SAME"}, "seconds": 1})
    assert run.ret == 0


def test_an_unwritable_report_folder_is_found_before_anything_long(gate):
    (gate.path / "taken").write_text("a file")
    run = gate("--quant-report-dir=taken")
    assert run.ret == 4
    run.stderr.fnmatch_lines(["ERROR: *taken can't be written: *"])
    assert not (gate.path / "calls.txt").exists()


@pytest.mark.parametrize("step", ["open", "prepare"])
def test_results_of_an_older_run_do_not_survive_a_failed_one(gate, step):
    gate()
    assert (gate.path / ".quant-gate" / "results.json").exists()
    gate(plan={step: "usage"})
    assert not (gate.path / ".quant-gate" / "results.json").exists()


def test_bad_options_are_one_line(gate):
    run = gate("--quant-policy=best")
    assert run.ret == 4
    run.stderr.fnmatch_lines(
        ["ERROR: --quant-policy: 'best': legal are equal-size, per-gb, frontier"]
    )
    assert "Traceback" not in run.stderr.str()


def test_a_subfolder_of_the_project_says_the_same(gate):
    (gate.path / "pytest.ini").write_text("[pytest]\n")
    folder = gate.path / "sub"
    folder.mkdir()
    os.chdir(folder)
    run = gate("-v", "../quant-gate::IQ2_XXS")
    run.assert_outcomes(passed=1)


def test_help_shows_every_option_with_its_default(pytester):
    from harness.options.table import OPTIONS

    text = " ".join(pytester.runpytest_inprocess("--help").stdout.str().split())
    assert "--pr-branch=REF" in text
    for option in OPTIONS:
        assert f"{option.flag}={option.metavar}" in text
        assert f"(default: {option.default})" in text
