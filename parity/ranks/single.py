"""The training of one process that the ranks are held to: its exact step from where they stood, and the noise floor."""

import torch
from torch import Tensor

from parity.oracle.shadows.noise import Noise
from parity.training.observation import Observed, Replacement, observed_step
from parity.training.other import Numbered, with_numbers
from parity.training.running import Factory, Runs, seed_of, step_seed
from parity.training.spread import Floor, Spread
from parity.training.state import load_state, state_of, tied_names


class Single:
    """The training of one process, on shadows. replicas: of the noise floor."""

    def __init__(self, factory: Factory, replicas: int) -> None:
        self.factory = factory
        self.runs = Runs(factory, replicas, sites=False)
        self.state = self._after = self.runs.start
        """As it stands before the next step: what the ranks do not give, such as a schedule's count, is its own."""
        self.shapes = {name: tuple(numbers.held.shape) for name, numbers in self.runs.start.params.items()}
        self.tied = tied_names(self.runs.native)

    @property
    def formats(self) -> list[str]:
        """Of its parameters."""
        return sorted({str(p.dtype).removeprefix("torch.") for p in self.runs.native.model.parameters()})

    def step(self, number: int, start: Numbered, gradients: dict[str, Tensor]) -> tuple[Observed, Floor]:
        """Its exact step from the ranks' state, with their gradients for its optimizer, and the noise floor of it."""
        expected = self.exact(number, start, gradients)
        after = state_of(self.runs.on_shadows)
        spread = Spread(expected)
        for replica in range(self.runs.replicas):
            with spread.replica() as seen:
                self.exact(number, start, gradients, Noise(seed_of(replica, number)), seen)
        self._after = after
        return expected, spread.floor

    def move_on(self) -> None:
        """Stand where the step that was taken last leaves it."""
        self.state = self._after

    def exact(
        self,
        number: int,
        start: Numbered,
        gradients: dict[str, Tensor],
        noise: Noise | None = None,
        seen: Observed | None = None,
    ) -> Observed:
        """The step alone, with noise where it is given; seen: what takes its tensors in."""
        load_state(self.runs.on_shadows, with_numbers(self.state, start))
        given = Replacement(gradients, everywhere=True)
        return self.runs.on(noise, number, given, forced=False, seen=seen)

    def unclipped(self, number: int, start: Numbered) -> dict[str, Tensor]:
        """Its gradients from the ranks' state as it is, rounded, before any clipping of its own loop."""
        training = self.runs.native
        clipping, training.clip_grad_norm = training.clip_grad_norm, None
        try:
            load_state(training, with_numbers(self.runs.start, start).rounded())
            with step_seed(number):
                seen = observed_step(training, number, sites=False, seen=Observed(modules_are_seen=False))
        finally:
            training.clip_grad_norm = clipping
        return {name: x.to(torch.float64) for name, x in seen.gradients().items()}

    @property
    def clips(self) -> bool:
        """Whether any gradient was clipped."""
        return self.runs.on_shadows.clip_grad_norm is not None and not self.idle_clipping

    @property
    def idle_clipping(self) -> str:
        """What to say of a clipping that nothing reached; empty where there is none, or it was reached."""
        most, largest = self.runs.on_shadows.clip_grad_norm, self.runs.on_shadows.largest_norm
        if most is None or largest > most:
            return ""
        return f"clipping: the norm of the gradients never exceeded {most:g} (at most {largest:.3g})"
