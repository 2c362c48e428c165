"""Running git: always the repository that was meant, errors in our words, progress of fetches."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

# GitPython raises ImportError at import where git is not installed; with
# "quiet" it tells when git is first used, and `GitDir` says so properly.
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

import git
from git.cmd import handle_process_output

from harness.domain import Progress
from harness.errors import InfrastructureError

#: Transports that a remote's URL may use; ``ext::`` would run any command.
PROTOCOLS = "file:git:http:https:ssh"

#: What a user's own configuration must not change of a deterministic result.
NO_CONFIG = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ATTR_NOSYSTEM": "1",
    "XDG_CONFIG_HOME": os.devnull,
}


@dataclass(frozen=True)
class Outcome:
    """How a git command ended."""

    status: int
    output: str
    errors: str

    @property
    def ok(self) -> bool:
        """Whether git said that it worked."""
        return self.status == 0

    @property
    def last_error(self) -> str:
        """What git complained of, in its words, without the passwords of URLs."""
        lines = [line for line in self.errors.splitlines() if line.strip()]
        told = [line for line in lines if line.startswith(("fatal:", "error:"))] or lines[-1:]
        return without_password("; ".join(told)) or f"git ended with status {self.status}"


@dataclass(frozen=True)
class GitDir:
    """A git directory (``.git`` or a bare repository) and its work tree, if there is one."""

    path: Path
    work_tree: Path | None = None

    @property
    def common(self) -> Path:
        """Where objects and branches are: of a linked worktree, the main clone's git directory."""
        pointer = self.path / "commondir"
        return (
            (self.path / pointer.read_text().strip()).resolve() if pointer.exists() else self.path
        )

    def run(self, *arguments: str, env: Mapping[str, str] | None = None) -> str:
        """Return the command's output. Raises InfrastructureError when git fails."""
        outcome = self.attempt(*arguments, env=env)
        if not outcome.ok:
            raise InfrastructureError(
                f"git {arguments[0]} failed in {self.path}: {outcome.last_error}"
            )
        return outcome.output

    def attempt(self, *arguments: str, env: Mapping[str, str] | None = None) -> Outcome:
        """Run a command that may fail and return how it ended."""
        with git_is_installed():
            status, output, errors = self._git().execute(
                self._command(arguments),
                with_extended_output=True,
                with_exceptions=False,
                env={**self._environment(), **(env or {})},
            )
        return Outcome(status, _printable(str(output)), _printable(errors))

    def fetch(self, url: str, *refspecs: str, what: str, progress: Progress) -> Outcome:
        """Fetch refs from ``url`` into this repository; ``what`` names the step."""
        told = _FetchProgress(what, progress)
        options = ("--progress", "--force", "--prune", "--no-tags", "--no-auto-maintenance")
        command = ("fetch", *options, "--", url, *refspecs)
        progress.step(what, 0, 0)
        with git_is_installed():
            process = self._git().execute(
                self._command(command),
                as_process=True,
                universal_newlines=True,  # a progress line ends with a carriage return
                env=self._environment(),
            )
        handle_process_output(process, None, told.new_message_handler(), decode_streams=False)
        try:
            status = process.wait()
        except git.GitCommandError as error:
            status = _status(error)
        progress.finish(what)
        return Outcome(status, "", "\n".join([*told.other_lines, *told.error_lines]))

    @contextmanager
    def feeding(self, *arguments: str, env: Mapping[str, str]) -> Iterator[IO[bytes]]:
        """Run a command and yield its standard input. Raises InfrastructureError if it fails."""
        with git_is_installed():
            process = self._git().execute(
                self._command(arguments),
                istream=subprocess.PIPE,
                as_process=True,
                env={**self._environment(), **env},
            )
        assert process.stdin is not None
        try:
            # A command that ends early breaks the pipe; its status then tells why.
            with suppress(BrokenPipeError), process.stdin as stdin:
                yield stdin
            process.wait()
        except git.GitCommandError as error:
            why = Outcome(_status(error), "", str(error.stderr)).last_error
            raise InfrastructureError(f"git {arguments[0]} failed in {self.path}: {why}") from error

    def _git(self) -> git.Git:
        return git.Git(self.work_tree or self.path)

    @staticmethod
    def _command(arguments: tuple[str, ...]) -> list[str]:
        # A repository's own configuration may name commands; reading it must run none.
        guards = ("core.fsmonitor=false", f"core.hooksPath={os.devnull}", "gc.auto=0")
        options = [part for guard in guards for part in ("-c", guard)]
        return [git.Git.GIT_PYTHON_GIT_EXECUTABLE or "git", *options, *arguments]

    def _environment(self) -> dict[str, str]:
        # Inside a git hook these variables name the hook's repository: they win over the folder.
        where = {"GIT_DIR": str(self.path), "GIT_INDEX_FILE": str(self.path / "index")}
        if self.work_tree is not None:
            where["GIT_WORK_TREE"] = str(self.work_tree)
        return where | {
            "GIT_ALLOW_PROTOCOL": PROTOCOLS,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_NO_REPLACE_OBJECTS": "1",
        }


def new_bare_repository(path: Path, *, objects_of: GitDir | None = None) -> GitDir:
    """Make a bare repository, if it is not there, that owes nothing to the user's templates.

    All objects of ``objects_of`` can be read in it too; none of its refs are.
    """
    path.mkdir(parents=True, exist_ok=True)
    made = GitDir(path)
    made.run("init", "--quiet", "--bare", "--template=", "--initial-branch=main", env=NO_CONFIG)
    if objects_of is not None:
        lender = objects_of.common.resolve()
        info = path / "objects" / "info"
        info.mkdir(parents=True, exist_ok=True)
        (info / "alternates").write_text(f"{lender / 'objects'}\n")
        # A shallow clone's history ends at these commits; not told, git misses their parents.
        (path / "shallow").unlink(missing_ok=True)
        if (lender / "shallow").exists():
            (path / "shallow").write_bytes((lender / "shallow").read_bytes())
    return made


def without_password(text: str) -> str:
    """Return ``text`` with the user part of each URL removed: it may hold a token."""
    return re.sub(r"(\w://)[^/@\s]+@", r"\1", text)


@contextmanager
def git_is_installed() -> Iterator[None]:
    """Turn GitPython's error for a missing git into one that says so."""
    try:
        yield
    except git.GitCommandNotFound as error:
        raise InfrastructureError(
            "git is not installed, or not on PATH", hint="install it: apt install git"
        ) from error


def _status(error: git.GitCommandError) -> int:
    return error.status if isinstance(error.status, int) else 1


def _printable(text: str) -> str:
    # GitPython gives bytes that are not UTF-8 (names of files) as surrogates, which no
    # terminal and no report takes.
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class _FetchProgress(git.RemoteProgress):
    def __init__(self, what: str, progress: Progress) -> None:
        super().__init__()
        self._what = what
        self._progress = progress

    def update(
        self,
        op_code: int,
        cur_count: str | float,
        max_count: str | float | None = None,
        message: str = "",  # noqa: ARG002 - GitPython's signature
    ) -> None:
        if op_code & self.RECEIVING:
            self._progress.step(self._what, int(float(cur_count)), int(float(max_count or 0)))
