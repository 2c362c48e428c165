import errno
import multiprocessing
import os
import shutil
import time
from pathlib import Path

import pytest

from harness.errors import InfrastructureError, PrError
from harness.store import STAMP, Store, digest, write_atomically


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "cache")


def fill_with(text, record=None):
    def fill(folder: Path):
        (folder / "data").write_text(text)
        return record or {"made": text}

    return fill


def test_an_entry_is_made_once(store):
    made = store.make("kind", "k", fill_with("one"))
    again = store.make("kind", "k", fill_with("two"))
    assert made == again
    assert (again / "data").read_text() == "one"
    assert store.stamp("kind", "k") == {"made": "one"}


def test_a_failed_fill_leaves_nothing(store):
    def fill(folder):
        (folder / "data").write_text("half")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        store.make("kind", "k", fill)
    assert store.find("kind", "k") is None
    assert list(store.folder("kind").iterdir()) == []


def test_an_unstamped_leftover_is_not_used(store):
    leftover = store.folder("kind") / "k"
    leftover.mkdir()
    (leftover / "data").write_text("of a killed run")
    assert store.find("kind", "k") is None
    assert (store.make("kind", "k", fill_with("whole")) / "data").read_text() == "whole"


def test_a_full_disk_is_a_clear_error(store):
    def fill(folder):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(InfrastructureError, match=r"no space left in .*GB free") as caught:
        store.make("kind", "k", fill)
    assert "--quant-cache-dir" in caught.value.hint
    assert list(store.folder("kind").iterdir()) == []


def test_a_tool_that_fails_on_a_full_disk_is_not_to_blame(store, monkeypatch):
    usage = shutil._ntuple_diskusage(100, 100, 5)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)

    def fill(folder):
        raise PrError("git fast-import failed: disk corruption?")

    with pytest.raises(InfrastructureError, match=r"no space left in .*disk corruption"):
        store.make("kind", "k", fill)
    assert list(store.folder("kind").iterdir()) == []


def test_other_trouble_is_not_called_a_full_disk(store):
    def fill(folder):
        raise OSError(errno.EACCES, "Permission denied")

    with pytest.raises(PermissionError):
        store.make("kind", "k", fill)


def _race(root, text, results):
    def fill(folder):
        time.sleep(0.2)
        return fill_with(text)(folder)

    results.put((Store(root).make("kind", "k", fill) / "data").read_text())


def test_of_two_racing_processes_one_makes_the_entry(store):
    results = multiprocessing.Queue()
    racers = [
        multiprocessing.Process(target=_race, args=(store.root, text, results))
        for text in ("one", "two")
    ]
    for racer in racers:
        racer.start()
    answers = {results.get(timeout=20) for _ in racers}
    for racer in racers:
        racer.join()
    assert len(answers) == 1


def test_eviction_removes_what_was_used_longest_ago(store):
    for i, key in enumerate(("old", "newer", "newest")):
        stamp = store.make("kind", key, fill_with("x" * 1000)) / STAMP
        os.utime(stamp, (i, i))
    store.find("kind", "old")  # used again: now the newest
    store.evict("kind", 4500)
    assert store.find("kind", "newer") is None
    assert store.find("kind", "old") is not None
    assert store.find("kind", "newest") is not None


def test_eviction_spares_what_was_used_lately(store):
    stamp = store.make("kind", "k", fill_with("x" * 1000)) / STAMP
    store.evict("kind", 0, spared_s=3600)
    assert stamp.exists()
    os.utime(stamp, (1, 1))
    store.evict("kind", 0, spared_s=3600)
    assert not stamp.exists()


def test_eviction_spares_what_is_in_use(store):
    store.make("kind", "used", fill_with("x" * 1000))
    with store.lock("kind", "used"):
        store.evict("kind", 0)
        assert store.find("kind", "used") is not None
    store.evict("kind", 0)
    assert store.find("kind", "used") is None


def test_a_remembered_hash_follows_the_file(store, tmp_path):
    file = tmp_path / "f"
    file.write_bytes(b"one")
    first = store.sha256_of(file)
    assert store.sha256_of(file) == first
    file.write_bytes(b"other")
    assert store.sha256_of(file) != first


def test_an_atomic_write_never_shows_a_part(tmp_path, monkeypatch):
    target = tmp_path / "f"
    target.write_bytes(b"before")

    def broken(_):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="full"):
        write_atomically(target, b"after")
    assert target.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [target]


def test_the_cache_is_for_its_owner_alone(store):
    store.folder("kind")
    assert store.root.stat().st_mode & 0o777 == 0o700


def test_digests_tell_parts_apart():
    assert digest("ab", "c") != digest("a", "bc")
    assert digest(("a",), "b") != digest("a", ("b",))
