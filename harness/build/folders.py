"""The folders of a build: the sources as the compiler sees them, and what is kept."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from harness.store import remove_tree


def mirror(checkout: Path, tree: Path) -> None:
    """Make ``tree`` the checkout with a link for each file, in folders that can be written.

    Trees up to the middle of 2025 generate a source file beside the others. Without
    ``.git``, what is compiled depends on the tree alone, as the key does.
    """
    for folder, folders, files in os.walk(checkout):
        original, here = Path(folder), tree / Path(folder).relative_to(checkout)
        here.mkdir(parents=True)
        links = [name for name in folders if (original / name).is_symlink()]
        for name in [*files, *links]:
            if name != ".git":
                (here / name).symlink_to(original / name)
        folders[:] = [name for name in folders if name != ".git"]


def remove_leftovers(folder: Path) -> None:
    """Remove what killed builds of this key left; its lock is ours, so none is running."""
    prefix = folder.name.rpartition("-")[0]
    for other in folder.parent.glob(f"{prefix}-*"):
        if other != folder:
            remove_tree(other)


def keep_binaries(made: Path, programs: Path, targets: Sequence[str]) -> None:
    """Copy the executables and all shared libraries (with their links) into one folder."""
    programs.mkdir()
    for path in sorted(made.rglob("*")):
        is_library = re.search(r"\.so(\.\d+)*$", path.name) is not None
        is_target = path.name in targets and os.access(path, os.X_OK)
        is_new = not os.path.lexists(programs / path.name)
        if is_new and (is_library or is_target) and (path.is_symlink() or path.is_file()):
            shutil.copy2(path, programs / path.name, follow_symlinks=False)
