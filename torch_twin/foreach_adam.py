"""Adam over lists: torch.optim.Adam(foreach=True), which takes each operation over all tensors in one call."""

from collections.abc import Sequence

import torch
from torch import Tensor

from reference.config import Config, Hyper, State, Step
from torch_twin.fused_attention import FusedAttention
from torch_twin.microgpt import learning_rate


class ForeachAdam(FusedAttention):
    """The optimizer holds the state's own tensors and changes them in place."""

    kind = "foreach"

    def load(self, state: State) -> None:
        """Take these weights, m, v and step number."""
        super().load(state)
        hyper = self.hyper
        params = {name: torch.nn.Parameter(matrix) for name, matrix in self.state.params.items()}
        self.state.params = params
        self.optimizer = torch.optim.Adam(
            list(params.values()),
            lr=hyper.learning_rate,
            betas=(hyper.beta1, hyper.beta2),
            eps=hyper.eps_adam,
            **{self.kind: True},
        )
        for name, matrix in params.items():
            self.optimizer.state[matrix] = {
                # The fused kernel reads it where the weights are, the others where Python is.
                "step": torch.tensor(float(state.step), device=self.device if self.kind == "fused" else "cpu"),
                "exp_avg": self.state.m[name],
                "exp_avg_sq": self.state.v[name],
            }

    def leaves(self) -> dict[str, Tensor]:
        """The weights themselves, without the gradients of the step before."""
        self.optimizer.zero_grad()
        return self.state.params

    def descend(self) -> None:
        """Make the state after the update out of the gradients."""
        self.optimizer.param_groups[0]["lr"] = learning_rate(self.state.step, self.hyper)
        self.optimizer.step()
        self.state.step += 1

    def train_step(self, batch: Sequence[Sequence[int]]) -> Step:
        """Forward, backward and Adam on these documents, and copies of all that it computed."""
        step = super().train_step(batch)
        step.params, step.m, step.v = (
            {name: tensor.detach().clone() for name, tensor in tensors.items()}
            for tensors in (step.params, step.m, step.v)
        )
        return step


def make(config: Config, hyper: Hyper, dtype: str | None = None, device: str = "cpu") -> ForeachAdam:
    """The subject `torch_twin.foreach_adam:make`."""
    return ForeachAdam(config, hyper, dtype, device)
