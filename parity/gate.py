"""The gate: a subject as it is against itself at another revision. Is it the same function, and how fast is it?"""

import os
import statistics
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

import parity
from parity.case import Case
from parity.checking import check
from parity.command import Command, CommandSubject, Limits, serving
from parity.compare import FIELDS, Difference, Tensors
from parity.errors import NoExpectation, SubjectError, UsageError
from parity.formats import FORMATS
from parity.git import changed_lines, checked_out, environment, working_tree
from parity.result import Result
from parity.result import _plain as plain
from parity.run import Run
from parity.subjects import Named, command_words, subject_name, train_step
from parity.verdict import FALSE_ALARM, Verdict
from reference.config import State, Step

CHANGES = {
    Verdict.IDENTICAL: "bitwise the same",
    Verdict.PARITY: "only rounding changed",
    Verdict.PRECISION_LOSS: "precision lost",
    Verdict.DIVERGED: "the function changed",
    Verdict.ERROR: "the subject fails",
    Verdict.INCONCLUSIVE: "nothing could be decided",
}
"""What a verdict says of a refactor."""


@dataclass
class Speed:
    """The time of a step at head over that at base, in interleaved pairs; seconds are medians."""

    ratio: float
    low: float
    high: float
    pairs: int
    head_seconds: float
    base_seconds: float


@dataclass
class Changed:
    """How the answers of head and base differ in one quantity. largest: by z, over the noise floor of both."""

    quantity: str
    compared: int = 0
    different: int = 0
    outside: int = 0
    ulps: float = 0.0
    largest: Difference | None = None


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
    dtype: str | None = None,
    device: str | None = None,
    false_alarm: float = FALSE_ALARM,
    limits: Limits | None = None,
    rounds: int = 30,
    progress: Callable[[str], None] = lambda what: None,
) -> GateResult:
    """Compare a subject, named or a command, in the working tree with itself at a git revision.

    Both run in processes of their own, the base in a temporary worktree; what is not committed counts as part of the
    working tree, which is only read. rounds: pairs of timed steps, 0 for none. Raises UsageError where there is no
    repository, no such revision, or no such subject in either.
    """
    case, limits = case or Case.from_names(), limits or Limits()
    here = Path.cwd()
    root, head_name = working_tree(here)
    root = root.resolve()
    options = {"dtype": dtype, "device": device}
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
            head_result = check(head, case, dtype=dtype, device=device, false_alarm=false_alarm)
            _require_existence(old, case, options, base)
            progress("head against base")
            pair = _Pair(case, head_result)
            if head_result.verdict is not Verdict.ERROR:
                pair.compare(head, old, options)
            base_result = None
            if not pair.identical:
                progress("base against the reference")
                base_result = check(old, case, dtype=dtype, device=device, false_alarm=false_alarm)
            verdict, reason = _verdict(pair, head_result, base_result)
            speed = None
            if rounds and verdict is not Verdict.ERROR and not pair.failure:
                progress("speed")
                speed = _speed(head, old, case, options, rounds)
            loaded = _loaded_files(head, case, options, root)
        changed = changed_lines(root, revision.commit)
        files = {name: line for name, line in changed.items() if loaded is None or name in loaded}
        base_name = revision.commit if base.startswith(revision.commit) else f"{base} ({revision.commit})"
    name = subject_name(subject)
    return GateResult(
        name, head_name, base_name, verdict, reason, head_result, base_result, pair.rows, pair.first, speed, files
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


class _Pair:
    """Head and base, step by step: in lock-step with the noise floor between them, and free-running bit by bit."""

    def __init__(self, case: Case, head: Result) -> None:
        self.case, self.judge = case, head.judge
        self.changed: dict[str, Changed] = {}
        self.first: Difference | None = None
        self.drift: Difference | None = None
        self.carries = True
        self.far = False
        self.failure = ""
        self.dropped: list[str] = []
        self.formats = ("", "")

    @property
    def rows(self) -> list[Changed]:
        """By quantity, in the order of a step."""
        return [self.changed[q] for q in FIELDS.values() if q in self.changed]

    @property
    def identical(self) -> bool:
        """Whether every bit is the same."""
        same = bool(self.changed) and not any(row.different for row in self.changed.values())
        return same and not self.dropped and not self.failure and self.formats[0] == self.formats[1]

    def compare(self, head: Command, base: Command, options: dict[str, str | None]) -> None:
        """Ask both for every step, twice over."""
        run = Run(self.case, False, "replay")
        run.judge = self.judge
        new = head(self.case.config, self.case.hyper, **options)
        run.use(new)
        try:
            old = base(self.case.config, self.case.hyper, **options)
            self.formats = (new.dtype, old.dtype)
            for mode in ("lock-step",) if new.forward_only else ("lock-step", "free-running"):
                self._run(run, new, old, mode)
            if self.drift is not None:
                self.carries = _carries(run, new)
        except NoExpectation as error:
            self.failure = str(error)
        except SubjectError as error:
            self.failure = f"At base: {error}"

    def _run(self, run: Run, new: CommandSubject, old: CommandSubject, mode: str) -> None:
        state = run.in_format(self.case.state)
        for number, batch in enumerate(self.case.batches()):
            if mode == "lock-step" or not number:
                run.load(state)
                old.load(state)
            step = self.case.state.step + number
            actual = run.answer(step, batch)
            expected = train_step(old, batch, f"step {step}, at base")
            run.expected(step, batch)
            sigma, _ = run.floor.train_step(batch, self.judge.limit)
            if mode == "lock-step":
                state = run.in_format(run.oracle.state)
            self._note_dropped(actual, expected)
            self._add(run.paired(step, batch, actual, expected, sigma), mode)

    def _note_dropped(self, actual: Step, expected: Step) -> None:
        for name, quantity in FIELDS.items():
            gone = getattr(actual, name) is None and getattr(expected, name) is not None
            if gone and quantity not in self.dropped:
                self.dropped.append(quantity)

    def _add(self, pairs: Iterable[Tensors], mode: str) -> None:
        for t in pairs:
            row = self.changed.setdefault(t.quantity, Changed(t.quantity))
            row.compared += t.expected.size
            row.different += int(np.count_nonzero(t.actual.view(np.int64) != t.expected.view(np.int64)))
            row.ulps = max(row.ulps, float(self.judge.form.ulp_distance(t.actual, t.expected).max(initial=0.0)))
            # Both sides round, so their difference spreads sqrt(2) times as far as one of them.
            both = Tensors(t.step, t.quantity, t.tensor, t.actual, t.expected, t.sigma * sqrt(2))
            z = np.where(np.isnan(both.z), -1.0, both.z)
            outside = z > self.judge.limit
            if outside.any() and mode == "free-running" and self.drift is None:
                self.drift = both.at(int(np.argmax(outside)), self.judge.form)
            if mode == "free-running":
                continue  # there both have drifted to points of their own, and the floor is that of the reference's
            row.outside += int(np.count_nonzero(outside))
            if z.size and (row.largest is None or not z.max() <= row.largest.z):
                row.largest = both.at(int(np.argmax(z)), self.judge.form)
            # Of a function other than the reference's, no element's floor is known, only about how large they are.
            widest = float(np.max(both.sigma, initial=0.0, where=np.isfinite(both.sigma)))
            self.far |= bool(np.any(~(both.error <= self.judge.limit * widest)))
            if outside.any() and self.first is None:
                self.first = both.at(int(np.argmax(outside)), self.judge.form)


def _carries(run: Run, subject: CommandSubject) -> bool:
    """Whether a subject runs freely as it does from the states that it exposes: then lock-step says it all."""
    free: list[tuple[State, Step]] = []
    run.load(run.in_format(run.case.state))
    for number, batch in enumerate(run.case.batches(), run.case.state.step):
        step = run.answer(number, batch)
        if step.params is None or step.m is None or step.v is None:
            return False
        free.append((State(step.params, step.m, step.v, number + 1), step))
    for (state, _), (_, expected), batch in zip(free, free[1:], list(run.case.batches())[1:]):
        subject.load(state)
        if vars(run.answer(state.step, batch)) != vars(expected):
            return False
    return True


PASSES = (Verdict.IDENTICAL, Verdict.PARITY)


def _verdict(pair: _Pair, head: Result, base: Result | None) -> tuple[Verdict, str]:
    """What became of the function, and why."""
    if head.verdict is Verdict.ERROR:
        return Verdict.ERROR, head.reason
    if pair.identical:
        same = "" if head.verdict in PASSES else f" Against the reference it is {head.verdict}: {head.reason}"
        return Verdict.IDENTICAL, f"Every bit of every answer is the same.{same}"
    assert base is not None
    if pair.failure or base.verdict is Verdict.ERROR:
        return Verdict.INCONCLUSIVE, pair.failure or f"At base: {base.reason}"
    if pair.dropped:
        gone = ", ".join(pair.dropped)
        return Verdict.INCONCLUSIVE, f"The subject no longer exposes {gone}, which it did at base."
    if not pair.changed:
        return Verdict.INCONCLUSIVE, "Head and base expose nothing in common."
    if head.verdict in PASSES and base.verdict in PASSES:
        now, before = (FORMATS[name] for name in pair.formats)
        if now.digits < before.digits:
            return Verdict.PRECISION_LOSS, f"It computes in {now.name}, and did so in {before.name} at base."
        return Verdict.PARITY, f"{_rounding(pair)} Both agree with the reference."
    if head.verdict is Verdict.DIVERGED and base.verdict is Verdict.DIVERGED and not pair.far and pair.carries:
        return Verdict.PARITY, f"{_rounding(pair)} Both differ from the reference in the same way: {head.reason}"
    if head.verdict in PASSES:
        return Verdict.DIVERGED, f"Base differs from the reference, and head agrees with it. Base: {base.reason}"
    if head.verdict is Verdict.DIVERGED:
        agreement = "agrees" if base.verdict in PASSES else "does not agree either"
        where = pair.first or pair.drift
        first = f"First at head against base, {where} (limit {pair.judge.limit:.1f})." if where else head.reason
        site = next((mode.first_site for mode in head.modes if mode.first_site), None)
        at = f" First site outside at head: {site.tensor}." if site else ""
        return Verdict.DIVERGED, f"{first}{at} Base {agreement} with the reference."
    return head.verdict, head.reason


def _rounding(pair: _Pair) -> str:
    largest = max((row.largest for row in pair.rows if row.largest), key=lambda difference: difference.z)
    different, compared = (sum(getattr(row, part) for row in pair.rows) for part in ("different", "compared"))
    if pair.first:  # both agree with the reference by floors of their own, and base's may be the wider one
        return f"{different:,} of {compared:,} elements have other bits."
    return (
        f"{different:,} of {compared:,} elements have other bits; rounding explains every difference: largest z "
        f"{largest.z:.2g} at {largest.quantity} {largest.where}, limit {pair.judge.limit:.1f}."
    ).replace("loss loss", "loss")


def _speed(head: Command, base: Command, case: Case, options: dict[str, str | None], rounds: int) -> Speed | None:
    """Steps of both in turns, which first changing from pair to pair, so that what slows the machine slows both."""
    try:
        return _timed([side(case.config, case.hyper, **options) for side in (head, base)], case, rounds)
    except SubjectError:  # the verdict stands without it
        return None


def _timed(sides: list[CommandSubject], case: Case, rounds: int) -> Speed:
    batches = list(case.batches())
    seconds: list[list[float]] = [[], []]
    warm_up = 3
    for number in range(rounds + warm_up):
        batch = batches[number % len(batches)]
        for which in (0, 1) if number % 2 else (1, 0):
            sides[which].load(_copied(case.state))
            train_step(sides[which], batch, "timing")
            if number >= warm_up:
                seconds[which].append(sides[which].seconds)
    ratios = [new / old for new, old in zip(*seconds, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4) if rounds > 1 else ratios * 3
    return Speed(middle, low, high, rounds, *(statistics.median(side) for side in seconds))


def _copied(state: State) -> State:
    return State(state.params, state.m, state.v, state.step)


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
