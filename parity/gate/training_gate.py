"""The gate of a training: as it is in the working tree, against itself at another revision.

Both run as they are in processes of their own, for their bits and their speed. What head is in exact arithmetic is
compared with what base is there, so that neither rounding nor the number format hides a change of the function.
"""

import re
import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from parity.errors import SubjectError, UsageError
from parity.gate.git import changed_lines, checked_out, environment_of, working_tree
from parity.gate.speed import Speed, in_pairs, require_pairs
from parity.gate.training_judgement import judge, wrong_in_itself
from parity.gate.training_result import TrainingGateResult
from parity.subjects.calls import time_limit
from parity.subjects.imports import imported
from parity.subjects.process import Limits
from parity.subjects.training_factories import names_of
from parity.training.bits import compare_bits
from parity.training.checking import STEPS, Against, TrainingOptions, check_training, steps_of
from parity.training.link import require_same_batches
from parity.training.names import Names
from parity.training.other import Description
from parity.training.remote import Elsewhere, OtherElsewhere, OtherFailed
from parity.training.result import TrainingResult
from parity.training.running import Factory
from parity.verdict import Verdict


def gate_training(
    subject: str,
    base: str = "HEAD",
    options: TrainingOptions | None = None,
    *,
    dtype: str | None = None,
    device: str | None = None,
    names: Mapping[str, Any] | None = None,
    rounds: int = 30,
    fail_slower: float | None = None,
    limits: Limits | None = None,
    allow_new: bool = False,
    progress: Callable[[str], None] = lambda what: None,
) -> TrainingGateResult:
    """Compare a training, named path/to/file.py:make or package.module:make, with itself at a git revision.

    The base is checked out in a temporary worktree; what is not committed counts as part of the working tree, which is
    only read. names: head's parameters for base's (see `parity.training.names.Names`); by default NAMES in the
    factory's module, where base's have other names or shapes. rounds: pairs of timed steps, 0 for none. fail_slower:
    fail where a step at head takes more than so many times as long. allow_new: hold a training that base does not have
    to its own exact arithmetic alone. progress(what is done next) is called before every part. Raises UsageError where
    there is no repository, no such revision, or no such training in either, or where the two do not fit each other. A
    head that fails is ERROR, a base that does INCONCLUSIVE.
    """
    if fail_slower is not None:
        require_pairs(rounds)
    options, limits, here = options or TrainingOptions(), limits or Limits(), Path.cwd()
    root, head_name = working_tree(here)
    root = root.resolve()
    with tempfile.TemporaryDirectory(prefix="parity-gate-") as exchange, checked_out(root, base) as revision:
        given = {name: value for name, value in (("dtype", dtype), ("device", device)) if value is not None}
        side = partial(Elsewhere, subject, given, limits=limits, exchange=Path(exchange))
        there = revision.place_of(here)
        with (
            closing(side(folder=here, moved=(root, root), environment=environment_of(root, root))) as head,
            closing(
                side(
                    folder=there,
                    moved=(root, revision.folder),
                    environment=environment_of(root, revision.folder),
                    where=base,
                )
            ) as old,
        ):
            result = TrainingGateResult(
                subject, head_name, revision.name, Verdict.INCONCLUSIVE, "", fail_slower=fail_slower
            )
            gate = _Gate(result, head, old, options, given, names, limits, progress)
            try:
                gate.compare(allow_new)
            except OtherFailed as error:
                result.verdict, result.reason = Verdict.INCONCLUSIVE, str(error)
            except SubjectError as error:
                result.verdict, result.reason = Verdict.ERROR, str(error)
            if rounds and result.bits:
                progress("speed")
                result.speed = gate.speed(rounds)
            loaded = _loaded_files(head, root)
        changed = changed_lines(root, revision.commit)
    result.lines = {file: lines for file, lines in changed.items() if loaded is None or file in loaded}
    return result


class _Gate:
    """The comparison of two trainings, whose result is filled in part by part."""

    def __init__(
        self,
        result: TrainingGateResult,
        head: Elsewhere,
        base: Elsewhere,
        options: TrainingOptions,
        given: dict[str, str],
        names: Mapping[str, Any] | None,
        limits: Limits,
        progress: Callable[[str], None],
    ) -> None:
        self.result, self.head, self.base, self.options = result, head, base, options
        self.given, self.names, self.limits, self.progress = given, names, limits, progress

    def compare(self, allow_new: bool) -> None:
        """Bits first, in processes that may hang or die; then head and base in exact arithmetic."""
        result, options = self.result, self.options
        self.progress("head and base as they are")
        self.head.start()
        self.base.start()
        own = self.head.describe(options.steps or STEPS)
        result.steps = steps_of(self.head.available, options.steps)
        with time_limit(self.limits.seconds):
            make = imported(result.subject)
        other = self._base(allow_new)
        if other is None:
            found = self._check(make, None)
            result.found, result.verdict = found, found.verdict
            result.reason += f" Beside its own exact arithmetic: {found.reason}"
            return
        require_same_batches(own.batches, other.batches, result.base_name)
        # A map for one change stays in the file when it is merged, and says nothing of the next one.
        own_names = names_of(make) if own.shapes != other.shapes else {}
        names = dict(own_names if self.names is None else self.names)
        mapped = Names(names, own.shapes, other.shapes)
        result.bits = compare_bits(self.head, self.base, mapped, other.start, result.steps)
        result.found = self._check(make, Against(result.base_name, self._other, names))
        if wrong_in_itself(result.found) and not result.bits.identical:
            self.progress("base beside its own exact arithmetic")
            result.base = self.base.check(options, result.steps)
        judge(result)

    def _base(self, allow_new: bool) -> Description | None:
        """What base is made of; None where it has no such training, and need not have one."""
        try:
            return self.base.describe(self.result.steps)
        except UsageError as error:
            absent = re.match(
                rf"At {re.escape(self.base.where)}: (There is no (file|module) |\S+ has no ')", str(error)
            )
            if not absent:
                raise
            if not allow_new:
                raise UsageError(
                    f"{error} If {self.result.subject} is new, there is nothing to compare it with: --allow-new holds "
                    "it to its own exact arithmetic alone, as `parity check` does."
                ) from None
            self.result.is_new, self.result.reason = True, str(error)
            return None

    def _other(self, replicas: int, sites: bool) -> OtherElsewhere:
        done = count(1)

        def busy() -> None:
            self.progress(f"base in exact arithmetic: replica {next(done)}")

        return OtherElsewhere(self.base, replicas=replicas, sites=sites, busy=busy)

    def _check(self, make: Callable[..., Any], against: Against | None) -> TrainingResult:
        self.progress("head in exact arithmetic")
        with time_limit(self.limits.seconds):
            return check_training(
                self.result.subject,
                Factory(make, **self.given),
                self.options,
                against=against,
            )

    def speed(self, rounds: int) -> Speed | None:
        """Steps of both in turns."""
        numbers = [count(), count()]
        sides = [
            lambda side=side, number=number: side.seconds(next(number))
            for side, number in zip((self.head, self.base), numbers)
        ]
        return in_pairs(sides, rounds)


def _loaded_files(head: Elsewhere, root: Path) -> set[str] | None:
    """The repository's files that head has loaded, as git names them; None where that is not known."""
    try:
        files = [Path(file) for file in head.files()]
    except (SubjectError, UsageError):
        return None
    inside = [path.resolve() for path in files if "site-packages" not in path.parts]
    return {path.relative_to(root).as_posix() for path in inside if path.is_relative_to(root)}
