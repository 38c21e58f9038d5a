"""Why a subject diverged: what else it was asked, and what its answers have in common with a known cause."""

from math import inf, isfinite, sqrt

import numpy as np

from parity.errors import NoExpectation, SubjectError, UsageError
from parity.judging.pairs import Tensors, distance, over_floor, same_bits
from parity.judging.result import ModeResult
from parity.judging.run import Asked, Run, largest_z
from parity.number_formats import FORMATS, Format
from parity.subjects.subject import Factory, Subject, make_subject, takes_keyword
from parity.verdict import Verdict


def ask_again(run: Run, result: ModeResult) -> bool:
    """Put a question of a lock-step run a second time, and note whether the answer has the same bits.

    An answer that rounding does not explain makes the verdict DIVERGED, and the sentence says why. Whether that was so.
    """
    asked = run.diverged or run.first
    if asked is None:
        return False
    try:
        pairs = run.ask_again(asked)
    except SubjectError:
        if run.diverged:  # that it diverged before says more
            return False
        raise
    if same_bits(pairs, asked.pairs):  # of all tensors at once, as is the rule
        result.repeatable = True
        return False
    again = {tensors.key: tensors for tensors in pairs}
    before = {tensors.key: tensors for tensors in asked.pairs}
    if again.keys() != before.keys():
        raise SubjectError(f"Asked about step {asked.state.step} a second time, the subject exposes something else.")
    result.repeatable = all(again[key].actual.tobytes() == t.actual.tobytes() for key, t in before.items())
    if result.repeatable or not _otherwise(run, asked, list(again.values())):
        return False
    why = (
        f"Asked about step {asked.state.step} a second time, from the same state, the subject answers something "
        "else: does load replace all of its state, and is all randomness off?"
    )
    result.reason = f"{result.reason} {why}" if result.verdict is Verdict.DIVERGED else why
    result.verdict = Verdict.DIVERGED
    return True


def _otherwise(run: Run, asked: Asked, again: list[Tensors]) -> bool:
    """Whether rounding does not explain the second answer, or the difference of two that are wrong."""
    if run.diverged is None:
        # Judged as the first one was, which takes asking once more: a ReLU may be turned this time.
        run.load(asked.state)
        return bool(run.outside(run.step(ModeResult("lock-step"), asked.batch)))
    before = {tensors.key: tensors.actual for tensors in asked.pairs}
    # Both answers have rounding errors of their own, so their difference spreads sqrt(2) times as far.
    apart = [over_floor(distance(t.actual, before[t.key]), t.sigma * sqrt(2)) for t in again]
    return any(bool(np.any(~(z <= run.judge.limit))) for z in apart)


def look_for_precision_loss(factory: Factory, run: Run, result: ModeResult, device: str | None) -> None:
    """Turn DIVERGED into PRECISION LOSS where z stays, and so the error shrinks, in a wider format."""
    here = run.judge.form
    if result.first_divergence is None or not takes_keyword(factory, "dtype"):
        return
    other = _other_format(factory, run, here, device)
    if other is None:
        return
    form, subject = other
    probe = Run(run.case, run.sites, "replay")
    probe.judge = run.judge
    again = ModeResult(result.mode)
    try:
        probe.use(subject)
        probe.mode(again, steps=result.first_divergence.step - run.case.state.step + 1)
    except (SubjectError, NoExpectation):
        return
    z_here = result.first_z
    z_there = max((largest_z(t) for t in probe.latest if t.key == result.first_divergence.key), default=inf)
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


def _other_format(factory: Factory, run: Run, here: Format, device: str | None) -> tuple[Format, Subject] | None:
    """A wider format that the subject can compute in, or a narrower one."""
    wider = [form for form in FORMATS.values() if form.digits > here.digits]
    narrower = [form for form in FORMATS.values() if form.digits < here.digits]
    for form in [*wider, *narrower]:
        try:
            return form, make_subject(factory, run.case.config, run.case.hyper, dtype=form.name, device=device)
        except (SubjectError, UsageError):
            continue
    return None


def look_for_a_cause(run: Run, result: ModeResult) -> None:
    """Add to the reason what the subject seems to do instead."""
    try:
        cause = _narrower_format(run) if result.mode == "lock-step" else _never_updated(run)
    except (SubjectError, NoExpectation):  # the verdict stands without it
        return
    if cause:
        result.reason += f" {cause}"


def _narrower_format(run: Run) -> str | None:
    """Whether the answers are numbers of a narrower format, every one of them."""
    assert run.diverged is not None
    answers = [tensors.actual for tensors in run.diverged.pairs if tensors.quantity in ("logits", "grad")]
    narrower = [form for form in FORMATS.values() if form.digits < run.judge.form.digits]
    for form in sorted(narrower, key=lambda form: form.digits):
        if answers and all(np.array_equal(form.rounded(actual), actual) for actual in answers):
            return (
                f"Its answers are all numbers of {form.name}: a subject that computes in {form.name} says so with an "
                f'attribute dtype = "{form.name}".'
            )
    return None


def _never_updated(run: Run) -> str | None:
    asked = run.diverged
    assert asked is not None
    start = run.in_format(run.case.state)
    if asked.pairs[0].step == start.step or {t.quantity for t in asked.pairs} - {"loss", "logits"}:
        return None
    probe = Run(run.case, False, "replay")
    probe.judge = run.judge
    probe.use(run.subject)
    probe.load(start)
    expected = {t.key[1:]: t for t in probe.step(ModeResult("lock-step"), asked.batch)}
    first: list[Tensors] = [t for t in asked.pairs if t.key[1:] in expected]
    if all(run.judge.accepts(t.actual, expected[t.key[1:]].expected, expected[t.key[1:]].sigma) for t in first):
        return (
            "That is the answer of the weights that were loaded, never updated: a subject whose train_step only "
            "computes forward says so with an attribute forward_only = True (a command, in its answer to the greeting)."
        )
    return None
