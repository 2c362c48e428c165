"""Tells of long steps: one live line on a terminal, plain lines with a heartbeat in a log.

tqdm and rich own the line that they draw on; this line shares its terminal with
pytest, which leaves half-written lines standing, so it is drawn below them and
taken away without a trace.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

LIVE_EVERY_S = 0.5
LOG_AFTER_S = 5.0
LOG_EVERY_S = 30.0


@dataclass
class _Step:
    """A running step; ``first`` is what was done when it was first heard of."""

    started: float
    first: int
    done: int
    total: int
    told: float | None = None


class StreamProgress:
    """Implements `domain.Progress` on a stream; safe to call from several threads.

    On a terminal the step heard of last is shown, with what is done and left.
    Elsewhere a step is told of after 5 s and then every 30 s, and its end too if
    it was told of; a step that says nothing itself is told of by a clock thread.

    Parameters
    ----------
    stream : TextIO
        Where to write.
    prefix : str
        Begins each plain line, to tell processes apart.
    column : () -> int
        Width of what another writer left standing on the terminal's last line.
    width : () -> int
        The terminal's width in columns.
    clock : () -> float
        Seconds.
    live : bool, optional
        Whether to draw one live line; else a terminal decides it.
    ticking : bool
        Whether a thread watches the clock between the calls.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        prefix: str = "",
        column: Callable[[], int] = lambda: 0,
        width: Callable[[], int] | None = None,
        clock: Callable[[], float] = time.monotonic,
        live: bool | None = None,
        ticking: bool = True,
    ) -> None:
        self._stream = stream
        self._prefix = prefix
        self._column = column
        self._width = width or _terminal_width
        self._clock = clock
        self._ticking = ticking
        is_terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._live = is_terminal if live is None else live
        self._steps: dict[str, _Step] = {}
        self._drawn_below: int | None = None  # the column to return to; None: nothing is drawn
        self._drawn_at = float("-inf")
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None

    def step(self, what: str, done: int, total: int) -> None:
        """Say that ``what`` has done ``done`` of ``total`` (0 of 0: unknown)."""
        with self._lock:
            step = self._steps.pop(what, None) or _Step(self._clock(), done, done, total)
            step.done, step.total = done, total
            self._steps[what] = step  # last, so that it is the one shown
            self.tick()
            self._start_clock()

    def finish(self, what: str) -> None:
        """Say that ``what`` ended."""
        with self._lock:
            step = self._steps.pop(what, None)
            self._erase()
            if step is not None and step.told is not None and not self._live:
                self._say(f"{what}: done in {_duration(self._clock() - step.started)}")

    def clear(self) -> None:
        """Forget all steps and take the live line away; a failed step never says that it ended."""
        with self._lock:
            self._steps.clear()
            self._erase()

    def tick(self) -> None:
        """Tell what is due now."""
        with self._lock:
            now = self._clock()
            if self._live:
                if self._steps and now - self._drawn_at >= LIVE_EVERY_S:
                    what, step = list(self._steps.items())[-1]
                    self._draw(_line(what, step, now))
                    self._drawn_at = now
                return
            for what, step in self._steps.items():
                due = step.started + LOG_AFTER_S if step.told is None else step.told + LOG_EVERY_S
                if now >= due:
                    self._say(_line(what, step, now))
                    step.told = now

    def _draw(self, text: str) -> None:
        self._erase()
        column = max(0, self._column())
        text = text[: max(1, self._width() - 1)]
        self._stream.write(("\n" if column else "\r") + text)
        self._stream.flush()
        self._drawn_below = column

    def _erase(self) -> None:
        if self._drawn_below is None:
            return
        back = f"\x1b[A\x1b[{self._drawn_below}C" if self._drawn_below else ""
        self._stream.write("\r\x1b[2K" + back)
        self._stream.flush()
        self._drawn_below = None
        self._drawn_at = float("-inf")

    def _say(self, text: str) -> None:
        self._stream.write(f"{self._prefix}{text}\n")
        self._stream.flush()

    def _start_clock(self) -> None:
        if self._ticking and self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)
            self._thread.start()

    def _watch(self) -> None:
        while True:
            time.sleep(1)
            with self._lock:
                if not self._steps:
                    self._thread = None
                    return
                self.tick()


def _line(what: str, step: _Step, now: float) -> str:
    """``build pr: 37/125, 30 %, 1 min 5 s, about 2 min 31 s left``."""
    elapsed = now - step.started
    parts = []
    if step.total > 0:
        parts += [f"{step.done}/{step.total}", f"{100 * step.done // step.total} %"]
    parts.append(_duration(elapsed))
    gained = step.done - step.first
    if gained > 0 and step.total > step.done and elapsed >= 1:
        parts.append(f"about {_duration(elapsed / gained * (step.total - step.done))} left")
    return f"{what}: {', '.join(parts)}"


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _terminal_width() -> int:
    import shutil

    return shutil.get_terminal_size().columns
