"""What the check of a training found, as data."""

from dataclasses import dataclass, field
from typing import Any

from parity import __version__
from parity.judging.mode_result import largest_of
from parity.judging.plain import plain
from parity.training.comparison import TrainingMode
from parity.verdict import Verdict


@dataclass
class TrainingResult:
    """The verdict on a training, why, and what was and was not exercised.

    modes: its own run beside its own exact arithmetic. link: beside another training's, in exact arithmetic both; None
    where there is no other.
    """

    subject: str
    verdict: Verdict
    reason: str
    model: str
    """The kind of the model."""
    optimizer: str
    """The kind of the optimizer."""
    parameters: int
    formats: list[str]
    device: str
    replicas: int
    limit: float
    modes: list[TrainingMode] = field(default_factory=list)
    against: str = ""
    link: TrainingMode | None = None
    link_limit: float = 0.0
    remarks: list[str] = field(default_factory=list)
    not_exercised: list[str] = field(default_factory=list)
    gates_turned: int = 0
    seconds: float = 0.0

    @property
    def how_against(self) -> str:
        """The other training, and how the two were compared."""
        return f"{self.against}, both in exact arithmetic"

    @property
    def place(self) -> str:
        """Where it ran."""
        return self.device

    @property
    def located(self) -> list[str]:
        """The tensors outside in the first step that diverged, in the order of its computation."""
        return [str(wrong) for wrong in self.deciding.wrong] if self.deciding else []

    @property
    def largest_z(self) -> float | None:
        """Over all quantities of all modes."""
        return largest_of(mode.largest_z for mode in self._all())

    @property
    def deciding(self) -> TrainingMode | None:
        """The mode, or the link, that decided on a verdict that does not pass."""
        return next((mode for mode in self._all() if mode.wrong), None)

    def _all(self) -> list[TrainingMode]:
        return [*([self.link] if self.link else []), *self.modes]

    def to_dict(self) -> dict[str, Any]:
        """The result for JSON, under names that stay."""
        return {
            "kind": "training",
            "version": __version__,
            "subject": self.subject,
            "against": self.against,
            "verdict": self.verdict.value,
            "reason": self.reason,
            "model": self.model,
            "optimizer": self.optimizer,
            "parameters": self.parameters,
            "formats": self.formats,
            "device": self.device,
            "replicas": self.replicas,
            "limit": plain(self.limit),
            "modes": [_mode(mode) for mode in self.modes],
            "link": None if self.link is None else {**_mode(self.link), "limit": plain(self.link_limit)},
            "remarks": self.remarks,
            "not_exercised": self.not_exercised,
            "gates_turned": self.gates_turned,
            "seconds": plain(self.seconds),
        }


def _mode(mode: TrainingMode) -> dict[str, Any]:
    return {
        "mode": mode.mode,
        "steps": mode.steps,
        "quantities": plain(list(mode.quantities.values())),
        "first_divergence": plain(mode.first_divergence),
        "wrong": [{**plain(vars(wrong)), "tensor": wrong.key.described()} for wrong in mode.wrong],
        "right": mode.right,
    }
