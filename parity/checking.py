"""The check itself: a subject beside the reference, in lock-step and free-running."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from math import inf, isfinite
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from parity.case import Case
from parity.compare import FIELDS, SITES, Difference, Tensors, paired
from parity.errors import NoExpectation, SubjectError, UsageError
from parity.formats import FORMATS, Floats, Format
from parity.kinks import early, turned
from parity.options import MODES
from parity.oracle import Floor, Kink, Nearness, Oracle, Point, make_oracle
from parity.replay import REPLICAS, flat
from parity.result import Judge, ModeResult, Result, TruthResult
from parity.steep import ORDER, adopted, judged
from parity.subjects import TWIN, Subject, guarded, make_subject, require_methods, subject_dtype, takes_keyword
from parity.verdict import FALSE_ALARM, Verdict, limit, worst
from reference.config import State, Step

if TYPE_CHECKING:
    from parity.truth import Truth

Progress = Callable[[str, int], None]


def check(
    subject: Subject | Callable[..., Subject] | str = TWIN,
    case: Case | None = None,
    *,
    modes: Sequence[str] = MODES,
    sites: bool = False,
    dtype: str | None = None,
    device: str | None = None,
    false_alarm: float = FALSE_ALARM,
    oracle: str = "replay",
    truth: bool = False,
    progress: Progress = lambda mode, steps: None,
) -> Result:
    """Compare a subject with the reference, step by step, in every quantity that the subject exposes.

    subject: an object with load and train_step, a factory make(config, hyper), or the name of one
    (`package.module:make`, `path/to/file.py:make`). case: None for 20 steps of default size on the embedded names.
    modes: in lock-step the subject is set to the reference's state before every step; free-running both start
    equal and run on. sites: compare the named intermediates too; where lock-step diverges they are asked for
    anyway, to say where. dtype and device are passed to the factory. false_alarm: the chance of refusing a correct
    subject, over all elements. oracle: "replay" or "python", which give the same bits. truth: judge the subject, and
    the reference beside it, by a certified enclosure of the exact result; in lock-step only. progress(mode, steps
    done) is called after every step.

    A subject that fails gives the verdict ERROR. Raises UsageError where the subject does not exist.
    """
    case = case or Case.from_names()
    name = subject if isinstance(subject, str) else _name(subject)
    factory = subject if isinstance(subject, (str, type)) or not hasattr(subject, "train_step") else None
    modes = (modes,) if isinstance(modes, str) else tuple(dict.fromkeys(modes))
    if not modes or set(modes) - set(MODES):
        raise UsageError(f"The modes are {' and '.join(MODES)}, not {', '.join(modes) or 'none'}.")
    if factory is None and (dtype or device):
        raise UsageError("dtype and device are for a factory to make a subject with; this one is made already.")
    if truth and (sites or modes == ("free-running",)):
        raise UsageError("The truth judges what comes out of single steps: in lock-step, and without sites.")
    if not 0 < false_alarm < 1:
        raise UsageError(f"The false-alarm rate must lie between 0 and 1, not {false_alarm!r}.")
    modes = ("lock-step",) if truth else modes
    run = _Run(case, sites, oracle, progress)
    if truth:
        from parity.truth import Truth

        run.truth = Truth(case.config, case.hyper)
    run.judge = Judge(FORMATS["float64"], limit(false_alarm, run.elements(len(modes)), REPLICAS), false_alarm)
    results: list[ModeResult] = []
    try:
        if factory is None:
            require_methods(subject)
        else:
            subject = make_subject(factory, case.config, case.hyper, dtype=dtype, device=device)
        run.use(cast("Subject", subject))
        for mode in modes:
            results.append(ModeResult(mode))
            try:
                run.mode(results[-1])
            except NoExpectation as error:
                results[-1].conclude(run.judge)
                if results[-1].verdict is not Verdict.DIVERGED:  # what was found before stays found
                    results[-1].verdict, results[-1].reason = Verdict.INCONCLUSIVE, str(error)
            if factory is not None and results[-1].verdict is Verdict.DIVERGED:
                _look_for_precision_loss(factory, run, results[-1], device)
    except SubjectError as error:
        results = results or [ModeResult(modes[0])]
        results[-1].verdict, results[-1].reason = Verdict.ERROR, str(error)
    verdict = worst(result.verdict for result in results)
    reason = next(result.reason for result in results if result.verdict is verdict)
    return Result(case, name, run.judge, results, run.unchecked(), verdict, reason)


def _name(subject: Any) -> str:
    kind = subject if hasattr(subject, "__qualname__") else type(subject)
    return f"{kind.__module__}:{kind.__qualname__}"


class _Run:
    """One subject and one oracle on one case."""

    judge: Judge
    subject: Subject
    truth: "Truth | None" = None
    previous: Floats | None = None

    def __init__(self, case: Case, sites: bool, oracle: str, progress: Progress) -> None:
        self.case, self.sites, self.progress = case, sites, progress
        self.oracle: Oracle = make_oracle(oracle, case.config, case.hyper)
        self.exposed: set[tuple[str, str]] = set()
        self.latest: list[Tensors] = []

    def elements(self, modes: int) -> int:
        """How many elements the case offers for comparison."""
        lengths = [self.positions(tokens) for batch in self.case.batches() for tokens in batch]
        floor = Floor(self.case.config, self.case.hyper, FORMATS["float64"])
        one = 1 + 4 * self.case.config.num_params()
        documents = sum(
            n * self.case.config.vocab_size + (floor.site_elements(n) if self.sites else 0) for n in lengths
        )
        return modes * (self.case.steps * one + documents)

    def positions(self, tokens: Sequence[int]) -> int:
        return min(self.case.config.block_size, len(tokens) - 1)

    def use(self, subject: Subject) -> None:
        """Take this subject, and the noise floor of its number format."""
        self.subject = subject
        form = FORMATS[subject_dtype(subject)]
        self.judge = Judge(form, self.judge.limit, self.judge.false_alarm)
        self.floor = Floor(self.case.config, self.case.hyper, form)
        self.expose_sites(self.sites)

    def expose_sites(self, expose: bool) -> None:
        self.oracle.expose_sites = self.floor.expose_sites = expose
        if hasattr(self.subject, "expose_sites"):
            self.subject.expose_sites = expose

    def mode(self, result: ModeResult, steps: int | None = None) -> None:
        """Run one mode to its end, or for some steps."""
        state = self.in_format(self.case.state)
        self.load(state)
        for batch in list(self.case.batches())[:steps]:
            if result.mode == "lock-step" and result.steps:
                state = self.in_format(self.oracle.state)
                self.load(state)
            diverged = result.first_divergence is not None
            self.latest = self.step(result, batch)
            result.add(self.latest, self.judge)
            if result.first_divergence and not diverged:
                first = next(t for t in self.latest if t.key == result.first_divergence.key)
                result.first_z = _largest_z(first)
            if result.first_divergence and not diverged and result.mode == "lock-step":
                after = self.oracle.state
                result.first_site = self.locate(state, batch)
                self.oracle.load(after)
            self.progress(result.mode, result.steps)
        result.conclude(self.judge)

    def in_format(self, state: State) -> State:
        """The state in numbers that both sides can represent."""
        params, m, v = (
            {name: self.judge.form.rounded(matrix).tolist() for name, matrix in tensors.items()}
            for tensors in (state.params, state.m, state.v)
        )
        if not all(np.isfinite(matrix).all() for tensors in (params, m, v) for matrix in tensors.values()):
            raise NoExpectation(f"The weights of step {state.step} are too large for {self.judge.form.name}.")
        return State(params, m, v, state.step)

    def load(self, state: State) -> None:
        """Set both sides; the subject gets lists of its own, so that it cannot change the reference's."""
        self.oracle.load(state)
        self.floor.load(state)
        self.previous = np.array([flat(self.case.config, part) for part in (state.params, state.m, state.v)])
        guarded(f"load before step {state.step}", lambda: self.subject.load(self.in_format(state)))

    def step(self, result: ModeResult, batch: list[list[int]]) -> list[Tensors]:
        """One step on both sides, side by side."""
        number = self.oracle.number
        if self.truth is not None:
            return self.true_step(result, batch)
        before = self.floor.point
        expected = self.expected(number, batch)
        sigma, kinks = self.floor.train_step(batch, self.judge.limit)
        actual = self.answer(number, batch)
        pairs = self.paired(number, batch, actual, expected, sigma)
        pairs = self.explained(result, before, batch, actual, pairs, kinks)
        self.note_exposed(result, number, pairs)
        exposed = all(getattr(actual, part, None) is not None for part in ("params", "m", "v"))
        self.previous = (
            np.array([flat(self.case.config, {t.tensor: t.actual for t in pairs if t.quantity == q}) for q in ORDER])
            if exposed
            else None
        )
        return pairs

    def expected(self, number: int, batch: list[list[int]]) -> Step:
        """The oracle's step; NoExpectation where it is not made of finite numbers."""
        step = self.oracle.train_step(batch)
        tensors = [step.loss, *step.logits, *step.grads.values(), *step.params.values(), *step.v.values()]
        if not all(np.isfinite(tensor).all() for tensor in tensors):
            raise NoExpectation(f"The reference itself computes infinities or NaN at step {number}.")
        return step

    def true_step(self, result: ModeResult, batch: list[list[int]]) -> list[Tensors]:
        """One step of the subject beside the truth, with what the reference and both to each other are noted."""
        assert self.truth is not None
        number, state = self.oracle.number, self.oracle.state
        result.truth = result.truth or TruthResult()
        actual, before = self.answer(number, batch), self.floor.point
        sigma, kinks = self.floor.train_step(batch, self.judge.limit)
        other = None
        lengths = [self.positions(tokens) for tokens in batch]
        try:
            expected = self.expected(number, batch)
        except NoExpectation as error:
            result.truth.failures.append(str(error).rstrip("."))
            enclosure = self.truth.enclosure(state, batch, None)
            sigma = self.truth.spread(
                state, batch, self.judge.form, self.limit_of(self.truth.noisy_runs) / self.judge.limit
            )
            high = enclosure.high
            self.oracle.load(State(high.params, high.m, high.v, number + 1))
        else:
            enclosure = self.truth.enclosure(state, batch, sigma)
            reference_sigma = sigma
            if self.judge.form.name != "float64":
                floor = Floor(self.case.config, self.case.hyper, FORMATS["float64"])
                floor.load(state)
                reference_sigma, _ = floor.train_step(batch, self.judge.limit)
            reference = self.paired(number, batch, expected, enclosure.high, reference_sigma)
            result.truth.add(result.truth.reference, enclosure.errors(reference, lengths))
            apart = self.paired(number, batch, actual, expected, sigma)
            if self.outside(self.paired(number, batch, actual, enclosure.high, sigma)):
                other = self.explained(result, before, batch, actual, apart, kinks)
            result.truth.add(result.truth.apart, other or apart)
        pairs = self.paired(number, batch, actual, enclosure.high, sigma)
        if other is not None and not self.outside(other):
            pairs = other
        result.truth.add(result.truth.subject, pairs if pairs is other else enclosure.errors(pairs, lengths))
        self.note_exposed(result, number, pairs)
        return pairs

    def note_exposed(self, result: ModeResult, number: int, pairs: Sequence[Tensors]) -> None:
        """Keep what was exposed; SubjectError where something is no longer, which would go unchecked unnoticed."""
        exposed = {(t.quantity, t.kind) for t in pairs}
        if self.exposed and exposed != self.exposed:
            changed = ", ".join(sorted({quantity for quantity, _ in exposed ^ self.exposed}))
            raise SubjectError(f"The subject exposes {changed} at some steps and not at others (step {number}).")
        self.exposed = exposed

    def explained(
        self,
        result: ModeResult,
        before: Point,
        batch: list[list[int]],
        actual: Step,
        pairs: list[Tensors],
        kinks: Mapping[Kink, Nearness],
    ) -> list[Tensors]:
        """The pairs, where they are outside with ReLUs turned or updates judged by themselves if that explains them."""
        result.kinks += len(kinks)
        if not self.outside(pairs) or result.first_divergence:  # once diverged, a step more or less is no news
            return pairs

        if kinks and self.outside(early(pairs)):
            paired = partial(self.paired, before.number, batch, actual)
            other = turned(self.floor, before, batch, pairs, kinks, self.judge, paired)
            if other is not None:
                result.kinks_turned += other.gates
                self.floor.point, pairs = other.after, other.pairs
        update = judged(pairs, self.previous, self.floor, before.number, self.judge)
        result.steep += update.elements
        for part, tensor, delta in adopted(pairs, update.pairs):
            self.floor.adopt(part, tensor, delta)
        self.oracle.load(self.floor.state)
        return update.pairs

    def limit_of(self, replicas: int) -> float:
        return limit(self.judge.false_alarm, self.elements(1), replicas)

    def answer(self, number: int, batch: list[list[int]]) -> Step:
        actual = guarded(f"step {number}", self.subject.train_step, [list(tokens) for tokens in batch])
        if actual is None:
            raise SubjectError(f"The subject's train_step gave nothing back at step {number}.")
        if not any(hasattr(actual, name) for name in FIELDS):
            raise SubjectError(
                f"The subject's train_step gave a {type(actual).__name__} back at step {number}, not a Step."
            )
        return cast("Step", actual)

    def paired(self, number: int, batch: list[list[int]], actual: Step, expected: Step, sigma: Step) -> list[Tensors]:
        try:
            return list(paired(number, actual, expected, sigma, [self.positions(tokens) for tokens in batch]))
        except (TypeError, ValueError, AttributeError) as error:
            raise SubjectError(f"The subject's answer at step {number} cannot be read as a Step: {error}.") from error

    def outside(self, pairs: Sequence[Tensors]) -> int:
        return sum(int(np.count_nonzero(self.judge.outside(tensors))) for tensors in pairs)

    def locate(self, state: State, batch: list[list[int]]) -> Difference | None:
        """The first site outside at a step that diverged, if the subject exposes sites."""
        if not hasattr(self.subject, "expose_sites"):
            return None
        self.expose_sites(True)
        self.load(state)
        again, truth, self.truth = ModeResult("lock-step"), self.truth, None
        exposed, self.exposed = self.exposed, set()
        # The truth may have gone on without the reference; and broken sites are no news once a step is wrong.
        with suppress(NoExpectation, SubjectError):
            again.add((t for t in self.step(again, batch) if t.quantity in SITES), self.judge)
        self.expose_sites(self.sites)
        self.truth, self.exposed = truth, exposed
        return again.first_divergence

    def unchecked(self) -> list[str]:
        """The quantities that the subject does not expose."""
        asked = [quantity for quantity in FIELDS.values() if self.sites or quantity not in SITES]
        exposed = {quantity for quantity, _ in self.exposed}
        return [quantity for quantity in asked if quantity not in exposed]


def _look_for_precision_loss(
    factory: Callable[..., Subject] | str, run: _Run, result: ModeResult, device: str | None
) -> None:
    """Turn DIVERGED into PRECISION LOSS where z stays, and so the error shrinks, in a wider format."""
    here = run.judge.form
    if result.first_divergence is None or not takes_keyword(factory, "dtype"):
        return
    other = _other_format(factory, run.case, here, device)
    if other is None:
        return
    form, subject = other
    probe = _Run(run.case, run.sites, "replay", lambda mode, steps: None)
    probe.judge = run.judge
    again = ModeResult(result.mode)
    try:
        probe.use(subject)
        probe.mode(again, steps=result.first_divergence.step - run.case.state.step + 1)
    except (SubjectError, NoExpectation):
        return
    z_here = result.first_z
    z_there = max((_largest_z(t) for t in probe.latest if t.key == result.first_divergence.key), default=inf)
    narrow, wide = (z_here, z_there) if form.digits > here.digits else (z_there, z_here)
    # Of a wrong function, z grows as the noise floor shrinks; an infinite one says nothing of how fast.
    most = narrow * 2.0 ** (abs(form.digits - here.digits) / 2) if isfinite(narrow) else run.judge.limit
    if narrow > run.judge.limit and wide <= most:
        result.verdict = Verdict.PRECISION_LOSS
        first = result.first_divergence
        why = (
            "the error shrinks with the unit roundoff, so this is an unstable way to compute the right function"
            if isfinite(first.actual) and isfinite(z_here)
            else f"{here.name} cannot hold what is computed on the way to it"
        )
        z = f"the largest z of {first.quantity} {first.tensor}".replace("loss loss", "loss")
        result.reason = f"{first} (limit {run.judge.limit:.1f}), and {z} is {z_there:.2g} in {form.name}: {why}."


def _other_format(
    factory: Callable[..., Subject] | str, case: Case, here: Format, device: str | None
) -> tuple[Format, Subject] | None:
    """A wider format that the subject can compute in, or a narrower one."""
    wider = [form for form in FORMATS.values() if form.digits > here.digits]
    narrower = [form for form in FORMATS.values() if form.digits < here.digits]
    for form in [*wider, *narrower]:
        try:
            return form, make_subject(factory, case.config, case.hyper, dtype=form.name, device=device)
        except (SubjectError, UsageError):
            continue
    return None


def _largest_z(tensors: Tensors) -> float:
    return float(np.where(np.isnan(tensors.z), np.inf, tensors.z).max(initial=0.0))
