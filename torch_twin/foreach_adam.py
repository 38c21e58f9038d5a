"""Adam over lists: torch.optim.Adam(foreach=True), which takes each operation over all tensors in one call.

Builds on `fused_attention`, whose Adam is the twin's: a loop over the tensors. The optimizer holds the state's own
tensors and changes them in place.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from reference.config import State, Step
from torch_twin.fused_attention import FusedAttention
from torch_twin.microgpt import learning_rate


class ForeachAdam(FusedAttention):
    """Weights are leaves for good, so they are cleared of their gradients before a step."""

    kind = "foreach"

    @override
    def load(self, state: State) -> None:
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

    @override
    def leaves(self) -> dict[str, Tensor]:
        self.optimizer.zero_grad()
        return self.state.params

    @override
    def descend(self) -> None:
        self.optimizer.param_groups[0]["lr"] = learning_rate(self.state.step, self.hyper)
        self.optimizer.step()
        self.state.step += 1

    @override
    def train_step(self, batch: Sequence[Sequence[int]]) -> Step:
        """Forward, backward and Adam on these documents, with copies of what the next step changes in place."""
        step = super().train_step(batch)
        step.params, step.m, step.v = (
            {name: tensor.detach().clone() for name, tensor in tensors.items()}
            for tensors in (step.params, step.m, step.v)
        )
        return step


make = ForeachAdam
