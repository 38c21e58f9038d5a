"""Whether a check says where a mistake is: what it says that the wrong begins at, beside the place of the mistake."""

from dataclasses import dataclass, replace

from parity.case import Case
from parity.catalogue.mutants import Mutant
from parity.catalogue.remembering import MutantWithSites, RememberingMutant
from parity.judging.checking import check
from parity.judging.computation_order import sites_after
from parity.judging.location import begins_at
from parity.judging.result import Result
from parity.quantities import TensorKey
from parity.subjects.subject import Subject
from reference.config import Config, Hyper

_SITE, _GRAD = "site ", "grad "
_WITHOUT_PLACE = ("grad", "m", "v", "param")
"""Quantities of which any tensor is right where a place names no tensor: a mistake in what is done to all of them."""


@dataclass(frozen=True)
class Placed:
    """What a check says that the wrong begins at, and what it ought to say."""

    begins_at: tuple[str, ...]
    """Empty where it says nothing, as where a mutant has no answer."""
    expected: str
    right: bool


def placed(mutant: RememberingMutant, case: Case, step: int, mode: str) -> Placed:
    """Where a check in float64 places a mutant that shows in a step of a case, in lock-step or only free-running.

    The case ends with that step, after which a check would say the same. The mutant shows its sites.
    """
    made: list[MutantWithSites] = []

    def make(config: Config, hyper: Hyper) -> Subject:
        made.append(mutant.make(config, hyper))
        return made[-1]

    modes = ("lock-step",) if mode == "lock-step" else ("lock-step", "free-running")
    result = check(make, replace(case, steps=step - case.state.step + 1), modes=modes, probes=False)
    found = _begins_at(result)
    shown = made[0].shown if mode == "lock-step" else frozenset[str]()
    expected = _as_it_shows(mutant.mutant, shown, case.config.n_layer)
    return Placed(found, expected, bool(found) and _is(found[0], expected))


def _begins_at(result: Result) -> tuple[str, ...]:
    """What a result says that the wrong begins at, with the names of tensors alone."""
    failure = result.failure
    if failure is not None:
        told = "logits" in failure.message and "shape" in failure.message
        return ("shape of logits",) if told else ()
    for mode in result.deciding.modes:
        if mode.location is not None:
            return tuple(dict.fromkeys(_named(key) for key in begins_at(mode.location, mode.first_site)))
    return ()


def _named(key: TensorKey) -> str:
    if key.quantity in ("logits", "loss"):
        return key.quantity
    return f"{key.quantity} {key.name}"


def _as_it_shows(mutant: Mutant, shown: frozenset[str], n_layer: int) -> str:
    """A mutant's place in a model of so many layers: where the site is not shown, the next thing that is.

    A mutant shows no site whose shape is another than the reference's, and none at all free-running.
    """
    place = mutant.place
    if place.startswith(_SITE):
        order = list(sites_after(n_layer))
        after = order[order.index(place.removeprefix(_SITE)) :]
        seen = next((site for site in after if site in shown), None)
        return f"{_SITE}{seen}" if seen else "logits" if "logits" in after else "loss"
    name = place.removeprefix(_GRAD)
    of_a_layer = place.startswith(_GRAD) and name.startswith(("attn_", "mlp_"))
    return f"{_GRAD}layer{n_layer - 1}.{name}" if of_a_layer else place


def _is(found: str, expected: str) -> bool:
    if expected in _WITHOUT_PLACE:
        return found.partition(" ")[0] == expected
    return found == expected
