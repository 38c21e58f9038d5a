"""The gate: a subject as it is against itself at another revision. Is it the same function, and how fast is it?"""

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Unpack

import parity
from parity.case import Case
from parity.errors import SubjectError, UsageError
from parity.gate.git import changed_lines, checked_out, environment, working_tree
from parity.gate.judgement import CHANGES, change_of
from parity.gate.revisions import Changed, Revisions
from parity.gate.speed import Speed, measured
from parity.judging.check_options import CheckOptions, GateKeywords
from parity.judging.checking import check
from parity.judging.pairs import Difference
from parity.judging.result import Result, plain
from parity.subjects.command import Command, serving
from parity.subjects.process import Limits
from parity.subjects.subject import Named, command_words, subject_name
from parity.verdict import Verdict


@dataclass
class GateResult:
    """What a gate found.

    change: the verdict's meaning for a refactor. head, base: each against the reference; base is None where head is
    bitwise the same. first: the first element on which they differ by more than rounding (actual: head, expected:
    base). files: the changed files that the subject loads, and the first changed line of each.
    """

    subject: str
    head_name: str
    base_name: str
    verdict: Verdict
    reason: str
    head: Result
    base: Result | None
    changed: list[Changed]
    first: Difference | None
    speed: Speed | None
    files: dict[str, int] = field(default_factory=dict)

    @property
    def change(self) -> str:
        """What the verdict says of the refactor."""
        return CHANGES[self.verdict]

    def to_dict(self) -> dict[str, Any]:
        """The result for JSON."""
        return {
            "parity": parity.__version__,
            "change": self.change,
            **plain({**vars(self), "verdict": self.verdict.value, "head": None, "base": None}),
            "changed": [plain(vars(row)) for row in self.changed],
            "speed": self.speed and vars(self.speed),
            "head": self.head.to_dict(),
            "base": self.base and self.base.to_dict(),
        }


def gate(
    subject: Named,
    base: str = "HEAD",
    case: Case | None = None,
    *,
    rounds: int = 30,
    progress: Callable[[str], None] = lambda what: None,
    **options: Unpack[GateKeywords],
) -> GateResult:
    """Compare a subject, named or a command, in the working tree with itself at a git revision.

    Both run in processes of their own, the base in a temporary worktree; what is not committed counts as part of the
    working tree, which is only read. rounds: pairs of timed steps, 0 for none. progress(what is done next) is called
    before every part. options: dtype, device, false_alarm and limits, as `parity.check` takes them; probes=False for
    the case alone. Raises UsageError
    where there is no repository, no such revision, or no such subject in either, TypeError for other options.
    """
    case, making = case or Case.from_names(), CheckOptions.of(options, GateKeywords).making
    limits = options.pop("limits", None) or Limits()
    options["probes"] = probes = options.get("probes") is not False
    here = Path.cwd()
    root, head_name = working_tree(here)
    root = root.resolve()
    with checked_out(root, base) as revision:
        there = revision.folder / here.resolve().relative_to(root)
        if not there.is_dir():
            raise UsageError(f"The revision {base} has no folder {here.name}.")
        # In the order in which they end: base first, before its folder goes.
        with (
            closing(_side(subject, here, (root, root), limits)) as head,
            closing(_side(subject, there, (root, revision.folder), limits)) as old,
        ):
            progress("head against the reference")
            head_result = check(head, case, **options)
            _require_existence(old, case, making, base)
            progress("head against base")
            revisions = Revisions(head_result)
            if head_result.verdict is not Verdict.ERROR:
                revisions.compare(head, old, making, probes=probes)
            base_result = None
            if not revisions.identical:
                progress("base against the reference")
                base_result = check(old, case, **options)
            verdict, reason = change_of(revisions, head_result, base_result)
            speed = None
            if rounds and verdict is not Verdict.ERROR and not revisions.failure:
                progress("speed")
                speed = measured(head, old, case, making, rounds)
            loaded = _loaded_files(head, case, making, root)
        changed = changed_lines(root, revision.commit)
        files = {name: line for name, line in changed.items() if loaded is None or name in loaded}
        base_name = revision.commit if base.startswith(revision.commit) else f"{base} ({revision.commit})"
    name = subject_name(subject)
    return GateResult(
        name,
        head_name,
        base_name,
        verdict,
        reason,
        head_result,
        base_result,
        revisions.rows,
        revisions.first,
        speed,
        files,
    )


def _side(subject: Named, folder: Path, moved: tuple[Path, Path], limits: Limits) -> Command:
    """The subject as it is in a folder; moved: the repository's root, and where this side's root is."""
    root, there = moved
    words = command_words(subject)
    path = [Path(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    own_path = [str(there / entry.relative_to(root)) if entry.is_relative_to(root) else str(entry) for entry in path]
    # One thread each, unless somebody says otherwise: two pools of threads that wait for work slow each other down.
    own = {"OMP_NUM_THREADS": "1", **environment(), "PYTHONPATH": os.pathsep.join(own_path)}
    if words is None:
        if not isinstance(subject, str):
            raise UsageError("A gate needs a subject with a name, such as path/to/file.py:make, or a command.")
        return serving(subject, limits, folder, [str(root), str(there)], own)
    inside = [word for word in words if Path(word).is_absolute() and Path(word).resolve().is_relative_to(root)]
    if inside:
        raise UsageError(f"The command names {inside[0]}, the same file at both revisions; give it as a relative path.")
    return Command(words, limits, folder, own)


def _require_existence(side: Command, case: Case, options: dict[str, str | None], base: str) -> None:
    try:
        side(case.config, case.hyper, **options)
    except UsageError as error:
        raise UsageError(f"At {base}: {error}") from None
    except SubjectError:  # it exists, and fails; that is for the comparison to say
        return


def _loaded_files(head: Command, case: Case, options: dict[str, str | None], root: Path) -> set[str] | None:
    """The repository's files that a Python subject has loaded, as git names them; None where that is not known."""
    if "parity.serve" not in head.argv:
        return None
    try:
        if head.process is None:  # it has failed, and was ended
            head(case.config, case.hyper, **options)
        files: Sequence[str] = head.ask({"type": "files"}, "files", "its list of files")["files"]
    except SubjectError:
        return None
    inside = (Path(file).resolve() for file in files)
    return {path.relative_to(root.resolve()).as_posix() for path in inside if path.is_relative_to(root.resolve())}
