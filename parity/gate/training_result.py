"""What a gate found of a training, as data."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import parity
from parity.gate.git import Lines
from parity.gate.judgement import CHANGES
from parity.gate.speed import Speed
from parity.judging.plain import plain
from parity.verdict import Verdict

if TYPE_CHECKING:  # both import torch, and a gate of other subjects starts without
    from parity.training.bits import SameBits
    from parity.training.result import TrainingResult


@dataclass
class TrainingGateResult:
    """What a gate found of a training.

    verdict: its meaning for a refactor. found: head beside base in exact arithmetic, and beside its own; None where it
    did not come to that. bits: of both as they are. base: what base is beside its own exact arithmetic, where that was
    asked for. lines: of the changed files that head loads, the runs of lines that changed. fail_slower: the ratio that
    a step's time may have, None for any.
    """

    subject: str
    head_name: str
    base_name: str
    verdict: Verdict
    reason: str
    steps: int = 0
    found: "TrainingResult | None" = None
    bits: "SameBits | None" = None
    base: dict[str, Any] | None = None
    wrong_alike: bool = False
    """Whether both are not their own exact arithmetic, in the same way."""
    speed: Speed | None = None
    lines: dict[str, list[Lines]] = field(default_factory=dict)
    fail_slower: float | None = None
    is_new: bool = False
    """Whether base has no such training."""
    accepted: None = None
    """No change of a training is accepted by an entry."""
    stale: tuple[str, ...] = ()

    @property
    def change(self) -> str:
        """What the verdict says of the refactor."""
        return "the training is new" if self.is_new else CHANGES[self.verdict]

    @property
    def files(self) -> dict[str, int]:
        """The changed files that the training loads, and the first changed line of each."""
        return {name: lines[0][0] for name, lines in self.lines.items()}

    @property
    def slower(self) -> bool:
        """Whether a step takes longer than it may, beyond doubt."""
        return self.fail_slower is not None and self.speed is not None and self.speed.is_slower(self.fail_slower)

    @property
    def exit_status(self) -> int:
        """The verdict's; 1 where a step is slower than it may be, 3 where nobody could time it."""
        untimed = self.fail_slower is not None and self.speed is None
        return self.verdict.exit_status or (1 if self.slower else 3 if untimed else 0)

    def to_dict(self) -> dict[str, Any]:
        """The result for JSON, under names that stay."""
        return {
            "parity": parity.__version__,
            "kind": "training",
            "subject": self.subject,
            "head_name": self.head_name,
            "base_name": self.base_name,
            "verdict": self.verdict.value,
            "change": self.change,
            "reason": self.reason,
            "steps": self.steps,
            "training": self.found and self.found.to_dict(),
            "bits": self.bits and [vars(row) for row in self.bits.rows.values()],
            "only_one_has": sorted(self.bits.alone) if self.bits else [],
            "base": self.base,
            "wrong_alike": self.wrong_alike,
            "speed": self.speed and plain(vars(self.speed)),
            "slower": self.slower,
            "fail_slower": self.fail_slower,
            "lines": plain(self.lines),
            "files": self.files,
            "is_new": self.is_new,
            "accepted": self.accepted,
        }
