"""The NumPy backend of microgpt-efficiency: gradients by hand, the head tied to the embedding."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ports.port import Port, module_of
from reference.config import Config, Hyper, State, Step
from reference.microgpt import learning_rate

NAMES = {"attn_wq": "wq", "attn_wk": "wk", "attn_wv": "wv", "attn_wo": "wo", "mlp_fc1": "fc1", "mlp_fc2": "fc2"}


def own(name: str) -> str:
    """What it calls a tensor."""
    layer, _, tensor = name.partition(".")
    return f"{layer.replace('layer', 'l')}.{NAMES[tensor]}" if tensor else name


def backend(checkout: Path, corrections: Mapping[str, str]) -> Any:
    """A subject of single steps, as its tied head asks for."""
    port = module_of(checkout / "backends" / "numpy_backend.py", corrections).MicroGPTNumpy

    class Backend:
        tied_head = True
        not_exercised = ("batches of several documents in the port's own code (the adapter averages its gradients)",)

        def __init__(self, config: Config, hyper: Hyper) -> None:
            self.hyper, self.names = hyper, [name for name in config.shapes() if name not in ("lm_head", "wte")]
            self.port = port(config.vocab_size, config.n_embd, config.n_layer, config.n_head, config.block_size)

        def load(self, state: State) -> None:
            self.step = self.port._t = state.step
            for mine, given in ((self.port.p, state.params), (self.port._m, state.m), (self.port._v, state.v)):
                mine.update({own(name): np.array(given[name]) for name in ["wte", *self.names]})

        def train_step(self, batch: list[list[int]]) -> Step:
            losses, caches = zip(*map(self.port._forward, batch))
            found = list(map(self.port._backward, caches))
            grads = {name: sum(each[name] for each in found) / len(batch) for name in found[0]}
            h = self.hyper
            self.port._adam(grads, learning_rate(self.step, h), h.beta1, h.beta2, h.eps_adam)
            p, m, v = ({n: x[own(n)] for n in self.names} for x in (self.port.p, self.port._m, self.port._v))
            return Step(sum(losses) / len(batch), None, {n: grads[own(n)] for n in self.names}, p, m, v)

    return Backend


PORT = Port(
    repository="chanjoongx/microgpt-efficiency",
    commit="948805e05f018cd7ac89d9d325d0a0e5916212b1",
    language="Python, NumPy",
    file="backends/numpy_backend.py",
    blob="ab711725f8ef4704ff5e6aeec0b25fdc389ca199",
    deviates="1e-12 is added to each probability before its logarithm, in the loss alone; a document longer than the "
    "block is not cut, and raises",
    limits="the head is tied, so embeddings and free-running are left out; the schedule is the adapter's; no logits",
    preset="microgpt_early",
    config={"block_size": 16},
    hyper={"lr_schedule": "linear"},
    corrected={
        " + 1e-12": "",
        "tokens[:-1]": "tokens[: self.T_max + 1][:-1]",
        "tokens[1:]": "tokens[: self.T_max + 1][1:]",
    },
    factory=backend,
)
