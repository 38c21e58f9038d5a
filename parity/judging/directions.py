"""Evidence along directions: what no element shows alone, and all of them show together.

In bfloat16 an element of a gradient has a noise floor of some 2 %, so that nothing below 20 % is seen of it. But a
mistake moves many elements at once, each in a way that is known: one that scales a tensor moves each by so much of its
value. So the errors, in standard deviations, are added up along such a direction d (a matched filter), over elements,
documents and steps: S = Σ ψ(e/σ)·w, w = d/σ; both are bounded, so that no single element decides. The replicas of the
noise floor give the spread of the same sum, and S/Σ w·d/σ is how much of the direction there is in the answer: 0 in one
that is right.

Forward and backward are judged by logits, loss and gradients, the update by what the reference's Adam makes of the
subject's own gradient, of which a sign near zero is no news. Rounding that all elements share, as that of one over the
number of positions, or of weights of attention whose sum is then not 1, is no noise that averages out over steps: of a
tensor that is off as a whole by less than a unit roundoff, and one more for each layer, nothing is said. Nor do steps
count that repeat each other, as where the rate is next to nothing: how far elements err alike from step to step is
seen, and widens the spread.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.number_formats import Floats
from parity.oracle.noisy_replay import REPLICAS
from parity.oracle.oracle import Oracle
from parity.oracle.spread import bounded_sums
from parity.quantities import STATE
from parity.verdict import limit
from parity.words import beside_limit

BOUND = 4.0
"""Of the errors of elements, in standard deviations, and of their weights, in medians."""

FORWARD = ("logits", "loss", "grad")
"""The quantities that are judged by the expected ones."""

MISTAKE = "mistake"
"""What a direction is of that leads to a known mistake: there is all of it in an answer, or nothing."""


@dataclass(frozen=True)
class Direction:
    """A way in which a whole tensor, or all of a quantity, may be wrong.

    quantity: which is wrong. tensor: the one of its tensors; empty for all. what: of what too much or too little is
    there: of itself ("scale"), of the weights that an update decays ("decay"), of what was there before the update
    ("before"), or of the gradient, in the last step ("last gradient") or in this one ("gradient").
    """

    quantity: str
    tensor: str
    what: str

    @property
    def of(self) -> str:
        """What is wrong, in words."""
        whole = {"param": "the update", "grad": "the whole gradient", "loss": "the loss"}
        return f"{self.quantity} {self.tensor}" if self.tensor else whole.get(self.quantity, self.quantity)

    def amount(self, amount: float) -> str:
        """How much too much or too little there is, in words."""
        digits = f"{1 + amount:.{max(3, 2 - math.floor(math.log10(abs(amount) or 1)))}g}"
        share = f"{amount:.3g} of"
        match self.what:
            case "scale":
                return f"{self.of} {'are' if self.quantity == 'logits' else 'is'} {digits} times what is expected"
            case "decay":
                return f"{self.of} decays the weights, by {amount:.3g} times the rate"
            case "last gradient":
                return f"{self.of} holds {share} the last step's"
            case "before":
                return f"{self.of} holds {share} what it was before, too much"
        return f"{self.of} holds {share} the {'gradient' if self.quantity == 'm' else 'squared gradient'}, too much"


@dataclass(frozen=True)
class Along:
    """What was seen along a direction."""

    direction: Direction
    amount: float
    """How much of it there is in the answers, relative to the direction: 0.01 for a scale that is 1 % too large."""
    sd: float
    """The standard deviation that rounding gives the amount."""
    shared: float
    """How large it may be besides, since all elements share a number that is rounded."""
    limit: float
    """The largest number of standard deviations that rounding explains."""

    @property
    def allowed(self) -> float:
        """The largest amount that rounding explains, and the smallest one that is seen."""
        return self.limit * self.sd + self.shared

    @property
    def z(self) -> float:
        """By how many standard deviations the amount is more than a shared number explains."""
        beyond = abs(self.amount) - self.shared
        if beyond <= 0:
            return 0.0
        return beyond / self.sd if self.sd else math.inf

    @property
    def beyond(self) -> bool:
        """Whether rounding does not explain it."""
        return not self.z <= self.limit  # nor where it is NaN

    def __str__(self) -> str:
        amount, beside = self.direction.amount(self.amount), f"z {beside_limit(self.z, self.limit)}"
        return f"{amount} (rounding explains {self.allowed:.1g}; {beside}, limit {self.limit:.1f})"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        own = {name: getattr(self, name) for name in ("amount", "sd", "shared", "allowed", "z", "limit", "beyond")}
        return {**vars(self.direction), **own}


@dataclass
class _Sum:
    """The sums along a direction so far."""

    score: float = 0.0
    variance: float = 0.0
    deviation: float = 0.0
    """As it adds up where all steps err alike."""
    gain: float = 0.0
    shared: float = 0.0
    squares: float = 0.0
    """Of what each element adds, beside what the direction itself explains."""
    totals: Floats = field(default_factory=lambda: np.zeros(0))
    """The sums of that over the steps, by element."""

    def add(self, score: float, variance: float, gain: float, shared: float, parts: Floats) -> None:
        """Take in a step. parts: what each element adds beside what the direction itself explains."""
        self.score, self.variance, self.gain = self.score + score, self.variance + variance, self.gain + gain
        self.deviation, self.shared = self.deviation + variance**0.5, self.shared + shared
        self.squares += float(parts @ parts)
        if len(parts) > len(self.totals):
            self.totals = np.pad(self.totals, (0, len(parts) - len(self.totals)))
        self.totals[: len(parts)] += parts

    @property
    def alike(self) -> float:
        """How many steps count as one, since elements err alike in them: 1 where they do not."""
        return float(self.totals @ self.totals) / self.squares if self.squares else 1.0

    def along(self, direction: Direction, alike: float, limit: float) -> Along:
        """What was seen. alike: how many steps count as one, as far as others know."""
        sd = self.deviation if direction.quantity in STATE else (max(1.0, alike, self.alike) * self.variance) ** 0.5
        return Along(direction, self.score / self.gain, sd / self.gain, self.shared / self.gain, limit)


class Sums:
    """Errors added up along directions."""

    def __init__(self, false_alarm: float, oracle: Oracle) -> None:
        self._false_alarm, form = false_alarm, oracle.form
        self._shared, self._stored = (1 + oracle.config.n_layer) * form.u, (oracle.storage or form).u
        self._sums: dict[Direction, _Sum] = {}

    def found(self) -> list[Along]:
        """What is seen, direction by direction, each held to a limit for as many as there are."""
        beyond = limit(self._false_alarm, len(self._sums), REPLICAS)
        # A tensor of few elements does not show by itself how alike steps are, and the loss is but one.
        scales = [found for way, found in self._sums.items() if way.what == "scale" and way.quantity in FORWARD]
        squares = sum(found.squares for found in scales) or 1.0
        alike = sum(found.alike * found.squares for found in scales) / squares
        return [found.along(way, alike, beyond) for way, found in self._sums.items() if found.gain > 0]

    def take(
        self,
        directions: Sequence[tuple[Direction, slice, Floats]],
        actual: Floats,
        expected: Floats,
        sigma: Floats,
        samples: Floats,
        homes: "NDArray[np.int64] | None" = None,
    ) -> None:
        """Add up errors along directions: which one, of which elements, and what it adds to each of them."""
        with np.errstate(all="ignore"):
            judged = (sigma > 0) & np.isfinite(sigma) & np.isfinite(1 / sigma) & np.isfinite(actual)
            scale = np.where(judged, 1 / sigma, 0.0)
            errors = np.clip(np.where(judged, actual - expected, 0.0) * scale, -BOUND, BOUND)
            values = np.where(judged, expected, 0.0) * scale
        weights, spans, effects = np.zeros((len(directions), len(expected))), [], []
        for row, (_, of, towards) in zip(weights, directions, strict=True):
            with np.errstate(over="ignore"):
                effect = np.where(judged[of] & np.isfinite(towards), towards, 0.0) * scale[of]
            effects.append(np.where(np.isfinite(effect), effect, 0.0))
            moved = np.abs(effects[-1][effects[-1] != 0])
            with np.errstate(over="ignore"):  # of effects that are subnormal beside the others; they are bounded
                row[of] = np.clip(effects[-1] / np.median(moved), -BOUND, BOUND) if len(moved) else 0.0
            spans.append(of.indices(len(expected))[:2])
        null = bounded_sums(samples, expected, scale, weights, np.array(spans), BOUND)
        for (direction, of, _), row, effect, sums in zip(directions, weights, effects, null, strict=True):
            if not row.any():
                continue
            score = float(row @ errors)
            rest = (row * (errors - row * (score / float(row @ row))))[of]
            if homes is not None:
                rest = np.bincount(homes, rest)
            # Small updates of a weight are all rounded alike, where many are as large as each other.
            coherent = direction.quantity in STATE
            shared = np.abs(row) @ np.abs(values) * self._stored if coherent else abs(row @ values) * self._shared
            # Of a mistake all or nothing is there, of any other direction as much as there may be.
            whole = np.clip(effect, -BOUND, BOUND) if direction.what == MISTAKE else effect
            gain = float(row[of] @ whole)
            self._sums.setdefault(direction, _Sum()).add(score, float(np.mean(sums**2)), gain, float(shared), rest)
