"""The gate in pytest's session: a controller, and with xdist its workers.

The controller checks the input before anything is collected, builds before any
item runs, and at the end writes results.json and sets the exit code.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import pytest

from harness.display import Display
from harness.errors import ExitCode, HarnessError, UsageError
from harness.items import NAME, GateCollector, GateRun, QuantItem, Tally, outcome_of, tell
from harness.options import GateConfig, read_config, rerun_command
from harness.report.progress import StreamProgress
from harness.report.results import (
    ItemError,
    Outcome,
    results_json,
    run_exit_code,
)
from harness.store import write_atomically

CONFIG = pytest.StashKey[GateConfig]()
_WORKER_INPUT = "quant_gate"


def stop(error: HarnessError) -> pytest.UsageError:
    """Return what ends the run before it began, showing the error's text alone.

    `plugin.pytest_cmdline_main` finds the exit code in the cause.
    """
    ended = pytest.UsageError(str(error))
    ended.__cause__ = error
    return ended


def register(config: pytest.Config) -> None:
    """Read the options and register what the run needs. Raises UsageErrors."""
    folder = config.invocation_params.dir
    ini_folder = config.inipath.parent if config.inipath is not None else config.rootpath
    gate_config = read_config(config.option, config.getini, ini_folder, folder, config.rootpath)
    config.stash[CONFIG] = gate_config
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    worker = getattr(config, "workerinput", None)
    progress = _progress(config, terminal is not None, worker)

    def rerun(recipe: str) -> str:
        return rerun_command(config.option, recipe)

    run = GateRun(gate_config, progress, rerun, folder)
    if worker is not None:
        run.from_controller(worker[_WORKER_INPUT])
        config.pluginmanager.register(Worker(config, run, progress), "quant-gate-worker")
        return
    controller = Controller(config, run, progress)
    config.pluginmanager.register(controller, "quant-gate-controller")
    if terminal is not None:
        config.pluginmanager.register(
            Display(terminal, config, controller.tally), "quant-gate-display"
        )


class Worker:
    """Collects the gate's items in place of the folder's tests; so does the controller."""

    def __init__(self, config: pytest.Config, run: GateRun, progress: StreamProgress) -> None:
        self.config = config
        self.run = run
        self._progress = progress
        self._wanted: tuple[str, ...] = ()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Take the gate's node ids off the arguments, and the folder's tests if none was named."""
        ours: list[str] = []
        others: list[str] = []
        if self.config.args_source is pytest.Config.ArgsSource.ARGS:
            for argument in self.config.args:
                path, _, _ = argument.partition("::")
                is_ours = Path(path).name == NAME and not Path(path).exists()
                (ours if is_ours else others).append(argument)
        self.config.args = others
        asked = {argument.partition("::")[2] for argument in ours}
        for name in asked - {"", *self.run.names}:
            raise stop(
                UsageError(
                    f"no recipe {name!r} in this run; it has {', '.join(self.run.names)}",
                    hint=f"--quant-types={name} asks for it",
                )
            )
        everything = not asked or "" in asked
        self._wanted = tuple(n for n in self.run.names if everything or n in asked)

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Hang the gate into pytest's tree, behind the paths that were given."""
        report = yield
        if isinstance(collector, pytest.Session) and report.passed:
            report.result.append(
                GateCollector.from_parent(
                    collector, name=NAME, nodeid=NAME, run=self.run, wanted=self._wanted
                )
            )
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Let the report carry the outcome."""
        report = yield
        if isinstance(item, QuantItem):
            self._progress.clear()  # a step that failed never says that it ended
            tell(item, call, report)
        return report

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_timeout_set_timer(self, item: pytest.Item) -> bool | None:
        """Set none: pytest-timeout's limit is meant for the folder's tests, not for measuring."""
        return True if isinstance(item, QuantItem) else None

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """Close the gate; the verdicts don't hang on it."""
        self._progress.clear()
        with contextlib.suppress(HarnessError, OSError):
            self.run.gate.close()


class Controller(Worker):
    """Runs once: opens, builds, gathers outcomes, writes results.json, sets the exit code."""

    def __init__(self, config: pytest.Config, run: GateRun, progress: StreamProgress) -> None:
        super().__init__(config, run, progress)
        self.tally = Tally(run)
        self._own_tests_failed = False
        self._started = time.time()

    # ---- before ----------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Find the user's mistakes before anything takes long."""
        try:
            if not self.config.option.collectonly:
                _empty_report(self.tally.results_path)
            self.run.open()
            self.tally.header = self.run.gate.describe()
        except HarnessError as error:
            raise stop(error) from error
        finally:
            self._progress.clear()
        super().pytest_sessionstart()

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_xdist_setupnodes(self) -> None:
        """Build before the workers start: they find the builds, or hear of the error."""
        self._prepare()

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker."""
        node.workerinput[_WORKER_INPUT] = self.run.to_worker()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note what is to run."""
        ours = (item.name for item in session.items if isinstance(item, QuantItem))
        self.tally.selected = tuple(ours) or self.tally.selected

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """Note what is to run."""
        self.tally.selected = tuple(i.partition("::")[2] for i in ids if i.startswith(f"{NAME}::"))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Build before the first item, outside of its time limit and its captured output."""
        runs = not self.config.option.collectonly and not session.testsfailed
        if runs and any(isinstance(item, QuantItem) for item in session.items):
            self._prepare()
        return (yield)

    def _prepare(self) -> None:
        try:
            self.run.prepare()
        finally:
            self._progress.clear()
        if isinstance(self.run.error, UsageError):
            raise stop(self.run.error)

    # ---- after -----------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Gather the outcomes, also those that come from workers."""
        outcome = outcome_of(report)
        is_ours = report.nodeid.startswith(f"{NAME}::")
        if outcome is None and is_ours and report.failed:  # a worker died, or a teardown failed
            name = report.nodeid.partition("::")[2]
            outcome = Outcome(name, error=ItemError("internal", str(report.longrepr)))
        if outcome is not None:
            self.tally.add(outcome)
        elif report.failed:
            self._own_tests_failed = True

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:  # type: ignore[override]
        """Set the exit code and write results.json, however the run ended."""
        super().pytest_sessionfinish()
        tally = self.tally
        if self.config.option.collectonly or exitstatus == ExitCode.USAGE or not tally.selected:
            return
        tally.exit_code = int(exitstatus)
        # xdist ends -x as an interruption, plain pytest as a failure; both stopped at a finding
        is_stopped = exitstatus == pytest.ExitCode.INTERRUPTED and session.shouldfail
        if exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) or is_stopped:
            own = ExitCode.REGRESSION if self._own_tests_failed else None
            tally.exit_code = int(own or run_exit_code(tally.outcomes))
        text = results_json(self._facts(), tally.outcomes, tally.not_run, tally.exit_code)
        try:
            write_atomically(tally.results_path, text.encode())
        except OSError as error:
            tally.trouble = f"{tally.results_path} can't be written: {error.strerror}"
            tally.exit_code = int(ExitCode.INFRASTRUCTURE)
        session.exitstatus = tally.exit_code

    def _facts(self) -> dict[str, object]:
        config, source = self.run.config, self.run.gate.source
        summaries = [o.result.pr.summary for o in self.tally.outcomes if o.result is not None]
        measured = next((s.n_chunks for s in summaries if s is not None), config.chunks)
        described = dict(self.tally.header)
        return {
            "main_commit": source.main.sha,
            "pr_commit": source.pr.sha,
            "main_ref": source.main.ref,
            "pr_ref": source.pr.ref,
            "repo": source.repo,
            "model": config.model,
            "corpus": described.get("corpus"),
            "evaluator": described.get("evaluator", config.evaluator),
            "sandbox": described.get("sandbox"),
            "policy": config.policy.value,
            "limit_pct": config.limit_pct,
            "chunks": measured,
            "started": datetime.fromtimestamp(self._started, UTC).isoformat(),
            "seconds": time.time() - self._started,
        }


def _empty_report(results: Path) -> None:
    """Make the report's folder and take an older run's results away."""
    try:
        if not results.parent.exists():
            results.parent.mkdir(parents=True)
            (results.parent / ".gitignore").write_text("*\n")
        write_atomically(results, b"")
        results.unlink()
    except OSError as error:
        raise UsageError(
            f"{results.parent} can't be written: {error.strerror}",
            hint="--quant-report-dir=DIR takes another folder",
        ) from error


def _progress(config: pytest.Config, has_terminal: bool, worker: Any) -> StreamProgress:
    if worker is not None:  # its stdout is xdist's; whole lines on stderr don't disturb the others
        stream = _own_stream(config, sys.stderr)
        return StreamProgress(stream, prefix=f"[{worker['workerid']}] ", live=False)
    if not has_terminal:
        return StreamProgress(io.StringIO(), live=False)
    writer = config.get_terminal_writer()
    stream = _own_stream(config, sys.stdout)
    return StreamProgress(stream, column=lambda: writer.width_of_current_line)


def _own_stream(config: pytest.Config, shown: TextIO) -> TextIO:
    """A stream onto the same file that pytest's capturing does not turn away."""
    try:
        own = os.fdopen(os.dup(shown.fileno()), "w", encoding=shown.encoding, errors="replace")
    except (OSError, ValueError):  # no file below it
        return shown
    config.add_cleanup(own.close)
    return own
