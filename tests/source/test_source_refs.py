"""How a ref becomes a commit, and what is told where it cannot."""

import subprocess
from pathlib import Path

import git
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.domain import Side, Source
from harness.errors import InfrastructureError, UsageError
from harness.source import open_repository, resolve
from harness.source.refs import ForkBranch, Named, PullRequest, fork_url, parse_ref


@pytest.fixture
def resolved(world, store, steps):
    """Resolve refs in the contributor's clone."""

    def resolve_in_clone(pr: str, main: str | None = None, at: str = "merge-base") -> Source:
        repository = open_repository(str(world.clone_path), store, steps, Path.cwd())
        return resolve(repository, pr, main, at)

    return resolve_in_clone


def sha(repo: git.Repo, ref: str) -> str:
    return repo.commit(ref).hexsha


def refs_of(repo: git.Repo) -> str:
    return repo.git.for_each_ref()


# ---- spellings of one commit ------------------------------------------------


def test_a_branch_a_tag_and_a_sha_name_the_same_commit(world, resolved):
    world.clone.git.checkout("--quiet", "feature")
    world.clone.git.tag("mine")
    full = sha(world.clone, "feature")
    for ref in ("feature", "origin/feature", "mine", full, full[:9], "HEAD", "HEAD~0"):
        found = resolved(ref).pr
        assert (found.sha, found.ref, found.side) == (full, ref, Side.PR)
    assert found.subject == "quant : a better mix"
    assert found.tree == world.clone.commit(full).tree.hexsha


def test_a_branch_that_only_origin_has_is_found_by_its_short_name(world, resolved):
    assert "feature" not in [b.name for b in world.clone.branches]
    assert resolved("feature").pr.sha == sha(world.upstream, "feature")


def test_a_branch_wins_over_a_tag_of_the_same_name(world, resolved):
    world.clone.git.branch("both", "b1")
    world.clone.git.tag("both", "b2")
    assert resolved("both").pr.sha == sha(world.clone, "b1")


def test_owner_and_branch_fetch_from_the_fork_without_touching_the_clone(world, resolved):
    before = refs_of(world.clone)
    found = resolved("ikawrakow:iq2/mix")
    assert found.pr.sha == sha(world.fork, "iq2/mix")
    assert found.pr.subject == "quant : the fork's mix"
    assert found.changed_paths == ("src/llama-quant.cpp",)
    assert refs_of(world.clone) == before
    assert not (world.clone_path / ".git/FETCH_HEAD").exists()


def test_a_fork_branch_that_was_pushed_again_is_fetched_again(world, resolved, commit_files):
    resolved("ikawrakow:iq2/mix")
    world.fork.git.commit("--amend", "--quiet", "--message", "Amended")
    assert resolved("ikawrakow:iq2/mix").pr.subject == "Amended"


def test_a_pull_request_is_fetched_by_its_number(world, resolved):
    assert resolved("#12727").pr.subject == "quant : mix of PR 12727"


def test_a_pull_request_comes_from_upstream_where_origin_is_a_fork(world, resolved):
    world.clone.git.remote("set-url", "origin", f"file://{world.fork.working_dir}")
    world.clone.git.remote("add", "upstream", f"file://{world.upstream.working_dir}")
    assert resolved("#12727").pr.subject == "quant : mix of PR 12727"


def test_a_fetched_ref_survives_commits_that_the_clone_dropped(world, resolved, commit_files):
    """Rebase and gc in the clone must not break what the cache made of its objects."""
    local = commit_files(world.clone, "Local only", {"x": "1"})
    world.fork.git.fetch(str(world.clone_path), local)
    world.fork.git.checkout("--quiet", "-b", "on-local", local)
    on_local = commit_files(world.fork, "On top of it", {"y": "1"})
    assert resolved("ikawrakow:on-local").pr.sha == on_local
    world.clone.git.reset("--hard", "--quiet", "origin/master")
    world.clone.git.reflog("expire", "--expire=now", "--all")
    world.clone.git.gc("--quiet", "--prune=now")
    assert resolved("ikawrakow:on-local").pr.sha == on_local
    assert resolved("#12727").pr.subject == "quant : mix of PR 12727"


def test_a_shallow_clone_can_fetch_a_pull_request(world, store, steps, tmp_path):
    url = f"file://{world.upstream.working_dir}"
    git.Repo.clone_from(url, tmp_path / "shallow", depth=1)
    repository = open_repository(str(tmp_path / "shallow"), store, steps, tmp_path)
    assert resolve(repository, "#12727", None, "tip").pr.subject == "quant : mix of PR 12727"


def test_a_linked_worktree_works_like_the_clone(world, store, steps, tmp_path):
    world.clone.git.worktree("add", "--quiet", str(tmp_path / "linked"), "origin/feature")
    repository = open_repository(str(tmp_path / "linked"), store, steps, tmp_path)
    assert resolve(repository, "HEAD", None, "merge-base").pr.sha == sha(world.upstream, "feature")
    assert resolve(repository, "#12727", None, "merge-base").changed_paths


# ---- main -------------------------------------------------------------------


def test_main_is_taken_where_the_pr_left_it(world, resolved):
    found = resolved("feature")
    assert found.main.sha == sha(world.upstream, "b1")
    assert found.main.ref == "origin/master"
    assert found.changed_paths == ("src/llama-quant.cpp",)


def test_main_at_its_tip_shows_other_peoples_changes(world, resolved):
    found = resolved("feature", at="tip")
    assert found.main.sha == sha(world.upstream, "b2")
    assert found.changed_paths == ("src/llama-model.cpp", "src/llama-quant.cpp")


def test_a_stale_fork_is_not_taken_for_main(world, resolved, commit_files):
    """origin is a fork that stayed at b1; the PR left upstream at b2."""
    world.clone.git.remote("add", "upstream", f"file://{world.upstream.working_dir}")
    world.clone.git.fetch("--quiet", "upstream")
    world.clone.git.update_ref("refs/remotes/origin/master", "b1")
    world.clone.git.checkout("--quiet", "-b", "mine", "b2")
    commit_files(world.clone, "Mine", {"src/llama-quant.cpp": "int q = 4;\n"})
    found = resolved("mine")
    assert (found.main.ref, found.main.sha) == ("upstream/master", sha(world.upstream, "b2"))


def test_a_repository_without_remotes_compares_with_its_master(world, store, steps):
    repository = open_repository(world.upstream.working_dir, store, steps, Path.cwd())
    assert resolve(repository, "feature", None, "merge-base").main.ref == "master"


def test_main_can_be_named(world, resolved):
    found = resolved("feature", main="ikawrakow:iq2/mix", at="tip")
    assert found.main.sha == sha(world.fork, "iq2/mix")
    assert found.main.side is Side.MAIN


def test_both_sides_may_be_the_same_commit(world, resolved):
    found = resolved("b2", main="b2")
    assert found.main.sha == found.pr.sha
    assert found.changed_paths == ()


def test_a_moved_file_counts_under_both_names(world, resolved):
    world.clone.git.checkout("--quiet", "-b", "move", "b1")
    world.clone.git.mv("src/llama-quant.cpp", "src/mix.cpp")
    world.clone.git.commit("--quiet", "--message", "Move")
    assert resolved("move").changed_paths == ("src/llama-quant.cpp", "src/mix.cpp")


def test_no_common_ancestor_is_told_with_both_refs(world, resolved):
    world.clone.git.checkout("--quiet", "--orphan", "island")
    world.clone.git.commit("--quiet", "--message", "Alone")
    with pytest.raises(UsageError, match=r"origin/master .* island .* no common ancestor"):
        resolved("island")
    assert resolved("island", at="tip").pr.subject == "Alone"


def test_a_shallow_clone_is_told_to_fetch_its_history(world, store, steps, tmp_path):
    url = f"file://{world.upstream.working_dir}"
    git.Repo.clone_from(url, tmp_path / "shallow", depth=1, no_single_branch=True)
    repository = open_repository(str(tmp_path / "shallow"), store, steps, tmp_path)
    with pytest.raises(UsageError, match="git fetch --unshallow"):
        resolve(repository, "feature", None, "merge-base")


def test_no_main_to_be_found_asks_for_one(tmp_path, store, steps, commit_files):
    repo = git.Repo.init(tmp_path / "r", initial_branch="trunk")
    commit_files(repo, "First", {"a": "1"})
    repository = open_repository(str(tmp_path / "r"), store, steps, tmp_path)
    with pytest.raises(UsageError, match="--main-branch=REF"):
        resolve(repository, "trunk", None, "merge-base")


# ---- mistakes ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("featrue", "origin/feature"), ("origin/featur", "origin/feature"), ("bb2", "b2")],
)
def test_an_unknown_ref_names_the_closest_ones(resolved, typed, meant):
    with pytest.raises(UsageError, match=f"unknown ref '{typed}'") as told:
        resolved(typed)
    assert f"did you mean {meant}" in told.value.hint


def test_a_ref_like_none_lists_branches(resolved):
    with pytest.raises(UsageError) as told:
        resolved("zzzzzzzz")
    assert "origin/feature" in told.value.hint


@pytest.mark.parametrize("ref", ["--output=/tmp/x", "-h", "", "#", "#0", "#1x", "^master", "a..b"])
def test_what_is_no_ref_is_refused(resolved, ref):
    with pytest.raises(UsageError, match="ref"):
        resolved(ref)


@pytest.mark.parametrize("ref", ["ikawrakow:nope", "nobody:iq2/mix", "#99"])
def test_a_ref_that_no_remote_has_is_the_users_mistake(resolved, ref):
    with pytest.raises(UsageError, match=f"ref '{ref}'"):
        resolved(ref)


def test_a_clone_without_remotes_cannot_fetch(world, store, steps):
    repository = open_repository(world.upstream.working_dir, store, steps, Path.cwd())
    for ref in ("#12727", "ikawrakow:iq2/mix"):
        with pytest.raises(UsageError, match="no remote to fetch from"):
            resolve(repository, ref, None, "merge-base")


def test_a_transport_that_runs_commands_is_never_used(world, resolved, tmp_path):
    world.clone.git.remote("set-url", "origin", f"ext::sh -c touch% {tmp_path}/ran% a/b/c")
    with pytest.raises((UsageError, InfrastructureError)):
        resolved("#12727")
    with pytest.raises((UsageError, InfrastructureError)):
        resolved("x:y")
    assert not (tmp_path / "ran").exists()


def test_uncommitted_changes_of_the_pr_are_told(world, resolved):
    world.clone.git.checkout("--quiet", "feature")
    (world.clone_path / "README.md").write_text("changed\n")
    (world.clone_path / "include/llama.h").write_text("changed\n")
    world.clone.git.add("include/llama.h")
    for ref in ("feature", "HEAD", sha(world.clone, "HEAD")):
        with pytest.raises(UsageError, match=r"2 tracked files .*: README.md, include/llama.h|"
                           r"2 tracked files .*: include/llama.h, README.md"):  # fmt: skip
            resolved(ref)


def test_uncommitted_changes_do_not_matter_to_other_refs(world, resolved):
    (world.clone_path / "README.md").write_text("changed\n")
    assert resolved("feature").pr.sha == sha(world.upstream, "feature")
    assert resolved("#12727").pr.sha


def test_untracked_files_do_not_matter(world, resolved):
    (world.clone_path / "notes.txt").write_text("mine\n")
    assert resolved("master").pr.sha == sha(world.clone, "HEAD")


def test_a_git_hook_s_environment_does_not_mislead(world, resolved, monkeypatch):
    """Inside a hook, git's variables name the hook's repository."""
    monkeypatch.setenv("GIT_INDEX_FILE", str(world.fork.git_dir) + "/index")
    monkeypatch.setenv("GIT_DIR", str(world.fork.git_dir))
    assert resolved("feature").repo == str(world.clone_path)
    with pytest.raises(UsageError, match="unknown ref"):
        resolved("iq2/mix")


# ---- laws -------------------------------------------------------------------

owners = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9-]{0,15}", fullmatch=True)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,15}", fullmatch=True)


@given(st.integers(1, 10**9))
def test_every_number_is_a_pull_request(number):
    assert parse_ref(f"#{number}") == PullRequest(number)


@given(st.text() | st.from_regex(r"[-#^:a-z/.@{}]{1,12}", fullmatch=True))
def test_any_text_is_a_ref_or_a_usage_error(text):
    try:
        ref = parse_ref(text)
    except UsageError:
        return
    if isinstance(ref, Named):
        assert ref.name == text
        assert not text.startswith(("-", "^"))
        assert text.isprintable() or not text.isascii()


@settings(deadline=None)  # a process each
@given(owners, st.from_regex(r"[-a-z/.@{~^*?\[\\]{1,8}", fullmatch=True))
def test_a_fork_s_branch_is_what_git_calls_a_branch(owner, branch):
    command = ["git", "check-ref-format", f"refs/heads/{branch}"]
    is_branch = subprocess.run(command).returncode == 0 and not branch.startswith("-")
    try:
        accepted = parse_ref(f"{owner}:{branch}") == ForkBranch(owner, branch)
    except UsageError:
        accepted = False
    assert accepted == is_branch


@given(
    st.sampled_from(
        [
            "https://github.com/{}/{}.git",
            "https://github.com/{}/{}",
            "https://token:x@git.example.org:8443/forge/{}/{}/",
            "git@github.com:{}/{}.git",
            "ssh://git@github.com/{}/{}.git",
            "file:///srv/git/{}/{}",
            "/srv/git/{}/{}",
        ]
    ),
    owners,
    owners,
    names,
)
def test_a_fork_s_url_differs_in_the_owner_only(form, owner, other, name):
    assert fork_url(form.format(owner, name), other) == form.format(other, name)


@pytest.mark.parametrize("url", ["https://github.com/llama.cpp", "git@host:llama.cpp", "file:///r"])
def test_a_url_without_an_owner_has_no_forks(url):
    with pytest.raises(UsageError, match="cannot tell the owner"):
        fork_url(url, "ikawrakow")
