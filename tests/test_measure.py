"""What is measured is what was made, and what was measured once is not measured again."""

from types import SimpleNamespace

import numpy as np
import pytest

from harness import measure as room
from harness.domain import QuantizedFile, Tensor, TokenScores
from harness.errors import PrError
from harness.measure import Evaluation, measure
from harness.store import Store, file_sha256


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "cache")


@pytest.fixture
def file(store):
    def fill(folder):
        (folder / "model.gguf").write_bytes(b"weights")
        return {}

    path = store.make("quantized", "k", fill) / "model.gguf"
    return QuantizedFile("Q4_0", path, file_sha256(path), 7, (Tensor("t", "Q4_0", 8, 4),))


@pytest.fixture
def run(store, file, silent, tmp_path, monkeypatch):
    """Measure the file with a stand-in for the evaluation; tells what was asked of it."""
    told = SimpleNamespace(evaluated=[], remade=0)
    ones = np.ones((8, 4))

    def evaluate(present, *_):
        told.evaluated.append(present.path.read_bytes())
        return TokenScores(0.1 * ones, ones, ones, 0 * ones, ones > 0)

    def remake():
        told.remade += 1
        file.path.parent.mkdir(exist_ok=True)
        file.path.write_bytes(b"weights")
        return file

    monkeypatch.setattr(room, "_evaluate", evaluate)
    reference = SimpleNamespace(n_chunks=8, manifest=SimpleNamespace(baseline_sha256="b"))

    def go(**changes):
        evaluation = Evaluation(threads=1, sequences=1, gpu_layers=0, timeout_s=9.0)
        told.result = measure(
            file,
            remake,
            SimpleNamespace(key=changes.get("library", "l"), name="main"),
            reference,
            evaluation,
            store,
            blame=PrError,
            what="evaluate",
            log=tmp_path / "log",
            progress=silent,
        )
        return told

    return go


def test_a_file_is_scored_once_a_library(run):
    assert run().result.summary.mean_kld == pytest.approx(0.1)
    assert len(run().evaluated) == 1
    assert len(run(library="other").evaluated) == 2


def test_a_file_that_was_dropped_is_made_again(run, file):
    file.path.unlink()
    told = run()
    assert (told.remade, told.evaluated) == (1, [b"weights"])


def test_a_file_whose_bytes_changed_is_never_scored(run, file):
    file.path.write_bytes(b"damaged")
    told = run()
    assert (told.remade, told.evaluated) == (1, [b"weights"])


def test_damaged_scores_are_taken_again(run, store):
    run()
    saved = next(store.folder("scores").rglob("scores.npz"))
    saved.write_bytes(saved.read_bytes()[:100])
    told = run()
    assert len(told.evaluated) == 2
    assert told.result.summary.mean_kld == pytest.approx(0.1)
