"""A checkout is the commit's tree: every file, mode and link of it, and nothing else."""

import stat
from pathlib import Path

import git
import pytest

from harness.errors import HarnessError, InfrastructureError, PrError
from harness.source import checkout, open_repository, resolve


@pytest.fixture
def check_out(world, store, steps):
    """Check a commit of the contributor's clone out, as PR or as main."""

    def check_out_ref(ref: str, side: str = "pr"):
        repository = open_repository(str(world.clone_path), store, steps, Path.cwd())
        source = resolve(repository, ref, ref, "tip")
        return checkout(repository, getattr(source, side), store)

    return check_out_ref


def commit_link(clone: git.Repo, name: str, target: str) -> None:
    link = Path(clone.working_dir) / name
    link.parent.mkdir(exist_ok=True, parents=True)
    link.symlink_to(target)
    clone.git.add(name)
    clone.git.commit("--quiet", "--message", f"Link {name}")


def test_every_file_is_there_with_its_mode_and_nothing_else(world, check_out, commit_files):
    names = {".gitattributes": "docs/** export-ignore\n*.txt ident\n", "docs/a b.md": "d\n"}
    commit_files(world.clone, "Odd files", names | {".gitignore": "*.o\n", "kept.o": "o\n"})
    (world.clone_path / "run.sh").write_text("#!/bin/sh\n")
    (world.clone_path / "run.sh").chmod(0o755)
    world.clone.git.add("run.sh")
    commit_link(world.clone, "docs/readme", "../README.md")

    found = check_out("master")
    root = found.path
    files = {p.relative_to(root).as_posix() for p in root.rglob("*") if not p.is_dir()}
    assert files == set(world.clone.git.ls_tree("-r", "--name-only", "HEAD").splitlines())
    for entry in world.clone.head.commit.tree.traverse():
        path = root / entry.path
        if entry.type == "blob" and not path.is_symlink():
            assert path.read_bytes() == entry.data_stream.read()
            is_executable = bool(path.stat().st_mode & stat.S_IXUSR)
            assert is_executable == (entry.path == "run.sh")
    assert (root / "docs/readme").readlink() == Path("../README.md")
    assert found.commit.sha == world.clone.head.commit.hexsha


def test_files_are_read_only(check_out):
    root = check_out("feature").path
    files = [p for p in root.rglob("*") if p.is_file()]
    assert files
    assert all(p.stat().st_mode & 0o222 == 0 for p in files)


def test_equal_trees_share_a_folder_and_different_ones_do_not(world, check_out):
    first = check_out("feature")
    world.clone.git.checkout("--quiet", "feature")
    world.clone.git.commit("--quiet", "--allow-empty", "--message", "Same tree")
    again = check_out("HEAD")
    assert again.path == first.path
    assert again.commit.sha != first.commit.sha
    assert check_out("b2").path != first.path


def test_the_clone_is_left_alone(world, check_out):
    index = (world.clone_path / ".git/index").read_bytes()
    (world.clone_path / "README.md").write_text("being edited\n")
    root = check_out("feature").path
    assert (root / "src/llama-quant.cpp").read_text() == "int q = 2;\n"
    assert (world.clone_path / "README.md").read_text() == "being edited\n"
    assert (world.clone_path / ".git/index").read_bytes() == index


def test_a_fetched_commit_is_checked_out(check_out):
    root = check_out("ikawrakow:iq2/mix").path
    assert (root / "src/llama-quant.cpp").read_text() == "int q = 3;\n"


def test_no_filter_of_the_user_runs_on_the_pr_s_files(world, check_out, commit_files, tmp_path):
    """.gitattributes is the PR's; what it asks for must not run outside a sandbox."""
    world.clone.git.config("filter.mine.smudge", f"touch {tmp_path}/ran; cat")
    commit_files(world.clone, "Filtered", {"a.bin": "raw\n"})
    commit_files(world.clone, "Ask", {".gitattributes": "*.bin filter=mine\n"})
    (world.clone_path / "a.bin").write_text("raw\n")
    (tmp_path / "ran").unlink(missing_ok=True)
    assert (check_out("master").path / "a.bin").read_text() == "raw\n"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("target", ["../../secret", "/etc/passwd", "../stamp.json", "docs/../../x"])
def test_a_link_out_of_the_tree_is_refused(world, check_out, store, target):
    commit_link(world.clone, "bad", target)
    with pytest.raises(PrError, match=f"symbolic link bad -> {target} points out of the tree"):
        check_out("master")
    assert [p for p in (store.root / "checkouts").iterdir() if p.is_dir()] == []


def test_links_that_leave_together_are_refused(world, check_out):
    """docs/up is the root itself; root/docs/up/.. is above it, though no link says so alone."""
    commit_link(world.clone, "docs/up", "..")
    check_out("master")
    commit_link(world.clone, "bad", "docs/up/../secret")
    with pytest.raises(PrError, match=r"bad -> docs/up/\.\./secret"):
        check_out("master")


def test_main_with_such_a_link_is_not_the_pr_s_fault(world, check_out):
    commit_link(world.clone, "bad", "/etc/passwd")
    with pytest.raises(InfrastructureError):
        check_out("master", side="main")


def test_links_in_a_ring_do_no_harm(world, check_out):
    commit_link(world.clone, "a", "b")
    commit_link(world.clone, "b", "a")
    assert (check_out("master").path / "a").is_symlink()


def test_a_missing_object_is_one_clear_error(world, check_out, store):
    blob = world.clone.commit("origin/feature").tree["src/llama-quant.cpp"].hexsha
    for pack in (world.clone_path / ".git/objects/pack").glob("*.pack"):
        moved = pack.rename(world.clone_path / "all.pack")
        pack.with_suffix(".idx").unlink()
        with moved.open("rb") as stream:
            world.clone.git.unpack_objects("-q", istream=stream)
    (world.clone_path / ".git/objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(HarnessError, match=blob):
        check_out("feature")
    assert [p for p in (store.root / "checkouts").iterdir() if p.is_dir()] == []
