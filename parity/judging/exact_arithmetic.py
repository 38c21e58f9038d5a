"""A subject that is PyTorch and computes in a short format, in exact arithmetic: what its rounding would hide.

Its own program runs on shadows (`parity.oracle.shadows`), which hold float64 behind its formats. So its answer is held
to the reference's within the rounding of float64, whatever it was written for: an eps that is off by a tenth is lost in
bfloat16, and is not there. And how far its own operations round is seen over replicas, with nothing declared: what
rounds more than the format that it says, as under autocast, is a loss of precision and no other function.
"""

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from parity.case import Case
from parity.errors import NoExpectation, SubjectError
from parity.judging.causes import LosesPrecision, OnlyExactly, OutsideTogether, RightExactly, RoundsMore, RoundsTogether
from parity.judging.diagnosis import narrow_answers
from parity.judging.exchange import Exchange, Run
from parity.judging.judge import Judge
from parity.judging.location import Place
from parity.judging.mode_result import ModeResult
from parity.judging.moderation import moderated
from parity.judging.on_shadows import OnShadows
from parity.judging.pairs import Pairs
from parity.judging.probing import Make
from parity.judging.result import Result
from parity.judging.trial import Trial
from parity.number_formats import FORMATS, Floats
from parity.oracle.shadows.noise import Noise
from parity.progress import each
from parity.verdict import Verdict

EXACT = "exact arithmetic"
"""The name of the mode."""

REPLICAS = 8
"""Runs with noise, where they are needed: each may be a hundred times slower than the subject's own."""


def look_in_exact_arithmetic(result: Result, make: Make, case: Case, *, sites: bool) -> None:
    """Add to a result its mode in exact arithmetic, and where that is right, what its own rounding explains.

    Where the subject cannot be run so, the result says that its rounding hides something.
    """
    hidden = f"what rounding in {result.judge.form.name} hides"
    try:
        mode = _ExactRun(result, make, case, sites).mode()
    except (SubjectError, NoExpectation) as error:
        why = str(error).splitlines()[0].rstrip(".")
        result.left_out += (f"{hidden} (in exact arithmetic: {why})",)
        return
    first = result.modes[0]
    if mode.verdict is Verdict.INCONCLUSIVE:
        result.left_out += (f"{hidden} (in exact arithmetic: {mode.reason.rstrip('.')})",)
        return
    if mode.verdict is Verdict.DIVERGED and all(found.verdict.passes for found in result.modes):
        mode.causes.append(OnlyExactly(result.judge.form.name))
    if mode.location and first.location and first.wider is None:
        first.wider = Place(mode.location, mode.first_site, exactly=True)
    result.modes.append(mode)
    if mode.verdict.passes:
        _look_for_its_own_rounding(result, make, case)


_STEPS = 2
"""Free-running, where the subject was: what is wrong from the second step on is seen, too."""


class _ExactRun:
    """The first questions of a case, put to a subject on shadows."""

    def __init__(self, result: Result, make: Make, case: Case, sites: bool = False) -> None:
        judge = result.judge
        self.judge: Judge = replace(judge, form=FORMATS["float64"], storage=judge.storage or judge.form, exactly=True)
        runs_on = any(mode.mode == "free-running" for mode in result.modes)
        self.u = judge.widest.u
        self.make, self.case, self.sites = make, replace(case, steps=min(case.steps, _STEPS) if runs_on else 1), sites
        self.run = self._run()
        self.start, self.batches = case.state, list[list[list[int]]]()
        """The state and the batches that lead to a question."""

    def _run(self, noise: Noise | None = None) -> Run:
        subject = OnShadows(lambda: self.make(self.case), noise)
        return Run(self.case, subject, self.judge, sites=self.sites)

    def mode(self) -> ModeResult:
        """What it gives; SubjectError where what it answers was not computed on shadows."""
        trial = Trial(self.run, EXACT)
        trial.go()
        mode = trial.result
        mode.judge = self.judge
        if mode.first_divergence is None or trial.diverged is None:
            return mode
        if narrow_answers(trial) is not None:
            raise SubjectError("Its answers are rounded all the same: something else than PyTorch computes them.")
        asked = trial.diverged
        if getattr(self.run.subject, "read", False) and self._as_if_written(asked.pairs):
            raise SubjectError("Its answers are read out of tensors and rounded, as where they are written in digits.")
        self.start = self.run.rounded(self.case.state)
        self.batches = list(self.case.batches())[: mode.first_divergence.step - self.case.state.step + 1]
        if not self._repeats(asked):
            raise SubjectError("Made once more, it answers otherwise: something outlives it.")
        if getattr(self.run.subject, "wrote_before", False):
            raise SubjectError("It writes to tensors that were there before it was made, which round all the same.")
        # What it was given in its formats, such as a mask's 1/3, no exact arithmetic takes back.
        spread = self.spread(asked, (Noise(seed, wide=True, given=True) for seed in range(REPLICAS)))
        pairs = asked.pairs.with_sides(sigma=np.hypot(asked.pairs.sigma, spread))
        if not self.judge.accepts(pairs):
            return mode
        again = ModeResult(EXACT, judge=self.judge, by_constants=True)
        again.add(pairs, self.judge)
        again.conclude(self.judge)
        return again

    def _as_if_written(self, pairs: Pairs) -> bool:
        """Whether no element is farther off than rounding it once to the subject's format takes it."""
        outside = self.judge.outside(pairs)
        return bool(np.all(pairs.error[outside] <= 2 * self.u * np.abs(pairs.expected[outside])))

    def _repeats(self, asked: Exchange) -> bool:
        """Whether it answers the same when it is made once more; else replicas would show that, and no rounding."""
        return np.array_equal(self._asked_anew(asked, None), asked.pairs.actual, equal_nan=True)

    def _asked_anew(self, asked: Exchange, noise: Noise | None) -> Floats:
        """What it answers to a question when it is made once more, (elements,)."""
        replica = self._run(noise)
        replica.load(self.start)
        for batch in self.batches:
            answer = replica.answer(asked.number, batch)
        found = replica.compared(asked.expectation, answer)
        if found.keys != asked.pairs.keys:
            raise SubjectError("Asked once more, it exposes something else.")
        return found.actual

    def spread(self, asked: Exchange, noises: Iterable[Noise]) -> Floats:
        """How far replicas lie from the exact answer to a question, moderated, (elements,)."""
        pairs, number = asked.pairs, 0
        squares: Floats = np.zeros_like(pairs.sigma)
        with np.errstate(all="ignore"):
            for noise in each("own rounding: replicas", list(noises)):
                squares, number = squares + np.square(self._asked_anew(asked, noise) - pairs.actual), number + 1
        sigma: Floats = np.sqrt(squares / number)
        for start, end in zip(pairs.layout.starts, pairs.layout.starts[1:]):
            here = slice(int(start), int(end))
            of_tensor = sigma[here], pairs.expected[here]
            sigma[here] = moderated(*of_tensor, number, self.judge.false_alarm, len(sigma))
        return sigma


def _look_for_its_own_rounding(result: Result, make: Make, case: Case) -> None:
    """Turn DIVERGED into PRECISION LOSS where the subject's own operations round as far as it is off."""
    diverged = [mode for mode in result.modes if mode.verdict is Verdict.DIVERGED]
    for mode in diverged:
        if isinstance(mode.causes[0], OutsideTogether):
            mode.decide(Verdict.PRECISION_LOSS, mode.causes[0], RoundsTogether())
    first = result.modes[0]
    asked, divergence = first.diverged, first.first_divergence
    if first not in diverged or asked is None or divergence is None or first.repeatable is False:
        return
    try:
        exact = _ExactRun(result, make, case)
        exact.start, exact.batches = asked.expectation.before.state(case.config), [asked.batch]
        exact.run.load(exact.start)
        answer = exact.run.answer(asked.number, asked.batch)
        beside = replace(asked, pairs=exact.run.compared(asked.expectation, answer))
        spread = exact.spread(beside, (Noise(seed) for seed in range(REPLICAS)))
    except SubjectError:
        return
    pairs, judge = asked.pairs, result.judge
    if not judge.accepts(pairs.with_sides(sigma=np.maximum(pairs.sigma, spread))):
        if math.isfinite(divergence.actual) or judge.form.highest >= FORMATS["float32"].highest:
            first.causes.append(RightExactly())
            return
        z = beside.pairs.by_key()[divergence.key].largest_z
        cause = LosesPrecision(divergence, judge.limit, judge.form.name, EXACT, z, overflows=True)
        for mode in diverged:
            mode.decide(Verdict.PRECISION_LOSS, cause)
        return
    outside = judge.outside(pairs) & (pairs.sigma > 0)
    times = float(np.median(spread[outside] / pairs.sigma[outside])) if outside.any() else math.inf
    formats = _shorter(exact.run.subject, judge)
    for mode in diverged:
        mode.decide(Verdict.PRECISION_LOSS, RoundsMore(divergence, judge.limit, judge.form.name, formats, times))


def _shorter(subject: object, judge: Judge) -> tuple[str, ...]:
    """The formats that a subject on shadows had results in that are shorter than the one that it says."""
    seen = {str(dtype).removeprefix("torch.") for dtype in getattr(subject, "formats", ())}
    return tuple(name for name, form in FORMATS.items() if name in seen and form.digits < judge.form.digits)
