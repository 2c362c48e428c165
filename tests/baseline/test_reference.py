import dataclasses
import json

import numpy as np
import pytest
from gguf_maker import write_gguf

from harness.baseline import (
    FORMAT_VERSION,
    MANIFEST,
    BaselineWriter,
    Manifest,
    open_reference,
    save_manifest,
)
from harness.errors import InfrastructureError, UsageError
from harness.gguf_file import read_gguf
from harness.score import METRICS_VERSION, reduce_logits
from harness.store import Store, file_sha256


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "cache")


@pytest.fixture
def folder(tmp_path):
    """A model's folder as `python -m harness baseline` leaves it, of four tokens."""
    folder = tmp_path / "models" / "tiny"
    folder.mkdir(parents=True)
    model = read_gguf(write_gguf(folder / "bf16.gguf"))
    (folder / "imatrix.gguf").write_bytes(b"an imatrix")
    tokens = np.zeros((3, 16), np.int32)
    logits = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    with BaselineWriter(folder / "baseline.npz", tokens, 4) as writer:
        for i in range(3):
            writer.add(i, reduce_logits(logits, tokens[i, 9:], 0.0))
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        metrics_version=METRICS_VERSION,
        name="tiny",
        architecture="llama",
        model_file="bf16.gguf",
        model_sha256=file_sha256(folder / "bf16.gguf"),
        model_bytes=model.size_bytes,
        n_vocab=4,
        vocabulary=model.vocabulary,
        imatrix_file="imatrix.gguf",
        imatrix_sha256=file_sha256(folder / "imatrix.gguf"),
        corpus_name="zeros",
        corpus_sha256="0" * 64,
        baseline_file="baseline.npz",
        baseline_sha256=file_sha256(folder / "baseline.npz"),
        n_ctx=16,
        n_chunks=3,
        epsilon=0.0,
        ppl=4.0,
        llama_cpp="none",
        recipes=("Q4_0",),
    )
    save_manifest(folder, manifest)
    return folder


def opened(folder, store, name="tiny", **options):
    options = {"bf16": None, "imatrix": None, "chunks": None, **options}
    return open_reference(name, store=store, cwd=folder.parent, **options)


def change(folder, **fields):
    path = folder / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_what_belongs_together_is_opened(folder, store):
    reference = opened(folder, store)
    assert reference.n_chunks == 3
    assert reference.imatrix == folder / "imatrix.gguf"
    assert reference.baseline.tokens.shape == (3, 16)
    assert dataclasses.asdict(reference.manifest)["recipes"] == ("Q4_0",)


def test_fewer_chunks_may_be_asked_for_but_not_more(folder, store):
    assert opened(folder, store, chunks=2).n_chunks == 2
    with pytest.raises(UsageError, match=r"corpus is too short: 4 chunks asked for, .* has 3"):
        opened(folder, store, chunks=4)


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ({"tokens": ("<s>", "a", "b", "d")}, "vocabulary digest"),
        ({"tokens": ("<s>", "a", "b")}, "vocabulary size in tokens 4 in its manifest, 3 in the"),
        ({"architecture": "qwen2"}, "architecture llama in its manifest, qwen2 in the file"),
        ({"n_rows": 16}, "size in bytes"),
    ],
)
def test_another_model_is_refused_with_both_values(folder, store, tmp_path, other, what):
    path = write_gguf(tmp_path / "other.gguf", **other)
    with pytest.raises(UsageError, match="of another model") as caught:
        opened(folder, store, bf16=path)
    assert what in caught.value.message


def test_a_model_of_other_weights_is_refused(folder, store):
    path = folder / "bf16.gguf"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(UsageError, match=r"of another model .*SHA-256"):
        opened(folder, store)


def test_another_imatrix_must_be_named_on_purpose(folder, store, tmp_path):
    (folder / "imatrix.gguf").write_bytes(b"changed")
    with pytest.raises(UsageError, match="is not the imatrix"):
        opened(folder, store)
    other = tmp_path / "other-imatrix.gguf"
    other.write_bytes(b"another")
    assert opened(folder, store, imatrix=other).imatrix == other
    with pytest.raises(UsageError, match="no such imatrix file"):
        opened(folder, store, imatrix=tmp_path / "absent")


def test_another_baseline_is_refused(folder, store):
    change(folder, baseline_sha256="0" * 64)
    with pytest.raises(InfrastructureError, match="is not the baseline of 'tiny': SHA-256 0000"):
        opened(folder, store)


def test_a_baseline_that_its_manifest_does_not_describe_is_refused(folder, store):
    change(folder, n_chunks=5)
    with pytest.raises(InfrastructureError, match="3 chunks of 16 tokens, its manifest says 5"):
        opened(folder, store)


def test_an_unknown_model_names_the_known_ones(folder, store):
    with pytest.raises(InfrastructureError, match="no baseline for the model 'tinyer'"):
        opened(folder, store, name="tinyer")


def test_a_gguf_in_place_of_a_folder_is_explained(folder, store):
    with pytest.raises(UsageError, match="is a file; it takes a folder"):
        opened(folder, store, name="tiny/bf16.gguf")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "can't be read"),
        ("[]", "can't be read"),
        ("{}", "can't be read"),
        ('{"format_version": 99}', "format version 99, this quant-gate reads 1"),
        ('{"format_version": 1, "recipes": []}', "is no manifest"),
        ('{"format_version": 1}', "is no manifest"),
    ],
)
def test_a_bad_manifest_is_a_clear_error(folder, store, text, complaint):
    (folder / MANIFEST).write_text(text)
    with pytest.raises(InfrastructureError, match=complaint):
        opened(folder, store)
