"""What the check of a training over ranks found, as data."""

from dataclasses import dataclass
from typing import Any

from typing_extensions import override

from parity.training.result import TrainingResult


@dataclass
class RanksResult(TrainingResult):
    """The verdict on a training over several ranks. modes: one for each format that the ranks ran in.

    Of a tensor that ranks have with other bits, each version is compared, under a name such as rank1.wte.
    """

    ranks: int = 0
    explanation: str = ""
    """What the wrong gradients are made of, as it was measured; empty where nothing explains them."""

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
        """The result for JSON, under names that stay."""
        return {**super().to_dict(), "kind": "ranks", "ranks": self.ranks, "explanation": self.explanation}
