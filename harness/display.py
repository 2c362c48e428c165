"""The gate's part of pytest's terminal: header, a line a recipe, the closing table."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from harness.items import NAME, Tally, outcome_of
from harness.report.failure import shown_path
from harness.report.results import Outcome
from harness.report.terminal import closing_line, item_figures, summary_tables

# word: pytest's category, its letter, its colour
STATUS = {
    "BETTER": ("passed", ".", "green"),
    "SAME": ("passed", ".", "green"),
    "WORSE": ("failed", "F", "red"),
    "INCONCLUSIVE": ("inconclusive", "I", "yellow"),
    "ERROR": ("error", "E", "red"),
}
_Status = tuple[str, str, tuple[str, dict[str, bool]]]
_PERCENT = len(" [100%]") + 1  # what pytest leaves for its own figure at a line's end


class Display:
    """Shows what the controller knows; lives in the process that has the terminal."""

    def __init__(
        self, terminal: pytest.TerminalReporter, config: pytest.Config, tally: Tally
    ) -> None:
        self._terminal = terminal
        self._config = config
        self._tally = tally
        self._writer = config.get_terminal_writer()
        self._is_reporting = False

    def pytest_report_header(self) -> list[str]:
        """What is compared, with what."""
        header = self._tally.header
        width = max((len(name) for name, _ in header), default=0)
        return ["quant-gate:", *(f"  {name:<{width}}  {text}" for name, text in header)]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_logstart(self, nodeid: str) -> Generator[None, None, None]:
        """Begin a recipe's line without the name of a file: there is none."""
        if _is_ours(nodeid) and not self._is_verbose:
            self._terminal.currentfspath = self._config.rootpath / NAME
        yield
        self._terminal.flush()  # progress is written past pytest's own buffer

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None, None, None]:
        """Let pytest write the recipe's line, figures and all."""
        if not _is_ours(report.nodeid):
            return (yield)
        self._is_reporting = True
        try:
            yield
        finally:
            self._is_reporting = False
        outcome = outcome_of(report)
        if outcome is not None and self._is_verbose and _is_remote(report):
            width = self._writer.fullwidth - self._writer.width_of_current_line - 2
            self._terminal.write(f"  {item_figures(outcome, width)}")
        if not self._is_verbose:
            self._terminal.currentfspath = None
        return None

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> _Status | None:
        """Name the verdict; while the recipe is reported, its figures too."""
        outcome = outcome_of(report) if isinstance(report, pytest.TestReport) else None
        if outcome is None:
            return None
        category, letter, colour = STATUS[outcome.word]
        word = outcome.word
        if self._is_reporting and not self._is_verbose:
            letter = self._line(outcome)
        elif self._is_reporting and not _is_remote(report):
            width = self._writer.fullwidth - len(f"{report.nodeid} {word}  ") - _PERCENT
            word = f"{word}  {item_figures(outcome, width)}"
        return category, letter, (word, {colour: True})

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self) -> Generator[None, object, object]:
        """Close the run: below pytest's own failures, the table and the verdict."""
        self._tell_inconclusive()
        result = yield
        if self._tally.exit_code is not None:
            self._tell_run(self._tally.exit_code)
        return result

    def _tell_inconclusive(self) -> None:
        """Pytest shows the texts of failures and errors only."""
        reports = self._terminal.stats.get("inconclusive", [])
        if reports and self._config.option.tbstyle != "no":
            self._terminal.write_sep("=", "INCONCLUSIVE")
            for report in reports:
                self._terminal.write_sep("_", report.head_line, yellow=True, bold=True)
                self._terminal.write_line(str(report.longrepr))

    def _tell_run(self, exit_code: int) -> None:
        tally, terminal = self._tally, self._terminal
        terminal.write_sep("=", "quant-gate")
        for line in summary_tables(tally.outcomes, self._writer.fullwidth):
            terminal.write_line(line)
        if tally.trouble:
            terminal.write_line(tally.trouble, red=True)
        else:
            folder = self._config.invocation_params.dir
            terminal.write_line(f"results: {shown_path(str(tally.results_path), folder)}")
        verdict = tally.verdict
        colour = STATUS[verdict.value if verdict is not None else "ERROR"][2]
        text = closing_line(tally.outcomes, tally.not_run, verdict, exit_code)
        terminal.write_line(text, bold=True, **{colour: True})

    def _line(self, outcome: Outcome) -> str:
        """A whole line in place of pytest's letter, filled so far that pytest ends it."""
        longest = max(map(len, self._tally.names))
        head = f"{NAME}::{outcome.recipe:<{longest}}  {outcome.word:<6}  "
        width = self._writer.fullwidth - _PERCENT
        line = head + item_figures(outcome, width - len(head))
        return ("\n" if self._writer.width_of_current_line else "") + line.ljust(width)

    @property
    def _is_verbose(self) -> bool:
        return self._config.get_verbosity(pytest.Config.VERBOSITY_TEST_CASES) > 0


def _is_ours(nodeid: str) -> bool:
    return nodeid.startswith(f"{NAME}::")


def _is_remote(report: pytest.TestReport) -> bool:
    """Whether an xdist worker sent it; pytest then writes the word before the node id."""
    return hasattr(report, "node")
