"""The two trainings of a check over ranks, and what their factories are told."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from parity.errors import UsageError
from parity.training.running import Factory


@dataclass(frozen=True)
class Sides:
    """Names of both factories, and the factories themselves. dtype, device: asked for, or None.

    names: the ranks' parameters in the single training, see `parity.training.names.Names`.
    """

    name: str
    make: Callable[..., Any]
    single_name: str
    single: Callable[..., Any]
    names: dict[str, Any] = field(default_factory=dict)
    dtype: str | None = None
    device: str | None = None

    def factories(self, dtype: str | None) -> tuple[dict[str, str], Factory]:
        """What the ranks' factory is told, and the single training's; UsageError where one takes no such thing."""
        return Factory(self.make, dtype, self.device).options, Factory(self.single, dtype, self.device)

    def formats(self) -> list[str | None]:
        """Those that the ranks run in, None for their own: float64 first, which next to nothing hides in."""
        if self.dtype == "float64":
            return ["float64"]
        try:
            self.factories("float64")
        except UsageError:
            return [self.dtype]
        return ["float64", self.dtype]
