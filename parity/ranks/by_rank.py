"""What was found of every rank, tensor by tensor: the rows behind a check's verdict, as its JSON has them.

`by_rank` of a result's JSON is a list, one entry for each rank in their order, under names that stay:

- rank; verdict, the worst of its tensors; largest_z, null where nothing was compared
- explanation: what the rank's wrong tensors come of, a clause as "the gradient is the rank's own, and the reduction is
  missing"; empty where nothing is wrong, or nothing explains it
- tensors: in the order of a step's computation, and of the modes. Each has
    - mode: the format that the ranks ran in; step: the first in which it is outside, or in which its z is largest
    - quantity, name, and tensor, the two of them in words: grad, wte.weight, "grad wte.weight"
    - verdict: IDENTICAL (the bits of exact arithmetic), PARITY, DIVERGED, INCONCLUSIVE (it has no noise floor)
    - z: the largest, as a string where it is infinite or NaN; elements, and outside, how many of them are
    - relative_error: of the whole tensor, null where it is not outside; scale: the factor that explains it, or null
    - bits_of: the first rank that has the same bits. Ranks with another one than rank 0 disagree.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from typing_extensions import override

from parity.judging.element_errors import Measures, Z
from parity.judging.pairs import Pairs
from parity.judging.plain import plain
from parity.quantities import TensorKey
from parity.training.comparison import TrainingMode, Wrong
from parity.verdict import Verdict, worst


@dataclass(frozen=True)
class Row:
    """A tensor as some ranks have it, in the step that tells most of it. z: the largest; negative where it is none."""

    step: int
    elements: int
    outside: int
    z: float
    identical: bool
    wrong: Wrong | None = None

    @property
    def verdict(self) -> Verdict:
        """The verdict on it."""
        if self.outside:
            return Verdict.DIVERGED
        if self.z < 0:
            return Verdict.INCONCLUSIVE
        return Verdict.IDENTICAL if self.identical else Verdict.PARITY

    def told_before(self, other: "Row") -> bool:
        """Whether it tells more than another one of the same tensor."""
        return (self.outside > 0, abs(self.z)) > (other.outside > 0, abs(other.z))


@dataclass
class RanksMode(TrainingMode):
    """The steps of all ranks in one format."""

    table: list[dict[TensorKey, tuple[Row, int]]] = field(default_factory=list)
    """By rank what was found of every tensor that it has, and the first rank with the same bits."""
    _of_step: dict[TensorKey, Row] = field(default_factory=dict, repr=False)

    @override
    def note(self, number: int, key: TensorKey, pairs: Pairs, found: Measures) -> None:
        wrong = next((entry for entry in self.wrong if entry.key == key), None)
        z = -1.0 if found.undecided[0] else found.sizes[0][Z] if found.sizes[0] else 0.0
        outside, identical = found.outside[0], not found.unequal[0]
        self._of_step[key] = Row(number, found.elements[0], outside, z, identical, wrong)

    def deal_out(self, ranks: int, shown: Mapping[TensorKey, Mapping[int, tuple[TensorKey, int]]]) -> None:
        """Say of the step taken in last whose tensors they are.

        shown: by tensor and rank, what the rank's version of it was taken in as, and the first rank with these bits.
        """
        self.table += [{} for _ in range(ranks - len(self.table))]
        for key, by_rank in shown.items():
            for rank, (version, first) in by_rank.items():
                row = self._of_step.get(version)
                before = self.table[rank].get(key)
                if row and (before is None or row.told_before(before[0])):
                    self.table[rank][key] = row, first
        self._of_step.clear()


def by_rank(modes: list[RanksMode], ranks: int, explained: Mapping[int, str]) -> list[dict[str, Any]]:
    """The ranks for JSON, see above. explained: by rank, what its wrong gradients are made of."""
    found = []
    for rank in range(ranks):
        rows = [(mode.mode, key, *row) for mode in modes if mode.table for key, row in mode.table[rank].items()]
        found.append(
            {
                "rank": rank,
                "verdict": worst(row.verdict for _, _, row, _ in rows).value,
                "largest_z": plain(max((row.z for _, _, row, _ in rows if row.z >= 0), default=None)),
                "explanation": explained.get(rank, ""),
                "tensors": [_tensor(*row) for row in rows],
            }
        )
    return found


def _tensor(mode: str, key: TensorKey, row: Row, first: int) -> dict[str, Any]:
    return {
        "mode": mode,
        "step": row.step,
        "quantity": key.quantity,
        "name": key.name,
        "tensor": key.described(),
        "verdict": row.verdict.value,
        "z": plain(row.z if row.z >= 0 else float("nan")),
        "elements": row.elements,
        "outside": row.outside,
        "relative_error": plain(row.wrong and row.wrong.relative_error),
        "scale": plain(row.wrong and row.wrong.scale),
        "bits_of": first,
    }
