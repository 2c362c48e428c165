"""The room against stand-ins for llama-quantize; tests/gate runs the real one."""

import sys
from pathlib import Path

import gguf
import pytest
from gguf_maker import TENSORS, write_gguf

from harness.domain import Build, QuantizedFile, Recipe, Side, Tensor, TensorChange
from harness.errors import InfrastructureError, PrError
from harness.gguf_file import read_gguf
from harness.quantize import QuantizeInputs, changed_tensors, planned_bytes, quantize
from harness.store import Store

Q8 = Recipe("Q8_0", "Q8_0")


class Silent:
    def __init__(self):
        self.steps = []

    def step(self, what, done, total):
        self.steps.append((what, done, total))

    def finish(self, what):
        self.steps.append((what, "finish"))


@pytest.fixture
def inputs(tmp_path):
    model = read_gguf(write_gguf(tmp_path / "bf16.gguf"))
    return QuantizeInputs(model, "sha-of-model", None, "", threads=1)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "cache")


def tool(tmp_path: Path, body: str, side: Side = Side.PR) -> Build:
    """A build whose llama-quantize runs ``body`` with ``target`` and ``ready`` (a made file)."""
    ready = tmp_path / "ready.gguf"
    if not ready.exists():
        write_gguf(ready, quantized=gguf.GGMLQuantizationType.Q8_0)
    script = tmp_path / f"llama-quantize-{side}"
    script.write_text(
        f"#!{sys.executable}\n"
        "import os, shutil, signal, sys\n"
        f"ready, target = {str(ready)!r}, sys.argv[-3]\n"
        f"{body}\n"
    )
    script.chmod(0o755)
    return Build(side, f"key-{side}", tmp_path, tmp_path, script, tmp_path / "libllama.so")


COPY = "shutil.copy(ready, target)"


def run(build, inputs, store, tmp_path, progress=None):
    log = tmp_path / "logs" / "q.txt"
    return quantize(build, Q8, inputs, store, log, progress or Silent())


def test_a_file_is_made_weighed_and_hashed(tmp_path, inputs, store):
    made = run(tool(tmp_path, COPY), inputs, store, tmp_path)
    ready = tmp_path / "ready.gguf"
    assert made.size_bytes == ready.stat().st_size
    assert made.path.read_bytes() == ready.read_bytes()
    assert made.bpw == pytest.approx(8 * 34 / 32)
    assert [t.ggml_type for t in made.tensors] == ["Q8_0"] * 3


def test_the_same_file_is_not_made_twice(tmp_path, inputs, store):
    first = run(tool(tmp_path, COPY), inputs, store, tmp_path)
    again = run(tool(tmp_path, "sys.exit('called again')"), inputs, store, tmp_path)
    assert again == first


def test_progress_follows_the_tools_counter(tmp_path, inputs, store):
    progress = Silent()
    body = f"print('[   2/   3] output.weight - [256, 32]'); {COPY}"
    run(tool(tmp_path, body), inputs, store, tmp_path, progress)
    assert ("quantize pr Q8_0", 2, 3) in progress.steps


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("print('ggml.c:1: GGML_ASSERT(false) failed'); sys.exit(3)", r"exit 3.*GGML_ASSERT"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("pass", "llama-quantize failed"),
        ("open(target, 'wb').write(b'GGUF')", "no readable file"),
        ("open(target, 'wb').write(b'hello')", "no readable file"),
    ],
)
@pytest.mark.parametrize(("side", "kind"), [(Side.PR, PrError), (Side.MAIN, InfrastructureError)])
def test_a_failing_tool_is_its_own_sides_fault(
    tmp_path, inputs, store, body, complaint, side, kind
):
    with pytest.raises(kind, match=complaint) as caught:
        run(tool(tmp_path, body, side), inputs, store, tmp_path)
    assert caught.value.log.exists()
    assert list(store.folder("quantized").iterdir()) == []


def test_a_file_without_all_weights_is_no_gain(tmp_path, inputs, store):
    write_gguf(
        tmp_path / "ready.gguf", tensors=TENSORS[:2], quantized=gguf.GGMLQuantizationType.Q8_0
    )
    with pytest.raises(PrError, match=r"output\.weight has 0 weights, the model 8,192"):
        run(tool(tmp_path, COPY), inputs, store, tmp_path)


def test_a_file_with_smaller_tensors_is_no_gain(tmp_path, inputs, store):
    write_gguf(tmp_path / "ready.gguf", n_rows=16, quantized=gguf.GGMLQuantizationType.Q8_0)
    with pytest.raises(PrError, match="has 4,096 weights, the model 8,192"):
        run(tool(tmp_path, COPY), inputs, store, tmp_path)


def test_a_full_disk_is_nobodys_fault(tmp_path, inputs, store):
    body = "print('basic_ios::clear: iostream error'); sys.exit(1)"
    with pytest.raises(InfrastructureError, match=r"no space left .*GB free"):
        run(tool(tmp_path, body), inputs, store, tmp_path)


def test_changed_tensors_are_told_in_the_files_order():
    def file(**types):
        tensors = tuple(Tensor(n, t, 1, 1) for n, t in types.items())
        return QuantizedFile("r", Path("f"), "s", 1, tensors)

    main, pr = file(a="Q4_K", b="Q6_K", c="F32"), file(a="Q4_K", b="Q5_K", d="F32")
    assert changed_tensors(main, pr) == (
        TensorChange("b", "Q6_K", "Q5_K"),
        TensorChange("c", "F32", "none"),
        TensorChange("d", "none", "F32"),
    )


DRY_RUN = r"""
print('llama_model_loader: - kv   0: general.architecture str = llama')
rows = %r
for i, (name, to) in enumerate(rows, 1):
    arrow = f' ->     0.01 MiB ({to})' if to else ''
    print(f'[{i:4d}/{len(rows):4d}] {name:36s} - [   256,     32,      1,      1], '
          f'type =    f32, size =    0.031 MiB{arrow}')
"""


def test_a_plan_has_the_exact_bytes(tmp_path, inputs):
    rows = [(TENSORS[0], "q8_0"), (TENSORS[1], "iq2_xxs"), (TENSORS[2], None)]
    build = tool(tmp_path, DRY_RUN % (rows,))
    n = 32 * 256
    assert planned_bytes(build, Q8, inputs, tmp_path / "log") == (
        n // 32 * 34 + n // 256 * 66 + n * 4
    )


@pytest.mark.parametrize(
    "body",
    [
        "sys.exit('unknown argument: --dry-run')",
        "print('nothing')",
        DRY_RUN % ([(TENSORS[0], "q8_0"), (TENSORS[1], "q8_0")],),
        DRY_RUN % ([(name, "q9_unheard_of") for name in TENSORS],),
    ],
)
def test_a_tree_that_cant_plan_says_nothing(tmp_path, inputs, body):
    assert planned_bytes(tool(tmp_path, body), Q8, inputs, tmp_path / "log") is None
