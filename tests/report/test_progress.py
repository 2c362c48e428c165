"""Progress: a live line that leaves no trace, plain lines that are few."""

import io
import threading

import pytest

from harness.report.progress import StreamProgress


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture(autouse=True)
def able_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def log(clock):
    stream = io.StringIO()
    progress = StreamProgress(stream, prefix="[gw0] ", clock=clock, ticking=False)
    return progress, stream


def screen(written):
    """What a terminal shows: enough of one for carriage return, erase, up and forward."""
    lines, row, column, i = [""], 0, 0, 0
    while i < len(written):
        if written.startswith("\x1b[2K", i):
            lines[row], i = "", i + 4
        elif written.startswith("\x1b[A", i):
            row, i = row - 1, i + 3
        elif written.startswith("\x1b[", i):
            end = written.index("C", i)
            column, i = column + int(written[i + 2 : end]), end + 1
        elif written[i] == "\r":
            column, i = 0, i + 1
        elif written[i] == "\n":
            row, column, i = row + 1, 0, i + 1
            lines += [""] * (row + 1 - len(lines))
        else:
            lines[row] = lines[row][:column].ljust(column) + written[i] + lines[row][column + 1 :]
            column, i = column + 1, i + 1
    return lines, (row, column)


def test_a_log_hears_little(log, clock):
    progress, stream = log
    for done in range(101):
        progress.step("evaluate pr IQ2_XXS", done, 100)
        clock.now += 1
    progress.finish("evaluate pr IQ2_XXS")
    assert stream.getvalue().splitlines() == [
        "[gw0] evaluate pr IQ2_XXS: 5/100, 5 %, 5 s, about 1 min 35 s left",
        "[gw0] evaluate pr IQ2_XXS: 35/100, 35 %, 35 s, about 1 min 5 s left",
        "[gw0] evaluate pr IQ2_XXS: 65/100, 65 %, 1 min 5 s, about 35 s left",
        "[gw0] evaluate pr IQ2_XXS: 95/100, 95 %, 1 min 35 s, about 5 s left",
        "[gw0] evaluate pr IQ2_XXS: done in 1 min 41 s",
    ]


def test_short_steps_are_not_worth_a_line(log, clock):
    progress, stream = log
    progress.step("build", 0, 2)
    clock.now += 4
    progress.step("build", 2, 2)
    progress.finish("build")
    assert stream.getvalue() == ""


def test_a_silent_step_is_told_of_by_the_clock(log, clock):
    progress, stream = log
    progress.step("fetch", 0, 0)
    clock.now += 3700
    progress.tick()
    assert stream.getvalue() == "[gw0] fetch: 1 h 1 min\n"


def test_time_left_counts_from_where_the_step_was_first_heard_of(log, clock):
    progress, stream = log
    progress.step("build", 90, 100)
    clock.now += 10
    progress.step("build", 95, 100)
    assert "about 10 s left" in stream.getvalue()


def test_the_live_line_is_below_what_stands_and_leaves_no_trace(clock):
    stream = Terminal()
    stream.write("quant-gate::A ")
    progress = StreamProgress(
        stream, column=lambda: 14, width=lambda: 40, clock=clock, ticking=False
    )
    progress.step("evaluate pr", 1, 4)
    clock.now += 10
    progress.step("evaluate pr", 2, 4)
    lines, _ = screen(stream.getvalue())
    assert lines == ["quant-gate::A ", "evaluate pr: 2/4, 50 %, 10 s, about 20 "]
    progress.finish("evaluate pr")
    assert screen(stream.getvalue()) == (["quant-gate::A ", ""], (0, 14))


def test_the_live_line_takes_an_empty_line(clock):
    stream = Terminal()
    progress = StreamProgress(stream, width=lambda: 80, clock=clock, ticking=False)
    progress.step("build main", 1, 4)
    assert screen(stream.getvalue())[0] == ["build main: 1/4, 25 %, 0 s"]
    progress.clear()
    assert screen(stream.getvalue()) == ([""], (0, 0))


def test_the_live_line_shows_the_step_heard_of_last_and_not_too_often(clock):
    stream = Terminal()
    progress = StreamProgress(stream, width=lambda: 80, clock=clock, ticking=False)
    progress.step("build main", 0, 4)
    progress.step("build pr", 0, 4)
    assert screen(stream.getvalue())[0] == ["build main: 0/4, 0 %, 0 s"]
    clock.now += 1
    progress.tick()
    assert screen(stream.getvalue())[0] == ["build pr: 0/4, 0 %, 1 s"]


def test_a_dumb_terminal_gets_plain_lines(monkeypatch, clock):
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    StreamProgress(stream, clock=clock, ticking=False).step("build", 0, 4)
    assert stream.getvalue() == ""


def test_the_clock_thread_ends_with_the_last_step():
    before = threading.enumerate()
    progress = StreamProgress(io.StringIO())
    progress.step("build", 0, 1)
    (thread,) = [t for t in threading.enumerate() if t not in before]
    progress.finish("build")
    thread.join(timeout=5)
    assert not thread.is_alive()
