"""The model and the trainer of iamGodofall/karpathy-microgpt-by-Enock, without dropout and clipping."""

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.ports.port import Port, module_of
from reference.config import Config, Hyper, State, Step
from reference.microgpt import elementwise


def package(checkout: Path, corrections: Mapping[str, str]) -> Any:
    """A subject of its classes; what its package loads besides, which is much, stays out."""
    parent = ModuleType("godofall")
    parent.__path__ = [str(checkout / "microgpt")]
    model = module_of(checkout / "microgpt" / "model.py", corrections)
    sys.modules |= {"godofall": parent, "godofall.model": model}
    sys.modules.pop("godofall.trainer", None)
    training, configs = (importlib.import_module(f"godofall.{name}") for name in ("trainer", "config"))

    class Port:
        not_exercised = ("batches of several documents in the port's own code (the adapter averages its gradients)",)

        def __init__(self, config: Config, hyper: Hyper) -> None:
            c = config
            self.model = model.GPT(c.vocab_size, c.block_size, c.n_layer, c.n_embd, c.n_head)
            self.trainer = training.Trainer(self.model, configs.TrainingConfig(**vars(hyper)))
            self.shapes, self.adam = config.shapes(), self.trainer.optimizer

        def load(self, state: State) -> None:
            self.step = state.step
            for p, x in zip(self.adam.params, self.flat(state.params), strict=True):
                p.data = x
            self.adam.m, self.adam.v = self.flat(state.m), self.flat(state.v)

        def train_step(self, batch: list[list[int]]) -> Step:
            losses, found = [], []
            for tokens in batch:
                loss = self.trainer.compute_loss(tokens, *([[] for _ in range(self.model.n_layer)] for _ in "kv"))
                self.adam.zero_grad()
                loss.backward()
                losses.append(loss.data)
                found.append([p.grad for p in self.adam.params])
            for p, *each in zip(self.adam.params, *found, strict=True):
                p.grad = sum(each) / len(batch)
            grads = [p.grad for p in self.adam.params]
            self.adam.step(self.step)
            self.step += 1
            after = grads, [p.data for p in self.adam.params], self.adam.m, self.adam.v
            return Step(sum(losses) / len(batch), None, *map(self.named, after))

        def flat(self, tensors: Mapping[str, Any]) -> list[float]:
            return [x for name in self.shapes for row in tensors[name] for x in row]

        def named(self, numbers: list[float]) -> dict[str, Any]:
            rest = iter(numbers)
            own = self.model.state_dict
            return {name: elementwise(lambda _: next(rest), own[name]) for name in self.shapes}

    return Port


PORT = Port(
    repository="iamGodofall/karpathy-microgpt-by-Enock",
    commit="f4a4a0f78c0125ba632f566447db0dc80839d824",
    language="Python",
    file="microgpt/model.py",
    blob="dee30f6db6340eec855046b1456f0cf069a4b935",
    deviates="no gradient goes through the softmax's sum, in attention and in the loss, nor through the norm's scale: "
    "both are plain numbers; and probabilities below 1e-10 count as that",
    limits="logits, dropout, clipping, decay; its tokenizer, initialisation and sampling",
    corrected={
        "total = sum(e.data for e in exps)": "total = sum(exps)",
        "total = max(total, 1e-10)": "pass",
        "xi.data * xi.data": "xi * xi",
        "max(self.data, 1e-10)": "self.data",
    },
    factory=package,
)
