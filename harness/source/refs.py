"""What the user calls a commit -> the two commits of a run."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from harness.domain import Commit, Side, Source
from harness.errors import InfrastructureError, UsageError
from harness.source.gitdir import without_password
from harness.source.repository import Repository, fetch_error
from harness.store import digest

#: Where main is looked for when it is not named. A contributor's `origin` is
#: mostly a fork whose own master may be months old, so upstream comes first.
_MAIN_REFS = (
    *(f"refs/remotes/upstream/{name}" for name in ("HEAD", "master", "main")),
    *(f"refs/remotes/origin/{name}" for name in ("HEAD", "master", "main")),
    "refs/heads/master",
    "refs/heads/main",
)


def resolve(repository: Repository, pr_ref: str, main_ref: str | None, main_at: str) -> Source:
    """Return both commits of a run and what the PR changed between them.

    Parameters
    ----------
    repository : Repository
    pr_ref, main_ref : str
        A branch, a tag, a SHA (abbreviated too), ``owner:branch`` of a fork,
        or ``#12727``. ``main_ref`` None: upstream's or origin's default
        branch, else master or main.
    main_at : str
        ``"merge-base"`` takes main where the PR left it, so that nobody
        else's commits are blamed on the PR; ``"tip"`` takes main itself.

    Raises
    ------
    UsageError
        An unknown or refused ref (the closest ones are named), no common
        ancestor, or uncommitted changes that would not be measured.
    InfrastructureError
        A fetch failed.
    """
    pr_sha = _find(repository, pr_ref)
    if isinstance(parse_ref(pr_ref), Named):
        _require_clean(repository, pr_ref, pr_sha)
    main_ref = main_ref or _default_main(repository)
    main_sha = _find(repository, main_ref)
    if main_at == "merge-base":
        main_sha = _merge_base(repository, main_ref, main_sha, pr_ref, pr_sha)
    # Two trees, and no renames looked for: a moved file counts under both its names.
    changed = repository.reader(main_sha, pr_sha).run(
        "diff-tree", "-r", "-z", "--name-only", main_sha, pr_sha
    )
    return Source(
        repo=repository.name,
        main=_commit(repository, Side.MAIN, main_ref, main_sha),
        pr=_commit(repository, Side.PR, pr_ref, pr_sha),
        changed_paths=tuple(path for path in changed.split("\0") if path),
    )


# ---- spellings --------------------------------------------------------------


@dataclass(frozen=True)
class PullRequest:
    """``#12727``."""

    number: int


@dataclass(frozen=True)
class ForkBranch:
    """``owner:branch``."""

    owner: str
    branch: str


@dataclass(frozen=True)
class Named:
    """A branch, a tag, a SHA, or what else `git rev-parse` knows (``HEAD~2``)."""

    name: str


Ref = PullRequest | ForkBranch | Named

_HINT = "a ref is a branch, a tag, a SHA, owner:branch, or #12727"
_NUMBER = re.compile(r"#([1-9][0-9]{0,9})", re.ASCII)
_FORK = re.compile(r"([A-Za-z0-9][\w.-]*):([^:]+)", re.ASCII)
#: What no branch's name may hold (git-check-ref-format).
_NOT_IN_BRANCH = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^-|^/|(^|/)\.|[/.]$|\.lock(/|$)")


def parse_ref(text: str) -> Ref:
    """Return what kind of ref ``text`` spells. Raises UsageError where it spells none."""
    if text.startswith("-"):
        raise UsageError(f"ref {text!r} refused: it would be taken for an option", hint=_HINT)
    if number := _NUMBER.fullmatch(text):
        return PullRequest(int(number[1]))
    if (fork := _FORK.fullmatch(text)) and not _NOT_IN_BRANCH.search(fork[2]):
        return ForkBranch(fork[1], fork[2])
    if not text or text.startswith(("#", "^")) or re.search(r"[\x00-\x20\x7f:]|\.\.", text):
        raise UsageError(f"{text!r} is not a ref", hint=_HINT)
    return Named(text)


def fork_url(url: str, owner: str) -> str:
    """Return the URL of ``owner``'s fork: the same host and name, another owner.

    Raises UsageError for a URL in which no owner can be told.
    """
    parts = re.fullmatch(
        r"([\w+.-]+://[^/]*/(?:.*/)?|[^/:]+:(?!//)(?:.*/)?|/(?:.*/)?)([^/]+)/([^/]+?)(/?)",
        url,
        re.DOTALL,
    )
    if parts is None:
        raise UsageError(
            f"cannot tell the owner in {without_password(url)}",
            hint="fetch the fork yourself and give the name of the branch",
        )
    return f"{parts[1]}{owner}/{parts[3]}{parts[4]}"


# ---- finding commits --------------------------------------------------------


def _find(repository: Repository, text: str) -> str:
    ref = parse_ref(text)
    if isinstance(ref, Named):
        return _find_named(repository, ref.name)
    if repository.is_demo:
        raise UsageError(
            f"ref {text!r}: the demo repository has no remote to fetch from",
            hint=f"its branches: {', '.join(_branches(repository))}; or give --quant-repo",
        )
    if isinstance(ref, PullRequest):
        # A fork has no pull requests of its own as a rule, so upstream is asked first.
        urls = repository.remote_urls("upstream", "origin")
        return _fetch(repository, text, urls, f"refs/pull/{ref.number}/head")
    urls = [fork_url(url, ref.owner) for url in repository.remote_urls("origin")]
    return _fetch(repository, text, urls, f"refs/heads/{ref.branch}")


def _find_named(repository: Repository, name: str) -> str:
    # A branch wins over a tag and over an abbreviated SHA; a fresh clone has most
    # branches as origin's only.
    for full in ("refs/heads/", "refs/tags/", "refs/remotes/", "", "refs/remotes/origin/"):
        found = repository.refs.attempt("rev-parse", "--verify", f"{full}{name}^{{commit}}")
        if found.ok:
            return found.output
        if re.search("short .* is ambiguous", found.errors):
            raise UsageError(
                f"ref {name!r} is ambiguous in {repository.name}", hint="give more digits"
            )
    raise UsageError(f"unknown ref {name!r} in {repository.name}", hint=_closest(repository, name))


def _closest(repository: Repository, name: str) -> str:
    branches = _branches(repository)
    if repository.is_demo:
        return f"its branches: {', '.join(branches)}"
    listed = repository.refs.run("for-each-ref", "--format=%(refname:short)", "refs/tags").split()
    # Someone who types `mater` may mean `origin/master`.
    by_short_name = {b.split("/", 1)[-1]: b for b in reversed(branches)}
    names = {name: name for name in listed} | by_short_name | {b: b for b in branches}
    close = [names[match] for match in difflib.get_close_matches(name, names, n=4, cutoff=0.5)]
    if close:
        return f"did you mean {' or '.join(dict.fromkeys(close))}?"
    return _HINT + (f"; branches here: {', '.join(branches[:6])}" if branches else "")


def _branches(repository: Repository) -> list[str]:
    return repository.refs.run(
        "for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/remotes"
    ).split()


def _fetch(repository: Repository, text: str, urls: list[str], remote_ref: str) -> str:
    """Return the commit that ``remote_ref`` is at the first URL that has it."""
    if not urls:
        raise UsageError(
            f"ref {text!r}: {repository.name} has no remote to fetch from",
            hint="git remote add origin URL",
        )
    local_ref = f"refs/quant-gate/{digest(urls, remote_ref)}"
    with repository.fetching() as fetched:
        for url in urls:
            refspec = f"+{remote_ref}:{local_ref}"
            what = f"fetch {text}"
            outcome = fetched.fetch(url, refspec, what=what, progress=repository.progress)
            if outcome.ok:
                sha = fetched.run("rev-parse", "--verify", f"{local_ref}^{{commit}}")
                # The objects are enough. A ref that stays would break all later fetches once
                # the user's clone, whose objects are read here, drops a commit below it.
                fetched.run("update-ref", "-d", local_ref)
                return sha
            if "couldn't find remote ref" not in outcome.errors.lower():
                at = without_password(url)
                raise fetch_error(f"ref {text!r}: cannot fetch from {at}", outcome.last_error)
    raise UsageError(
        f"unknown ref {text!r}: no {remote_ref} at {' or '.join(map(without_password, urls))}",
        hint=_HINT,
    )


def _default_main(repository: Repository) -> str:
    for ref in _MAIN_REFS:
        if repository.refs.attempt("rev-parse", "--verify", f"{ref}^{{commit}}").ok:
            # origin/HEAD is a link to what the remote calls its main branch.
            return repository.refs.run("rev-parse", "--abbrev-ref", ref)
    raise UsageError(
        f"{repository.name} has none of upstream's or origin's default branch, master, main",
        hint="name the branch to compare with: --main-branch=REF",
    )


def _merge_base(
    repository: Repository, main_ref: str, main_sha: str, pr_ref: str, pr_sha: str
) -> str:
    found = repository.reader(main_sha, pr_sha).attempt("merge-base", main_sha, pr_sha)
    if found.ok:
        return found.output.split()[0]
    if found.status != 1:
        raise InfrastructureError(f"git merge-base failed: {found.last_error}")
    is_shallow = (repository.refs.common / "shallow").exists()
    raise UsageError(
        f"main {main_ref} ({main_sha[:10]}) and PR {pr_ref} ({pr_sha[:10]}) "
        "have no common ancestor",
        hint="the clone is shallow: git fetch --unshallow"
        if is_shallow
        else "--main-at=tip compares with main as it is",
    )


def _require_clean(repository: Repository, pr_ref: str, pr_sha: str) -> None:
    clone = repository.refs
    if clone.work_tree is None or clone.attempt("rev-parse", "HEAD").output != pr_sha:
        return
    listed = clone.run(
        *("status", "--porcelain=v1", "-z", "--untracked-files=no", "--no-renames"),
        "--ignore-submodules=all",
    )
    dirty = [entry[3:] for entry in listed.split("\0") if entry]
    if dirty:
        shown = ", ".join(dirty[:5]) + (", …" if len(dirty) > 5 else "")
        files = "1 tracked file" if len(dirty) == 1 else f"{len(dirty)} tracked files"
        raise UsageError(
            f"uncommitted changes in {files} of {repository.name} would not be measured "
            f"({pr_ref} is {pr_sha[:10]}): {shown}",
            hint="commit them, or put them aside with git stash",
        )


def _commit(repository: Repository, side: Side, ref: str, sha: str) -> Commit:
    told = repository.reader(sha).run(
        "-c", "i18n.logOutputEncoding=UTF-8", "rev-list", "--max-count=1", "--format=%T%n%s", sha
    )
    _, tree, subject = (*told.split("\n"), "")[:3]
    return Commit(side=side, ref=ref, sha=sha, tree=tree, subject=subject)
