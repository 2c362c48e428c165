"""The demo repository: made of a source distribution and patches, the same on every machine."""

import io
import os
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.errors import HarnessError, InfrastructureError, UsageError
from harness.source import checkout, open_repository, resolve
from harness.source.demo import PATCHES, REQUIREMENT, demo_repository
from harness.source.gitdir import GitDir
from harness.store import Store, file_sha256

NAMES = {"better", "bigger-file", "crashes", "does-not-compile", "no-change", "worse"}

#: Builds in place and needs nothing: pip asks a source distribution for its metadata.
BACKEND = """
from pathlib import Path
def prepare_metadata_for_build_wheel(folder, config_settings=None):
    info = Path(folder, "llama_cpp_python-0.3.36.dist-info")
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\\nName: llama-cpp-python\\nVersion: 0.3.36\\n")
    (info / "WHEEL").write_text("Wheel-Version: 1.0\\nTag: py3-none-any\\n")
    return info.name
"""
PYPROJECT = '[build-system]\nrequires=[]\nbuild-backend="backend"\nbackend-path=["."]\n'
PATCH = """quant : two

Because of that.

diff --git a/src/q.cpp b/src/q.cpp
--- a/src/q.cpp
+++ b/src/q.cpp
@@ -1 +1 @@
-one
+two
"""


@dataclass(frozen=True)
class Fake:
    """A source distribution of the right layout and patches for it."""

    sdist: Path
    sha256: str
    patches: Path

    def demo(self, store: Store, steps) -> GitDir:
        return demo_repository(store, steps, sha256=self.sha256, patches=self.patches)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    monkeypatch.delenv("QUANT_GATE_DEMO_SDIST", raising=False)
    inside = "vendor/llama.cpp/"
    files = {
        "pyproject.toml": PYPROJECT,
        "backend.py": BACKEND,
        "PKG-INFO": "Metadata-Version: 2.1\nName: llama-cpp-python\nVersion: 0.3.36\n",
        f"{inside}.git": "gitdir: ../../.git/modules/vendor/llama.cpp\n",
        f"{inside}.gitattributes": "* text eol=crlf\n",
        f"{inside}.gitignore": "*.o\n",
        f"{inside}kept.o": "ignored, and yet there\n",
        f"{inside}src/q.cpp": "one\n",
        f"{inside}src/a name.txt": "spaces\r\n",
        f"{inside}run.sh": "#!/bin/sh\n",
        f"{inside}models/vocab.gguf": "GGUF",
        f"{inside}docs/x.md": "docs\n",
    }
    (tmp_path / "links").mkdir()
    sdist = tmp_path / "links/llama_cpp_python-0.3.36.tar.gz"
    with tarfile.open(sdist, "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"llama_cpp_python-0.3.36/{name}")
            member.size = len(text)
            member.mode = 0o755 if name.endswith(".sh") else 0o664
            archive.addfile(member, io.BytesIO(text.encode()))
        link = tarfile.TarInfo(f"llama_cpp_python-0.3.36/{inside}link")
        link.type, link.linkname = tarfile.SYMTYPE, "src/q.cpp"
        archive.addfile(link)
    patches = tmp_path / "patches"
    patches.mkdir()
    (patches / "two.patch").write_text(PATCH)
    return Fake(sdist, file_sha256(sdist), patches)


@pytest.fixture
def given(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """The source distribution is at hand; pip is not needed."""
    monkeypatch.setenv("QUANT_GATE_DEMO_SDIST", str(fake.sdist))
    return fake


def leftovers(store: Store) -> list[Path]:
    entries = [*store.folder("demo").iterdir(), *store.folder("temporary").iterdir()]
    return [entry for entry in entries if entry.name != "stamp.json"]


def test_the_tree_is_llama_cpp_s_alone(given, store, steps):
    demo = given.demo(store, steps)
    listed = demo.run("ls-tree", "-r", "main").splitlines()
    modes = {line.split("\t")[1]: line.split()[0] for line in listed}
    assert modes == {
        ".gitattributes": "100644",
        ".gitignore": "100644",
        "kept.o": "100644",
        "run.sh": "100755",
        "src/a name.txt": "100644",
        "src/q.cpp": "100644",
    }
    assert demo.run("cat-file", "blob", "main:src/q.cpp") == "one"
    assert demo.run("cat-file", "-s", "main:src/a name.txt") == str(len("spaces\r\n"))


def test_a_patch_is_one_commit_on_a_branch_of_its_name(given, store, steps):
    demo = given.demo(store, steps)
    assert demo.run("for-each-ref", "--format=%(refname)").split() == [
        "refs/heads/demo/two",
        "refs/heads/main",
    ]
    assert demo.run("rev-parse", "demo/two^") == demo.run("rev-parse", "main")
    assert demo.run("log", "-1", "--format=%B", "demo/two").strip() == (
        "quant : two\n\nBecause of that."
    )
    assert demo.run("diff", "--name-only", "main", "demo/two") == "src/q.cpp"
    assert demo.run("cat-file", "blob", "demo/two:src/q.cpp") == "two"


def test_every_machine_makes_the_same_commits(given, steps, tmp_path, monkeypatch):
    def commits(name: str) -> str:
        demo = given.demo(Store(tmp_path / name), steps)
        return demo.run("for-each-ref", "--format=%(objectname) %(refname)")

    here = commits("here")
    other = tmp_path / "config"
    other.write_text(
        "[user]\nname=Eve\nemail=e@e\n[core]\nautocrlf=true\neol=crlf\nexcludesFile=/x\n"
        "[commit]\ngpgSign=true\n[i18n]\ncommitEncoding=latin1\n[init]\ndefaultBranch=trunk\n"
        "[apply]\nwhitespace=fix\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(other))
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("GIT_AUTHOR_DATE", "2001-01-01T00:00:00Z")
    old = os.umask(0o077)
    try:
        assert commits("there") == here
    finally:
        os.umask(old)


def test_it_is_made_once(given, store, steps, monkeypatch):
    demo = given.demo(store, steps)
    assert {"demo: unpack", "demo: commit branches"} <= set(steps.names)
    given.sdist.unlink()
    steps.names.clear()
    assert given.demo(store, steps) == demo
    assert steps.names == []


def test_a_changed_patch_makes_another_demo(given, store, steps):
    before = given.demo(store, steps)
    patch = given.patches / "two.patch"
    patch.write_text(PATCH.replace("two", "three"))
    after = given.demo(store, steps)
    assert after != before
    assert after.run("cat-file", "blob", "demo/two:src/q.cpp") == "three"


def test_a_patch_that_does_not_apply_is_named_and_leaves_nothing(given, store, steps):
    (given.patches / "two.patch").write_text(PATCH.replace("-one", "-zero"))
    with pytest.raises(InfrastructureError, match="git apply failed"):
        given.demo(store, steps)
    assert leftovers(store) == []


def test_a_file_with_another_hash_is_refused_with_both_hashes(given, store, steps):
    with given.sdist.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(UsageError) as told:
        given.demo(store, steps)
    assert file_sha256(given.sdist) in told.value.message
    assert given.sha256 in told.value.message
    assert leftovers(store) == []


def test_a_file_that_is_not_there_names_the_variable(fake, store, steps, monkeypatch):
    monkeypatch.setenv("QUANT_GATE_DEMO_SDIST", "/nowhere")
    with pytest.raises(UsageError, match="QUANT_GATE_DEMO_SDIST=/nowhere: no such file"):
        fake.demo(store, steps)


def test_a_path_out_of_the_tree_is_refused(given, store, steps):
    with tarfile.open(given.sdist, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("x-1/vendor/llama.cpp/src/../../../evil"))
    sha256 = file_sha256(given.sdist)
    with pytest.raises(HarnessError, match="bad name"):
        demo_repository(store, steps, sha256=sha256, patches=given.patches)
    assert leftovers(store) == []


# ---- pip --------------------------------------------------------------------


def test_pip_downloads_it(fake, store, steps, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(fake.sdist.parent))
    demo = fake.demo(store, steps)
    assert demo.run("cat-file", "blob", "demo/two:src/q.cpp") == "two"
    assert f"demo: download {REQUIREMENT}" in steps.names
    assert list(store.folder("temporary").iterdir()) == []


def test_a_failed_download_shows_pip_s_words_and_the_way_out(fake, store, steps, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(InfrastructureError, match="No matching distribution found") as told:
        fake.demo(store, steps)
    assert "QUANT_GATE_DEMO_SDIST" in told.value.hint
    assert leftovers(store) == []


def test_pip_refuses_another_hash(fake, store, steps, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(fake.sdist.parent))
    with pytest.raises(InfrastructureError, match="Expected sha256 0000"):
        demo_repository(store, steps, sha256="0" * 64, patches=fake.patches)
    assert leftovers(store) == []


# ---- as a repository --------------------------------------------------------


@pytest.fixture
def opened(given, store, steps, monkeypatch):
    made = given.demo(store, steps)
    monkeypatch.setattr("harness.source.repository.demo_repository", lambda *_: made)
    return open_repository("demo", store, steps, Path.cwd())


def test_its_branches_resolve_against_its_main(opened):
    source = resolve(opened, "demo/two", None, "merge-base")
    assert (source.repo, source.main.ref, source.pr.subject) == ("demo", "main", "quant : two")
    assert source.changed_paths == ("src/q.cpp",)


@pytest.mark.parametrize("ref", ["two", "nonsense", "#12727", "ikawrakow:mix"])
def test_an_unknown_ref_lists_its_branches(opened, ref):
    with pytest.raises(UsageError) as told:
        resolve(opened, ref, None, "merge-base")
    assert "demo/two, main" in told.value.hint


# ---- the real one -----------------------------------------------------------


def test_there_is_a_patch_for_every_demo_branch():
    patches = {path.stem: path.read_text() for path in PATCHES.glob("*.patch")}
    assert set(patches) == NAMES
    for name, text in patches.items():
        assert text.startswith("quant : "), name
        assert "\ndiff --git a/src/llama-quant.cpp b/src/llama-quant.cpp\n" in text, name


@pytest.mark.slow
def test_the_real_demo(store, steps, tmp_path):
    repository = open_repository("demo", store, steps, tmp_path)
    for name in NAMES:
        source = resolve(repository, f"demo/{name}", None, "merge-base")
        assert source.changed_paths == ("src/llama-quant.cpp",)
        # Any other SHA means that a machine, or a change here, makes another demo.
        assert source.main.sha == "9bc67ff725908c4fa89b0ed6a5e36a3e3f74a483"
        assert source.pr.sha != source.main.sha
    tree = checkout(repository, source.main, store).path
    assert not (tree / ".git").exists()
    flags = ("-DLLAMA_CURL=OFF", "-DLLAMA_OPENSSL=OFF", "-DGGML_CCACHE=OFF")
    command = ["cmake", "-S", tree, "-B", tmp_path / "build", *flags]
    configured = subprocess.run(command, capture_output=True, text=True)
    assert configured.returncode == 0, configured.stderr
