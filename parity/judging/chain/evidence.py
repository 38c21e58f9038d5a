"""Which link of the chain vouches for which, as data and in words."""

from dataclasses import dataclass, field
from typing import Any

from parity.case import Case
from parity.verdict import Verdict
from parity.words import counted

RUNG = "torch_twin.positions"
"""The rung that speaks for the reference."""


@dataclass(frozen=True)
class Link:
    """What became of the rung beside the reference, on a case that both reach."""

    case: Case
    verdict: Verdict
    largest_z: float
    reason: str

    def __str__(self) -> str:
        config, case = self.case.config, self.case
        sizes = f"n_embd {config.n_embd}, n_layer {config.n_layer}, n_head {config.n_head}"
        documents = f" of {counted(case.batch_size, 'document')}" if case.batch_size > 1 else ""
        return f"{sizes}, {counted(case.steps, 'step')}{documents} (largest z {self.largest_z:.2g})"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "config": vars(self.case.config),
            "steps": self.case.steps,
            "batch_size": self.case.batch_size,
            "verdict": self.verdict.value,
            "largest_z": self.largest_z,
            "reason": self.reason,
        }


@dataclass
class Chain:
    """The links that a result hangs on. form, storage: whose rounding the replicas have."""

    form: str
    storage: str | None
    replicas: int
    links: list[Link] = field(default_factory=list)

    @property
    def broken(self) -> Link | None:
        """The first link that does not hold."""
        return next((link for link in self.links if not link.verdict.passes), None)

    @property
    def lines(self) -> list[tuple[str, str]]:
        """Labels, and what is to be said: of what is expected, and of the noise floor."""
        held = " and ".join(str(link) for link in self.links if link.verdict.passes)
        trust = f", which is in parity with the reference at {held}" if held else ""
        if self.broken is not None:
            trust = f", which is not in parity with the reference at {self.broken}"
        form = self.form if self.storage is None else f"{self.form}, of weights and moments in {self.storage}"
        return [
            ("expected", f"{RUNG} in exact arithmetic{trust}; updates: the reference's Adam on the subject's gradient"),
            ("floor", f"{self.replicas} replicas of {RUNG}, and of that Adam, with the rounding of {form}"),
        ]

    @property
    def broken_reason(self) -> str:
        """Why nothing can be judged; only where a link is broken."""
        assert self.broken is not None
        return (
            f"{RUNG}, which was to say what is expected where the scalar graph does not reach, is not in parity with "
            f"the reference at {self.broken}, so nothing is judged: {self.broken.reason}"
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "oracle": RUNG,
            **dict(self.lines),
            "replicas": self.replicas,
            "links": [link.to_dict() for link in self.links],
        }
