"""What the check of a training over ranks found, as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from typing_extensions import override

from parity.ranks.by_rank import RanksMode, by_rank
from parity.training.result import TrainingResult


@dataclass
class RanksResult(TrainingResult):
    """The verdict on a training over several ranks. modes: one for each format that the ranks ran in.

    Of a tensor that ranks have with other bits, each version is compared, under a name such as rank1.wte.
    """

    ranks: int = 0
    explanation: str = ""
    """What the wrong gradients are made of, as it was measured; empty where nothing explains them."""
    explained: Mapping[int, str] = field(default_factory=dict)
    """The same by rank."""

    @property
    @override
    def how_against(self) -> str:
        return f"{self.against} in exact arithmetic, on the whole batches"

    @property
    @override
    def place(self) -> str:
        return f"{self.ranks} ranks of {self.device}"

    @override
    def to_dict(self) -> dict[str, Any]:
        """The result for JSON, under names that stay; for by_rank see `parity.ranks.by_rank`."""
        modes = [mode for mode in self.modes if isinstance(mode, RanksMode)]
        return {
            **super().to_dict(),
            "kind": "ranks",
            "ranks": self.ranks,
            "explanation": self.explanation,
            "by_rank": by_rank(modes, self.ranks, self.explained),
        }
