"""Where a step goes wrong: tensor by tensor, in the order of computation, what is right and what is not."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from parity.judging.computation_order import computed_from, in_order_of_computation, knows_what_comes_before
from parity.judging.element_errors import z_values
from parity.judging.own_updates import own_update
from parity.judging.pairs import Difference, Pairs
from parity.quantities import SITES, STATE, TensorKey
from parity.tensors import elements_of

if TYPE_CHECKING:
    from parity.judging.exchange import Exchange, Run


_MOST = 0.5
"""Of the elements that are outside."""


@dataclass(frozen=True)
class LocatedTensor:
    """How one tensor of a step compares."""

    key: TensorKey
    elements: int
    outside: int
    """Elements that rounding does not explain."""
    relative_error: float
    """|actual - expected| / |expected| of the whole tensor, by the root of the sum of squares; infinite or NaN where
    a side is, or where 0 is expected of all of it."""
    follows: bool = False
    """Outside, and what the reference's Adam makes of the subject's own gradient."""
    by_itself: bool = False
    """Outside, and not what Adam makes of that gradient, in most of the elements of which that is known."""

    @property
    def right(self) -> bool:
        """Whether rounding explains every difference."""
        return not self.outside


@dataclass(frozen=True)
class Location:
    """The tensors of the first step that is outside, in the order of computation, sites left out."""

    step: int
    tensors: tuple[LocatedTensor, ...]
    n_layer: int
    form: str = "float64"
    """The number format in which the subject was asked."""

    @cached_property
    def origins(self) -> list[LocatedTensor]:
        """The wrong ones that are computed from what is right, as far as that was compared."""
        keys = [tensor.key for tensor in self.tensors]
        wrong = {tensor.key for tensor in self.tensors if not tensor.right}
        return [
            tensor
            for tensor in self.tensors
            if not tensor.right and not tensor.follows and wrong.isdisjoint(computed_from(tensor.key, keys))
        ]

    @property
    def wrong_by_itself(self) -> list[str]:
        """The quantities of the update that are wrong besides what was wrong before: moments, or else parameters."""
        if any(tensor.key.quantity in STATE for tensor in self.origins):
            return []
        found = {tensor.key.quantity for tensor in self.tensors if tensor.by_itself}
        return sorted(found - {"param"}) or sorted(found)

    @property
    def all_before_is_right(self) -> bool:
        """Whether all that the origins are next computed from was compared, and not only some of it."""
        keys = [tensor.key for tensor in self.tensors]
        return all(knows_what_comes_before(tensor.key, keys, self.n_layer) for tensor in self.origins)

    def of_quantity(self, quantity: str) -> list[LocatedTensor]:
        """Those of one quantity."""
        return [tensor for tensor in self.tensors if tensor.key.quantity == quantity]

    def to_dict(self) -> dict[str, Any]:
        """For JSON, but for NaN and infinities."""
        origins = [tensor.key for tensor in self.origins]
        return {
            "step": self.step,
            "tensors": [
                {
                    "quantity": tensor.key.quantity,
                    "tensor": tensor.key.tensor,
                    "right": tensor.right,
                    "elements": tensor.elements,
                    "outside": tensor.outside,
                    "relative_error": tensor.relative_error,
                    "follows": tensor.follows,
                    "origin": tensor.key in origins,
                }
                for tensor in self.tensors
            ],
        }


@dataclass(frozen=True)
class Place:
    """Where a step goes wrong in another format: tensor by tensor, and at the first site outside, if it has sites.

    exactly: in exact arithmetic behind its own format, rather than made for another one.
    """

    location: Location
    first_site: Difference | None
    exactly: bool = False

    @property
    def begins_at(self) -> list[TensorKey]:
        """As the function of this name."""
        return begins_at(self.location, self.first_site)

    def to_dict(self) -> dict[str, Any]:
        """For JSON, but for NaN and infinities, and for the difference."""
        return {
            "dtype": self.location.form,
            "location": self.location.to_dict(),
            "first_site": self.first_site,
        }


def begins_at(location: Location, first_site: Difference | None) -> list[TensorKey]:
    """The first site that is outside, where a step computes it before all tensors; else those that the wrong begins at.

    The gradient of a site comes after the loss, and where it is wrong some gradient of a tensor beside it is.
    """
    if first_site and first_site.quantity == "site":
        return [first_site.key]
    return [tensor.key for tensor in location.origins]


def locate(run: "Run", exchange: "Exchange") -> Location:
    """Where an answer that is outside goes wrong."""
    pairs = exchange.pairs
    outside = run.judge.outside(pairs)
    own, refuted = _beside_own_gradient(run, exchange) or (None, None)
    keys, starts = pairs.keys, pairs.layout.starts
    found = []
    for number in in_order_of_computation(keys):
        if keys[number].quantity in SITES:
            continue
        place = slice(int(starts[number]), int(starts[number + 1]))
        count = int(outside[place].sum())
        follows = bool(count and own is not None and own[place][outside[place]].all())
        by_itself = bool(count and refuted is not None and np.mean(refuted[place][outside[place]]) > _MOST)
        error = _relative_error(pairs, place)
        found.append(LocatedTensor(keys[number], place.stop - place.start, count, error, follows, by_itself))
    return Location(exchange.number, tuple(found), run.case.config.n_layer, run.judge.form.name)


def _beside_own_gradient(run: "Run", exchange: "Exchange") -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | None:
    """Which elements of an update are what the reference's Adam makes of the gradient that the subject shows, and
    which are not.

    None where that is not known of any. Where the gradient is right, an update that is outside is wrong by itself.
    """
    pairs, config = exchange.pairs, run.case.config
    if exchange.before is None or not pairs.names("grad"):
        return None
    with np.errstate(all="ignore"):
        own, sigma, known = own_update(run.oracle, exchange.expectation, pairs, exchange.before)
    explained, refuted = (np.zeros(len(pairs.actual), dtype=np.bool_) for _ in range(2))
    for part, quantity in enumerate(STATE):
        place, exposed = pairs.place(quantity), elements_of(config, pairs.names(quantity))
        within = z_values(pairs.actual[place], own[part][exposed], sigma[part][exposed]) <= run.judge.limit
        explained[place], refuted[place] = within & known[exposed], ~within & known[exposed]
    return explained, refuted


def _relative_error(pairs: Pairs, place: slice) -> float:
    with np.errstate(all="ignore"):
        error, size = np.linalg.norm(pairs.error[place]), np.linalg.norm(pairs.expected[place])
        return float(error / size) if error else 0.0
