"""Our figures are those of the field's tool, as far as its 16-bit base file allows."""

import os
import re
import subprocess

import numpy as np
import pytest

from harness.baseline import BaselineWriter, open_baseline
from harness.build import build
from harness.errors import InfrastructureError
from harness.runtime import evaluate
from harness.score import reduce_logits, score_chunk, stack, summarize

pytestmark = pytest.mark.slow

N_CHUNKS = 16


@pytest.fixture(scope="module")
def perplexity(demo_main, store, silent, tmp_path_factory):
    """The same commit's llama-perplexity, built for this comparison only."""
    made = build(
        demo_main,
        store,
        targets=("llama-perplexity",),
        cmake_args=(),
        jobs=os.cpu_count() or 1,
        log=tmp_path_factory.mktemp("build") / "log.txt",
        progress=silent,
    )

    def run(*arguments):
        command = [made.quantize.with_name("llama-perplexity"), "-c", "512", "-b", "2048"]
        command += ["--chunks", str(N_CHUNKS), *arguments]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        output = ended.stdout + ended.stderr
        assert ended.returncode == 0, output
        return output

    return run


@pytest.fixture(scope="module")
def their_base(perplexity, tinyscout, tmp_path_factory):
    base = tmp_path_factory.mktemp("base") / "bf16.kld"
    text = tinyscout.model.path.parent / "evaluation.txt"
    perplexity("-m", tinyscout.model.path, "-f", text, "--kl-divergence-base", base)
    return base


@pytest.fixture(scope="module")
def full_baseline(main_library, tinyscout, silent, tmp_path_factory):
    """A baseline that keeps all tokens (ε = 0), so that only their file rounds."""
    folder = tmp_path_factory.mktemp("full")
    tokens = tinyscout.baseline.tokens[:N_CHUNKS]
    with BaselineWriter(folder / "full.npz", tokens, tinyscout.manifest.n_vocab) as writer:
        for number, logits in logits_of(
            main_library, tinyscout.model.path, tokens, silent, folder / "log.txt"
        ):
            writer.add(number, reduce_logits(logits, tokens[number, 257:], 0.0))
    return open_baseline(folder / "full.npz")


def logits_of(library, path, tokens, silent, log):
    return evaluate(
        library,
        path,
        tokens,
        n_vocab=2048,
        first=256,
        threads=os.cpu_count() or 1,
        sequences=4,
        gpu_layers=0,
        timeout_s=300.0,
        log=log,
        blame=InfrastructureError,
        progress=silent,
        what="parity",
    )


def figure(output, name):
    found = re.search(rf"{name}\s*:\s*(-?[\d.]+)", output)
    assert found, f"no {name!r} in\n{output[-3000:]}"
    return float(found[1])


@pytest.mark.parametrize("recipe", ["Q8_0", "Q4_K_M", "IQ2_XXS"])
def test_kld_same_top_and_ppl_equal_llama_perplexitys(
    recipe, perplexity, their_base, full_baseline, quantized, main_library, silent, tmp_path,
    record_property,
):  # fmt: skip
    path = quantized(recipe).path
    output = perplexity("-m", path, "--kl-divergence-base", their_base, "--kl-divergence")
    theirs = {
        "mean_kld": figure(output, "Mean    KLD"),
        "same_top": figure(output, "Same top p") / 100,
        "ppl": figure(output, r"Mean PPL\(Q\)"),
        "ppl_base": figure(output, r"Mean PPL\(base\)"),
        "rms_delta_p": figure(output, "RMS Δp") / 100,
    }
    rows = logits_of(main_library, path, full_baseline.tokens, silent, tmp_path / "log.txt")
    ours = summarize(stack([score_chunk(q, full_baseline.chunk(i)) for i, q in rows]))
    for name, value in theirs.items():
        residue = getattr(ours, name) - value
        record_property(f"{recipe} {name}", f"{getattr(ours, name):.6f} - {value:.6f}")
        print(
            f"{recipe} {name}: ours {getattr(ours, name):.6f}, theirs {value:.6f} ({residue:+.1e})"
        )
    # Their 16 bits a log-probability: a step of up to 16/65535 nats a token, the tail cut at -16.
    assert ours.mean_kld == pytest.approx(theirs["mean_kld"], rel=2e-3, abs=2e-6)
    # a token in a thousand may sit on a tie that rounding decides
    assert ours.same_top == pytest.approx(theirs["same_top"], abs=5e-4)
    assert ours.ppl == pytest.approx(theirs["ppl"], rel=3e-5)
    assert ours.ppl_base == pytest.approx(theirs["ppl_base"], rel=3e-5)
    assert ours.rms_delta_p == pytest.approx(theirs["rms_delta_p"], rel=3e-3, abs=2e-6)


def test_the_shipped_baseline_is_near_the_full_one(
    full_baseline, tinyscout, quantized, main_library, silent, tmp_path
):
    """Folding tokens into a bucket lowers KLD, by little, and alike for files of a kind."""
    ratios = []
    for recipe in ("IQ2_XXS", "IQ3_XXS"):
        path = quantized(recipe).path
        rows = [
            (i, q.copy())
            for i, q in logits_of(
                main_library, path, full_baseline.tokens, silent, tmp_path / "log.txt"
            )
        ]
        full, folded = (
            summarize(stack([score_chunk(q, base.chunk(i)) for i, q in rows])).mean_kld
            for base in (full_baseline, tinyscout.baseline)
        )
        assert folded < full + 1e-7
        assert folded > 0.9 * full
        ratios.append(folded / full)
    assert np.ptp(ratios) < 0.03
