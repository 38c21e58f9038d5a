"""The reference itself, in pure Python, with the interface of a subject."""

from typing import Any

from parity.errors import NoExpectation
from parity.trees import mapped
from reference import microgpt
from reference.config import Config, Hyper, State, Step


class Reference:
    """The reference as a subject: it yields *expected*. Raises NoExpectation where it has none."""

    dtype = "float64"

    def __init__(self, config: Config, hyper: Hyper) -> None:
        self.config, self.hyper = config, hyper
        self.expose_sites = False

    def load(self, state: State) -> None:
        """Start from this state."""
        self.state = state

    def train_step(self, batch: list[list[int]]) -> Step:
        """Forward, backward and Adam on these documents, all as nested lists of floats."""
        sites: dict[str, list[Any]] = {}

        def collect(site: str, value: Any) -> Any:
            sites.setdefault(site, []).append(value)
            return value

        tap = collect if self.expose_sites else microgpt.no_tap
        try:
            self.state, step = microgpt.train_step(self.state, batch, self.config, self.hyper, tap)
        except (ArithmeticError, ValueError) as error:
            raise NoExpectation(
                f"The reference itself raises {type(error).__name__} ({error}) at step {self.state.step}."
            ) from None
        if self.expose_sites:
            step.sites = mapped(lambda value: value.data, sites)
            step.site_grads = mapped(microgpt.gradient, sites)
        return step  # type: ignore[no-any-return]
