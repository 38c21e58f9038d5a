"""The gate: a subject as it is against itself at another revision. Is it the same function, and how fast is it?"""

import re
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Unpack

from parity.case import Case, how_to_exercise
from parity.errors import SubjectError, UsageError
from parity.gate.acceptance import AcceptedChange, case_digest, spelled
from parity.gate.git import changed_lines, checked_out, environment_of, working_tree
from parity.gate.judgement import change_of
from parity.gate.result import GateResult
from parity.gate.revisions import Revisions
from parity.gate.speed import measured, require_pairs
from parity.gate.standing import hold_against
from parity.judging.check_options import CheckOptions, GateKeywords
from parity.judging.checking import check
from parity.subjects.command import Command, serving
from parity.subjects.process import Limits
from parity.subjects.subject import Named, command_words, subject_name
from parity.verdict import Verdict


def gate(
    subject: Named,
    base: str = "HEAD",
    case: Case | None = None,
    *,
    rounds: int = 30,
    fail_slower: float | None = None,
    accepted: Sequence[AcceptedChange] = (),
    fingerprints: bool = False,
    allow_new: bool = False,
    progress: Callable[[str], None] = lambda what: None,
    **options: Unpack[GateKeywords],
) -> GateResult:
    """Compare a subject, named or a command, in the working tree with itself at a git revision.

    Both run in processes of their own, the base in a temporary worktree; what is not committed counts as part of the
    working tree, which is only read. rounds: pairs of timed steps, 0 for none. fail_slower: fail where a step at head
    takes more than so many times as long. accepted: changes that may pass. fingerprints: take them, so that this change
    can be accepted. allow_new: hold a subject that base does not have against the reference alone. progress(what is
    done next) is called before every part. options: dtype, device, false_alarm and limits, as `parity.check` takes
    them; probes=False for the case alone. Raises UsageError where there is no repository, no such revision, or no such
    subject in either, TypeError for other options.
    """
    if fail_slower is not None:
        require_pairs(rounds)
    case, making = case or Case.from_names(), CheckOptions.of(options, GateKeywords).making
    limits = options.pop("limits", None) or Limits()
    options["probes"] = probes = options.get("probes") is not False
    here = Path.cwd()
    root, head_name = working_tree(here)
    root, name = root.resolve(), subject_name(subject)
    digest = case_digest(case)
    fingerprints |= any(entry.case_sha256 == digest for entry in accepted)
    with checked_out(root, base) as revision:
        there = revision.place_of(here)
        # In the order in which they end: base first, before its folder goes.
        with (
            closing(_side(subject, here, (root, root), limits)) as head,
            closing(_side(subject, there, (root, revision.folder), limits)) as old,
        ):
            progress("head against the reference")
            head_result = check(head, case, **options)
            base_name = revision.name
            absent = _absence(old, case, making, base, allow_new)
            if absent:
                return GateResult.of_new_subject(name, head_name, base_name, absent, head_result)
            progress("head against base")
            revisions = Revisions(head_result, fingerprints)
            if head_result.verdict is not Verdict.ERROR:
                revisions.compare(head, old, making, probes=probes)
            base_result = None
            if not (revisions.identical and head_result.verdict.passes):
                progress("base against the reference")
                base_result = check(old, case, **options)
            verdict, reason = change_of(revisions, head_result, base_result)
            speed = None
            if rounds and verdict is not Verdict.ERROR and not revisions.failure:
                progress("speed")
                speed = measured(head, old, case, making, rounds)
            loaded = _loaded_files(head, case, making, root)
        changed = changed_lines(root, revision.commit)
    result = GateResult(
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
        lines={file: lines for file, lines in changed.items() if loaded is None or file in loaded},
        fail_slower=fail_slower,
        formats=revisions.formats,
        dropped=revisions.exposure.dropped,
        not_exercised=_not_exercised(revisions),
        spelled=spelled(name, here.resolve(), root),
        fingerprints={} if revisions.failure else revisions.fingerprints,
    )
    hold_against(accepted, result, result.spelled)
    return result


def _not_exercised(revisions: Revisions) -> list[str]:
    """What neither the case nor a probe did that both were asked for, and what no gate compares."""
    head = revisions.head
    if head.probes:
        left = head.not_exercised
    else:  # of a head that fails, the probes are not held against the reference
        phrases = head.case.not_exercised()
        for probe in revisions.probes:
            missing = probe.case.not_exercised()
            phrases = [phrase for phrase in phrases if phrase in missing or phrase.startswith("what the preset")]
        left = [*map(how_to_exercise, phrases), *head.left_out]
    methods = " and ".join(revisions.exposure.methods)
    return [*left, f"{methods} (which no gate compares: pytest --pyargs parity.suite)"] if methods else left


def _side(subject: Named, folder: Path, moved: tuple[Path, Path], limits: Limits) -> Command:
    """The subject as it is in a folder; moved: the repository's root, and where this side's root is."""
    root, there = moved
    words = command_words(subject)
    own = environment_of(*moved)
    if words is None:
        if not isinstance(subject, str):
            raise UsageError("A gate needs a subject with a name, such as path/to/file.py:make, or a command.")
        return serving(subject, limits, folder, [str(root), str(there)], own)
    inside = [word for word in words if Path(word).is_absolute() and Path(word).resolve().is_relative_to(root)]
    if inside:
        raise UsageError(f"The command names {inside[0]}, the same file at both revisions; give it as a relative path.")
    return Command(words, limits, folder, own)


def _absence(side: Command, case: Case, options: dict[str, str | None], base: str, allowed: bool) -> str:
    """Why base has no such subject, where that is allowed; empty where it has one. UsageError where it is not."""
    try:
        side(case.config, case.hyper, **options)
    except UsageError as error:
        absent = re.match(r"There is no (file|module) |\S+ has no '", str(error))
        if absent and allowed:
            return str(error)
        new = (
            f" If {side.name} is new, there is nothing to compare it with: --allow-new holds it against the reference "
            "alone, as `parity check` does."
        )
        raise UsageError(f"At {base}: {error}{new if absent else ''}") from None
    except SubjectError:  # it exists, and fails; that is for the comparison to say
        pass
    return ""


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
