"""Which repository a run looks at: a clone, a URL, or the demo."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import git

from harness.domain import Progress
from harness.errors import InfrastructureError, UsageError
from harness.source.demo import demo_repository
from harness.source.gitdir import (
    GitDir,
    git_is_installed,
    new_bare_repository,
    without_password,
)
from harness.store import Store, digest, remove_tree

DEMO = "demo"
_URL_SCHEMES = ("https://", "ssh://", "git@", "file://")


@dataclass(frozen=True)
class Repository:
    """A repository opened for a run.

    Attributes
    ----------
    name : str
        How reports call it; no password in it.
    refs : GitDir
        Where its branches and tags are: the user's clone, never written to,
        or a repository of the cache.
    fetched : GitDir
        The bare repository of the cache that takes what is fetched for a ref.
        It reads the objects of ``refs`` too.
    is_demo : bool
    store : Store
    progress : Progress
    """

    name: str
    refs: GitDir
    fetched: GitDir
    is_demo: bool
    store: Store
    progress: Progress

    def reader(self, *shas: str) -> GitDir:
        """Return the repository that has all these commits."""
        in_clone = all(self.refs.attempt("cat-file", "-e", f"{s}^{{commit}}").ok for s in shas)
        return self.refs if in_clone else self.fetched

    def remote_urls(self, *names: str) -> list[str]:
        """Return the URLs of those of the named remotes that exist, in that order."""
        urls = []
        for name in names:
            found = self.refs.attempt("remote", "get-url", name)
            if found.ok:
                urls.append(self._absolute(found.output.strip()))
        return urls

    @contextmanager
    def fetching(self) -> Iterator[GitDir]:
        """Lock ``fetched`` and make it ready to fetch into."""
        with self.store.lock("repos", self.fetched.path.name):
            if self.fetched != self.refs:
                new_bare_repository(self.fetched.path, objects_of=self.refs)
            yield self.fetched

    def _absolute(self, url: str) -> str:
        is_relative_path = ":" not in url and not url.startswith(("/", "~"))
        return str((self.refs.work_tree or self.refs.path) / url) if is_relative_path else url


def open_repository(spec: str | None, store: Store, progress: Progress, cwd: Path) -> Repository:
    """Open the repository that ``--quant-repo`` names.

    Parameters
    ----------
    spec : str or None
        ``"demo"``; a path of a git repository; a URL (``https://``, ``git@``,
        ``ssh://``, ``file://``), of which the cache keeps a bare clone that is
        fetched on each use; None for the llama.cpp clone around ``cwd``, and
        the demo where there is none.
    store : Store
        The cache.
    progress : Progress
        Told of the clone's or the demo's steps.
    cwd : Path
        Where the user stands.

    Raises
    ------
    UsageError
        Nothing there, not a git repository, or a kind of URL that is refused.
    InfrastructureError
        The network, the package index or git failed.
    """
    if spec is None:
        clone = _llama_clone_around(cwd)
        return _open_demo(store, progress) if clone is None else _open_path(clone, store, progress)
    if spec == DEMO:
        return _open_demo(store, progress)
    if spec.startswith("-") or re.match(r"[\w.+-]+::", spec):
        raise UsageError(
            f"repository {spec!r} refused: it would be taken for an option or a command",
            hint=_SPELLINGS,
        )
    if spec.startswith(_URL_SCHEMES):
        return _open_url(spec, store, progress)
    if "://" in spec:
        raise UsageError(
            f"repository {without_password(spec)!r}: {spec.split('://')[0]}:// is not supported",
            hint=_SPELLINGS,
        )
    path = os.path.expanduser(spec)  # noqa: PTH111 - a ~user that nobody is stays as it is
    return _open_path(cwd / path, store, progress)


_SPELLINGS = "--quant-repo=demo, =PATH of a git clone, or =URL (https://, ssh://, git@, file://)"


def _llama_clone_around(cwd: Path) -> Path | None:
    try:
        with git_is_installed(), git.Repo(cwd, search_parent_directories=True) as repo:
            top = repo.working_tree_dir
    except (git.InvalidGitRepositoryError, git.NoSuchPathError):
        return None
    if top is None:
        return None
    is_llama = (Path(top) / "include/llama.h").exists() or (Path(top) / "ggml").is_dir()
    return Path(top) if is_llama else None


def _open_demo(store: Store, progress: Progress) -> Repository:
    demo = demo_repository(store, progress)
    return Repository(DEMO, demo, demo, is_demo=True, store=store, progress=progress)


def _open_path(path: Path, store: Store, progress: Progress) -> Repository:
    try:
        with git.Repo(path, expand_vars=False) as repo:
            work_tree = repo.working_tree_dir
            refs = GitDir(Path(repo.git_dir).resolve(), Path(work_tree) if work_tree else None)
    except git.NoSuchPathError:
        raise UsageError(f"no repository at {path}: no such folder", hint=_SPELLINGS) from None
    except (git.InvalidGitRepositoryError, NotADirectoryError):
        raise UsageError(f"no repository at {path}: not a git clone", hint=_SPELLINGS) from None
    _require_trusted(path)
    key = digest("mirror", str(refs.common))
    fetched = GitDir(store.folder("repos") / key)
    return Repository(str(path), refs, fetched, is_demo=False, store=store, progress=progress)


def _require_trusted(path: Path) -> None:
    """Ask git itself: it refuses a folder of another user unless one allowed it."""
    with git_is_installed():
        status, _, errors = git.Git(path).execute(
            [git.Git.GIT_PYTHON_GIT_EXECUTABLE or "git", "rev-parse", "--git-dir"],
            with_extended_output=True,
            with_exceptions=False,
        )
    if status != 0:
        raise UsageError(
            f"git refuses the repository at {path}: {errors.strip().splitlines()[0]}",
            hint=f"if you trust it: git config --global --add safe.directory {path}",
        )


def _open_url(url: str, store: Store, progress: Progress) -> Repository:
    key = digest("clone", url)
    clone = GitDir(store.folder("repos") / key)
    name = without_password(url)
    with store.lock("repos", key):
        is_new = not (clone.path / "config").exists()
        try:
            if is_new:
                new_bare_repository(clone.path)
                clone.run("config", "remote.origin.url", url)
                clone.run("config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*")
            _update(clone, url, name, progress)
        except BaseException:
            if is_new:
                remove_tree(clone.path)
            raise
    return Repository(name, clone, clone, is_demo=False, store=store, progress=progress)


def _update(clone: GitDir, url: str, name: str, progress: Progress) -> None:
    refspecs = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
    outcome = clone.fetch(url, *refspecs, what=f"fetch {name}", progress=progress)
    if not outcome.ok:
        raise fetch_error(f"cannot fetch the repository {name}", outcome.last_error)
    # Fails where the remote's HEAD is detached; then master or main is looked for.
    clone.attempt("remote", "set-head", "origin", "--auto")


def fetch_error(what: str, git_says: str) -> UsageError | InfrastructureError:
    """Return the user's mistake (nothing there) or trouble of the network, by git's words."""
    nothing_there = (
        *("not found", "does not exist", "does not appear to be", "not a git repo"),
        "could not read username",  # GitHub asks who you are where there is nothing public
    )
    if any(words in git_says.lower() for words in nothing_there):
        return UsageError(
            f"{what}: {git_says}",
            hint="check the spelling; a private repository needs git's credential helper",
        )
    return InfrastructureError(f"{what}: {git_says}", hint="check the network and your access")
