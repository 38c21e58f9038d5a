"""Which revision a change is to be compared with, by the event of GitHub that a workflow runs for.

A pull request is checked out merged into its base branch: the first parent of that merge commit is the base, and not
the commit that the branch once started from, since then other changes of the base branch would count as this one's.
What a shallow clone lacks is fetched.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from parity.errors import UsageError
from parity.gate.git import git


class Base(NamedTuple):
    """A commit to compare with, and what it is to the one that is checked out."""

    commit: str
    what: str


def base_of(name: str, event: Mapping[str, Any], folder: Path) -> Base | None:
    """The base of what is checked out in a folder; None where there is nothing before it.

    name: of the event, as GITHUB_EVENT_NAME has it; event: its payload. Raises UsageError where what is checked out is
    not what the event is about, or the base cannot be fetched.
    """
    head = git(folder, "rev-parse", "HEAD").strip()
    if name in ("pull_request", "pull_request_target"):
        return _of_pull_request(event["pull_request"], head, folder)
    if name == "merge_group":
        return Base(_fetched(folder, event["merge_group"]["base_sha"]), "what the merge group is put on")
    default = event.get("repository", {}).get("default_branch", "")
    if name == "push":
        before = event.get("before", "")
        rewritten = event.get("forced") and event.get("ref") != f"refs/heads/{default}"
        if before.strip("0") and not rewritten and (found := _fetched_if_possible(folder, before)):
            return Base(found, "what the branch was before the push")
    return _of_branch(head, default, folder)


def named_base(name: str, folder: Path) -> Base:
    """The revision with a name that somebody gave, fetched if need be."""
    names = (name, name.removeprefix("origin/"))
    # What git would take for an option is no name.
    found = "" if any(word.startswith("-") for word in names) else _fetched_if_possible(folder, *names)
    if not found:
        raise UsageError(f"There is no revision {name!r} to compare with; check out with fetch-depth: 0.")
    return Base(found, name)


def _of_pull_request(request: Mapping[str, Any], head: str, folder: Path) -> Base:
    parents = _parents(head, folder)
    if head == request["base"]["sha"]:
        raise UsageError(
            "What is checked out is the pull request's base and not its change, as the event pull_request_target has "
            "it; use pull_request."
        )
    if len(parents) == 2 and head != request["head"]["sha"]:
        return Base(_fetched(folder, parents[0]), "the first parent of the pull request's merge commit")
    fork = _merge_base(head, request["base"]["ref"], folder)
    if fork is None:
        raise UsageError("The pull request has no commit in common with its base branch.")
    return Base(fork, "where the pull request left its base branch")


def _of_branch(head: str, default: str, folder: Path) -> Base | None:
    """Where a branch left the default one; on that, the commit before."""
    fork = _merge_base(head, default, folder) if default else None
    if fork and fork != head:
        return Base(fork, f"where the branch left {default}")
    parents = _parents(head, folder)
    return Base(_fetched(folder, parents[0]), "the commit before") if parents else None


def _parents(commit: str, folder: Path) -> list[str]:
    """Of a commit, also where a shallow clone hides them."""
    header, _, _ = git(folder, "cat-file", "commit", commit).partition("\n\n")
    return re.findall(r"^parent (\w+)$", header, flags=re.MULTILINE)


def _merge_base(head: str, branch: str, folder: Path) -> str | None:
    """The newest commit that a branch of the remote has, too; None where there is no such branch or commit."""
    # Both are named, since only the history of what is named becomes whole.
    whole = (["--unshallow"], [head]) if _is_shallow(folder) else ([], [])
    branches = [*whole[1], f"+refs/heads/{branch}:refs/parity/base"]
    try:
        git(folder, "fetch", "--quiet", "--no-tags", *whole[0], "--end-of-options", "origin", *branches)
        return git(folder, "merge-base", head, "refs/parity/base").strip()
    except UsageError:
        return None


def _fetched(folder: Path, commit: str) -> str:
    found = _fetched_if_possible(folder, commit)
    if not found:
        raise UsageError(f"The base {commit} cannot be fetched; check out with fetch-depth: 0.")
    return found


def _fetched_if_possible(folder: Path, revision: str, remote_name: str = "") -> str:
    """A commit, by its name or another one that the remote has for it; nothing if it is nowhere."""
    commit = ("rev-parse", "--verify", "--quiet", "--end-of-options")
    try:
        return git(folder, *commit, f"{revision}^{{commit}}").strip()
    except UsageError:
        pass
    shallow = ["--depth=1"] if _is_shallow(folder) else []  # a whole clone is to stay one
    try:
        git(folder, "fetch", "--quiet", "--no-tags", *shallow, "--end-of-options", "origin", remote_name or revision)
        return git(folder, *commit, "FETCH_HEAD^{commit}").strip()
    except UsageError:
        return ""


def _is_shallow(folder: Path) -> bool:
    return git(folder, "rev-parse", "--is-shallow-repository").strip() == "true"
