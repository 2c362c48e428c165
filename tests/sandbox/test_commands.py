"""What a user relies on: children end, see little, and can't fill the disk."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness import sandbox
from harness.errors import InfrastructureError
from harness.sandbox.log import BoundedLog


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "child.txt"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def dies(pid: int, within_s: float = 5.0) -> bool:
    deadline = time.monotonic() + within_s
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


def vanishes(path: Path, within_s: float = 5.0) -> bool:
    deadline = time.monotonic() + within_s
    while path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return not path.exists()


def appears(path: Path) -> str:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if path.exists() and (text := path.read_text()).endswith("\n"):
            return text
        time.sleep(0.02)
    raise AssertionError(f"{path} never came")


# A grandchild in a session of its own whose parent is gone, deaf to SIGTERM and SIGHUP.
HIDING = """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with open(sys.argv[1], "w") as file:
            print(os.getpid(), file=file)
        time.sleep(600)
    os._exit(0)
os.wait()
"""


def test_output_and_exit_code(log: Path) -> None:
    ended = sandbox.run(["sh", "-c", "echo out; echo err >&2; exit 3"], log=log, timeout_s=10)
    assert (ended.returncode, ended.signal, ended.timed_out) == (3, None, False)
    assert ended.tail(2) == ("out", "err")
    assert ended.tail(1) == ("err",)
    assert log.read_text() == "$ sh -c 'echo out; echo err >&2; exit 3'\nout\nerr\n"


def test_append_keeps_what_is_there(log: Path) -> None:
    sandbox.run(["echo", "one"], log=log, timeout_s=10)
    sandbox.run(["echo", "two"], log=log, timeout_s=10, append=True)
    assert log.read_text().splitlines() == ["$ echo one", "one", "$ echo two", "two"]
    sandbox.run(["echo", "three"], log=log, timeout_s=10)
    assert log.read_text().splitlines() == ["$ echo three", "three"]


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGKILL", "SIGABRT", "SIGTERM"])
def test_a_deadly_signal_is_named(log: Path, name: str) -> None:
    ended = sandbox.run(["sh", "-c", f"kill -{name[3:]} $$"], log=log, timeout_s=10)
    assert ended.signal == name
    assert ended.returncode == -signal.Signals[name]


def test_signal_name() -> None:
    assert sandbox.signal_name(-11) == "SIGSEGV"
    assert sandbox.signal_name(-63) == "signal 63"
    assert sandbox.signal_name(139) is None
    assert sandbox.signal_name(0) is None
    assert sandbox.signal_name(None) is None


def test_lines_come_one_by_one(log: Path) -> None:
    seen: list[str] = []
    sandbox.run(
        python(r"print('a\rb\n\nc', end='', flush=True); print('ü' * 100_000)"),
        log=log,
        timeout_s=10,
        on_line=seen.append,
    )
    assert seen[:2] == ["a", "b"]
    assert "".join(seen[2:]).replace("�", "").count("ü") >= 99_998


def test_an_exception_of_the_callback_ends_the_tree(log: Path, tmp_path: Path) -> None:
    def stop(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sandbox.run(
            ["sh", "-c", f"echo $$ > {tmp_path}/pid; echo go; sleep 600"],
            log=log,
            timeout_s=60,
            on_line=stop,
        )
    assert not alive(int((tmp_path / "pid").read_text()))


def test_timeout_ends_grandchildren_that_hide(log: Path, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    ended = sandbox.run(
        [sys.executable, "-c", HIDING + "time.sleep(600)", str(pid_file)],
        log=log,
        timeout_s=1.0,
    )
    assert ended.timed_out
    assert ended.returncode != 0
    assert ended.signal == "SIGTERM"
    assert not alive(int(pid_file.read_text()))


def test_a_command_that_exits_0_when_told_to_end_still_timed_out(log: Path) -> None:
    ended = sandbox.run(["sh", "-c", "trap 'exit 0' TERM; sleep 600"], log=log, timeout_s=0.3)
    assert ended.timed_out
    assert ended.returncode != 0


def test_what_a_command_leaves_behind_ends_with_it(log: Path, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    start = time.monotonic()
    wait_for_pid = "import pathlib\nwhile not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.01)"
    ended = sandbox.run(
        [sys.executable, "-c", HIDING + wait_for_pid, str(pid_file)], log=log, timeout_s=60
    )
    assert ended.returncode == 0
    assert time.monotonic() - start < 20
    assert not alive(int(appears(pid_file)))


def test_a_killed_harness_takes_its_children_along(log: Path, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    harness = subprocess.Popen(
        python(
            "from harness import sandbox; from pathlib import Path; "
            f"sandbox.run(['sh', '-c', 'touch ~/a; echo $$ ~ > {pid_file}; sleep 600'], "
            f"log=Path({str(log)!r}), timeout_s=600)"
        ),
        cwd=Path(__file__).parents[2],
    )
    child, private = appears(pid_file).split()
    assert alive(int(child))
    harness.kill()
    harness.wait()
    assert dies(int(child))
    assert vanishes(Path(private)), "the private folder goes too"


def test_the_environment_is_cleared(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "secret")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/other/side")
    monkeypatch.setenv("CFLAGS", "-O0")
    monkeypatch.setenv("PYTHONPATH", "/home/user")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    ended = sandbox.run(["env"], log=log, environment={"MORE": "yes"}, timeout_s=10)
    seen = dict(line.split("=", 1) for line in ended.tail(100))
    assert set(seen) <= {
        "PATH", "LANG", "LC_ALL", "CC", "CXX", "HOME", "TMPDIR", "CUDA_VISIBLE_DEVICES",
        "CUDA_PATH", "MORE", "PWD",
    }  # fmt: skip
    assert seen["MORE"] == "yes"
    assert seen["CUDA_VISIBLE_DEVICES"] == "3"
    assert seen["HOME"] != os.environ["HOME"]
    assert not Path(seen["HOME"]).exists(), "the private folder is removed"


def test_files_of_a_careless_command_land_in_its_own_folder(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sandbox.run(["touch", "litter"], log=log, timeout_s=10)
    assert not (tmp_path / "litter").exists()
    sandbox.run(["touch", "wanted"], log=log, cwd=tmp_path, timeout_s=10)
    assert (tmp_path / "wanted").exists()


def test_ctrl_c_of_the_terminal_does_not_reach_it(log: Path) -> None:
    ended = sandbox.run(
        python("import os; print(os.getsid(0), os.getpgid(0))"), log=log, timeout_s=10
    )
    session, group = map(int, ended.tail(1)[0].split())
    assert session != os.getsid(0)
    assert group == session


def test_no_descriptor_leaks_and_stdin_is_empty(log: Path, tmp_path: Path) -> None:
    with (tmp_path / "secret").open("w") as secret:
        os.set_inheritable(secret.fileno(), True)
        ended = sandbox.run(
            python("import os, sys; print(os.listdir('/proc/self/fd'), sys.stdin.read() == '')"),
            log=log,
            timeout_s=10,
        )
    assert ended.tail(1) == ("['0', '1', '2', '3'] True",)  # 3: the listing's own


def test_a_flood_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "flood.txt"
    flood = BoundedLog(path, max_bytes=20_000, tail_bytes=5_000)
    for i in range(10_000):
        flood.write(f"line {i}\n".encode())
    assert flood.tail(1) == ("line 9999",)
    flood.close()
    text = path.read_text()
    total = sum(len(f"line {i}\n") for i in range(10_000))
    assert len(text) < 20_200
    assert text.startswith("line 0\n")
    assert text.endswith("line 9999\n")
    assert f"[… {total - 20_000:,} bytes left out" in text


def test_a_log_that_just_fits_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "fits.txt"
    log = BoundedLog(path, max_bytes=20_000, tail_bytes=5_000)
    data = bytes(range(32, 127)) * 210
    for start in range(0, 19_950, 7):
        log.write(data[start : min(start + 7, 19_950)])
    log.close()
    assert path.read_bytes() == data[:19_950]


def test_a_flooding_child_leaves_a_bounded_log(log: Path) -> None:
    ended = sandbox.run(
        ["sh", "-c", "head -c 70000000 /dev/zero | tr '\\0' x; echo; echo the end"],
        log=log,
        timeout_s=60,
    )
    assert ended.returncode == 0
    assert log.stat().st_size < 64_001_000
    assert ended.tail(1) == ("the end",)
    assert b"bytes left out" in log.read_bytes()[-1_100_000:]


def test_unknown_program(log: Path) -> None:
    with pytest.raises(InfrastructureError, match="no such program: not-there"):
        sandbox.run(["not-there"], log=log, timeout_s=10)


def test_child_talks_over_passed_descriptors(log: Path) -> None:
    to_child, from_child = os.pipe(), os.pipe()
    code = (
        "import os, sys; r, w = map(int, sys.argv[1:]); print('started', flush=True); "
        "os.write(w, os.read(r, 100).upper()); os.close(w); os.read(r, 100)"
    )
    with sandbox.start(
        [*python(code), str(to_child[0]), str(from_child[1])],
        log=log,
        pass_fds=(to_child[0], from_child[1]),
    ) as child:
        os.close(to_child[0])
        os.close(from_child[1])
        os.write(to_child[1], b"tokens")
        assert os.read(from_child[0], 100) == b"TOKENS"
        assert os.read(from_child[0], 100) == b"", "nobody else holds the child's end"
        assert child.poll() is None
        os.close(to_child[1])
        assert child.wait(10) == 0
        assert child.tail(5) == ("started",)
    os.close(from_child[0])


def test_child_reads_stdin_from_a_descriptor(log: Path) -> None:
    read, write = os.pipe()
    with sandbox.start(["cat"], log=log, stdin=read) as child:
        os.close(read)
        os.write(write, b"hello\n")
        os.close(write)
        assert child.wait(10) == 0
        assert child.tail(1) == ("hello",)


def test_a_crashing_child_is_seen_with_its_last_words(log: Path) -> None:
    with sandbox.start(["sh", "-c", "echo GGML_ASSERT; kill -ABRT $$"], log=log) as child:
        assert child.wait(10) == -6
        assert child.signal == "SIGABRT"
        assert child.tail(1) == ("GGML_ASSERT",)


def test_leaving_the_block_ends_the_tree(log: Path, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    command = [sys.executable, "-c", HIDING + "time.sleep(600)", str(pid_file)]
    with sandbox.start(command, log=log) as child:
        hidden = int(appears(pid_file))
        assert alive(hidden)
    assert not alive(hidden)
    assert not alive(child.pid)
    assert child.returncode is not None
    child.end()  # twice is harmless


def test_a_stopped_supervisor_still_ends_the_tree(log: Path, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    child = sandbox.start(["sh", "-c", f"echo $$ > {pid_file}; sleep 600"], log=log)
    command = int(appears(pid_file))
    os.kill(child.pid, signal.SIGSTOP)
    start = time.monotonic()
    child.end()
    assert time.monotonic() - start < 10
    assert not alive(command)


def test_the_header_does_not_claim_a_sandbox() -> None:
    assert sandbox.describe().startswith("no sandbox")
