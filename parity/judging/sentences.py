"""Causes in words, for whoever reads them: a full sentence each."""

from collections.abc import Iterable
from typing import assert_never

from parity.judging.causes import (
    AllVacuous,
    AnswersChange,
    Cause,
    EarlierOutside,
    Failed,
    LawBroken,
    LosesPrecision,
    NarrowAnswers,
    NeverUpdated,
    NoAnswer,
    NoFloor,
    NothingCompared,
    OtherRevision,
    Outside,
    RoundingExplains,
    SameBits,
    StateNotCarried,
)
from parity.judging.probes import Probe


def said(causes: Iterable[Cause]) -> str:
    """All of them, one after another."""
    return " ".join(map(sentence, causes))


def sentence(cause: Cause) -> str:
    """One of them."""
    match cause:
        case NothingCompared():
            return "Nothing was compared."
        case NoFloor(elements):
            return f"{elements} elements differ where the noise floor is not finite."
        case AllVacuous():
            return "Every quantity is vacuous in this case: a wrong answer would have passed."
        case SameBits():
            return "Every bit is the same."
        case RoundingExplains(largest_z, limit):
            return f"Rounding explains every difference: largest z {largest_z:.2g}, limit {limit:.1f}."
        case Outside(first, limit):
            return f"{first} (limit {limit:.1f})."
        case LosesPrecision():
            return _loses_precision(cause)
        case AnswersChange(step):
            return (
                f"Asked about step {step} a second time, from the same state, the subject answers something else: does "
                "load replace all of its state, and is all randomness off?"
            )
        case NarrowAnswers(form):
            return (
                f"Its answers are all numbers of {form}: a subject that computes in {form} says so with an attribute "
                f'dtype = "{form}".'
            )
        case NeverUpdated():
            return (
                "That is the answer of the weights that were loaded, never updated: a subject whose train_step only "
                "computes forward says so with an attribute forward_only = True (a command, in its answer to the "
                "greeting)."
            )
        case StateNotCarried():
            return (
                "That is in free-running; lock-step agrees, so what is carried from step to step (weights, moments, "
                "the step number) is not what was loaded."
            )
        case OtherRevision(activation, lr_schedule):
            asked = [f"the activation {activation}"] if activation else []
            asked += [f"the schedule {lr_schedule}"] if lr_schedule else []
            return (
                f"This case has {' and '.join(asked)}, which the preset microgpt_200 has not; a subject that does not "
                "have that raises NotImplementedError when it is made."
            )
        case EarlierOutside(first):
            return f"Earlier: {first}."
        case Failed(message, _) | NoAnswer(message, _) | LawBroken(message):
            return message
    assert_never(cause)


def in_probe(probe: Probe) -> str:
    """Where a probe decides: which one it is, and what it does that the case does not."""
    config, hyper = probe.case.config, probe.case.hyper
    sizes = f"n_layer {config.n_layer}, n_embd {config.n_embd}, n_head {config.n_head}, block_size {config.block_size}"
    return (
        f"In the probe {probe.name} ({probe.exercises}; {sizes}, vocab_size {config.vocab_size}, {config.activation}, "
        f"{hyper.lr_schedule}):"
    )


def _loses_precision(cause: LosesPrecision) -> str:
    why = (
        f"{cause.form} cannot hold what is computed on the way to it"
        if cause.overflows
        else "the error shrinks with the unit roundoff, so this is an unstable way to compute the right function"
    )
    what = f"the largest z of {cause.first.key.described()} is {cause.other_z:.2g} in {cause.other_form}"
    return f"{cause.first} (limit {cause.limit:.1f}), and {what}: {why}."
