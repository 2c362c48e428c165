"""Whatever the child does wrong is an error that says so, and the child is gone afterwards."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from harness.errors import InfrastructureError, PrError
from harness.runtime import client
from harness.runtime.library import Library

N_CHUNKS, N_CTX, FIRST, N_VOCAB = 3, 8, 4, 5
N_SCORED = N_CTX - 1 - FIRST


class Steps:
    def __init__(self):
        self.seen = []

    def step(self, what, done, total):
        self.seen.append((what, done, total))

    def finish(self, what):
        self.seen.append((what, "finished"))


@pytest.fixture
def ask(tmp_path, monkeypatch):
    script = str(Path(__file__).with_name("fake_worker.py"))
    monkeypatch.setattr(
        client, "worker_command", lambda fd: [sys.executable, script, str(fd), str(tmp_path)]
    )

    def ask(mode, *, timeout_s=60.0, blame=PrError, progress=None):
        return client.evaluate(
            Library("pr 1a2b3c4", tmp_path / "libllama.so", None, "key"),
            tmp_path / f"{mode}.gguf",
            np.zeros((N_CHUNKS, N_CTX), dtype=np.int32),
            n_vocab=N_VOCAB,
            first=FIRST,
            threads=1,
            sequences=1,
            gpu_layers=0,
            timeout_s=timeout_s,
            log=tmp_path / "log.txt",
            blame=blame,
            progress=progress or Steps(),
            what="IQ2_XXS",
        )

    return ask


def is_gone(folder: Path) -> bool:
    """Say whether no process has the folder among its arguments."""
    commands = [p.info["cmdline"] or [] for p in psutil.process_iter(["cmdline"])]
    return not any(str(folder) in command for command in commands)


@pytest.mark.parametrize("mode", ["well", "flood"])
def test_chunks_come_in_order_whatever_is_printed(ask, tmp_path, mode):
    progress = Steps()
    answers = list(ask(mode, progress=progress))
    assert [chunk for chunk, _ in answers] == [0, 1, 2]
    for chunk, logits in answers:
        assert logits.dtype == np.float32
        assert np.array_equal(logits, np.full((N_SCORED, N_VOCAB), chunk))
    assert progress.seen[0] == ("IQ2_XXS", 0, 3)
    assert progress.seen[-2:] == [("IQ2_XXS", 3, 3), ("IQ2_XXS", "finished")]
    assert is_gone(tmp_path)


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        ("exit-3", r"exit code 3 before its answer was complete"),
        ("exit-0", r"exit code 0 before its answer was complete"),
        ("SIGSEGV", r"killed by SIGSEGV"),
        ("SIGKILL", r"killed by SIGKILL \(out of memory\?\)"),
        ("nan", r"1 of 15 logits of chunk 2 are not finite"),
        ("inf", r"1 of 15 logits of chunk 2 are not finite"),
        ("-inf", r"1 of 15 logits of chunk 2 are not finite"),
        ("row-missing", r"2 rows of 5 logits for chunk 2 where 3 of 5"),
        ("column-missing", r"3 rows of 4 logits for chunk 2 where 3 of 5"),
        ("chunk-missing", r"it sent END where LOGITS was due"),
        ("chunk-twice", r"chunk 1 where chunk 2 was due"),
        ("one-chunk-more", r"it sent LOGITS where END was due"),
        ("vast", r"4294967295 rows of 1048576 logits"),
        ("truncated", r"complete \(8 of 60 bytes\)"),
        ("no-frames", r"malformed: .*begins with b'perp'"),
        ("long-end", r"its END frame has 1 bytes"),
        ("frame-after-end", r"more than it was asked for"),
        ("exit-7-after-end", r"after its answer the child ended with exit code 7"),
        ("error", r"the tensors are not to its liking"),
        ("other-vocabulary", r"n_vocab is 6 where the baseline has 5"),
        ("garbled-info", r"vocabulary can't be read"),
        ("lying-info", r"vocabulary has the wrong types"),
    ],
)
def test_a_bad_answer_is_the_librarys_fault(ask, tmp_path, mode, says):
    with pytest.raises(PrError, match=rf"^IQ2_XXS on pr 1a2b3c4: .*{says}") as caught:
        list(ask(mode))
    assert caught.value.log == tmp_path / "log.txt"
    assert is_gone(tmp_path)


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        ("hangs", r"no answer for 2 s"),
        ("drips", r"no answer for 2 s"),
        ("stays", r"did not end within 2 s"),
    ],
)
def test_a_child_that_hangs_is_ended(ask, tmp_path, mode, says):
    with pytest.raises(PrError, match=says):
        list(ask(mode, timeout_s=2.0))
    assert is_gone(tmp_path)


def test_the_last_lines_of_the_log_are_shown_and_the_caller_is_told_whose_fault(ask):
    with pytest.raises(InfrastructureError, match=r"\n    fake: I give up"):
        list(ask("exit-3", blame=InfrastructureError))


def test_the_end_is_checked_before_the_last_chunk_is_handed_out(ask):
    answers = ask("exit-7-after-end")
    assert [next(answers)[0], next(answers)[0]] == [0, 1]
    with pytest.raises(PrError):
        next(answers)


def test_a_caller_that_stops_early_leaves_no_child(ask, tmp_path):
    answers = ask("hangs")
    next(answers)
    assert not is_gone(tmp_path)
    answers.close()
    assert is_gone(tmp_path)
