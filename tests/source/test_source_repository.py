"""Which repository is opened, and what is told where there is none."""

from pathlib import Path

import git
import pytest

from harness.errors import InfrastructureError, UsageError
from harness.source import open_repository, repository, resolve
from harness.source.gitdir import new_bare_repository


@pytest.fixture
def fake_demo(monkeypatch, tmp_path):
    """Stand in for the demo, which has tests of its own."""
    made = new_bare_repository(tmp_path / "demo.git")
    monkeypatch.setattr(repository, "demo_repository", lambda store, progress: made)


@pytest.mark.parametrize("folder", [".", "src"])
def test_the_clone_that_one_stands_in_is_the_default(world, store, steps, folder):
    opened = open_repository(None, store, steps, world.clone_path / folder)
    assert opened.name == str(world.clone_path)
    assert not opened.is_demo


@pytest.mark.usefixtures("fake_demo")
def test_elsewhere_the_default_is_the_demo(tmp_path, store, steps, commit_files):
    other = git.Repo.init(tmp_path / "other")
    commit_files(other, "Not llama.cpp", {"a.txt": "1"})
    assert open_repository(None, store, steps, tmp_path / "other").is_demo
    assert open_repository(None, store, steps, Path("/")).is_demo
    assert open_repository("demo", store, steps, tmp_path).is_demo


@pytest.mark.usefixtures("fake_demo")
def test_the_demo_can_be_asked_for_inside_a_clone(world, store, steps):
    assert open_repository("demo", store, steps, world.clone_path).is_demo


def test_a_relative_path_starts_where_the_user_stands(world, store, steps):
    opened = open_repository("llama.cpp", store, steps, world.clone_path.parent)
    assert opened.name == str(world.clone_path)


def test_a_bare_repository_is_a_repository(world, store, steps, tmp_path):
    world.upstream.clone(tmp_path / "bare.git", bare=True)
    opened = open_repository("bare.git", store, steps, tmp_path)
    assert resolve(opened, "feature", None, "merge-base").main.ref == "master"


@pytest.mark.parametrize("spec", ["missing", "plain", "file.txt", "~nobody-of-this-name/x"])
def test_no_repository_there_names_the_path(spec, tmp_path, store, steps):
    (tmp_path / "plain").mkdir()
    (tmp_path / "file.txt").write_text("")
    with pytest.raises(UsageError) as told:
        open_repository(spec, store, steps, tmp_path)
    assert str(tmp_path / spec) in told.value.message


def test_a_folder_inside_a_repository_is_not_taken_for_it(world, store, steps):
    with pytest.raises(UsageError, match="src: not a git clone"):
        open_repository("src", store, steps, world.clone_path)


@pytest.mark.parametrize(
    "spec",
    ["ext::sh -c id", "fd::3", "-u/bin/sh", "--upload-pack=id", "ftp://h/a/b", "http://h/a/b"],
)
def test_refused_spellings_name_the_legal_ones(spec, store, steps, tmp_path):
    with pytest.raises(UsageError, match="--quant-repo=demo, =PATH"):
        open_repository(spec, store, steps, tmp_path)


# ---- URLs -------------------------------------------------------------------


def test_a_url_is_cloned_once_and_fetched_on_each_use(world, store, steps, tmp_path, commit_files):
    url = f"file://{world.upstream.working_dir}"
    opened = open_repository(url, store, steps, tmp_path)
    source = resolve(opened, "feature", None, "merge-base")
    assert source.repo == url
    assert source.main.ref == "origin/master"
    assert f"fetch {url}" in steps.names

    world.upstream.git.checkout("--quiet", "feature")
    newer = commit_files(world.upstream, "One more", {"src/x.cpp": ""})
    again = open_repository(url, store, steps, tmp_path)
    assert again.refs == opened.refs
    assert resolve(again, "feature", None, "merge-base").pr.sha == newer


def test_a_url_has_forks_and_pull_requests(world, store, steps, tmp_path):
    opened = open_repository(f"file://{world.upstream.working_dir}", store, steps, tmp_path)
    fork = resolve(opened, "ikawrakow:iq2/mix", None, "merge-base")
    assert fork.pr.subject == "quant : the fork's mix"
    assert resolve(opened, "#12727", None, "merge-base").pr.subject == "quant : mix of PR 12727"


def test_a_branch_deleted_at_the_url_is_gone(world, store, steps, tmp_path):
    url = f"file://{world.upstream.working_dir}"
    open_repository(url, store, steps, tmp_path)
    world.upstream.git.branch("-D", "feature")
    with pytest.raises(UsageError, match="unknown ref 'feature'"):
        resolve(open_repository(url, store, steps, tmp_path), "feature", None, "merge-base")


def test_a_url_with_nothing_there_leaves_nothing_behind(store, steps, tmp_path):
    with pytest.raises(UsageError, match="nothing/here"):
        open_repository(f"file://{tmp_path}/nothing/here", store, steps, tmp_path)
    assert list((store.root / "repos").iterdir()) == []


def test_a_network_that_fails_is_not_the_users_mistake(store, steps, tmp_path):
    with pytest.raises(InfrastructureError, match="cannot fetch") as told:
        open_repository("https://user:secret@127.0.0.1:9/a/b", store, steps, tmp_path)
    assert "secret" not in str(told.value)
    assert "secret" not in "".join(steps.names)


def test_a_missing_git_is_told_as_such(monkeypatch, store, steps, tmp_path):
    monkeypatch.setattr(git.Git, "GIT_PYTHON_GIT_EXECUTABLE", "git-that-is-not-there")
    with pytest.raises(InfrastructureError, match="git is not installed"):
        open_repository(f"file://{tmp_path}", store, steps, tmp_path)
