"""Another revision of a repository in a folder of its own; the working tree is only read."""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from parity.errors import UsageError

Lines = tuple[int, int]
"""A run of lines of a file: the first and the last one."""


def environment() -> dict[str, str]:
    """Without what git sets for its hooks: GIT_INDEX_FILE would have another worktree write the user's index."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}


def environment_of(root: Path, folder: Path) -> dict[str, str]:
    """For a side's process, with what lies in the repository's root on PYTHONPATH as it lies in the side's folder."""
    path = [Path(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    own_path = [str(folder / entry.relative_to(root)) if entry.is_relative_to(root) else str(entry) for entry in path]
    # One thread each, unless somebody says otherwise: two pools of threads that wait for work slow each other down.
    return {"OMP_NUM_THREADS": "1", **environment(), "PYTHONPATH": os.pathsep.join(own_path)}


def git(folder: Path, *arguments: str) -> str:
    """What git prints; UsageError with its last line where it fails or is missing."""
    # No hooks: they belong to somebody's daily work, and may do anything. No locks: what is only read needs none.
    settings = ["--no-optional-locks", "-c", "core.hooksPath=/dev/null", "-c", "core.quotePath=false"]
    command = ["git", *settings, "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment(), check=False)
    except FileNotFoundError:
        raise UsageError("git is not installed, and a gate compares two revisions of a git repository.") from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise UsageError(f"git {arguments[0]} failed: {said}")
    return done.stdout


@dataclass(frozen=True)
class Revision:
    """A commit of the repository at the folder root; folder: where it is checked out. given: how somebody named it."""

    root: Path
    commit: str
    folder: Path
    given: str

    @property
    def name(self) -> str:
        """As it was named, with the commit that this is."""
        return self.commit if self.given.startswith(self.commit) else f"{self.given} ({self.commit})"

    def place_of(self, folder: Path) -> Path:
        """A folder of the working tree as it is in this revision; UsageError where it is not there."""
        there = self.folder / folder.resolve().relative_to(self.root)
        if not there.is_dir():
            raise UsageError(f"The revision {self.given} has no folder {folder.name}.")
        return there


def working_tree(folder: Path) -> tuple[Path, str]:
    """The root of the repository that a folder is in, and what its working tree is called."""
    if not any((above / ".git").exists() for above in (folder, *folder.parents)):
        raise UsageError(f"{folder} is not in a git repository; a gate compares two revisions of one.")
    root = Path(git(folder, "rev-parse", "--show-toplevel").strip())
    try:
        head = git(root, "rev-parse", "--short", "--verify", "--quiet", "HEAD").strip()
    except UsageError:
        raise UsageError(
            f"The repository {root.name} has no commit yet; a gate compares two revisions of one."
        ) from None
    changed = git(root, "status", "--porcelain").strip()
    return root, f"{head} with uncommitted changes" if changed else head


@contextmanager
def checked_out(root: Path, revision: str) -> Iterator[Revision]:
    """A revision in a temporary worktree, which is removed again; UsageError where there is no such revision."""
    try:
        commit = git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}").strip()
    except UsageError:
        raise UsageError(f"There is no revision {revision!r} in {root.name}; has it been fetched?") from None
    with tempfile.TemporaryDirectory(prefix="parity-gate-") as above:
        folder = Path(above).resolve() / root.name
        git(root, "worktree", "add", "--detach", "--quiet", str(folder), commit)
        try:
            yield Revision(root, commit[:7], folder, revision)
        finally:
            git(root, "worktree", "remove", "--force", str(folder))


def changed_lines(root: Path, commit: str) -> dict[str, list[Lines]]:
    """By file (as git names it), the runs of lines of the working tree that are not those of a commit.

    Where lines were only removed, a run is the line before them.
    """
    runs: dict[str, list[Lines]] = {}
    file = ""
    options = ["--unified=0", "--no-color", "--no-ext-diff", "--no-textconv", "--dst-prefix=b/"]
    before = ""
    for line in git(root, "diff", *options, commit).splitlines():
        before, last = line, before
        if line.startswith("+++ ") and last.startswith("--- "):
            file = "" if line == "+++ /dev/null" else line[6:].rstrip("\t")
        elif file and (found := re.match(r"@@ -\S+ \+(\d+)(?:,(\d+))?", line)):
            first, count = max(1, int(found[1])), int(found[2] or 1)
            runs.setdefault(file, []).append((first, first + max(1, count) - 1))
    untracked = git(root, "ls-files", "--others", "--exclude-standard", "-z").split("\0")
    return {**runs, **{name: [(1, 1)] for name in untracked if name}}
