"""What one mode of a check found, as data."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from parity.judging.causes import (
    AllVacuous,
    Cause,
    NoFloor,
    NothingCompared,
    Outside,
    OutsideTogether,
    RoundingExplains,
    SameBits,
)
from parity.judging.directions import Along
from parity.judging.judge import Judge
from parity.judging.location import Location, Place
from parity.judging.pairs import Difference, Pairs
from parity.judging.quantity_result import QuantityResult, magnitude
from parity.judging.sentences import located, said
from parity.judging.suspected_sites import SuspectedSite
from parity.judging.z_map import z_maps
from parity.verdict import Verdict, worst

if TYPE_CHECKING:
    from parity.judging.exchange import Exchange
from parity.judging.plain import plain


@dataclass
class TruthResult:
    """How far subject and reference are from the truth, in the quantities of a lock-step run.

    Each dict holds the largest z by quantity; the noise floor is that of the subject's number format, for the
    reference that of float64.
    """

    subject: dict[str, float] = field(default_factory=dict)
    reference: dict[str, float] = field(default_factory=dict)
    apart: dict[str, float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    """Why the reference had no answer, where it had none."""

    def add(self, columns: Mapping[str, Pairs], failure: str) -> None:
        """Take in the comparisons of one step, by column."""
        self.failures += [failure] if failure else []
        for name, pairs in columns.items():
            column = getattr(self, name)
            for tensor in pairs:
                quantity = tensor.keys[0].quantity
                column[quantity] = max(column.get(quantity, 0.0), tensor.largest_z)

    def sentence(self, limit: float) -> str:
        """Which of the two is wrong."""
        subject = all(z <= limit for z in self.subject.values())
        reference = not self.failures and all(z <= limit for z in self.reference.values())
        if subject and reference:
            return "The truth agrees with both: subject and reference are as near to it as rounding allows."
        cause = f" ({self.failures[0]})" if self.failures else ""
        if subject:
            return f"The reference is wrong here, not the subject{cause}."
        if reference:
            return "The subject is wrong: the truth agrees with the reference."
        return f"Both are wrong: neither subject nor reference is near the truth{cause}."


@dataclass
class ModeResult:
    """What one mode found."""

    mode: str
    steps: int = 0
    """How many were compared."""
    quantities: dict[str, QuantityResult] = field(default_factory=dict)
    first_divergence: Difference | None = None
    location: Location | None = None
    """Tensor by tensor, what is right and what is wrong in the step that diverged first."""
    first_site: Difference | None = None
    diverged: "Exchange | None" = field(default=None, compare=False, repr=False)
    """The question at which it did so first, and its answer."""
    suspected_sites: tuple[SuspectedSite, ...] = ()
    """Sites that are suspected to be shown under a wrong name."""
    sites_failure: str = ""
    """Why the sites of a right answer could not be compared, where nobody asked for them."""
    first_z: float = 0.0
    """The largest z of the tensor that diverged first."""
    wider: Place | None = None
    """Where the subject goes wrong in a wider format, if it was asked in one, which sees what rounding hides here."""
    near_gates: int = 0
    """ReLUs whose input lay within the noise floor of zero."""
    turned_gates: int = 0
    """Those of them that the subject, legitimately, decided otherwise than the reference."""
    own_updates: int = 0
    """Elements whose update was judged by itself, from the subject's own gradient."""
    repeatable: bool | None = None
    """Whether a question asked a second time got an answer of the same bits; None where none was."""
    truth: TruthResult | None = None
    exchanges: "list[Exchange]" = field(default_factory=list, compare=False, repr=False)
    """The first questions of a lock-step run in a small model, and their answers."""
    evidence: list[Along] = field(default_factory=list)
    """What is seen along directions, of whole tensors and quantities."""
    judge: Judge | None = None
    """What judged it, where that is another one than the result's."""
    by_constants: bool = False
    """Whether the rounding of constants that the subject was given had to explain something: its floor is wider."""
    verdict: Verdict = Verdict.INCONCLUSIVE
    causes: list[Cause] = field(default_factory=lambda: [NothingCompared()])
    """Why, the decisive one first."""

    @property
    def largest_z(self) -> float | None:
        """Over all quantities; None where nothing was compared, NaN where of nothing it is known."""
        return largest_of(row.largest_z.z for row in self.quantities.values() if row.largest_z)

    @property
    def beyond(self) -> list[Along]:
        """The directions along which it is farther off than rounding explains, the clearest first."""
        return sorted((along for along in self.evidence if along.beyond), key=lambda along: -along.z / along.limit)

    @property
    def reason(self) -> str:
        """Why, in sentences."""
        return said(self.causes)

    @property
    def location_lines(self) -> list[tuple[str, str]]:
        """Tensor by tensor what is right and what is wrong, and where that begins, in words; empty where nothing is."""
        return located(self.location, self.first_site, self.wider) if self.location else []

    def add(self, pairs: Pairs, judge: Judge) -> None:
        """Take in the tensors of one step, in the order in which it computes them."""
        found = judge.measures(pairs)
        for group, quantity in enumerate(pairs.layout.groups):
            row = self.quantities.setdefault(quantity, QuantityResult(quantity))
            row.add(pairs, group, found, judge.form)
            if found.outside[group] and row.first_outside is None:
                row.first_outside = judge.first_outside(pairs, quantity)
            self.first_divergence = self.first_divergence or row.first_outside
        self.steps += 1

    def conclude(self, judge: Judge) -> None:
        """Set the verdict from what was compared."""
        rows = [row for row in self.quantities.values() if row.compared]
        if not rows:
            return
        telling = [row for row in rows if row.verdict is not Verdict.INCONCLUSIVE]
        undecided = sum(row.undecided for row in rows)
        if self.first_divergence:
            self.decide(Verdict.DIVERGED, Outside(self.first_divergence, judge.limit))
        elif undecided:
            self.decide(Verdict.INCONCLUSIVE, NoFloor(undecided))
        elif not telling:
            self.decide(Verdict.INCONCLUSIVE, AllVacuous())
        elif self.beyond:
            self.decide(Verdict.DIVERGED, OutsideTogether(self.beyond[0]))
        else:
            verdict = worst(row.verdict for row in telling)
            largest = max(row.largest_z.z for row in telling if row.largest_z)
            self.decide(verdict, SameBits() if verdict is Verdict.IDENTICAL else RoundingExplains(largest, judge.limit))

    def decide(self, verdict: Verdict, *causes: Cause) -> None:
        """Set the verdict, and why."""
        self.verdict, self.causes = verdict, list(causes)

    def to_dict(self) -> dict[str, Any]:
        """The result for JSON, under names that stay."""
        return {
            "mode": self.mode,
            "steps": self.steps,
            "quantities": plain(list(self.quantities.values())),
            "first_divergence": plain(self.first_divergence),
            "location": self.location and plain(self.location.to_dict()),
            "first_site": plain(self.first_site),
            "first_z": plain(self.first_z),
            "wider": self.wider and plain(self.wider.to_dict()),
            "kinks": self.near_gates,
            "kinks_turned": self.turned_gates,
            "steep": self.own_updates,
            "repeatable": self.repeatable,
            "truth": self.truth and plain(vars(self.truth)),
            "evidence": plain([along.to_dict() for along in self.evidence]),
            "verdict": self.verdict.value,
            "reason": self.reason,
            "located": self.location_lines,
            "z_maps": self._z_maps(),
        }

    def _z_maps(self) -> list[dict[str, Any]]:
        """How z spreads over the tensor that diverged first, and over those that the wrong begins at."""
        if self.diverged is None or self.first_divergence is None:
            return []
        origins = self.location.origins if self.location else []
        return z_maps(self.diverged.pairs, [self.first_divergence.key, *(tensor.key for tensor in origins)])


def largest_of(found: Iterable[float | None]) -> float | None:
    """The largest z, NaN counting least; None where there is none."""
    return max((z for z in found if z is not None), key=lambda z: magnitude(z, "z"), default=None)
