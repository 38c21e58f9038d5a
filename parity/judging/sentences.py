"""Causes in words, for whoever reads them: a full sentence each."""

import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import assert_never

from parity.judging.causes import (
    AllVacuous,
    AnswersChange,
    Asked,
    Cause,
    EarlierOutside,
    Failed,
    LawBroken,
    LosesPrecision,
    NarrowAnswers,
    NarrowRounding,
    NeverUpdated,
    NoAnswer,
    NoFloor,
    NothingCompared,
    OffByAnAmount,
    OnlyExactly,
    OtherOptimizer,
    OtherRevision,
    Outside,
    OutsideTogether,
    RightExactly,
    RoundingExplains,
    RoundsMore,
    RoundsTogether,
    SameBits,
    StateNotCarried,
)
from parity.judging.judge import Judge
from parity.judging.location import LocatedTensor, Location, Place, begins_at
from parity.judging.pairs import Difference
from parity.judging.probes import Probe
from parity.judging.relu_gates import SHORT_DIGITS
from parity.judging.suspected_sites import SuspectedSite
from parity.number_formats import FORMATS
from parity.words import beside_limit

TOGETHER = " And: "
"""Between mistakes that are made at once."""

_KIND = {"logits": "document"}
_MOST_TENSORS = 12
"""Tensors of a quantity that are named one by one."""
_SEE_MORE = "a wider format shows more of it (--dtype float64, where the factory takes dtype), and so do more sites"
_MOST_LISTED = 8
"""Documents that a sentence names."""


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
            return f"Rounding explains every difference: largest z {beside_limit(largest_z, limit)}, limit {limit:.1f}."
        case Outside(first, limit):
            return f"{first.beside(limit)}."
        case OutsideTogether(along):
            return f"No element is outside, but all of them together are: {along}."
        case RoundsTogether():
            return (
                "In exact arithmetic it is the reference's function: it rounds more than its format or to one side, or "
                "what runs is not quite what its code says."
            )
        case OffByAnAmount(direction, amount):
            return f"To within rounding, {direction.amount(amount)}."
        case LosesPrecision():
            return _loses_precision(cause)
        case RoundsMore(first, limit, form, formats, times):
            what = f"{' and '.join(formats)}, as under autocast" if formats else "another order, or with more steps"
            return (
                f"{first.beside(limit)}, and in exact arithmetic it is the reference's function: its own operations "
                f"round {times:.2g} times as far as {form} does where it is outside, since it computes in {what}."
            )
        case OnlyExactly(form):
            return f"That is in exact arithmetic: it is another function, by less than rounding in {form} shows."
        case RightExactly():
            return (
                "But in exact arithmetic it is the reference's function: what runs is not what its code says. Is it "
                "compiled, or a kernel of its own, wrong, or does its code do otherwise for tensors of other types?"
            )
        case AnswersChange(step):
            return (
                f"Asked about step {step} a second time, from the same state, the subject answers something else: does "
                "load replace all of its state, and is all randomness off?"
            )
        case NarrowAnswers(form):
            return (
                f"Its answers are all numbers of {form}: a subject that computes in {form} says so with an attribute "
                f'dtype = "{form}", a program with "dtype": "{form}" in its first answer.'
            )
        case NarrowRounding(form, largest_z):
            return (
                f"Rounding in {form} would explain it (largest z {largest_z:.2g}): what is computed in {form}, if only "
                f"in part, is checked with --dtype {form}, or by a subject that says so with an attribute dtype."
            )
        case NeverUpdated():
            return (
                "That is the answer of the weights that were loaded, never updated: a subject whose train_step only "
                "computes forward says so with an attribute forward_only = True, one that has gradients and no update "
                "with without_update = True (a command, in its answer to the greeting)."
            )
        case StateNotCarried():
            return (
                "That is in free-running; lock-step agrees, so what is carried from step to step (weights, moments, "
                "the step number) is not what was loaded."
            )
        case OtherOptimizer():
            return (
                "That is in free-running; lock-step agrees, and the update is not exposed: is it the reference's Adam? "
                "A subject with another optimizer says so with an attribute without_update = True."
            )
        case OtherRevision(_, _, command):
            refusal = 'answers the greeting with an error that has "unsupported": true'
            does = refusal if command else "raises NotImplementedError when it is made"
            return (
                f"This case has {cause.what}, which the preset microgpt_200 has not; a subject that does not have that "
                f"{does}."
            )
        case EarlierOutside(first):
            return f"Earlier: {first}."
        case Failed(message, _, asked):
            return message if asked is None else f"{message} {_asked(asked)}"
        case NoAnswer(message, _) | LawBroken(message):
            return message
    assert_never(cause)


def behaves_like(mistakes: Sequence[str]) -> str:
    """A sentence that names known mistakes, each a sentence; empty where there are none."""
    if not mistakes:
        return ""
    if len(mistakes) == 1:
        which = "these mistakes" if TOGETHER in mistakes[0] else "this mistake"
    else:
        which = "one of these mistakes"
    return f"It behaves like the reference with {which}: {' Or: '.join(mistakes)}"


def in_probe(probe: Probe) -> str:
    """Where a probe decides: which one it is, and what it does that the case does not."""
    config, hyper = probe.case.config, probe.case.hyper
    sizes = f"n_layer {config.n_layer}, n_embd {config.n_embd}, n_head {config.n_head}, block_size {config.block_size}"
    return (
        f"In the probe {probe.name} ({probe.exercises}; {sizes}, vocab_size {config.vocab_size}, {config.activation}, "
        f"{hyper.lr_schedule}):"
    )


def suspicion(site: SuspectedSite, judge: Judge) -> str:
    """A site that is suspected to be shown under a wrong name."""
    beside = f"({site.first.beside(judge.limit)})"
    if site.shows:
        found = f"has the values of the reference's {site.shows} {beside}"
    else:
        of = "" if site.first.quantity == "site" else "in its gradient "
        found = f"is {of}outside, and what is computed from it is not {beside}"
        if judge.form.digits <= SHORT_DIGITS:
            found += f"; or rounding in {judge.form.name} hides what follows from it, which --dtype float64 would show"
    shown = f"what {site.shown_by} shows" if site.shown_by else "what is shown"
    return f"Suspected wrong entry in the map of sites: {shown} as {site.name} {found}."


def located(
    location: Location, first_site: Difference | None = None, wider: Place | None = None
) -> list[tuple[str, str]]:
    """What is right and what is wrong, in the order of computation: quantities, and what is to be said of them.

    first_site: the first element of one that is outside, which is nearer to the mistake than any tensor. wider: where
    the same begins in a format that sees more.
    """
    lines: list[tuple[list[str], list[str]]] = []
    for quantity in dict.fromkeys(tensor.key.quantity for tensor in location.tensors):
        parts = _said_of(location.of_quantity(quantity))
        if lines and lines[-1][1] == parts:
            lines[-1][0].append(quantity)
        else:
            lines.append(([quantity], parts))
    told = [(", ".join(quantities), part) for quantities, parts in lines for part in parts]
    begins = _begins(location, first_site)
    told += [("begins at", begins)] if begins else []
    if own := location.wrong_by_itself:
        what = f"{' and '.join(own)}, too: {'they are' if len(own) > 1 else 'it is'}"
        told.append(("begins at", f"{what} not what Adam makes of these gradients, wrong as they are"))
    if wider and wider.begins_at != begins_at(location, first_site):
        dtype = wider.location.form
        there = _begins(wider.location, wider.first_site)
        if wider.exactly:
            return [*told, ("in exact arithmetic", f"begins at {there}")]
        return [*told, (f"in {dtype}", f"begins at {there} (--dtype {dtype} shows all of it)")]
    if begins and not wider and FORMATS[location.form].digits <= SHORT_DIGITS:
        told.append(("", f"what is below the noise floor of {location.form} is not seen: {_SEE_MORE}"))
    return told


def _begins(location: Location, first_site: Difference | None) -> str:
    """Where the wrong begins, as far as it is seen; empty where that is not known."""
    if first_site and begins_at(location, first_site) == [first_site.key]:
        where = first_site.key.described()
        return f"{where}: of the sites that are shown, none before it is seen to be wrong"
    begins = _beginning(location)
    if not begins:
        return ""
    if location.origins[0].key.quantity in ("logits", "loss"):  # of which nothing nearer is known but by sites
        return f"{begins}, so somewhere in the forward pass: a subject's sites tell where"
    compared = "what" if location.all_before_is_right else "as far as it was compared, what"
    return f"{begins}: {compared} it is computed from is not seen to be wrong"


def _beginning(location: Location) -> str:
    """The wrong tensors that are computed from what is right; empty where none is."""
    parts = []
    for quantity, origins in groupby(location.origins, key=lambda tensor: tensor.key.quantity):
        of_quantity, tensors = location.of_quantity(quantity), list(origins)
        if len(tensors) < len(of_quantity):
            parts.append(f"{quantity} {_runs(tensors, of_quantity, amounts=False)}")
        else:
            parts.append(quantity if len(tensors) == 1 else f"{quantity} of every {_KIND.get(quantity, 'tensor')}")
    return "; ".join(parts)


def _said_of(tensors: Sequence[LocatedTensor]) -> list[str]:
    """Which of a quantity's tensors are right and which are wrong, and by how much."""
    right, wrong = [t for t in tensors if t.right], [t for t in tensors if not t.right]
    if not wrong:
        return ["right"]
    if all(tensor.follows for tensor in wrong):
        return ["as Adam makes them of these gradients"]
    if len(tensors) == 1 and tensors[0].key.name == tensors[0].key.quantity:
        return [f"wrong ({_amount(tensors[0])})"]
    if not right and len({_amount(tensor) for tensor in wrong}) == 1:
        return [f"wrong: every {_KIND.get(wrong[0].key.quantity, 'tensor')} ({_amount(wrong[0])} each)"]
    named = [f"right: {_runs(right, tensors, amounts=False)}"] if right else []
    return [*named, f"wrong: {_runs(wrong, tensors, amounts=True)}"]


def _runs(some: Sequence[LocatedTensor], tensors: Sequence[LocatedTensor], *, amounts: bool) -> str:
    """Names of some of the tensors; of many, those that follow each other by the first and the last of them."""

    def named(tensor: LocatedTensor) -> str:
        return f"{tensor.key.tensor} ({_amount(tensor)})" if amounts else tensor.key.tensor

    if len(some) <= _MOST_TENSORS:
        return ", ".join(map(named, some))
    texts = []
    for among, run in groupby(tensors, key=lambda tensor: tensor in some):
        of_run = list(run)
        if among:
            long = len(of_run) > 3
            texts += [f"{named(of_run[0])} to {named(of_run[-1])}"] if long else list(map(named, of_run))
    return ", ".join(texts)


def _amount(tensor: LocatedTensor) -> str:
    """How wrong a tensor is, relative to what is expected of it."""
    if math.isnan(tensor.relative_error):
        return "NaN"
    return f"{tensor.relative_error:.2g}" if math.isfinite(tensor.relative_error) else "where 0 is expected"


def _asked(asked: Asked) -> str:
    """Which documents were to be answered, so that somebody can ask for them again."""
    plural = "" if len(asked.tokens) == 1 else "s"
    which = f"document{plural} {_listed(asked.documents)} of the case, " if asked.documents else f"document{plural} of "
    return (
        f"There it was given {which}{_listed(asked.tokens)} tokens{' long' if asked.documents else ''} with BOS at "
        f"both ends, where block_size is {asked.block_size}."
    )


def _listed(numbers: Sequence[int]) -> str:
    """The first few of them."""
    if len(numbers) > _MOST_LISTED:
        return f"{', '.join(map(str, numbers[:_MOST_LISTED]))}, …"
    *most, last = map(str, numbers)
    return f"{', '.join(most)} and {last}" if most else last


def _loses_precision(cause: LosesPrecision) -> str:
    why = (
        f"{cause.form} cannot hold what is computed on the way to it"
        if cause.overflows
        else "the error shrinks with the unit roundoff, so this is an unstable way to compute the right function"
    )
    what = f"the largest z of {cause.first.key.described()} is {cause.other_z:.2g} in {cause.other_form}"
    return f"{cause.first.beside(cause.limit)}, and {what}: {why}."
