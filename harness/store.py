"""Content-addressed files: atomic writes, locks, eviction.

Layout: ``<root>/<kind>/<key>/``, one folder an entry, valid only once it holds
the file ``stamp.json``. An entry is made under its lock, in a temporary folder
that is renamed once it is whole; what a killed run left is removed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness.errors import HarnessError, InfrastructureError, UsageError

STAMP = "stamp.json"
_FULL_BYTES = 16 << 20


@dataclass(frozen=True)
class Store:
    """The cache folder; made with mode 0700 on first use."""

    root: Path

    def folder(self, kind: str) -> Path:
        """Return ``<root>/<kind>``, made if need be. Raises UsageError where it can't be."""
        folder = self.root / kind
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"the cache folder {self.root} can't be used: {error.strerror}",
                hint="name another one with --quant-cache-dir=DIR",
            ) from None
        return folder

    def find(self, kind: str, key: str) -> Path | None:
        """Return the entry's folder if it is stamped, and mark it as used now."""
        entry = self.folder(kind) / key
        if not (entry / STAMP).exists():
            return None
        with contextlib.suppress(OSError):
            os.utime(entry / STAMP)
        return entry

    def stamp(self, kind: str, key: str) -> dict[str, Any]:
        """Return what `make` recorded of an entry."""
        loaded: dict[str, Any] = json.loads((self.folder(kind) / key / STAMP).read_text())
        return loaded

    @contextlib.contextmanager
    def lock(self, kind: str, key: str) -> Iterator[None]:
        """Hold the entry: no other process makes or evicts it meanwhile."""
        locks = self.folder("locks")
        with FileLock(locks / f"{kind}-{key}.lock"):
            yield

    def make(self, kind: str, key: str, fill: Callable[[Path], dict[str, Any]]) -> Path:
        """Return the entry's folder; ``fill(folder)`` makes it, once, if it is not there.

        ``fill`` gets an empty folder and returns what the stamp records. If it
        raises, the folder is removed and nothing is left behind. Raises
        InfrastructureError when the disk is full.
        """
        with self.lock(kind, key):
            found = self.find(kind, key)
            if found is not None:
                return found
            target = self.folder(kind) / key
            for leftover in target.parent.glob(
                f".{key[:16]}-*"
            ):  # of a killed run: we hold the lock
                remove_tree(leftover)
            temporary = Path(tempfile.mkdtemp(prefix=f".{key[:16]}-", dir=target.parent))
            try:
                with disk_full_is_clear(target.parent):
                    record = fill(temporary)
                    write_atomically(temporary / STAMP, json.dumps(record, indent=1).encode())
                if target.exists():  # an unstamped leftover of a killed run
                    remove_tree(target)
                temporary.rename(target)
            except HarnessError as error:
                is_full = shutil.disk_usage(target.parent).free < _FULL_BYTES
                remove_tree(temporary)
                if is_full:  # a tool that met it says something else
                    raise no_space(target.parent, error.message) from error
                raise
            except BaseException:
                remove_tree(temporary)
                raise
            return target

    def sha256_of(self, path: Path) -> str:
        """Return a file's SHA-256, remembered by path, size and time of change.

        A BF16 model of 200 GB takes minutes to hash; it is hashed once.
        """
        state = path.stat()
        key = digest(str(path.resolve()), state.st_size, state.st_mtime_ns, state.st_ino)
        note = self.folder("hashes") / key
        if note.exists():
            return note.read_text()
        found = file_sha256(path)
        write_atomically(note, found.encode())
        return found

    def evict(self, kind: str, max_bytes: int, spared_s: float = 0.0) -> None:
        """Remove the entries used longest ago until ``kind`` fits; entries in use stay.

        Entries used in the last ``spared_s`` seconds stay, too: a checkout or a
        build is read without its lock.
        """
        entries = []
        for stamp in self.folder(kind).glob(f"*/{STAMP}"):
            with contextlib.suppress(OSError):
                entries.append((stamp.stat().st_mtime, folder_bytes(stamp.parent), stamp.parent))
        total = sum(size for _, size, _ in entries)
        for used, size, entry in sorted(entries, key=lambda e: e[0]):
            if total <= max_bytes or time.time() - used < spared_s:
                return
            lock = FileLock(self.folder("locks") / f"{kind}-{entry.name}.lock")
            try:
                with lock.acquire(timeout=0):
                    remove_tree(entry)
                    total -= size
            except Timeout:
                continue


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` so that ``path`` never holds a part of it (temporary, fsync, replace)."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, 0o644)  # mkstemp's 0600 is for secrets
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


@contextlib.contextmanager
def disk_full_is_clear(where: Path) -> Iterator[None]:
    """Turn ENOSPC and EDQUOT into an InfrastructureError that says what is free."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise no_space(where, str(error)) from error


def no_space(where: Path, met: str) -> InfrastructureError:
    """The error of a full disk; ``met`` is what failed because of it."""
    free = shutil.disk_usage(where).free
    return InfrastructureError(
        f"no space left in {where}: {free / 1e9:.2f} GB free ({met.splitlines()[0][:160]})",
        hint="free some, or put the cache elsewhere with --quant-cache-dir=DIR",
    )


def remove_tree(path: Path) -> None:
    """Remove a folder if it is there, read-only parts of it too."""

    def make_writable(function: Callable[[str], object], name: str, _: object) -> None:
        for target in (Path(name).parent, Path(name)):
            with contextlib.suppress(OSError):
                target.chmod(0o700)
        with contextlib.suppress(OSError):
            function(name)

    if path.exists():
        shutil.rmtree(path, onerror=make_writable)


def folder_bytes(path: Path) -> int:
    """Return the bytes of all files below ``path``."""
    return sum(f.stat().st_size for f in path.rglob("*") if f.is_file() and not f.is_symlink())


def digest(*parts: object) -> str:
    """Return a key for content: 32 hex digits over the parts' JSON."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
