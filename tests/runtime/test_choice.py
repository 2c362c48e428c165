import pytest

from harness.runtime.choice import choose_evaluator, touches_inference


@pytest.mark.parametrize(
    ("path", "touches"),
    [
        ("src/llama-quant.cpp", False),
        ("src/llama-quant.h", False),
        ("tools/quantize/quantize.cpp", False),
        ("examples/quantize/quantize.cpp", False),
        ("docs/build.md", False),
        ("README.md", False),
        ("src/llama-model.cpp", True),
        ("ggml/src/ggml-quants.c", True),
        ("ggml/src/ggml-cuda/mmq.cu", True),
        ("include/llama.h", True),
        ("CMakeLists.txt", True),
        ("ggml/src/CMakeLists.txt", True),
    ],
)
def test_which_paths_can_change_logits(path, touches):
    assert touches_inference(path) is touches


def test_a_quantizing_pr_is_evaluated_by_main():
    assert choose_evaluator("auto", ["src/llama-quant.cpp", "docs/x.md"]).mode == "main"
    assert choose_evaluator("auto", []).mode == "main"


def test_a_pr_that_touches_inference_runs_on_its_own():
    choice = choose_evaluator("auto", ["src/llama-quant.cpp", "ggml/src/ggml.c", "src/llama.cpp"])
    assert choice.mode == "own"
    assert "ggml/src/ggml.c and 1 more" in choice.reason


@pytest.mark.parametrize("option", ["main", "own", "pinned"])
def test_what_is_asked_for_wins(option):
    assert choose_evaluator(option, ["ggml/src/ggml.c"]).mode == option
