"""A commit's exact files, read-only, in the cache."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness.domain import Checkout, Commit, Side
from harness.errors import InfrastructureError, PrError
from harness.source.gitdir import NO_CONFIG, GitDir, new_bare_repository
from harness.source.repository import Repository
from harness.store import Store


def checkout(repository: Repository, commit: Commit, store: Store) -> Checkout:
    """Return the commit's tree as read-only files; equal trees share one folder.

    Raises
    ------
    PrError
        A symbolic link of the PR's tree points out of the tree.
    InfrastructureError
        The same for main; or objects are missing, or the disk is full.
    """

    def fill(folder: Path) -> dict[str, str]:
        tree = folder / "tree"
        tree.mkdir()
        _write_tree(repository.reader(commit.sha), commit.tree, tree)
        _require_links_inside(tree, commit)
        _make_read_only(tree)
        return {"tree": commit.tree, "commit": commit.sha, "repo": repository.name}

    return Checkout(commit, store.make("checkouts", commit.tree, fill) / "tree")


def _write_tree(source: GitDir, tree_hash: str, target: Path) -> None:
    # An index of its own leaves the user's alone. A repository of its own, without any
    # configuration, runs no filter that the tree's .gitattributes may ask for, and leaves
    # a checkout to be a function of the tree alone. `git archive` would drop export-ignore.
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        bare = new_bare_repository(Path(temporary), objects_of=source)
        writer = GitDir(bare.path, work_tree=target)
        writer.run("read-tree", tree_hash, env=NO_CONFIG)
        writer.run("checkout-index", "--all", f"--prefix={target}/", env=NO_CONFIG)


def _require_links_inside(tree: Path, commit: Commit) -> None:
    root = os.path.realpath(tree)
    # Followed for real: a chain of links can leave though none of them does by itself.
    escaping = sorted(
        path
        for path in _entries(tree)
        if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(root)
    )
    if escaping:
        kind = PrError if commit.side is Side.PR else InfrastructureError
        link, target = escaping[0].relative_to(tree), escaping[0].readlink()
        more = f" ({len(escaping)} such links)" if len(escaping) > 1 else ""
        raise kind(
            f"{commit.side} {commit.short} ({commit.ref}): the symbolic link {link} -> {target} "
            f"points out of the tree{more}",
            hint="links of a tree that is built must be relative and stay inside it",
        )


def _make_read_only(tree: Path) -> None:
    for path in _entries(tree):
        if path.is_file() and not path.is_symlink():
            path.chmod(0o555 if path.stat().st_mode & 0o100 else 0o444)


def _entries(tree: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(tree):
        yield from (Path(folder, name) for name in [*folders, *files])
